"""What may run next at one stage, and the staircase of (remaining time, remaining cost) over all of it."""

from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct

from grainwise.planning.fronts import undominated
from grainwise.planning.steps import Step

Able = Callable[["FirstStep"], bool]


class FirstStep:
    """An extent and a configuration that may run next, with what is left in all if it does.

    Attributes:
        step: the extent, its configuration and the caller's number for it.
        least_us: the shortest remaining time, this step included.
        least_cost: the least remaining cost, this step included.
    """

    __slots__ = ("_after_costs", "_after_us", "_cost", "_time_us", "least_cost", "least_us", "order", "step")

    def __init__(
        self, step: Step, order: int, time_us: float, cost: float, after_us: Sequence[float], after_costs: Sequence[float]
    ) -> None:
        self.step = step
        self.order = order
        self._time_us = time_us
        self._cost = cost
        self._after_us = after_us
        self._after_costs = after_costs
        self.least_us = time_us + after_us[0]
        self.least_cost = cost + after_costs[-1]

    @property
    def times_us(self) -> tuple[float, ...]:
        """The remaining times at which less cost is possible, ascending, microseconds."""
        return tuple(self._time_us + after for after in self._after_us)

    @property
    def costs(self) -> tuple[float, ...]:
        """The least remaining cost from each of ``times_us`` on, descending."""
        return tuple(self._cost + after for after in self._after_costs)

    def fastest(self) -> tuple[float, float]:
        """(remaining time, remaining cost) of the fastest way to finish."""
        return self.least_us, self._cost + self._after_costs[0]

    def within(self, slack_us: float) -> tuple[float, float] | None:
        """(remaining time, remaining cost) of the cheapest way to finish within ``slack_us``; ``None`` where there is none."""
        after, base = self._after_us, self._time_us
        at = bisect_right(after, slack_us - base)
        # The difference was rounded; the sum is what is compared.
        while at < len(after) and base + after[at] <= slack_us:
            at += 1
        while at and base + after[at - 1] > slack_us:
            at -= 1
        return (base + after[at - 1], self._cost + self._after_costs[at - 1]) if at else None


class Choice(Struct, frozen=True):
    """What to run next, and the remaining time and cost of the way to finish that it begins, itself included."""

    first: FirstStep
    remaining_us: float
    remaining_cost: float


class Stair:
    """The first steps of one head in one state of finished stages, and the staircase over them."""

    __slots__ = ("_by_cost", "_by_time", "_costs", "_owners", "_times_us", "steps")

    def __init__(self, steps: Sequence[FirstStep]) -> None:
        """``steps``: in their order, not empty."""
        self.steps = tuple(steps)
        times = np.concatenate([np.array(each.times_us) for each in steps])
        costs = np.concatenate([np.array(each.costs) for each in steps])
        owners = np.concatenate([np.full(len(each.costs), each.order) for each in steps])
        kept = undominated(times, costs)
        self._times_us: list[float] = times[kept].tolist()
        self._costs: list[float] = costs[kept].tolist()
        self._owners: list[int] = owners[kept].tolist()
        self._by_time = tuple(sorted(steps, key=lambda each: (*each.fastest(), each.order)))
        self._by_cost = tuple(sorted(steps, key=lambda each: (each.least_cost, each.times_us[-1], each.order)))

    def pick(self, slack_us: float, is_able: Able | None = None) -> Choice | None:
        """The cheapest way to finish within ``slack_us`` that begins with an able step; of equal ones the fastest."""
        at = bisect_right(self._times_us, slack_us)
        if not at:
            return None
        first = self.steps[self._owners[at - 1]]
        if is_able is None or is_able(first):
            return Choice(first, self._times_us[at - 1], self._costs[at - 1])
        best: tuple[float, float, int] | None = None
        chosen = None
        for first in self._by_cost:
            if best is not None and first.least_cost > best[0]:
                break
            found = first.within(slack_us)
            if found is None:
                continue
            key = (found[1], found[0], first.order)
            if (best is None or key < best) and is_able(first):
                best, chosen = key, first
        return Choice(chosen, best[1], best[0]) if chosen is not None and best is not None else None

    def fastest(self, is_able: Able | None = None) -> Choice | None:
        """The able step with the shortest remaining time; of equal ones the cheapest."""
        for first in self._by_time:
            if is_able is None or is_able(first):
                return Choice(first, *first.fastest())
        return None

    def cheapest(self, is_able: Able | None = None) -> Choice | None:
        """The able step with the least remaining cost, however long it takes; of equal ones the fastest."""
        for first in self._by_cost:
            if is_able is None or is_able(first):
                return Choice(first, first.times_us[-1], first.least_cost)
        return None
