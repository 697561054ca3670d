"""Sets of (remaining times, remaining cost) of which none beats another, as arrays.

Only additions, maxima, comparisons and stable sorts: the same input gives the same bytes everywhere.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_FINEST = 2.0**-14


class Front(Struct, frozen=True):
    """``times``: one row per label, one column per kind of thing waited for, microseconds; ``costs``: one per label.

    No label beats another in every time and in cost. A label that was thinned out costs at most ``1 + gap`` times less than
    one that is left and no slower.
    """

    times: Floats
    costs: Floats
    gap: float = 0.0


def pareto(times: Floats, costs: Floats) -> Indices:
    """The rows that no other beats or, among equal ones, the first; with one column they ascend in time.

    Args:
        times: of shape (labels, columns).
        costs: of shape (labels,).
    """
    if times.shape[0] < 2:
        return np.arange(times.shape[0])
    if times.shape[1] == 1:
        order = np.lexsort((costs, times[:, 0]))
        sorted_costs = costs[order]
        least = np.minimum.accumulate(sorted_costs)
        is_kept = np.ones(len(order), dtype=bool)
        is_kept[1:] = sorted_costs[1:] < least[:-1]
        return order[is_kept]
    columns = tuple(times[:, column] for column in reversed(range(times.shape[1])))
    left = np.lexsort((*columns, costs))
    kept = []
    while len(left):
        best = left[0]
        kept.append(best)
        # Costs ascend along `left`, so whatever is no faster than its first row in any column is beaten by it.
        left = left[(times[left] < times[best]).any(axis=1)]
    return np.array(kept, dtype=np.intp)


def thinned(front: Front, most: int) -> Front:
    """At most about ``most`` labels of ``front``, the rest answered for by one that is no slower and little dearer.

    The finest of the widths 2**-14, 2**-13, ... that suffices is taken. The cheapest label of all stays.
    """
    if len(front.costs) <= most:
        return front
    order = np.lexsort((front.costs, front.times.sum(axis=1)))
    times, costs = front.times[order], front.costs[order]
    width = _FINEST
    while True:
        kept = _covering(times, costs, width)
        if len(kept) <= most or width >= 1.0:
            return Front(times[kept], costs[kept], (1 + front.gap) * (1 + width) - 1)
        width *= 2


def _covering(times: Floats, costs: Floats, width: float) -> Indices:
    cheapest = int(np.argmin(costs))
    left = np.arange(len(costs))
    kept = []
    while len(left):
        best = left[0]
        kept.append(best)
        is_covered = (times[left] >= times[best]).all(axis=1) & (costs[best] <= (1 + width) * costs[left])
        is_covered[0] = True
        left = left[~is_covered]
    if cheapest not in kept:
        kept.append(cheapest)
    return np.array(sorted(kept), dtype=np.intp)
