"""The configurations of a function: what is tried, what is kept, and why."""

from random import Random

import msgspec
import pytest

from grainwise.domain.machine import HopModel, Node
from grainwise.planning import options
from grainwise.planning.options import Choice, batches, choices, explain_misfit, shares
from grainwise.planning.problem import Problem
from grainwise.planning.scaled import HEADROOM, as_scaled
from grainwise.planning.table import compute
from grainwise.policies import autoscale
from grainwise.predictors.evaluate import Evaluation
from grainwise.predictors.groups import group_facts
from worlds.problems import (
    HARD,
    NOISY,
    SOFT,
    chain_graph,
    problem_of,
    random_dag,
    random_graph,
    random_problem,
    spec_of,
    stage_model,
)

FIGURES = ("cost", "time_us", "tail_us", "demand_cores", "hard_cores", "memory_mib")


def one_stage(rate_per_s: float = 1.0, *, max_batch: int = 1, item_us: float = 20_000.0, cores: float = 4.0) -> Problem:
    model = stage_model(10_000.0, item_us, residuals=NOISY, scales_to=2.0)
    spec = spec_of(chain_graph(1), max_batch=max_batch)
    return problem_of(spec, (model,), rate_per_s=rate_per_s, nodes=(Node("here", cores, 8000.0),))


def figures(choice: Choice) -> tuple[float, ...]:
    return tuple(getattr(choice, name) for name in FIGURES)


def beats(one: Choice, other: Choice) -> bool:
    return all(ours <= theirs for ours, theirs in zip(figures(one), figures(other), strict=True))


def test_only_configurations_that_another_beats_in_everything_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    dropped = 0
    for seed in range(60):
        rng = Random(seed)
        problem = random_problem(rng, random_dag(rng, rng.randint(1, 4)))
        facts = group_facts(
            problem, rng.randrange(1, problem.app.graph.all_mask + 1) if seed % 2 else problem.app.graph.all_mask
        )
        kept = choices(problem, facts)
        with monkeypatch.context() as patch:
            patch.setattr(options, "_undominated", tuple)
            tried = choices(problem, facts)
        assert set(map(figures, kept)) <= set(map(figures, tried))
        for choice in tried:
            assert choice in kept or any(beats(other, choice) for other in kept)
        for choice in kept:
            assert not any(beats(other, choice) for other in kept if other is not choice)
        assert [choice.cost for choice in kept] == sorted(choice.cost for choice in kept)
        dropped += len(tried) - len(kept)
    assert dropped > 100


def test_shares_stay_within_the_platform_and_the_largest_node() -> None:
    problem = one_stage(cores=3.0)
    assert shares(problem) == (0.25, 0.5, 1.0, 2.0, 3.0)
    coarse = msgspec.structs.replace(problem, capabilities=msgspec.structs.replace(SOFT, min_cpu_cores=0.5))
    assert shares(coarse) == (0.5, 1.0, 2.0, 3.0)


@pytest.mark.parametrize(("max_batch", "tried"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))])
def test_batches_are_powers_of_two_up_to_the_declared_bound(max_batch: int, tried: tuple[int, ...]) -> None:
    problem = one_stage(max_batch=max_batch)
    assert batches(group_facts(problem, 1)) == tried


def test_no_configuration_would_be_scaled_up_at_once() -> None:
    problem = one_stage(60.0, cores=8.0)
    found = choices(problem, group_facts(problem, 1))
    assert found
    for choice in found:
        bound = min(int(8.0 / choice.function.cpu_cores), choice.function.max_instances)
        assert choice.utilisation <= HEADROOM or choice.function.instances == bound


def test_the_headroom_is_that_of_the_autoscaler() -> None:
    assert HEADROOM == autoscale.HEADROOM


def test_the_tighter_the_target_the_more_instances_are_tried() -> None:
    problem = one_stage(10.0)
    loose = msgspec.structs.replace(
        problem, app=msgspec.structs.replace(problem.app, slo=msgspec.structs.replace(problem.app.slo, target=0.5))
    )
    most = [max(choice.function.instances for choice in choices(each, group_facts(each, 1))) for each in (loose, problem)]
    assert most[0] < most[1]


def test_a_fan_out_keeps_the_instances_over_which_one_request_spreads() -> None:
    graph = next(
        graph for graph in (random_graph(Random(seed), 3) for seed in range(50)) if graph.eaches and len(graph.stages) <= 3
    )
    body = next(index for index, node in enumerate(graph.stages) if node.scope)
    executions = tuple(8.0 if node.scope else 1.0 for node in graph.stages)
    spec = spec_of(graph, max_batch=2, slo_ms=100.0)
    problem = problem_of(spec, (stage_model(1000.0, 10_000.0),) * len(graph.stages), items=executions)
    found = choices(problem, group_facts(problem, 1 << body))
    spread = max(found, key=lambda choice: choice.function.instances)
    assert spread.function.instances > 1
    for choice in found:
        function = choice.function
        items = min(function.max_batch, -(-8 // function.instances))
        assert function.min_instances == min(function.instances, -(-8 // items))


def test_no_instance_larger_than_every_node_is_offered() -> None:
    problem = msgspec.structs.replace(one_stage(), nodes=(Node("a", 4.0, 90.0), Node("b", 4.0, 90.0)))
    assert choices(problem, group_facts(problem, 1)) == ()


def test_a_value_that_the_platform_cannot_carry_leaves_no_configuration() -> None:
    problem = one_stage()
    small = msgspec.structs.replace(problem, capabilities=msgspec.structs.replace(SOFT, payload_limit_bytes=500))
    assert choices(small, group_facts(small, 1)) == ()


def test_two_nodes_do_not_hold_an_instance_between_them() -> None:
    spec = spec_of(chain_graph(3))
    models = tuple(stage_model(memory_mib=60.0) for _ in range(3))
    problem = problem_of(spec, models, nodes=(Node("a", 4.0, 100.0), Node("b", 4.0, 100.0)))
    table = compute(msgspec.structs.replace(problem, nodes=(*problem.nodes, Node("c", 4.0, 100.0))))
    assert [len(option.plan.functions) for option in table.options] == [3]
    said = explain_misfit(problem, table.winner.plan)
    assert said is not None and "60 MiB" in said
    assert "3 granularities do not fit" in table.because


def test_hard_shares_are_charged_for_every_instance() -> None:
    problem = msgspec.structs.replace(one_stage(40.0), capabilities=HARD)
    for choice in choices(problem, group_facts(problem, 1)):
        assert choice.hard_cores == choice.function.cpu_cores * choice.function.instances <= 4.0


def test_the_present_plan_is_judged_with_the_instances_that_it_has_by_now() -> None:
    calm = one_stage(1.0, cores=8.0)
    present = compute(calm).winner.plan
    busy = one_stage(60.0, cores=8.0)
    scaled = as_scaled(busy, present, {})
    assert present.functions[0].instances == 1 < scaled.functions[0].instances <= present.functions[0].max_instances
    table = compute(msgspec.structs.replace(busy, current=present))
    assert table.current == Evaluation(busy, scaled).predict()
    assert as_scaled(calm, scaled, {}) == present


def test_a_present_plan_with_a_share_larger_than_the_node_is_judged_with_the_node_s_cores() -> None:
    large = compute(one_stage(cores=8.0)).winner.plan
    wide = msgspec.structs.replace(large, functions=(msgspec.structs.replace(large.functions[0], cpu_cores=8.0),))
    small = msgspec.structs.replace(one_stage(cores=1.0), current=wide, hop=HopModel(10.0, 0.0, 10.0, 0.0, 1.0))
    judged = compute(small).current
    assert judged is not None
    assert judged.p50_ms > 20.0
