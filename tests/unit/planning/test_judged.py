"""Who wins when another model than the search's own judges, and what is said about it."""

import math
from collections.abc import Callable, Sequence

import msgspec
import pytest

from grainwise.domain.app import Slo
from grainwise.domain.errors import ConfigurationError
from grainwise.domain.machine import HopModel
from grainwise.domain.plan import Grain, Plan, render_grain
from grainwise.planning.judged import MAX_JUDGED, compute_judged, in_question
from grainwise.planning.problem import PlanTable, Problem
from grainwise.planning.table import compute
from grainwise.predictors.analytic import Analytic
from grainwise.predictors.evaluator import Band, EvaluatorName, Judgement
from grainwise.predictors.groups import Scenario
from worlds.problems import NOISY, chain_graph, problem_of, spec_of, stage_model

HOP = HopModel(1000.0, 0.0, 500.0, 0.0, 20.0)


class Told:
    """Judges as it is told, by attainment and cost of each number of functions or granularity."""

    def __init__(self, figures: Callable[[Plan], tuple[float, float]], *, width: float = 0.0) -> None:
        self.figures = figures
        self.width = width
        self.asked: list[Plan] = []
        self.snapshots: list[bytes] = []

    @property
    def name(self) -> EvaluatorName:
        return "rollout"

    def judge(self, scenario: Scenario, plans: Sequence[Plan], snapshot: bytes = b"") -> tuple[Judgement, ...]:
        self.asked.extend(plans)
        self.snapshots.append(snapshot)
        made = []
        for plan in plans:
            attainment, cost = self.figures(plan)
            made.append(
                Judgement(
                    Band(attainment, attainment - self.width, attainment + self.width),
                    Band(cost, cost * (1 - self.width), cost * (1 + self.width)),
                    "rollout",
                )
            )
        return tuple(made)


def chain(count: int, *, rate_per_s: float = 1.0, slo_ms: float = 400.0) -> Problem:
    models = tuple(stage_model(20_000, 0, residuals=NOISY) for _ in range(count))
    return problem_of(spec_of(chain_graph(count), slo_ms=slo_ms), models, rate_per_s=rate_per_s, hop=HOP)


def winner(table: PlanTable) -> Grain:
    return table.winner.plan.grain


def test_the_analytic_model_changes_nothing_but_adds_its_ranges() -> None:
    problem = chain(3)
    plain = compute(problem)
    for table in (compute_judged(problem), compute_judged(problem, Analytic())):
        assert [option.plan for option in table.options] == [option.plan for option in plain.options]
        assert (table.because, table.evaluator) == (plain.because, "analytic")
        judged = table.winner.judged
        assert judged is not None
        assert judged.attainment.value == table.winner.predicted.attainment
        assert judged.usd_per_hour.value == table.winner.predicted.provisioned_usd_per_hour


def test_at_most_eight_are_judged_all_at_once_with_fused_split_and_present_among_them() -> None:
    problem = chain(5)
    table = compute(problem)
    odd = table.options[-1].plan
    problem = msgspec.structs.replace(problem, current=odd, snapshot=b"memory")
    places = in_question(problem, compute(problem))
    assert len(places) <= MAX_JUDGED < len(table.options)
    assert list(places) == sorted(places)
    evaluator = Told(lambda plan: (1.0, 0.1))
    answered = compute_judged(problem, evaluator)
    grains = [plan.grain for plan in evaluator.asked]
    assert {len(grain) for grain in grains} >= {1, 5}
    assert odd.grain in grains
    assert evaluator.snapshots == [b"memory"]
    assert sum(option.judged is not None for option in answered.options) == len(places)
    assert answered.current_judged is not None


def test_the_cheapest_that_is_judged_to_meet_the_slo_wins_against_the_search() -> None:
    problem = chain(3)
    evaluator = Told(lambda plan: (0.999, 0.05 * 4) if len(plan.functions) == 1 else (0.995, 0.05 * len(plan.functions)))
    table = compute_judged(problem, evaluator)
    assert winner(compute(problem)) == (("s0", "s1", "s2"),)
    assert len(winner(table)) == 2
    assert table.evaluator == "rollout"
    assert "by rollout" in table.because
    assert "99.5% (99.5% to 99.5%) at $0.1000/h" in table.because
    assert "the search by itself would have taken s0+s1+s2" in table.because
    assert "the runner-up" in table.because
    assert all(option.lacks for option in table.options[1:])


def test_who_is_judged_late_loses_to_who_costs_more() -> None:
    table = compute_judged(chain(2), Told(lambda plan: (0.9, 0.1) if len(plan.functions) == 1 else (0.99, 0.5)))
    assert winner(table) == (("s0",), ("s1",))
    assert table.is_feasible
    assert not table.options[1].meets_slo
    assert table.options[1].lacks == "judged to attain 90.0%"


def test_where_nothing_meets_the_slo_the_cheapest_of_the_best_comes_nearest() -> None:
    table = compute_judged(chain(2), Told(lambda plan: (0.951, 0.2) if len(plan.functions) == 1 else (0.95, 0.1), width=0.05))
    assert winner(table) == (("s0",), ("s1",))
    assert not table.is_feasible
    assert table.nearest
    far = compute_judged(chain(2), Told(lambda plan: (0.95, 0.2) if len(plan.functions) == 1 else (0.9, 0.1), width=0.2))
    assert winner(far) == (("s0", "s1"),)


def test_hundredths_of_a_point_below_the_target_do_not_decide_where_the_band_reaches_it() -> None:
    told = {1: (0.9898, 0.1), 2: (0.9902, 0.14)}
    table = compute_judged(chain(2), Told(lambda plan: told[len(plan.functions)], width=0.002))
    assert winner(table) == (("s0", "s1"),)
    assert table.is_feasible and table.options[0].meets_slo and not table.nearest
    sure = compute_judged(chain(2), Told(lambda plan: told[len(plan.functions)], width=0.0001))
    assert winner(sure) == (("s0",), ("s1",))
    told = {1: (0.984, 0.1), 2: (0.9902, 0.14)}
    far = compute_judged(chain(2), Told(lambda plan: told[len(plan.functions)], width=0.02))
    assert winner(far) == (("s0",), ("s1",))
    told = {1: (0.9898, 0.1), 2: (0.9899, 0.14)}
    missed = compute_judged(chain(2), Told(lambda plan: told[len(plan.functions)], width=0.002))
    assert winner(missed) == (("s0", "s1"),) and not missed.is_feasible


def test_a_difference_within_the_bands_keeps_the_present_granularity_else_the_order_of_the_search() -> None:
    problem = chain(2)
    split = next(option.plan for option in compute(problem).options if len(option.plan.functions) == 2)
    close = Told(lambda plan: (1.0, 0.1 if len(plan.functions) == 1 else 0.1009), width=0.05)
    assert winner(compute_judged(problem, close)) == (("s0", "s1"),)
    kept = compute_judged(msgspec.structs.replace(problem, current=split), close)
    assert winner(kept) == split.grain
    assert "the present granularity is kept" in kept.because
    apart = Told(lambda plan: (1.0, 0.1 if len(plan.functions) == 1 else 0.12), width=0.05)
    assert winner(compute_judged(msgspec.structs.replace(problem, current=split), apart)) == (("s0", "s1"),)
    reverse = Told(lambda plan: (1.0, 0.1 if len(plan.functions) == 2 else 0.1009), width=0.05)
    ordered = compute_judged(problem, reverse)
    assert winner(ordered) == (("s0", "s1"),)
    assert "the order of the search decides" in ordered.because


def test_one_granularity_asked_for_is_judged_alone() -> None:
    problem = msgspec.structs.replace(chain(2), grain=(("s0",), ("s1",)))
    evaluator = Told(lambda plan: (1.0, 0.1))
    table = compute_judged(problem, evaluator)
    assert [render_grain(plan.grain) for plan in evaluator.asked] == ["s0 | s1"]
    assert "of 1 granularity judged" in table.because


def test_the_same_question_has_the_same_answer() -> None:
    problem = chain(4)
    first, second = (compute_judged(problem, Told(lambda plan: (1.0, 0.1))) for _ in range(2))
    assert msgspec.json.encode(first) == msgspec.json.encode(second)


@pytest.mark.parametrize("rate_per_s", [1.0, 300.0])
def test_overload_is_judged_without_picking_the_cheapest_of_nothing(rate_per_s: float) -> None:
    table = compute_judged(chain(2, rate_per_s=rate_per_s), Told(lambda plan: (0.0, 0.1 * len(plan.functions))))
    assert not table.is_feasible
    assert table.nearest


def _with(problem: Problem, **changed: object) -> Problem:
    return msgspec.structs.replace(problem, workload=msgspec.structs.replace(problem.workload, **changed))


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize("field", ["rate_per_s", "arrival_scv", "items", "item_size", "output_bytes", "input_bytes"])
def test_a_forecast_that_is_no_number_is_refused_by_name(field: str, value: float) -> None:
    problem = chain(2)
    given = getattr(problem.workload, field)
    changed = (value, *given[1:]) if isinstance(given, tuple) else value
    with pytest.raises(ConfigurationError, match=f"the forecast for made has {field} "):
        compute_judged(_with(problem, **{field: changed}))


def test_a_forecast_of_another_app_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="3 values of items, the app needs 2"):
        compute_judged(_with(chain(2), items=(1.0, 1.0, 1.0)))


@pytest.mark.parametrize(
    ("latency_ms", "target"), [(0.0, 0.9), (math.nan, 0.9), (math.inf, 0.9), (100.0, 0.0), (100.0, 1.01), (100.0, math.nan)]
)
def test_an_slo_outside_its_range_is_refused(latency_ms: float, target: float) -> None:
    problem = chain(2)
    app = msgspec.structs.replace(problem.app, slo=Slo(latency_ms, target))
    with pytest.raises(ConfigurationError, match="the SLO of made"):
        compute_judged(msgspec.structs.replace(problem, app=app))


def test_nobody_coming_and_a_target_of_all_have_stated_answers() -> None:
    idle = compute_judged(_with(chain(2), rate_per_s=0.0))
    assert idle.is_feasible
    assert "at a forecast of 0/s this is what a single request needs" in idle.because
    problem = chain(2)
    app = msgspec.structs.replace(problem.app, slo=Slo(400.0, 1.0))
    always = compute_judged(msgspec.structs.replace(problem, app=app))
    assert always.winner.predicted.attainment == 1.0
    assert "a target of 100% is taken as every one of the 1,021 requests" in always.because


def test_an_slo_below_the_fastest_possible_time_names_the_nearest() -> None:
    table = compute_judged(chain(2, slo_ms=5.0))
    assert not table.is_feasible
    assert "nearest feasible SLO at 1/s" in table.nearest
    assert "5 ms are not feasible at any rate" in table.nearest
