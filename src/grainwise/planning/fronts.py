"""Staircases of (time, cost): points of which none is both as fast and as cheap as another, and how they combine.

Only additions, comparisons and stable sorts: the same input gives the same bytes everywhere.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_FINEST = 2.0**-14


class Front(Struct, frozen=True):
    """``times`` ascend, microseconds; ``costs`` descend; of the same length, empty where there is no way at all.

    A point that was thinned out costs at most ``1 + gap`` times less than one that is left and no slower.
    """

    times: Floats
    costs: Floats
    gap: float = 0.0


NOTHING_LEFT = Front(np.zeros(1), np.zeros(1))
"""The front of no stages: no time, no cost."""


def undominated(times: Floats, costs: Floats) -> Indices:
    """The points that no other is as fast and as cheap as, ascending in time; of equal ones the first."""
    order = np.lexsort((costs, times))
    sorted_costs = costs[order]
    is_kept = np.ones(len(order), dtype=bool)
    if len(order) > 1:
        is_kept[1:] = sorted_costs[1:] < np.minimum.accumulate(sorted_costs)[:-1]
    return order[is_kept]


def front_of(times: Floats, costs: Floats, gap: float = 0.0) -> Front:
    """The front of any points."""
    kept = undominated(times, costs)
    return Front(times[kept], costs[kept], gap)


def either(fronts: list[Front]) -> Front:
    """One of several."""
    if not fronts:
        return Front(np.zeros(0), np.zeros(0))
    times = np.concatenate([front.times for front in fronts])
    costs = np.concatenate([front.costs for front in fronts])
    return front_of(times, costs, max(front.gap for front in fronts))


def one_after_the_other(first: Front, second: Front) -> Front:
    """Both, the second after the first: times and costs add up."""
    times = (first.times[:, None] + second.times[None, :]).reshape(-1)
    costs = (first.costs[:, None] + second.costs[None, :]).reshape(-1)
    return front_of(times, costs, max(first.gap, second.gap))


def side_by_side(first: Front, second: Front) -> Front:
    """Both at once: costs add up, the slower counts."""
    gap = max(first.gap, second.gap)
    if not len(first.times) or not len(second.times):
        return Front(np.zeros(0), np.zeros(0), gap)
    times = np.union1d(first.times, second.times)
    times = times[times >= max(first.times[0], second.times[0])]
    ours = first.costs[np.searchsorted(first.times, times, side="right") - 1]
    theirs = second.costs[np.searchsorted(second.times, times, side="right") - 1]
    return front_of(times, ours + theirs, gap)


def thinned(front: Front, most: int) -> Front:
    """At most ``most`` points, or a few more; each of the rest is answered for by one no slower and little dearer.

    The finest of the widths 2**-14, 2**-13, ... that suffices is taken. The cheapest point stays.
    """
    count = len(front.times)
    if count <= most:
        return front
    costs = front.costs.tolist()
    width = _FINEST
    while True:
        kept = [0]
        for at in range(1, count):
            if costs[kept[-1]] > (1 + width) * costs[at]:
                kept.append(at)
        if kept[-1] != count - 1:
            kept.append(count - 1)
        if len(kept) <= most or width >= 1.0:
            return Front(front.times[kept], front.costs[kept], (1 + front.gap) * (1 + width) - 1)
        width *= 2
