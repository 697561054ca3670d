"""What a plan table comes to: for every granularity cost, attainment and capacity, and which of them nothing else beats.

A granularity stands for its best plan, as the search found it. It lies on the frontier where no other costs as little and
attains as much with one of the two better (V. Pareto). Predictions are compared with predictions, and what the evaluator of the
problem has judged with what it has judged, never one with the other.
"""

from collections.abc import Sequence

from msgspec import Struct

from grainwise.domain.plan import Objective, render_grain
from grainwise.planning.best import Groups
from grainwise.planning.problem import Option, PlanTable, Problem
from grainwise.predictors.evaluator import Judgement

CAPACITY_TARGET = 0.99
"""The attainment that defines the capacity that is shown."""

MAX_CAPACITIES = 64
"""Options of a table whose capacity is sought, beside those on the frontier."""


class Point(Struct, frozen=True):
    """One granularity. ``number`` is its place in the plan table, from 1 on.

    Cost is by the objective of the frontier, USD per hour. ``capacity_per_s`` is the predicted rate up to which attainment is
    99 %, ``None`` where it was not sought. ``judged`` is what the evaluator made of it, ``None`` where it was not asked.
    """

    number: int
    grain: tuple[tuple[str, ...], ...]
    usd_per_hour: float
    attainment: float
    capacity_per_s: float | None
    meets_slo: bool
    is_on_frontier: bool
    is_on_judged_frontier: bool
    judged: Judgement | None
    lacks: str

    @property
    def name(self) -> str:
        """The granularity in words."""
        return render_grain(self.grain)


class Frontier(Struct, frozen=True):
    """Every granularity of a plan table; the first point is the chosen one.

    No plan that meets the SLO by additive times costs less than ``bound_usd_per_hour``; 0 where no bound was computed.
    """

    app: str
    objective: Objective
    target: float
    evaluator: str
    bound_usd_per_hour: float
    points: tuple[Point, ...]

    @property
    def chosen(self) -> Point:
        """The granularity that was chosen."""
        return self.points[0]

    @property
    def best(self) -> tuple[Point, ...]:
        """Those on the frontier, the cheapest first."""
        return tuple(sorted((each for each in self.points if each.is_on_frontier), key=lambda each: each.usd_per_hour))

    @property
    def is_judged(self) -> bool:
        """Whether another model than the closed form decided."""
        return self.evaluator != "analytic"


def frontier(problem: Problem, table: PlanTable) -> Frontier:
    """The frontier of a table that answers ``problem``."""
    options = table.options
    predicted = [(_cost(problem.objective, option), option.predicted.attainment) for option in options]
    on = undominated(predicted)
    judged_places = [place for place, option in enumerate(options) if option.judged is not None]
    judged = [
        (option.judged.usd_per_hour.value, option.judged.attainment.value) for option in options if option.judged is not None
    ]
    on_judged = {judged_places[place] for place in undominated(judged)}
    groups = Groups(problem)
    points = tuple(
        Point(
            number=place + 1,
            grain=option.plan.grain,
            usd_per_hour=predicted[place][0],
            attainment=predicted[place][1],
            capacity_per_s=groups.evaluation(option.plan).capacity_per_s(CAPACITY_TARGET)
            if place < MAX_CAPACITIES or place in on
            else None,
            meets_slo=option.meets_slo,
            is_on_frontier=place in on,
            is_on_judged_frontier=place in on_judged,
            judged=option.judged,
            lacks=option.lacks,
        )
        for place, option in enumerate(options)
    )
    return Frontier(
        problem.app.name, problem.objective, problem.app.slo.target, table.evaluator, table.bound_usd_per_hour, points
    )


def undominated(figures: Sequence[tuple[float, float]]) -> frozenset[int]:
    """The places of those (cost, attainment) that no other beats: none costs as little and attains as much, one of both better.

    Of equals all stay.
    """
    found: list[int] = []
    most = -1.0
    order = sorted(range(len(figures)), key=lambda place: (figures[place][0], -figures[place][1]))
    for place in order:
        if figures[place][1] > most:
            most = figures[place][1]
            found.append(place)
        elif found and figures[place] == figures[found[-1]]:
            found.append(place)
    return frozenset(found)


def _cost(objective: Objective, option: Option) -> float:
    predicted = option.predicted
    return predicted.provisioned_usd_per_hour if objective == "provisioned" else predicted.billed_usd_per_hour
