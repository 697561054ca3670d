"""What the evaluator expects of plans whose answer is known, and the sign of each effect."""

from typing import Any

import msgspec
import pytest

from grainwise.domain.graph import EachNode, Element, Gathered, Graph, Guard, Input, Merged, Output, StageNode
from grainwise.domain.machine import HopModel, Node
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.planning.problem import Problem
from grainwise.predictors.evaluate import Evaluation, evaluate
from grainwise.predictors.groups import group_facts
from worlds.problems import EVEN, HARD, HOP, NO_HOP, NOISY, chain_graph, graph_of, problem_of, spec_of, stage_model

QUIET = 1e-6
"""Requests per second at which nothing waits."""


def plan_of(*groups: tuple[int, ...], **more: Any) -> Plan:
    functions = [FunctionPlan(tuple(f"s{index}" for index in group), **{"cpu_cores": 1.0, **more}) for group in groups]
    return Plan("made", tuple(functions))


def chain_problem(count: int = 3, *, milliseconds: float = 10.0, residuals: tuple[float, ...] = EVEN, **more: Any) -> Problem:
    models = tuple(stage_model(milliseconds * 1000, 0.0, residuals=residuals) for _ in range(count))
    slo_ms = more.pop("slo_ms", 1000.0)
    batch = more.pop("max_batch", 1)
    return problem_of(spec_of(chain_graph(count), slo_ms=slo_ms, max_batch=batch), models, **{"rate_per_s": QUIET, **more})


def fan_out_problem(elements: float, **more: Any) -> Problem:
    """``s0`` makes a list, ``s1`` runs for each of its elements, ``s2`` reads all of them."""
    graph = Graph(
        ("value",),
        (
            StageNode("s0", "s0", (Input(0),)),
            StageNode("s1", "s1", (Element(0),), (0,)),
            StageNode("s2", "s2", (Gathered(0),)),
        ),
        (EachNode(Output(0), Output(1)),),
        (Output(2),),
        ("out",),
    )
    models = (stage_model(1000, 0), stage_model(2000, 3000), stage_model(1000, 0))
    batch = more.pop("max_batch", 4)
    spec = spec_of(graph, batches=(1, batch, 1))
    return problem_of(spec, models, items=(1.0, elements, 1.0), **{"rate_per_s": QUIET, **more})


def test_without_load_the_latency_of_a_chain_is_the_sum_of_its_stages() -> None:
    predicted = evaluate(chain_problem(), plan_of((0, 1, 2)))
    assert (predicted.p50_ms, predicted.p99_ms) == pytest.approx((30.0, 30.0))
    assert predicted.attainment == 1.0


def test_with_every_effect_switched_off_fused_and_split_are_equal_in_latency_and_billed_cost() -> None:
    problem = chain_problem(
        residuals=NOISY,
        rate_per_s=0.001,
        prices=msgspec.structs.replace(chain_problem().prices, usd_per_gib_hour=0.0, usd_per_million_requests=0.0),
    )
    fused, split = evaluate(problem, plan_of((0, 1, 2))), evaluate(problem, plan_of((0,), (1,), (2,)))
    for field in ("p50_ms", "p95_ms", "p99_ms", "billed_usd_per_hour"):
        assert getattr(fused, field) == pytest.approx(getattr(split, field), rel=1e-3)


def test_a_hop_that_costs_makes_fused_strictly_faster_by_exactly_the_hops() -> None:
    problem = chain_problem(hop=HopModel(2000.0, 0.0, 0.0, 0.0, 0.0))
    fused, split = evaluate(problem, plan_of((0, 1, 2))), evaluate(problem, plan_of((0,), (1,), (2,)))
    assert split.p50_ms - fused.p50_ms == pytest.approx(4.0)


def test_bytes_on_an_edge_make_a_hop_dearer() -> None:
    hop = HopModel(0.0, 1000.0, 0.0, 0.0, 0.0)
    small = evaluate(chain_problem(hop=hop, nbytes=1024.0), plan_of((0,), (1, 2)))
    large = evaluate(chain_problem(hop=hop, nbytes=1024.0 * 1024), plan_of((0,), (1, 2)))
    assert large.p50_ms - small.p50_ms == pytest.approx(3.0, rel=0.01)


def test_noise_of_stages_averages_out_along_a_chain_whatever_the_grouping() -> None:
    problem = chain_problem(4, residuals=NOISY)
    one = evaluate(chain_problem(1, residuals=NOISY), plan_of((0,)))
    fused, split = evaluate(problem, plan_of((0, 1, 2, 3))), evaluate(problem, plan_of((0,), (1,), (2,), (3,)))
    assert fused.p99_ms < 4 * one.p99_ms * 0.95
    assert fused.p99_ms == pytest.approx(split.p99_ms, rel=1e-6)


def test_parallel_branches_take_the_time_of_the_longer() -> None:
    graph = graph_of((), (0,), (0,), (1, 2))
    models = (stage_model(1000, 0), stage_model(20_000, 0), stage_model(5000, 0), stage_model(1000, 0))
    problem = problem_of(spec_of(graph), models, rate_per_s=QUIET)
    assert evaluate(problem, plan_of((0,), (1,), (2,), (3,))).p50_ms == pytest.approx(22.0)
    assert evaluate(problem, plan_of((0, 1, 2, 3))).p50_ms == pytest.approx(27.0)


def test_a_fan_out_inside_a_function_runs_in_chunks_of_the_stages_batch() -> None:
    # Two calls: 2 ms each, and 3 ms for each of six elements.
    assert evaluate(fan_out_problem(6.0), plan_of((0, 1, 2))).p50_ms == pytest.approx(1 + 2 * 2 + 6 * 3 + 1)


def test_a_fan_out_is_shared_out_over_instances() -> None:
    problem = fan_out_problem(6.0)
    ends = plan_of((0,), (2,)).functions
    alone = Plan("made", (*ends, *plan_of((1,), max_batch=4).functions))
    many = Plan("made", (*ends, *plan_of((1,), max_batch=4, instances=3).functions))
    assert evaluate(problem, alone).p50_ms == pytest.approx(1 + (2 * 2 + 6 * 3) + 1)
    assert evaluate(problem, many).p50_ms == pytest.approx(1 + (2 + 2 * 3) + 1)


def test_instances_beyond_the_cores_do_not_run_at_once() -> None:
    one_core = (Node("here", 1.0, 8000.0),)
    few = evaluate(fan_out_problem(6.0, nodes=one_core), plan_of((0,), (1,), (2,), max_batch=4))
    many = evaluate(fan_out_problem(6.0, nodes=one_core), plan_of((0,), (1,), (2,), max_batch=4, instances=6))
    assert many.p50_ms == few.p50_ms


def test_a_branch_is_paid_by_the_requests_that_take_it() -> None:
    key = Output(0)
    graph = Graph(
        ("value",),
        (
            StageNode("s0", "s0", (Input(0),)),
            StageNode("s1", "s1", (Input(0),), (), (Guard(key, "a"),)),
            StageNode("s2", "s2", (Input(0),), (), (Guard(key, None, ("a",)),)),
            StageNode("s3", "s3", (Merged((Output(1), Output(2))),)),
        ),
        (),
        (Output(3),),
        ("out",),
    )
    models = (stage_model(1000, 0), stage_model(100_000, 0), stage_model(10_000, 0), stage_model(1000, 0))
    problem = problem_of(spec_of(graph, slo_ms=50.0), models, items=(1.0, 0.2, 0.8, 1.0), rate_per_s=QUIET)
    for plan in (plan_of((0, 1, 2, 3)), plan_of((0,), (1,), (2,), (3,))):
        predicted = evaluate(problem, plan)
        assert predicted.attainment == pytest.approx(0.8, abs=0.01)
        assert (predicted.p50_ms, predicted.p95_ms) == pytest.approx((12.0, 102.0))


def test_waiting_follows_m_g_1_for_a_single_function() -> None:
    problem = chain_problem(1, milliseconds=100.0, rate_per_s=8.0, nodes=(Node("here", 1.0, 8000.0),))
    # M/D/1 at a load of 0.8: rho / (2 (1 - rho)) services of waiting on average.
    waited = Evaluation(problem, plan_of((0,))).breakdown().wait_ms
    assert waited == pytest.approx(200.0, rel=0.01)


def test_attainment_falls_with_the_rate_and_capacity_is_where_it_crosses() -> None:
    problem = chain_problem(2, milliseconds=20.0, slo_ms=150.0, rate_per_s=1.0)
    evaluation = Evaluation(problem, plan_of((0, 1), instances=2))
    attained = [evaluation.attainment(rate) for rate in (1, 10, 25, 40, 60, 100)]
    assert attained == sorted(attained, reverse=True)
    capacity = evaluation.capacity_per_s(0.98)
    assert 25 < capacity < 51
    assert evaluation.attainment(capacity) >= 0.98 > evaluation.attainment(capacity * 1.02)


def test_capacity_is_nothing_where_the_stages_alone_miss_the_slo() -> None:
    assert evaluate(chain_problem(slo_ms=25.0), plan_of((0, 1, 2))).capacity_per_s == 0.0


def test_the_nodes_cores_bound_functions_together_where_shares_are_soft() -> None:
    # Three functions of 0.4 core each at this rate: more than one core, though each alone has room.
    nodes = (Node("here", 1.0, 8000.0),)
    problem = chain_problem(rate_per_s=40.0, nodes=nodes)
    predicted = evaluate(problem, plan_of((0,), (1,), (2,)))
    assert predicted.utilisation == pytest.approx(1.2, rel=0.01)
    assert predicted.attainment < 0.5
    assert evaluate(chain_problem(rate_per_s=20.0, nodes=nodes), plan_of((0,), (1,), (2,))).attainment > 0.9


def test_hard_shares_do_not_wait_for_one_another() -> None:
    soft = chain_problem(rate_per_s=50.0, milliseconds=10.0, nodes=(Node("here", 2.0, 8000.0),))
    hard = msgspec.structs.replace(soft, capabilities=HARD)
    split = plan_of((0,), (1,), (2,))
    assert evaluate(hard, split).p95_ms < evaluate(soft, split).p95_ms


def test_batches_form_under_load_and_raise_capacity() -> None:
    models = (stage_model(20_000, 1000),)
    single = problem_of(spec_of(chain_graph(1)), models, rate_per_s=30.0)
    batched = problem_of(spec_of(chain_graph(1), max_batch=8), models, rate_per_s=30.0)
    alone, together = evaluate(single, plan_of((0,))), evaluate(batched, plan_of((0,), max_batch=8))
    assert together.capacity_per_s > 4 * alone.capacity_per_s
    assert together.billed_usd_per_hour <= alone.billed_usd_per_hour


def test_both_costs_follow_from_their_definitions() -> None:
    problem = chain_problem(1, milliseconds=100.0, rate_per_s=2.0)
    predicted = evaluate(problem, plan_of((0,), instances=3))
    per_second = problem.prices.usd_per_second(1.0, 100.0)
    assert predicted.provisioned_usd_per_hour == pytest.approx(3 * 3600 * per_second)
    fee = problem.prices.usd_per_million_requests / 1e6
    assert predicted.billed_usd_per_hour == pytest.approx(3600 * 2 * (0.1 * per_second + fee))


def test_cpu_of_hops_counts_as_load() -> None:
    busy = chain_problem(rate_per_s=20.0, hop=HopModel(0.0, 0.0, 5000.0, 0.0, 0.0))
    free = chain_problem(rate_per_s=20.0, hop=NO_HOP)
    split = plan_of((0,), (1,), (2,))
    more = Evaluation(busy, split).breakdown().demand_cores - Evaluation(free, split).breakdown().demand_cores
    assert more == pytest.approx(3 * 20 * 0.005)


def test_the_error_is_that_of_the_stages_weighted_by_their_time() -> None:
    problem = chain_problem(2)
    models = (
        msgspec.structs.replace(stage_model(30_000, 0), held_out_error_fraction=0.4),
        msgspec.structs.replace(stage_model(10_000, 0), held_out_error_fraction=0.0),
    )
    problem = msgspec.structs.replace(problem, model=msgspec.structs.replace(problem.model, stages=models))
    assert evaluate(problem, plan_of((0, 1))).error_fraction == pytest.approx(0.3)


def test_a_plan_whose_functions_wait_for_one_another_is_refused() -> None:
    graph = graph_of((), (), (0, 1), (0, 1))
    problem = problem_of(spec_of(graph), tuple(stage_model() for _ in range(4)))
    with pytest.raises(ValueError, match="wait for one another"):
        evaluate(problem, plan_of((0, 2), (1, 3)))


def test_bytes_and_items_of_groups_follow_the_scopes() -> None:
    problem = fan_out_problem(5.0, nbytes=1000.0)
    whole, body, tail = (group_facts(problem, mask) for mask in (0b111, 0b010, 0b110))
    assert (whole.items, whole.executions, whole.bytes_in) == (1.0, (1.0, 5.0, 1.0), 1000.0)
    assert (body.items, body.executions) == (5.0, (1.0,))
    assert body.bytes_in == pytest.approx(200.0)
    assert (tail.items, tail.bytes_in) == (1.0, pytest.approx(1000.0))
    assert group_facts(problem, 0b011).bytes_out == pytest.approx(5000.0)


def test_a_rate_of_nothing_is_answered() -> None:
    predicted = evaluate(chain_problem(rate_per_s=0.0, hop=HOP), plan_of((0,), (1, 2)))
    assert predicted.attainment == 1.0
    assert predicted.billed_usd_per_hour == 0.0


def test_requests_that_differ_make_the_slow_ones_slow_and_keep_the_mean() -> None:
    problem = chain_problem(2, milliseconds=50.0)
    mean = evaluate(problem, plan_of((0, 1)))
    mixed = msgspec.structs.replace(problem.workload, variants=((0.5, 0.5), (1.5, 1.5)))
    varied = evaluate(msgspec.structs.replace(problem, workload=mixed), plan_of((0, 1)))
    assert varied.p95_ms > mean.p95_ms * 1.3
    assert varied.billed_usd_per_hour == pytest.approx(mean.billed_usd_per_hour)
