"""What a scenario does not say: hops across nodes, cold starts, neighbours."""

import pytest

from grainwise.domain.machine import HopModel, Node
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.planning.problem import Problem
from grainwise.predictors.analytic import Analytic
from grainwise.predictors.effects import Effects, crossing_fraction, interference_factors, slowed
from grainwise.predictors.evaluate import Evaluation
from worlds.problems import chain_graph, problem_of, spec_of, stage_model

REMOTE = HopModel(10_000.0, 0.0, 0.0, 0.0, 0.0)


def problem_on(nodes: int, *, rate_per_s: float = 0.01, slo_ms: float = 200.0) -> Problem:
    machines = tuple(Node(f"n{number}", 4.0, 8000.0) for number in range(nodes))
    return problem_of(
        spec_of(chain_graph(2), slo_ms=slo_ms),
        (stage_model(20_000, 0), stage_model(20_000, 0)),
        rate_per_s=rate_per_s,
        nodes=machines,
    )


def split(instances: int = 1) -> Plan:
    return Plan(
        "made",
        tuple(FunctionPlan((stage,), 1.0, instances=instances, max_instances=instances) for stage in ("s0", "s1")),
    )


def p50_ms(problem: Problem, effects: Effects, instances: int = 1) -> float:
    return Evaluation(problem, split(instances), effects=effects).predict().p50_ms


def test_hops_cross_as_often_as_no_instance_lies_where_the_values_do() -> None:
    assert [crossing_fraction(1, 1), crossing_fraction(4, 1), crossing_fraction(4, 3), crossing_fraction(4, 9)] == [
        0,
        0.75,
        0.25,
        0,
    ]


def test_on_one_node_a_network_changes_nothing_and_on_four_every_hop() -> None:
    with_network, without = Effects(remote=REMOTE), Effects()
    assert p50_ms(problem_on(1), with_network) == p50_ms(problem_on(1), without)
    # Two hops between functions and the way out, each across in three cases of four.
    assert p50_ms(problem_on(4), with_network) - p50_ms(problem_on(4), without) == pytest.approx(3 * 0.75 * 10, rel=1e-6)
    # With an instance of each everywhere only the way out is left.
    assert p50_ms(problem_on(4), with_network, 4) - p50_ms(problem_on(4), without, 4) == pytest.approx(7.5, rel=1e-6)


def test_starts_delay_as_many_requests_as_come_meanwhile() -> None:
    # Sixty starts an hour of 201 ms each at 36 requests an hour would delay all; at 36,000 some three in a thousand each.
    problem = problem_on(1, rate_per_s=10.0)
    calm, busy = (Evaluation(problem, split(), effects=Effects(starts_per_hour=rate)) for rate in (0.0, 60.0))
    lost = calm.attainment_at_forecast() - busy.attainment_at_forecast()
    assert 0 < lost < 2 * 60 / 3600 * (0.1 + 0.201)
    (judged,) = Analytic(Effects(starts_per_hour=60.0)).judge(problem, [split()])
    assert judged.attainment.value == busy.attainment_at_forecast()


def test_neighbours_slow_down_by_the_part_of_the_cores_that_they_use() -> None:
    assert interference_factors(0.5, [1.0, 3.0], 4.0) == [1.375, 1.125]
    problem = problem_on(1, rate_per_s=20.0)
    alone, beside = (
        Evaluation(problem, split(), effects=Effects(interference_fraction=fraction)).breakdown() for fraction in (0.0, 0.5)
    )
    # The other function keeps 0.4 of four cores at work.
    assert beside.service_ms / alone.service_ms == pytest.approx(1 + 0.5 * 0.1, rel=0.01)


def test_a_slower_stage_is_slower_at_every_share() -> None:
    stage = stage_model(1000, 100, scales_to=4.0)
    for cores in (0.1, 0.3, 1.0, 3.0, 16.0):
        assert slowed(stage, 1.5).predict(4, 0, cores).mean_us == pytest.approx(1.5 * stage.predict(4, 0, cores).mean_us)
