"""What the functions still to be chosen cost at least, by the time that is left to them: a bound for chains with many choices.

For each suffix of a chain the front of (time, cost) sums is kept, resources left aside. A front that grows long is thinned to
points that are each as fast and as cheap as any that they stand for, so the bound never exceeds the truth.
"""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from grainwise.planning.options import Choice

MOST_POINTS = 96
"""Points of a front after thinning."""

_ROUNDING = 1e-9
"""Sums are formed in another order than the search forms them: the bound gives way by this part."""

Values = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


class LeastCost:
    """The least cost of the functions from a position on.

    Args:
        layers: the choices of each function of a chain, in its order.
    """

    def __init__(self, layers: Sequence[Sequence[Choice]]) -> None:
        times: Values = np.zeros(1)
        costs: Values = np.zeros(1)
        self._times: list[list[float]] = [[0.0]]
        self._costs: list[list[float]] = [[0.0]]
        for layer in reversed(layers):
            own_times = np.array([choice.time_us for choice in layer])
            own_costs = np.array([choice.cost for choice in layer])
            times, costs = _front((own_times[:, None] + times).ravel(), (own_costs[:, None] + costs).ravel())
            self._times.insert(0, times.tolist())
            self._costs.insert(0, costs.tolist())

    def at(self, position: int, time_us: float) -> float:
        """The least that the functions from ``position`` on cost within ``time_us``; infinite where they take longer."""
        times = self._times[position]
        place = bisect_right(times, time_us + _ROUNDING * (abs(time_us) + times[-1])) - 1
        return self._costs[position][place] * (1 - _ROUNDING) if place >= 0 else float("inf")


def _front(times: Values, costs: Values) -> tuple[Values, Values]:
    """The points that no other beats in both, fastest first, thinned downwards."""
    order = np.lexsort((costs, times))
    times, costs = times[order], costs[order]
    least = np.minimum.accumulate(costs)
    is_kept = np.concatenate(([True], costs[1:] < least[:-1]))
    times, costs = times[is_kept], costs[is_kept]
    if len(times) <= MOST_POINTS:
        return times, costs
    edges = np.linspace(0, len(times), MOST_POINTS + 1).astype(int)
    return times[edges[:-1]], costs[edges[1:] - 1]
