"""Plans after INFless: the choice of each function against all configurations, its part of the SLO, room, what is refused."""

import math
from random import Random

import msgspec
import pytest

from grainwise.domain.app import Slo
from grainwise.domain.errors import ConfigurationError, InfeasibleError
from grainwise.domain.graph import Graph
from grainwise.domain.machine import Device, HopModel, Node
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.planning.best import layers_of
from grainwise.planning.options import explain_misfit
from grainwise.planning.problem import Problem
from grainwise.planning.published import infless
from grainwise.planning.published.answer import functions_of
from grainwise.planning.published.function_by_function import by_function, parts_us
from grainwise.planning.published.in_turn import choose
from grainwise.planning.table import compute
from grainwise.predictors.groups import group_facts, stage_times_us
from worlds import gpu
from worlds.problems import (
    HARD,
    chain_graph,
    graph_of,
    problem_of,
    random_dag,
    random_graph,
    random_problem,
    spec_of,
    stage_model,
)

LARGE = (Node("large", 64.0, 1e7),)
CORES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
SLICES = tuple(slots / 7 for slots in (1, 2, 3, 4, 7))
Key = tuple[int, float, float]


def run_us(problem: Problem, mask: int, batch: int, cores: float, share: float) -> float:
    """A full batch as INFless reckons, from the model alone."""
    facts = group_facts(problem, mask)
    return 1.1 * (problem.hop.latency_us(facts.bytes_in * batch) + sum(stage_times_us(problem, facts, batch, cores, share)))


def brute_force(problem: Problem, stage: int, part_us: float, shares: tuple[float, ...]) -> dict[Key, float]:
    """USD per item of every configuration of a stage that is in time."""
    facts, found = group_facts(problem, 1 << stage), {}
    item_rate = problem.workload.rate_per_s * facts.items
    for batch in (1, 2, 4, 8):
        if batch > problem.app.spec(stage).max_batch:
            continue
        for cores in CORES:
            for share in shares:
                run = run_us(problem, 1 << stage, batch, cores, share)
                instances = max(1, math.ceil(item_rate * run / batch / 1e6 - 1e-9))
                rounds = math.ceil(max(1, math.ceil(facts.items / batch - 1e-9)) / instances)
                fill_us = max(0.0, batch - max(1.0, facts.items)) / item_rate * 1e6
                if fill_us + rounds * run <= part_us:
                    usd = problem.prices.usd_per_second(cores, facts.memory_mib, share)
                    found[(batch, cores, share)] = usd * run / batch
    return found


def key(function: FunctionPlan) -> Key:
    return function.max_batch, function.cpu_cores, function.device_fraction


def assert_best(problem: Problem, shares: tuple[float, ...], counts: dict[str, int]) -> None:
    _, masks = functions_of(problem)
    order, before = layers_of(problem.app.graph, masks)
    functions = by_function(problem, [group_facts(problem, masks[at]) for at in order], before, infless.INFLESS)
    part_of = {function.facts.mask: function.part_us for function in functions}
    table = infless.configure(problem)
    for stage, function in enumerate(table.winner.plan.functions):
        known = brute_force(problem, stage, part_of[1 << stage], shares)
        if known:
            assert known[key(function)] == pytest.approx(min(known.values()), rel=1e-8)
            carried = function.max_batch / run_us(problem, 1 << stage, *key(function)) * 1e6
            rate = problem.workload.rate_per_s * problem.workload.items[stage]
            assert function.instances == max(1, math.ceil(rate / carried - 1e-9))
        else:
            assert f"s{stage}: nothing is within its part of" in table.because
        counts["in time" if known else "late"] += 1
        counts["batches"] += function.max_batch > 1


def test_every_function_has_the_configuration_that_costs_least_for_an_item() -> None:
    counts = {"in time": 0, "late": 0, "batches": 0}
    for seed in range(40):
        rng = Random(seed)
        problem = random_problem(rng, random_dag(rng, rng.randint(1, 4)), is_hard=False)
        spec = msgspec.structs.replace(problem.app, slo=Slo(rng.choice((10.0, 40.0, 150.0, 500.0)), 0.95))
        assert_best(msgspec.structs.replace(problem, app=spec, nodes=LARGE), (0.0,), counts)
    assert min(counts.values()) >= 5


def test_on_slices_of_a_device_too() -> None:
    counts = {"in time": 0, "late": 0, "batches": 0}
    profile = gpu.profile_of(*gpu.CHAIN)
    for slo_ms, rate in ((500.0, 1.0), (1500.0, 1.0), (3000.0, 4.0), (8000.0, 6.0)):
        problem = gpu.problem_of(profile, slo_ms, gpu.sliced(12), rate_per_s=rate, cpu_cores=64.0)
        assert_best(problem, SLICES, counts)
    assert min(counts.values()) >= 3


def chain(slo_ms: float = 400.0, rate_per_s: float = 20.0, **more: object) -> Problem:
    models = (stage_model(2_000, 8_000), stage_model(40_000, 500), stage_model(10_000, 1_000))
    spec = spec_of(chain_graph(3), slo_ms=slo_ms, batches=(1, 8, 8))
    return problem_of(spec, models, rate_per_s=rate_per_s, nodes=LARGE, **more)  # type: ignore[arg-type]


def parts_of(problem: Problem) -> list[float]:
    groups, masks = functions_of(problem)
    return [given.function.part_us for given in choose(groups, masks, infless.INFLESS)]


def test_the_parts_of_a_chain_are_in_proportion_to_run_times_and_add_up_to_the_slo() -> None:
    problem = chain()
    parts = parts_of(problem)
    assert sum(parts) == pytest.approx(400_000)
    # The fastest: one item on all cores.
    fastest = [run_us(problem, 1 << stage, 1, 64.0, 0.0) for stage in range(3)]
    assert parts == pytest.approx([400_000 * each / sum(fastest) for each in fastest])
    handed_out = problem.hop.latency_us(1000)
    assert sum(parts_of(chain(hop=HopModel(9_000, 0, 0, 0, 0)))) == pytest.approx(400_000 - 9_000 - handed_out)


def test_along_no_path_are_parts_more_than_the_slo() -> None:
    for seed in range(40):
        rng = Random(seed)
        graph = random_dag(rng, rng.randint(2, 7))
        problem = random_problem(rng, graph)
        masks = tuple(1 << stage for stage in range(len(graph.stages)))
        order, before = layers_of(graph, masks)
        times = [rng.uniform(1, 100) for _ in order]
        parts = parts_us(problem, times, before)
        ends: list[float] = []
        for at, part in enumerate(parts):
            ends.append(max((ends[source] for source in before[at]), default=0.0) + part)
        assert 0 < max(ends) <= problem.app.slo.latency_ms * 1000 * (1 + 1e-9)
    one_way: Graph = graph_of((), (0,), (0,), (1, 2))
    masks = (1, 2, 4, 8)
    before = layers_of(one_way, masks)[1]
    spec = spec_of(one_way, slo_ms=100.0)
    found = parts_us(problem_of(spec, (stage_model(),) * 4), [10.0, 30.0, 60.0, 30.0], before)
    assert found == pytest.approx([10_000, 30_000 * 10 / 7, 60_000, 30_000])


def test_a_batch_that_cannot_fill_in_time_is_not_chosen() -> None:
    second = [infless.configure(chain(rate_per_s=rate)).winner.plan.functions[1] for rate in (0.0, 2.0, 60.0, 300.0)]
    assert [each.max_batch for each in second] == [1, 1, 8, 8]
    assert [each.instances for each in second] == sorted(each.instances for each in second)
    assert second[-1].instances > 1


def test_where_nothing_is_in_time_it_takes_about_the_fastest_and_says_so() -> None:
    table = infless.configure(chain(slo_ms=3.0, rate_per_s=1.0))
    assert not table.is_feasible
    assert not table.winner.meets_slo
    assert "this plan answers 99.0% within" in table.nearest
    for stage, function in enumerate(table.winner.plan.functions):
        assert f"s{stage}: nothing is within its part of" in table.because
        fastest = min(run_us(chain(), 1 << stage, 1, cores, 0.0) for cores in CORES)
        assert run_us(chain(), 1 << stage, *key(function)) <= 1.05 * fastest
        # No more cores than it has any use for.
        assert function.cpu_cores <= 1.0


def test_it_says_after_whom_and_what_to_expect() -> None:
    table = infless.configure(chain())
    assert table.because.startswith("after INFless (ASPLOS 2022), reconstructed: each function by itself the batch")
    assert "meets the SLO" in table.because
    assert table.is_feasible
    assert table.current is None
    now = compute(chain()).winner.plan
    assert infless.configure(msgspec.structs.replace(chain(), current=now)).current is not None


def test_what_has_no_room_gives_way_to_the_next_and_every_plan_fits() -> None:
    fewer = others = 0
    for seed in range(40):
        rng = Random(seed)
        problem = random_problem(rng, random_graph(rng, rng.randint(1, 5)))
        try:
            table = infless.configure(problem)
        except InfeasibleError:
            split = tuple((node.name,) for node in problem.app.graph.stages)
            with pytest.raises(InfeasibleError, match="fits: its least group needs"):
                compute(msgspec.structs.replace(problem, grain=split))
            continue
        plan = table.winner.plan
        assert explain_misfit(problem, plan) is None
        assert all(1 <= each.min_instances <= each.instances <= each.max_instances for each in plan.functions)
        fewer += "instances" in table.because
        others += "room" in table.because
    assert fewer
    assert others >= 3


def test_a_hard_share_is_cut_where_all_functions_need_cores() -> None:
    problem = msgspec.structs.replace(chain(rate_per_s=1.0), nodes=(Node("small", 2.0, 1e6),), capabilities=HARD)
    functions = infless.configure(problem).winner.plan.functions
    assert sum(each.cpu_cores * each.instances for each in functions) <= 2.0


def test_as_many_instances_as_ours_get_leave_the_configurations_alone() -> None:
    problem = chain(rate_per_s=300.0)
    own, ours = (plan(problem).winner for plan in (infless.configure, infless.configure_as_ours))
    assert [key(each) for each in own.plan.functions] == [key(each) for each in ours.plan.functions]
    assert sum(each.instances for each in ours.plan.functions) > sum(each.instances for each in own.plan.functions)
    assert ours.predicted.attainment >= own.predicted.attainment


def test_a_forced_granularity_is_planned_and_a_wrong_one_refused() -> None:
    fused = msgspec.structs.replace(chain(), grain=(("s0",), ("s1", "s2")))
    assert infless.configure(fused).winner.plan.grain == fused.grain
    with pytest.raises(InfeasibleError, match="no granularity of made"):
        infless.configure(msgspec.structs.replace(chain(), grain=(("s0", "s2"), ("s1",))))
    with pytest.raises(InfeasibleError, match="is no stage of made"):
        infless.configure(msgspec.structs.replace(chain(), grain=(("s0", "s1", "nothing"),)))


@pytest.mark.parametrize("slo_ms", [0.0, -1.0, math.nan, math.inf])
def test_figures_out_of_range_are_refused(slo_ms: float) -> None:
    with pytest.raises(ConfigurationError, match="the SLO of made"):
        infless.configure(chain(slo_ms=slo_ms))


def test_no_device_and_no_room_are_said() -> None:
    profile = gpu.profile_of(gpu.DEBLUR)
    with pytest.raises(InfeasibleError, match="declares device='gpu' and no node has one"):
        infless.configure(gpu.problem_of(profile, 1000.0, ()))
    with pytest.raises(InfeasibleError, match="on a device its least group needs"):
        infless.configure(gpu.problem_of(profile, 1000.0, (Device("tiny", "a100", 100.0),)))
    with pytest.raises(InfeasibleError, match="the largest node has 50 MiB"):
        infless.configure(msgspec.structs.replace(chain(), nodes=(Node("tiny", 4.0, 50.0),)))


def test_the_same_problem_has_the_same_answer() -> None:
    profile = gpu.profile_of(*gpu.CHAIN)
    for _ in range(2):
        known = [msgspec.json.encode(infless.configure(gpu.problem_of(profile, 2000.0, gpu.shared()))) for _ in range(2)]
        assert known[0] == known[1]
    plan: Plan = infless.configure(chain()).winner.plan
    assert plan.id == infless.configure(chain()).winner.plan.id
