"""The analytic model as a ``PlanEvaluator``: closed form, every figure with the range that the errors of the stages leave."""

from collections.abc import Callable, Sequence

import msgspec

from grainwise.domain.plan import Plan
from grainwise.predictors.effects import NO_EFFECTS, Effects, setting, slowed
from grainwise.predictors.evaluate import CAPACITY_ATTAINMENT, Evaluation
from grainwise.predictors.evaluator import Band, EvaluatorName, Judgement
from grainwise.predictors.groups import Scenario
from grainwise.predictors.memo import Memo
from grainwise.predictors.samples import SAMPLES

NINE_IN_TEN = 2.06
"""The half-width that holds nine in ten of normal errors, relative to their mean absolute value, which a profile states."""


Served = Callable[[Scenario, Plan], Sequence[tuple[Scenario, Plan]]]
"""The ways in which a plan may be served beside the way it stands, each with the scenario that its instances see."""


class Analytic:
    """Profiles and queueing in closed form.

    The range of a figure is what it is with every stage slower, and with every stage faster, than its model by the error that
    nine in ten held-out measurements stay within. All stages err the same way at once, which is the worst case; whether the
    queueing formulas err besides is not in it.

    Args:
        effects: what a scenario does not say, where it is known.
        served: how a plan is served where extents are decided at dispatch (``planning.dispatched``); as it stands without it.
    """

    def __init__(self, effects: Effects = NO_EFFECTS, served: Served | None = None) -> None:
        self._effects = effects
        self._served = served

    @property
    def name(self) -> EvaluatorName:
        """``analytic``."""
        return "analytic"

    def judge(self, scenario: Scenario, plans: Sequence[Plan], snapshot: bytes = b"") -> tuple[Judgement, ...]:
        """Judge each plan when it is up; ``snapshot`` changes nothing."""
        known = [(each, Memo()) for each in (scenario, with_errors(scenario, 1), with_errors(scenario, -1))]
        return tuple(_judgement(plan, [self._evaluation(each, plan, memo) for each, memo in known]) for plan in plans)

    def _evaluation(self, scenario: Scenario, plan: Plan, memo: Memo) -> Evaluation:
        best = Evaluation(scenario, plan, memo=memo, effects=self._effects)
        if self._served is None or best.attainment_at_forecast() >= scenario.app.slo.target:
            return best
        for seen, served in self._served(scenario, plan):
            other = Evaluation(seen, served, effects=self._effects, charged=plan)
            best = max(best, other, key=lambda each: each.attainment_at_forecast())
        return best


def with_errors(scenario: Scenario, sign: int) -> Scenario:
    """The scenario with every stage slower (``sign`` 1) or faster (-1) than its model by its held-out error."""
    stages = tuple(slowed(stage, (1 + NINE_IN_TEN * stage.held_out_error_fraction) ** sign) for stage in scenario.model.stages)
    return msgspec.structs.replace(setting(scenario), model=msgspec.structs.replace(scenario.model, stages=stages))


def _judgement(plan: Plan, expected_slow_fast: Sequence[Evaluation]) -> Judgement:
    attainment = [each.attainment_at_forecast() for each in expected_slow_fast]
    usd_per_hour = [each.usd_per_hour(plan.objective) for each in expected_slow_fast]
    capacity = [each.capacity_per_s(CAPACITY_ATTAINMENT) for each in expected_slow_fast]
    reached = _band(attainment)
    # What lies between two samples cannot be told.
    reached = Band(reached.value, max(0.0, reached.low - 1 / SAMPLES), min(1.0, reached.high + 1 / SAMPLES))
    return Judgement(reached, _band(usd_per_hour), "analytic", _band(capacity))


def _band(values: Sequence[float]) -> Band:
    """The first of ``values``, and the range of all."""
    return Band(values[0], min(values), max(values))
