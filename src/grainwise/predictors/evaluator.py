"""What a plan is judged by: attainment, cost and capacity under a forecast, each with the range in which it should lie.

Three models answer this one question: ``analytic`` in closed form, ``learned`` from simulated runs, ``rollout`` by running the
controller in virtual time from its present state. They are compared by ``grainwise predictor evaluate``.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

from msgspec import Struct

from grainwise.domain.plan import Plan
from grainwise.predictors.groups import Scenario

EvaluatorName = Literal["analytic", "learned", "rollout"]
EVALUATORS: tuple[EvaluatorName, ...] = ("analytic", "learned", "rollout")


class Band(Struct, frozen=True, array_like=True):
    """A value and the range in which it is expected to lie with about nine chances in ten."""

    value: float
    low: float
    high: float


class Judgement(Struct, frozen=True):
    """What is expected of one plan under one forecast.

    ``attainment`` is a fraction; ``usd_per_hour`` by the objective of the plan; ``capacity_per_s`` the rate at which attainment
    falls to 98 %, ``None`` where the model was not asked for it. ``by`` is the model that answered: ``analytic`` where a
    learned one was asked beyond what it was trained on, with the reason in ``handed_on``.
    """

    attainment: Band
    usd_per_hour: Band
    by: EvaluatorName
    capacity_per_s: Band | None = None
    handed_on: str = ""


class PlanEvaluator(Protocol):
    """Judges plans of one app. Pure: the same question has the same answer."""

    @property
    def name(self) -> EvaluatorName:
        """Which of the models it is."""
        ...

    def judge(self, scenario: Scenario, plans: Sequence[Plan], snapshot: bytes = b"") -> tuple[Judgement, ...]:
        """A judgement for each plan, in their order.

        Args:
            scenario: app, model, forecast, machines.
            plans: legal plans of that app.
            snapshot: the controller's memory, from which a rollout goes on; empty: every plan is judged when it is up.
        """
        ...
