"""The closed form as an evaluator: ranges, and what functions on one node do to one another."""

import msgspec
import pytest

from grainwise.domain.machine import Node
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.planning.problem import Problem
from grainwise.predictors.analytic import Analytic
from grainwise.predictors.contention import places_taken
from grainwise.predictors.evaluate import Evaluation
from worlds.problems import NOISY, chain_graph, problem_of, spec_of, stage_model


def pair(rate_per_s: float, *, cores: float = 2.0, slo_ms: float = 300.0) -> Problem:
    models = (stage_model(50_000, 0, residuals=NOISY), stage_model(50_000, 0, residuals=NOISY))
    return problem_of(
        spec_of(chain_graph(2), slo_ms=slo_ms), models, rate_per_s=rate_per_s, nodes=(Node("here", cores, 8000.0),)
    )


def split(first_cores: float, second_cores: float, instances: int = 1) -> Plan:
    return Plan(
        "made",
        (
            FunctionPlan(("s0",), first_cores, instances=instances, max_instances=instances),
            FunctionPlan(("s1",), second_cores, instances=instances, max_instances=instances),
        ),
    )


def test_a_judgement_is_the_prediction_with_a_range_around_it() -> None:
    problem, plan = pair(6.0), split(1.0, 1.0)
    (judged,) = Analytic().judge(problem, [plan])
    predicted = Evaluation(problem, plan).predict()
    assert judged.by == "analytic"
    assert judged.attainment.value == predicted.attainment
    assert judged.usd_per_hour.value == predicted.provisioned_usd_per_hour
    assert judged.capacity_per_s is not None
    assert judged.capacity_per_s.value == pytest.approx(predicted.capacity_per_s)
    for band in (judged.attainment, judged.usd_per_hour, judged.capacity_per_s):
        assert band.low <= band.value <= band.high
    assert judged.attainment.low < judged.attainment.value
    assert judged.capacity_per_s.low < judged.capacity_per_s.value < judged.capacity_per_s.high


def test_what_is_billed_has_a_range_and_what_is_provisioned_has_none() -> None:
    problem, plan = pair(2.0), split(1.0, 1.0)
    provisioned, billed = Analytic().judge(problem, [plan, msgspec.structs.replace(plan, objective="billed")])
    assert provisioned.usd_per_hour.low == provisioned.usd_per_hour.high
    assert billed.usd_per_hour.low < billed.usd_per_hour.value < billed.usd_per_hour.high


def test_a_better_profile_gives_a_narrower_range() -> None:
    rough, plan = pair(6.0), split(1.0, 1.0)
    stages = tuple(msgspec.structs.replace(stage, held_out_error_fraction=0.01) for stage in rough.model.stages)
    exact = msgspec.structs.replace(rough, model=msgspec.structs.replace(rough.model, stages=stages))
    (wide,), (narrow,) = (Analytic().judge(problem, [plan]) for problem in (rough, exact))
    assert narrow.attainment.high - narrow.attainment.low < wide.attainment.high - wide.attainment.low


def test_functions_that_all_fit_side_by_side_do_not_wait_for_cores() -> None:
    assert Evaluation(pair(8.0), split(1.0, 1.0)).breakdown() == Evaluation(pair(8.0, cores=8.0), split(1.0, 1.0)).breakdown()


def test_a_share_that_fits_no_gap_waits_though_cores_are_idle() -> None:
    # Half a core in use leaves no place for a share of two: both run in turn, and the node is never more than half used.
    assert places_taken((2.0,), 2.0, 0.5) == 1.0
    assert places_taken((2.0,), 0.5, 2.0) == 4.0
    assert places_taken((3.0,), 2.0, 0.5) == 0.0
    tight, loose = Evaluation(pair(5.0), split(0.5, 2.0)), Evaluation(pair(5.0, cores=4.0), split(0.5, 2.0))
    assert tight.breakdown().wait_ms > 1.5 * loose.breakdown().wait_ms
    assert tight.attainment_at_forecast() < loose.attainment_at_forecast()
