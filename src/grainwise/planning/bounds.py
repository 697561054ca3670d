"""What the stages that are left take and cost at least: the two bounds of the exact search, from tables over all states.

- Time: from the start of a stage's group to the end of the app.
- Cost: whatever it takes; and, for a few paths through the DAG, the least of cost + price x time along the path, less the
  price of the time that is left. That is a bound for any price (Lagrange), and a close one for the best, which is found by
  intersecting lines (LARAC: Juttner, Szviatovszki, Mecs and Rajko, INFOCOM 2001).
"""

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from grainwise.planning.lattice import Lattice, bits, descendants, successors
from grainwise.planning.steps import Step

MAX_STATES = 1 << 13
"""States up to which the least cost of what is left is tabulated; beyond it each stage's least part of a group stands in."""

_MAX_PATHS = 4
_MAX_INTERSECTIONS = 16


class Price(Struct, frozen=True):
    """A path through the DAG, the price of a microsecond along it, and the least of cost + price x time from each state."""

    path: int
    per_us: float
    least: dict[int, float]


class _Way(Struct, frozen=True):
    time_us: float
    cost: float
    steps: tuple[Step, ...]


class Bounds:
    """The bounds of one search."""

    def __init__(self, lattice: Lattice, steps: Mapping[int, Sequence[Step]], limit_us: float, resources: int) -> None:
        """``steps`` of every group of ``lattice``; each with ``resources`` amounts."""
        self._lattice = lattice
        self._steps = steps
        self.tails_us = self._make_tails()
        """For each stage the least time from the start of its group to the end of what comes after it; infinite if none."""
        self.is_hopeless = any(tail > limit_us for tail in self.tails_us)
        """Whether no plan is within the limit, as far as the bounds tell."""
        self.prices: list[Price] = []
        self.candidates: list[tuple[Step, ...]] = []
        """Plans met on the way, good for a start; they may break the limit where branches run side by side."""
        self._states = None if self.is_hopeless else lattice.states(0, MAX_STATES, is_every_order=False)
        count = len(lattice.predecessors)
        self._parts = [
            min(
                (min(step.cost for step in steps[mask]) / mask.bit_count() for mask in steps if mask >> at & 1),
                default=math.inf,
            )
            for at in range(count)
        ]
        self._resource_parts = [
            tuple(
                min(
                    (min(step.resources[kind] for step in steps[mask]) / mask.bit_count() for mask in steps if mask >> at & 1),
                    default=math.inf,
                )
                for kind in range(resources)
            )
            for at in range(count)
        ]
        self._least: dict[int, float] = {}
        if self._states is not None:
            self._least = self._table(0.0, 0)
            self._price_paths(limit_us)

    @property
    def is_ordered(self) -> bool:
        """Whether it is known that the groups of a plan can be taken in one order only."""
        return self._states is not None and all(self._lattice.is_ordered(state) for state in self._states)

    def least_cost(self, done: int) -> float:
        """No way to finish from ``done`` costs less, whatever it takes."""
        if self._states is not None:
            return self._least[done]
        return math.fsum(self._parts[at] for at in bits(self._lattice.everything & ~done))

    def least_resource(self, done: int, kind: int) -> float:
        """No way to finish from ``done`` needs less of a resource."""
        return math.fsum(self._resource_parts[at][kind] for at in bits(self._lattice.everything & ~done))

    def _make_tails(self) -> list[float]:
        predecessors = self._lattice.predecessors
        after, reached = successors(predecessors), descendants(predecessors)
        least = {mask: min(step.time_us for step in steps) for mask, steps in self._steps.items()}
        behind = dict.fromkeys(least, 0)
        for mask in behind:
            for at in bits(mask):
                behind[mask] |= after[at]
        tails = [math.inf] * len(predecessors)
        for at in reversed(range(len(predecessors))):
            for mask, time_us in least.items():
                if mask >> at & 1:
                    # Only stages that `at` leads to: for others the order of computation would be circular.
                    later = max((tails[other] for other in bits(behind[mask] & ~mask & reached[at])), default=0.0)
                    tails[at] = min(tails[at], time_us + later)
        return tails

    def _paths(self) -> list[int]:
        """A few paths from end to end, the slowest first, that hold every stage if there are enough of them."""
        predecessors = self._lattice.predecessors
        after = successors(predecessors)
        paths: list[int] = []
        left = self._lattice.everything
        while left and len(paths) < _MAX_PATHS:
            at = max(bits(left), key=lambda stage: (self.tails_us[stage], -stage))
            path = 0
            for neighbours in (after, predecessors):
                here = at
                path |= 1 << here
                while neighbours[here]:
                    here = max(bits(neighbours[here]), key=lambda stage: (left >> stage & 1, self.tails_us[stage], -stage))
                    path |= 1 << here
            paths.append(path)
            left &= ~path
        return paths

    def _table(self, per_us: float, path: int) -> dict[int, float]:
        """For each state the least of cost + ``per_us`` x time of groups on ``path``."""
        least_by_group = {
            mask: min(step.cost + (per_us * step.time_us if mask & path else 0.0) for step in steps)
            for mask, steps in self._steps.items()
        }
        table = {self._lattice.everything: 0.0}
        for state in reversed(self._states or ()):
            if state != self._lattice.everything:
                table[state] = min(
                    (least_by_group[mask] + table[state | mask] for mask in self._lattice.moves(state)), default=math.inf
                )
        return table

    def _way(self, per_cost: float, per_us: float, path: int) -> _Way:
        """A way through all states with the least weighted sum, of equal ones the one with the least of what weighs less."""
        best_by_group: dict[int, tuple[float, float, Step]] = {}
        for mask, steps in self._steps.items():
            keyed = []
            for number, step in enumerate(steps):
                time_us = step.time_us if mask & path else 0.0
                keyed.append((per_cost * step.cost + per_us * time_us, step.cost if per_us else time_us, number))
            first, second, number = min(keyed)
            best_by_group[mask] = (first, second, steps[number])
        table: dict[int, tuple[float, float, int]] = {self._lattice.everything: (0.0, 0.0, 0)}
        for state in reversed(self._states or ()):
            options = []
            for mask in self._lattice.moves(state):
                first, second, _ = best_by_group[mask]
                rest = table[state | mask]
                options.append((first + rest[0], second + rest[1], mask))
            if state != self._lattice.everything:
                table[state] = min(options, default=(math.inf, math.inf, 0))
        found: list[Step] = []
        state = 0
        while table[state][2]:
            mask = table[state][2]
            found.append(best_by_group[mask][2])
            state |= mask
        return _Way(
            math.fsum(step.time_us for step in found if step.mask & path), math.fsum(step.cost for step in found), tuple(found)
        )

    def _price_paths(self, limit_us: float) -> None:
        for path in self._paths():
            cheapest = self._way(1.0, 0.0, path)
            self.candidates.append(cheapest.steps)
            if cheapest.time_us <= limit_us:
                continue
            fastest = self._way(0.0, 1.0, path)
            if fastest.time_us > limit_us:
                self.is_hopeless = True
                return
            for _ in range(_MAX_INTERSECTIONS):
                per_us = (fastest.cost - cheapest.cost) / (cheapest.time_us - fastest.time_us)
                middle = self._way(1.0, per_us, path)
                line = cheapest.cost + per_us * cheapest.time_us
                if middle.cost + per_us * middle.time_us >= line * (1 - 1e-12):
                    break
                if middle.time_us <= limit_us:
                    fastest = middle
                else:
                    cheapest = middle
            self.candidates.append(fastest.steps)
            self.prices.append(Price(path, per_us, self._table(per_us, path)))
