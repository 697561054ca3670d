"""The front of stages whose branches are tangled: neither apart nor one after the other, like a → c, a → d, b → d.

Computed backwards over the states of finished stages. A label is a cost and, for each set of finished stages that something
left waits for, the time from its end to the end of all. Labels are vectors, of which none is as good as another in everything.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from grainwise.planning.fronts import Floats, Front, Indices, front_of
from grainwise.planning.lattice import Lattice, bits

_FINEST = 2.0**-14
_COARSE = 2.0**-10
_MANY = 8
"""With this many times more labels than are kept, thinning starts coarse."""


class Configurations(Struct, frozen=True):
    """The configurations of one group: times and costs, of the same length."""

    times: Floats
    costs: Floats


class _Labels(Struct, frozen=True):
    """``times``: a row per label, a column per set of finished stages; ``costs``: one per label."""

    times: Floats
    costs: Floats
    gap: float


class Tangle:
    """All states of some stages that are tangled."""

    def __init__(self, predecessors: Sequence[int], groups: Mapping[int, Configurations], within: int, most: int) -> None:
        """``within``: the stages that are left; what they wait for besides has finished. ``most``: labels kept per state."""
        self._predecessors = tuple(before & within if within >> at & 1 else 0 for at, before in enumerate(predecessors))
        self._within = within
        self._outside = ((1 << len(predecessors)) - 1) & ~within
        self._groups = groups
        self._lattice = Lattice(self._predecessors, groups)
        self._most = most
        self._known: dict[int, _Labels] = {}
        self._keys: dict[int, tuple[int, ...]] = {}

    def states(self, most: int) -> tuple[int, ...] | None:
        """How far the stages can be done, ``None`` where there are more than ``most`` such states."""
        return self._lattice.states(self._outside, most)

    def front(self) -> Front:
        """All ways through."""
        labels = self._labels(self._outside)
        if not len(labels.costs):
            return Front(np.zeros(0), np.zeros(0))
        return front_of(labels.times.max(axis=1), labels.costs, labels.gap)

    def front_with(self, mask: int, time_us: float) -> Front:
        """All ways that begin with ``mask``, which takes ``time_us`` and whose cost is not counted."""
        times, costs = self._before(self._outside, mask, Configurations(np.array([time_us]), np.zeros(1)))
        if not len(costs):
            return Front(np.zeros(0), np.zeros(0))
        return front_of(times.max(axis=1), costs, self._labels(self._outside | mask).gap)

    def _labels(self, done: int) -> _Labels:
        found = self._known.get(done)
        if found is None:
            found = self._known[done] = self._make_labels(done)
        return found

    def _make_labels(self, done: int) -> _Labels:
        if done == self._lattice.everything:
            return _Labels(np.zeros((1, 0)), np.zeros(1), 0.0)
        all_times: list[Floats] = [np.zeros((0, len(self._columns(done))))]
        all_costs: list[Floats] = [np.zeros(0)]
        gap = 0.0
        for mask in self._lattice.moves(done):
            gap = max(gap, self._labels(done | mask).gap)
            times, costs = self._before(done, mask, self._groups[mask])
            all_times.append(times)
            all_costs.append(costs)
        return _thinned(np.concatenate(all_times), np.concatenate(all_costs), gap, self._most)

    def _columns(self, done: int) -> tuple[int, ...]:
        """The sets of finished stages that something left waits for; 0 stands for stages that wait for nothing."""
        if done not in self._keys:
            left = self._within & ~done
            waiting = {self._predecessors[at] & done: None for at in bits(left) if self._predecessors[at] & done}
            if any(not self._predecessors[at] for at in bits(left)):
                waiting[0] = None
            self._keys[done] = tuple(sorted(waiting))
        return self._keys[done]

    def _before(self, done: int, mask: int, layer: Configurations) -> tuple[Floats, Floats]:
        """The labels of state ``done`` that begin with ``mask``: every configuration with every label after it."""
        after = self._labels(done | mask)
        after_columns, columns = self._columns(done | mask), self._columns(done)
        place = {key: at for at, key in enumerate(columns)}
        behind = np.zeros(len(after.costs))
        for at, key in enumerate(after_columns):
            if key & mask:
                behind = np.maximum(behind, after.times[:, at])
        # Rows: configuration by configuration, each with all labels after it.
        tail = (layer.times[:, None] + behind[None, :]).reshape(-1)
        times = np.zeros((len(tail), len(columns)))
        for at, key in enumerate(after_columns):
            if key & ~mask or not key:
                column = place[key & ~mask]
                times[:, column] = np.maximum(times[:, column], np.tile(after.times[:, at], len(layer.times)))
        for at in bits(mask):
            if self._predecessors[at] & done or not self._predecessors[at]:
                column = place[self._predecessors[at] & done]
                times[:, column] = np.maximum(times[:, column], tail)
        return times, (layer.costs[:, None] + after.costs[None, :]).reshape(-1)


def _thinned(times: Floats, costs: Floats, gap: float, most: int) -> _Labels:
    """What is not matched in everything, and if that is too much, not almost."""
    columns = tuple(times[:, column] for column in range(times.shape[1]))
    order = np.lexsort((costs, *columns, times.sum(axis=1)))
    times, costs = times[order], costs[order]
    width = _COARSE if len(costs) > _MANY * most else 0.0
    while True:
        kept = _covering(times, costs, width)
        if len(kept) <= most or width >= 1.0:
            return _Labels(times[kept], costs[kept], (1 + gap) * (1 + width) - 1)
        width = max(_FINEST, 2 * width)


def _covering(times: Floats, costs: Floats, width: float) -> Indices:
    """Rows among which each row finds one no slower in anything and at most ``1 + width`` times dearer.

    Rows come with ascending sums of times, so that whatever covers a row stands before it or is equal to it.
    """
    left = np.arange(len(costs))
    kept = []
    while len(left):
        best = left[0]
        kept.append(best)
        is_covered = (times[left] >= times[best]).all(axis=1) & (costs[best] <= (1 + width) * costs[left])
        is_covered[0] = True
        left = left[~is_covered]
    if width and len(costs):
        cheapest = int(np.argmin(costs))
        if cheapest not in kept:
            kept.append(cheapest)
    return np.array(kept, dtype=np.intp)
