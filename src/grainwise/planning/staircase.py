"""What is cheapest to run next, for every state of finished stages and every time left: exact Pareto staircases.

Dispatch asks: these stages are done, this one may start, so much time is left; which extent, with which configuration? The
answer is one bisection in a staircase of (remaining time, remaining cost) over all ways to finish the app. This is the layered
graph of (group, configuration) of the search in ``joint``, solved for every time limit at once. Nothing is rounded to buckets.

A way to finish is a partition of the stages that are left into extents, each with a configuration. An extent begins at one
stage, holds stages after it, and never waits for anything that its first stage does not wait for: when that stage may start,
it may. The remaining time is the longest path. Such ways decompose, whatever is left:

- Parts that are not connected run side by side.
- A stage that comes before or after every other cuts: no extent reaches across, so the parts run one after the other.
- Where one stage comes first, one of its extents does, and all that is left comes after it.
- What remains is tangled (``tangled``), or, where it is large, runs in two steps: its first stages, then the rest.

So a staircase is put together from smaller ones, each computed once.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from grainwise.domain.errors import InfeasibleError
from grainwise.planning.fronts import (
    NOTHING_LEFT,
    Front,
    either,
    front_of,
    one_after_the_other,
    side_by_side,
    thinned,
)
from grainwise.planning.lattice import Lattice, bits, descendants
from grainwise.planning.stair import Able, Choice, FirstStep, Stair
from grainwise.planning.steps import Step
from grainwise.planning.tangled import Configurations, Tangle

MAX_POINTS = 2048
"""Points kept per staircase; more are thinned out, and the staircases say by how much they may then be too dear."""

MAX_STATES = 64
"""States of finished stages up to which all staircases are made at once, and not when they are asked for."""

_TANGLED_STATES = 16
"""States of tangled stages up to which they are solved as they are."""

_TANGLED_LABELS = 64
"""Vectors kept per state of tangled stages."""


class Staircases:
    """For every state of finished stages and every head, what may run next. Made by ``build``."""

    def __init__(self, predecessors: Sequence[int], steps_by_mask: Mapping[int, Sequence[Step]], max_points: int) -> None:
        self._predecessors = tuple(predecessors)
        self._everything = (1 << len(self._predecessors)) - 1
        self._lattice = Lattice(predecessors, steps_by_mask)
        self._steps = {mask: tuple(steps) for mask, steps in steps_by_mask.items()}
        self._layers = {mask: _layer(steps) for mask, steps in self._steps.items()}
        self._after = descendants(predecessors)
        self._max_points = max_points
        self._fronts: dict[int, Front] = {0: NOTHING_LEFT}
        self._cuts: dict[int, tuple[int, int] | None] = {}
        self._parts: dict[int, tuple[int, ...]] = {}
        self._tangles: dict[int, Tangle | None] = {}
        self._shared: dict[int, tuple[list[float], list[float]]] = {}
        self._stairs: dict[tuple[int, int], Stair | None] = {}
        self.gap = 0.0
        """By how much a remaining cost may lie above the least one: 0.01 means one per cent. 0 while nothing was thinned."""
        self.is_stepwise = False
        """Whether tangled stages were simplified: answers are then ways to finish, but there may be better ones."""

    @property
    def is_exact(self) -> bool:
        """Whether every answer so far is the least cost there is."""
        return self.gap == 0.0 and not self.is_stepwise

    def first_steps(self, done: int, head: int) -> tuple[FirstStep, ...]:
        """Every extent and configuration with which stage number ``head`` may start when the stages ``done`` have finished.

        Empty where ``head`` has run or waits for more than ``done``, or the app cannot be finished from there.
        """
        stair = self._stair(done, head)
        return stair.steps if stair else ()

    def pick(self, done: int, head: int, slack_us: float, is_able: Able | None = None) -> Choice | None:
        """The cheapest way to finish within ``slack_us`` that begins with an able step at ``head``.

        Of equal ones the fastest, then the first in order. ``None`` where none is able and fits.
        """
        stair = self._stair(done, head)
        return stair.pick(slack_us, is_able) if stair else None

    def fastest(self, done: int, head: int, is_able: Able | None = None) -> Choice | None:
        """The able step at ``head`` with the shortest remaining time; of equal ones the cheapest."""
        stair = self._stair(done, head)
        return stair.fastest(is_able) if stair else None

    def cheapest(self, done: int, head: int, is_able: Able | None = None) -> Choice | None:
        """The able step at ``head`` with the least remaining cost, however long it takes; of equal ones the fastest."""
        stair = self._stair(done, head)
        return stair.cheapest(is_able) if stair else None

    def prepare(self, most: int) -> None:
        """Make every staircase now, if there are no more than ``most`` states; else each when it is asked for."""
        for state in reversed(self._lattice.states(0, most) or ()):
            for head in bits(self._lattice.ready(state)):
                self._stair(state, head)

    def _stair(self, done: int, head: int) -> Stair | None:
        key = (done, head)
        if key not in self._stairs:
            self._stairs[key] = self._make_stair(done, head)
        return self._stairs[key]

    def _make_stair(self, done: int, head: int) -> Stair | None:
        if not self._lattice.ready(done) >> head & 1:
            return None
        left = self._everything & ~done
        found: list[FirstStep] = []
        for mask in self._lattice.followers(done):
            if not mask >> head & 1:
                continue
            for step in self._steps[mask]:
                if self._is_first(left, head):
                    base, (times, costs) = step.time_us, self._lists(left & ~mask)
                else:
                    base, front = 0.0, self._front_with(left, mask, step.time_us)
                    times, costs = front.times.tolist(), front.costs.tolist()
                if times:
                    found.append(FirstStep(step, len(found), base, step.cost, times, costs))
        return Stair(found) if found else None

    def _lists(self, left: int) -> tuple[list[float], list[float]]:
        if left not in self._shared:
            front = self._front(left)
            self._shared[left] = (front.times.tolist(), front.costs.tolist())
        return self._shared[left]

    def _front(self, left: int) -> Front:
        """All ways through the stages ``left``, what they wait for besides having finished."""
        found = self._fronts.get(left)
        if found is None:
            found = self._fronts[left] = thinned(self._make_front(left), self._max_points)
            self.gap = max(self.gap, found.gap)
        return found

    def _make_front(self, left: int) -> Front:
        parts = self._apart(left)
        if len(parts) > 1:
            front = NOTHING_LEFT
            for part in parts:
                front = side_by_side(front, self._front(part))
            return front
        before, after = self._cut(left) or (0, 0)
        if before:
            return one_after_the_other(self._front(before), self._front(after))
        if after:
            return either(
                [one_after_the_other(self._layers[mask], self._front(left & ~mask)) for mask in self._first_groups(left)]
            )
        tangle = self._tangle(left)
        if tangle is not None:
            return tangle.front()
        self.is_stepwise = True
        first = self._lattice.ready(self._everything & ~left) & left
        return one_after_the_other(self._front(first), self._front(left & ~first))

    def _front_with(self, left: int, mask: int, time_us: float) -> Front:
        """All ways through ``left`` that begin with ``mask``, which takes ``time_us`` and whose cost is not counted."""
        parts = self._apart(left)
        if len(parts) > 1:
            front = NOTHING_LEFT
            for part in parts:
                front = side_by_side(front, self._front_with(part, mask, time_us) if part & mask else self._front(part))
            return front
        before, after = self._cut(left) or (0, 0)
        if before:
            return one_after_the_other(self._front_with(before, mask, time_us), self._front(after))
        if after:
            rest = self._front(left & ~mask)
            return Front(time_us + rest.times, rest.costs, rest.gap)
        tangle = self._tangle(left)
        if tangle is not None:
            return tangle.front_with(mask, time_us)
        self.is_stepwise = True
        first = self._lattice.ready(self._everything & ~left) & left
        if mask & ~first:
            # With an extent that goes on past the first stages, the others of them still run beside it.
            front = Front(np.array([time_us]), np.zeros(1))
            front = side_by_side(front, self._front(first & ~mask))
            return one_after_the_other(front, self._front(left & ~first & ~mask))
        return one_after_the_other(self._front_with(first, mask, time_us), self._front(left & ~first))

    def _is_first(self, left: int, head: int) -> bool:
        """Whether every other stage that is left comes after ``head``."""
        return not left & ~(self._after[head] | 1 << head)

    def _first_groups(self, left: int) -> tuple[int, ...]:
        return tuple(mask for mask in self._lattice.followers(self._everything & ~left) if not mask & ~left)

    def _apart(self, left: int) -> tuple[int, ...]:
        """The connected parts of ``left``, by their first stage."""
        if left not in self._parts:
            parts: list[int] = []
            for stage in bits(left):
                joined, apart = 1 << stage, []
                for part in parts:
                    if part & self._predecessors[stage]:
                        joined |= part
                    else:
                        apart.append(part)
                parts = [*apart, joined]
            self._parts[left] = tuple(sorted(parts, key=lambda part: part & -part))
        return self._parts[left]

    def _cut(self, left: int) -> tuple[int, int] | None:
        """(what comes before, the rest) of the first stage that comes before or after every other; ``None`` without one."""
        if left not in self._cuts:
            found = None
            for stage in bits(left):
                after = self._after[stage] & left
                others = left & ~(after | 1 << stage)
                if all(self._after[other] >> stage & 1 for other in bits(others)):
                    found = (others, after | 1 << stage)
                    break
            self._cuts[left] = found
        return self._cuts[left]

    def _tangle(self, left: int) -> Tangle | None:
        if left not in self._tangles:
            groups = {
                mask: Configurations(self._layers[mask].times, self._layers[mask].costs)
                for mask in self._lattice.groups
                if not mask & ~left and self._is_startable(mask, left)
            }
            tangle = Tangle(self._predecessors, groups, left, min(self._max_points, _TANGLED_LABELS))
            self._tangles[left] = tangle if tangle.states(_TANGLED_STATES) is not None else None
        return self._tangles[left]

    def _is_startable(self, mask: int, left: int) -> bool:
        """Whether a group waits for nothing among ``left`` that its first stage does not wait for."""
        root = (mask & -mask).bit_length() - 1
        waits = 0
        for stage in bits(mask):
            waits |= self._predecessors[stage]
        return all(self._after[other] >> root & 1 for other in bits(waits & left & ~mask))


def build(
    predecessors: Sequence[int],
    steps_by_mask: Mapping[int, Sequence[Step]],
    residencies: Iterable[int] | None = None,
    *,
    max_labels: int = MAX_POINTS,
) -> Staircases:
    """The staircases of an app.

    Args:
        predecessors: for each stage, in topological order, the mask of the stages that it waits for (``Graph.predecessors``).
        steps_by_mask: the configurations of every legal group; times are those of all elements of a fan-out.
        residencies: only extents within one of these masks; all where ``None``.
        max_labels: points kept per staircase before they are thinned out.

    Raises:
        InfeasibleError: the extents given cannot finish the app.
    """
    held = tuple(residencies) if residencies is not None else ((1 << len(predecessors)) - 1,)
    after = descendants(predecessors)
    rooted = {
        mask: tuple(steps)
        for mask, steps in sorted(steps_by_mask.items())
        if steps and _is_rooted(after, mask) and any(not mask & ~residency for residency in held)
    }
    found = Staircases(predecessors, rooted, max_labels)
    found.prepare(MAX_STATES)
    if not any(found.first_steps(0, head) for head in range(len(predecessors))):
        raise InfeasibleError(
            "the extents that the residencies hold cannot finish the app: some stage lies in none that has a configuration. "
            "Give every stage an instance that holds it"
        )
    return found


def _is_rooted(after: Sequence[int], mask: int) -> bool:
    """Whether one stage of the group comes before all others of it. In a topological order it can only be the first."""
    root = (mask & -mask).bit_length() - 1
    return not mask & ~((1 << root) | after[root])


def _layer(steps: Sequence[Step]) -> Front:
    return front_of(np.array([step.time_us for step in steps]), np.array([step.cost for step in steps]))


__all__ = ["Able", "Choice", "FirstStep", "Staircases", "Step", "build"]
