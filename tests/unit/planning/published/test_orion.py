"""Plans after Orion: the smallest sizes that do, steps where they help, room, what is refused."""

from random import Random

import msgspec
import pytest

from grainwise.domain.app import Slo
from grainwise.domain.errors import ConfigurationError, InfeasibleError
from grainwise.domain.machine import Node
from grainwise.domain.plan import Grain
from grainwise.planning.options import explain_misfit
from grainwise.planning.problem import PlanTable, Problem
from grainwise.planning.published import orion
from grainwise.predictors.evaluate import Evaluation
from worlds import gpu
from worlds.problems import (
    HARD,
    NOISY,
    chain_graph,
    problem_of,
    random_graph,
    random_problem,
    spec_of,
    stage_model,
)

ROOMY = (Node("roomy", 64.0, 1e6),)


def pair(slo_ms: float = 400.0, *, rate_per_s: float = 1.0, nodes: tuple[Node, ...] = ROOMY) -> Problem:
    """Two stages of 20 ms; more cores than one help the second only."""
    models = (stage_model(20_000, 0, residuals=NOISY), stage_model(20_000, 0, residuals=NOISY, scales_to=8.0))
    return problem_of(spec_of(chain_graph(2), slo_ms=slo_ms), models, rate_per_s=rate_per_s, nodes=nodes)


def cores(table: PlanTable) -> list[float]:
    return [function.cpu_cores for function in table.winner.plan.functions]


def test_the_smallest_sizes_are_the_answer_where_they_do() -> None:
    table = orion.configure(pair(slo_ms=1000.0))
    assert cores(table) == [0.25, 0.25]
    assert table.expanded_nodes == 1
    assert table.is_feasible
    assert "after Orion, reconstructed" in table.because
    assert [function.max_batch for function in table.winner.plan.functions] == [1, 1]


def test_the_function_that_gains_is_raised_and_not_the_other() -> None:
    # At a quarter of a core 80 and 160 ms; the first step of the second takes 80 ms off, that of the first 40 at the same cost.
    models = (stage_model(20_000, 0), stage_model(40_000, 0, scales_to=8.0))
    table = orion.configure(problem_of(spec_of(chain_graph(2), slo_ms=200.0), models, nodes=ROOMY, rate_per_s=0.01))
    assert table.is_feasible
    assert cores(table) == [0.25, 0.5]


def test_a_tighter_slo_takes_larger_sizes() -> None:
    sums = [sum(cores(orion.configure(pair(slo_ms=slo_ms)))) for slo_ms in (400.0, 150.0, 60.0, 40.0)]
    assert sums == sorted(sums)
    assert sums[0] < sums[-1]


def test_the_prediction_is_that_of_the_evaluator_for_the_plan() -> None:
    problem = pair(slo_ms=150.0)
    table = orion.configure(problem)
    assert table.winner.predicted == Evaluation(problem, table.winner.plan).predict()
    assert table.winner.judged is not None
    assert table.evaluator == "analytic"
    again = orion.configure(msgspec.structs.replace(problem, current=table.winner.plan))
    assert again.current is not None
    assert again.current_judged is not None


def test_instances_seldom_let_a_request_wait_or_are_as_many_as_ours() -> None:
    problem = pair(slo_ms=1000.0, rate_per_s=5.0)
    own = [function.instances for function in orion.configure(problem).winner.plan.functions]
    ours = [function.instances for function in orion.configure_as_ours(problem).winner.plan.functions]
    assert ours == [1, 1]
    assert all(more > few for more, few in zip(own, ours, strict=True))


def test_an_slo_that_nothing_meets_gets_the_fastest_and_says_what_it_would_meet() -> None:
    problem = pair(slo_ms=5.0)
    table = orion.configure(problem)
    assert not table.is_feasible
    assert not table.winner.meets_slo
    assert "this plan answers 99.0% within" in table.nearest
    relaxed = msgspec.structs.replace(problem, app=msgspec.structs.replace(problem.app, slo=Slo(100.0, 0.99)))
    assert table.winner.predicted.p99_ms <= orion.configure(relaxed).winner.predicted.p99_ms


def test_elements_of_a_fan_out_get_instances_of_their_own_where_that_is_needed() -> None:
    rng = Random(12)
    graph = next(found for found in (random_graph(rng, 4) for _ in range(99)) if found.eaches)
    items = tuple(8.0 if node.scope else 1.0 for node in graph.stages)
    models = tuple(stage_model(10_000, 0) for _ in graph.stages)

    def instances(slo_ms: float) -> int:
        problem = problem_of(spec_of(graph, slo_ms=slo_ms), models, rate_per_s=0.01, items=items, nodes=ROOMY)
        table = orion.configure_as_ours(problem)
        assert table.is_feasible
        inside = [at for at, node in enumerate(graph.stages) if node.scope]
        return max(table.winner.plan.functions[at].instances for at in inside)

    assert instances(5000.0) == 1
    assert instances(90.0 * len(graph.stages) / 4) > 1


@pytest.mark.parametrize("seed", range(6))
def test_every_plan_is_split_fits_the_nodes_and_is_the_same_again(seed: int) -> None:
    rng = Random(seed)
    problem = random_problem(rng, random_graph(rng, 4))
    try:
        table = orion.configure(problem)
    except InfeasibleError as error:
        assert "no plan of made fits" in str(error)
        return
    plan = table.winner.plan
    assert explain_misfit(problem, plan) is None
    assert all(len(function.stages) == 1 for function in plan.functions)
    assert all(1 <= function.min_instances <= function.instances <= function.max_instances for function in plan.functions)
    assert table.is_feasible == (table.winner.predicted.attainment >= problem.app.slo.target)
    assert msgspec.json.encode(orion.configure(problem)) == msgspec.json.encode(table)


@pytest.mark.parametrize("is_hard", [False, True])
def test_on_devices_the_smallest_slices_first_and_all_are_placed(is_hard: bool) -> None:
    profile = gpu.profile_of(gpu.DEBLUR, gpu.SUPER_RESOLUTION, gpu.CLASSIFICATION)
    easy = gpu.problem_of(profile, 4000.0, gpu.sliced(), is_hard=is_hard)
    table = orion.configure(easy)
    assert table.is_feasible
    assert all(abs(each.gpu_share_fraction - 1 / 7) < 1e-9 for each in table.winner.plan.functions)
    tight = gpu.problem_of(profile, 400.0, gpu.sliced(), is_hard=is_hard)
    raised = orion.configure(tight)
    assert raised.is_feasible
    assert max(each.gpu_share_fraction for each in raised.winner.plan.functions) > 1 / 7
    assert explain_misfit(tight, raised.winner.plan) is None


def test_a_granularity_that_is_asked_for_is_kept() -> None:
    fused: Grain = (("s0", "s1"),)
    table = orion.configure(msgspec.structs.replace(pair(), grain=fused))
    assert table.winner.plan.grain == fused


def test_what_our_own_search_refuses_is_refused() -> None:
    with pytest.raises(InfeasibleError, match="is no stage of made"):
        orion.configure(msgspec.structs.replace(pair(), grain=(("s0",), ("nobody",))))
    with pytest.raises(InfeasibleError, match="no plan of made fits"):
        orion.configure(pair(nodes=(Node("tiny", 4.0, 50.0),)))
    with pytest.raises(ConfigurationError, match="target"):
        orion.configure(msgspec.structs.replace(pair(), app=msgspec.structs.replace(pair().app, slo=Slo(100.0, 0.0))))
    wanting = gpu.problem_of(gpu.profile_of(gpu.DEBLUR), 1000.0, ())
    with pytest.raises(InfeasibleError, match="declares device='gpu'"):
        orion.configure(wanting)
    short = msgspec.structs.replace(HARD, payload_limit_bytes=10)
    with pytest.raises(InfeasibleError, match="the platform takes 10"):
        orion.configure(msgspec.structs.replace(pair(), capabilities=short))
