"""The table: what wins, why, and what is said where nothing can."""

import msgspec
import pytest

from grainwise.domain.errors import InfeasibleError
from grainwise.domain.machine import Device, HopModel, Node
from grainwise.domain.plan import Grain, render_grain
from grainwise.planning.problem import Option, PlanTable, Problem
from grainwise.planning.table import compute
from worlds.problems import HARD, NO_HOP, NOISY, SOFT, chain_graph, problem_of, spec_of, stage_model

FUSED: Grain = (("s0", "s1"),)
SPLIT: Grain = (("s0",), ("s1",))
LARGE = HopModel(1000.0, 0.0, 500.0, 0.0, 0.0)


def pair(
    first_ms: float = 20.0,
    second_ms: float = 20.0,
    *,
    slo_ms: float = 200.0,
    rate_per_s: float = 1.0,
    hop: HopModel = NO_HOP,
    memories_mib: tuple[float, float] = (100.0, 100.0),
    nodes: tuple[Node, ...] = (Node("here", 4.0, 8000.0),),
    batches: tuple[int, ...] = (1, 1),
    hard: bool = False,
) -> Problem:
    """Two stages, one after the other."""
    models = (
        stage_model(first_ms * 1000, 0, residuals=NOISY, memory_mib=memories_mib[0]),
        stage_model(second_ms * 1000, 0, residuals=NOISY, memory_mib=memories_mib[1]),
    )
    spec = spec_of(chain_graph(2), slo_ms=slo_ms, batches=batches)
    return problem_of(spec, models, rate_per_s=rate_per_s, hop=hop, nodes=nodes, capabilities=HARD if hard else SOFT)


def option(table: PlanTable, grain: Grain) -> Option:
    return next(each for each in table.options if each.plan.grain == grain)


def test_at_light_load_one_function_provisions_least() -> None:
    table = compute(pair(hop=LARGE))
    assert table.is_feasible
    assert table.winner.plan.grain == FUSED
    assert "s0+s1 meets the SLO" in table.because
    assert "s0 | s1" in table.because
    assert "%" in option(table, SPLIT).lacks


def test_a_stage_that_batches_pays_for_a_function_of_its_own_under_load() -> None:
    graph = chain_graph(2)
    # The second gains sixteenfold from batches, the first nothing: fused, each batch waits for sixteen runs of the first.
    models = (stage_model(0, 8_000, memory_mib=10), stage_model(30_000, 100, memory_mib=3000))
    spec = spec_of(graph, slo_ms=400.0, batches=(1, 16))
    nodes = (Node("here", 8.0, 8000.0),)
    table = compute(problem_of(spec, models, rate_per_s=80.0, nodes=nodes))
    assert table.winner.plan.grain == SPLIT
    assert next(function for function in table.winner.plan.functions if function.stages == ("s1",)).max_batch > 1


def test_scarce_memory_makes_split_better() -> None:
    # The first stage needs three instances; three times both models do not fit.
    busy = pair(60.0, 1.0, rate_per_s=40.0, memories_mib=(100.0, 1500.0), nodes=(Node("here", 4.0, 2500.0),))
    roomy = msgspec.structs.replace(busy, nodes=(Node("here", 4.0, 64_000.0),))
    scarce = compute(busy)
    assert scarce.winner.plan.grain == SPLIT
    assert option(compute(roomy), FUSED).meets_slo
    fused = [each for each in scarce.options if each.plan.grain == FUSED]
    assert not fused or not fused[0].meets_slo
    for each in scarce.options:
        assert sum(function.memory_mib * function.instances for function in each.plan.functions) <= 2500.0


def test_a_tight_slo_and_dear_hops_leave_only_the_fused_plan() -> None:
    dear = pair(20.0, 20.0, slo_ms=70.0, hop=HopModel(9_000.0, 0.0, 0.0, 0.0, 0.0))
    table = compute(dear)
    assert table.winner.plan.grain == FUSED
    lacking = option(table, SPLIT)
    assert not lacking.meets_slo
    assert lacking.lacks == "p99 is 77 ms (hands on 9.0 ms longer)"


def test_the_objective_decides_what_is_cheapest() -> None:
    problem = pair(hop=LARGE)
    billed = compute(msgspec.structs.replace(problem, objective="billed"))
    costs = [each.predicted.billed_usd_per_hour for each in billed.options if each.meets_slo]
    assert costs == sorted(costs)
    assert "least billed cost" in billed.because
    assert all(each.plan.objective == "billed" for each in billed.options)


def test_a_forced_granularity_is_the_only_option() -> None:
    table = compute(msgspec.structs.replace(pair(), grain=SPLIT))
    assert [each.plan.grain for each in table.options] == [SPLIT]
    assert "only granularity asked for" in table.because


@pytest.mark.parametrize(
    ("grain", "said"),
    [((("s0",), ("nothing",)), "'nothing' is no stage"), ((("s0",),), "s1 stand in no group")],
)
def test_a_forced_grain_that_is_none_is_refused_with_the_reason(grain: Grain, said: str) -> None:
    with pytest.raises(InfeasibleError, match=said):
        compute(msgspec.structs.replace(pair(), grain=grain))


def test_the_present_plan_is_judged_under_the_same_load() -> None:
    problem = pair()
    table = compute(problem)
    again = compute(msgspec.structs.replace(problem, current=table.winner.plan))
    assert again.current == again.winner.predicted
    assert again.winner == table.winner


def test_what_no_plan_meets_is_said_with_the_nearest_slo_and_rate() -> None:
    table = compute(pair(slo_ms=45.0, rate_per_s=40.0))
    assert not table.is_feasible
    assert not table.winner.meets_slo
    assert "no granularity is predicted" in table.because
    assert "nearest feasible SLO at 40/s" in table.nearest
    slowest = compute(pair(slo_ms=10.0))
    assert "10 ms are not feasible at any rate" in slowest.nearest


def test_an_overload_still_gets_a_plan_that_fits_the_memory() -> None:
    nodes = (Node("here", 2.0, 2000.0),)
    table = compute(pair(200.0, 200.0, slo_ms=1000.0, rate_per_s=500.0, memories_mib=(900.0, 900.0), nodes=nodes))
    assert not table.is_feasible
    assert table.winner.plan.functions[0].cpu_cores >= 1.0
    for each in table.options:
        assert sum(function.memory_mib * function.instances for function in each.plan.functions) <= 2000.0
        assert each.predicted.utilisation > 1
    assert "highest feasible rate" in table.nearest


def test_nothing_fits_is_an_error_with_the_missing_amount() -> None:
    with pytest.raises(InfeasibleError, match=r"needs 5000 MiB.*has 100 MiB"):
        compute(pair(memories_mib=(5000.0, 6000.0), nodes=(Node("here", 4.0, 100.0),)))


def test_a_stage_that_wants_a_gpu_is_not_run_on_a_cpu_in_silence() -> None:
    problem = pair()
    stages = (msgspec.structs.replace(problem.app.stages[0], device="gpu"), *problem.app.stages[1:])
    wanting = msgspec.structs.replace(problem, app=msgspec.structs.replace(problem.app, stages=stages))
    with pytest.raises(InfeasibleError, match=r"s0 .*declares device='gpu' and no node has one"):
        compute(wanting)


def test_a_granularity_without_a_plan_is_counted() -> None:
    table = compute(pair(memories_mib=(900.0, 900.0), nodes=(Node("left", 2.0, 1000.0), Node("right", 2.0, 1000.0))))
    assert [each.plan.grain for each in table.options] == [SPLIT]
    assert "1 granularity does not fit" in table.because


def test_a_value_too_long_for_the_platform_may_not_be_cut() -> None:
    problem = pair()
    narrow = msgspec.structs.replace(problem.capabilities, payload_limit_bytes=10_000)
    workload = msgspec.structs.replace(problem.workload, output_bytes=(50_000.0, 100.0))
    table = compute(msgspec.structs.replace(problem, capabilities=narrow, workload=workload))
    assert [each.plan.grain for each in table.options] == [FUSED]
    long = msgspec.structs.replace(problem.workload, input_bytes=(50_000.0,))
    with pytest.raises(InfeasibleError, match="50000 bytes"):
        compute(msgspec.structs.replace(problem, capabilities=narrow, workload=long))


def test_hard_shares_never_promise_more_cores_than_there_are() -> None:
    table = compute(pair(rate_per_s=30.0, hard=True, nodes=(Node("here", 2.0, 8000.0),)))
    for each in table.options:
        assert sum(function.cpu_cores * function.instances for function in each.plan.functions) <= 2.0


def test_spare_memory_bounds_what_a_function_may_grow_to() -> None:
    table = compute(pair(memories_mib=(900.0, 900.0), nodes=(Node("here", 4.0, 2000.0),)))
    for each in table.options:
        used = sum(function.memory_mib * function.instances for function in each.plan.functions)
        for function in each.plan.functions:
            assert used + (function.max_instances - function.instances) * function.memory_mib <= 2000.0


def test_equal_costs_go_to_fewer_functions() -> None:
    problem = pair()
    free = msgspec.structs.replace(problem.prices, usd_per_core_hour=0.0, usd_per_gib_hour=0.0)
    table = compute(msgspec.structs.replace(problem, prices=free))
    assert table.winner.plan.grain == FUSED
    assert "costs the same" in option(table, SPLIT).lacks


@pytest.mark.parametrize(("count", "expected", "limit"), [(5, 16, 60_000), (8, 128, 3_000_000)])
def test_every_granularity_is_listed_within_a_bounded_search(count: int, expected: int, limit: int) -> None:
    models = tuple(
        stage_model(3000.0 * (1 + index % 3), 500.0, residuals=NOISY, memory_mib=50.0 + 40 * index) for index in range(count)
    )
    spec = spec_of(chain_graph(count), slo_ms=800.0, batches=tuple((1, 4, 8)[index % 3] for index in range(count)))
    table = compute(problem_of(spec, models, rate_per_s=10.0, hop=LARGE))
    assert len({render_grain(each.plan.grain) for each in table.options}) == expected
    assert table.expanded_nodes < limit
    assert "cut off" not in table.because


def test_a_function_on_a_gpu_is_planned_with_a_device_for_each_instance() -> None:
    problem = pair(rate_per_s=60.0, nodes=(Node("here", 4.0, 8000.0, devices=(Device("gpu0", "L4", 24_000.0),)),))
    stages = (problem.app.stages[0], msgspec.structs.replace(problem.app.stages[1], device="gpu"))
    table = compute(msgspec.structs.replace(problem, app=msgspec.structs.replace(problem.app, stages=stages)))
    for each in table.options:
        function = each.plan.functions[-1]
        assert (function.device, function.gpu_share_fraction) == ("gpu", 1.0)
        assert function.instances <= function.max_instances <= 1
    assert {each.device for each in option(table, SPLIT).plan.functions} == {"cpu", "gpu"}
