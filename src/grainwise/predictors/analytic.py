"""The analytic model as a ``PlanEvaluator``: closed form, every figure with the range that the errors of the stages leave."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from grainwise.domain.app import AppSpec
from grainwise.domain.machine import Capabilities, HopModel, Node, Prices
from grainwise.domain.plan import Plan
from grainwise.predictors.evaluate import CAPACITY_ATTAINMENT, Evaluation
from grainwise.predictors.evaluator import Band, EvaluatorName, Judgement
from grainwise.predictors.groups import GroupFacts, Scenario
from grainwise.predictors.latency import LatencyModel, StageModel
from grainwise.predictors.samples import SAMPLES
from grainwise.predictors.workload import Workload

NINE_IN_TEN = 2.06
"""The half-width that holds nine in ten of normal errors, relative to their mean absolute value, which a profile states."""


class Analytic:
    """Profiles and queueing in closed form.

    The range of a figure is what it is with every stage slower, and with every stage faster, than its model by the error that
    nine in ten held-out measurements stay within. All stages err the same way at once, which is the worst case; whether the
    queueing formulas err besides is not in it.
    """

    @property
    def name(self) -> EvaluatorName:
        """``analytic``."""
        return "analytic"

    def judge(self, scenario: Scenario, plans: Sequence[Plan], snapshot: bytes = b"") -> tuple[Judgement, ...]:
        """Judge each plan when it is up; ``snapshot`` changes nothing."""
        facts: dict[int, GroupFacts] = {}
        scenarios = (scenario, with_errors(scenario, 1), with_errors(scenario, -1))
        return tuple(_judgement(plan, [Evaluation(each, plan, facts) for each in scenarios]) for plan in plans)


class _Setting(Struct, frozen=True):
    """A scenario, as data."""

    app: AppSpec
    model: LatencyModel
    hop: HopModel
    workload: Workload
    nodes: tuple[Node, ...]
    capabilities: Capabilities
    prices: Prices


def with_errors(scenario: Scenario, sign: int) -> Scenario:
    """The scenario with every stage slower (``sign`` 1) or faster (-1) than its model by its held-out error."""
    model = scenario.model
    stages = tuple(_with_error(stage, sign) for stage in model.stages)
    return _Setting(
        scenario.app,
        msgspec.structs.replace(model, stages=stages),
        scenario.hop,
        scenario.workload,
        scenario.nodes,
        scenario.capabilities,
        scenario.prices,
    )


def _with_error(stage: StageModel, sign: int) -> StageModel:
    factor = (1 + NINE_IN_TEN * stage.held_out_error_fraction) ** sign
    return msgspec.structs.replace(
        stage,
        intercept_us=stage.intercept_us * factor,
        per_item_us=stage.per_item_us * factor,
        per_size_us=stage.per_size_us * factor,
    )


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
