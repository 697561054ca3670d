"""What is cheapest to run next, for every state of finished stages and every time left: exact Pareto staircases.

Dispatch asks: these stages are done, this one may start, so much time is left; which extent, with which configuration? The
answer is one bisection in a staircase of (remaining time, remaining cost) over all ways to finish the app.

A way to finish is a partition of the stages that are left into extents, each with a configuration. An extent begins at one
stage and holds stages after it; it is legal and lies within a residency; it starts when everything that it waits for has
finished. The remaining time is the longest path. Staircases are computed backwards, from the finished app: a label of a state
is a cost and, for each set of finished stages that something left waits for, the time from its end to the end of the app. On a
chain that is one time, and the label is a point; where branches run side by side the labels are vectors, of which none beats
another in all parts. Nothing is rounded into buckets.

This is the layered graph of (group, configuration) of the exact search in ``joint``, solved for every time limit at once.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from msgspec import Struct

from grainwise.domain.errors import InfeasibleError
from grainwise.planning.fronts import Floats, Front, Indices, pareto, thinned
from grainwise.planning.lattice import Lattice, bits, descendants
from grainwise.planning.steps import Step

MAX_STATES = 4096
"""States of finished stages that are tabulated."""

MAX_LABELS = 2048
"""Labels kept per state; more are thinned out, and the staircases say by how much they may then be too dear."""

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


class _Stair(Struct, frozen=True):
    """The first steps of one head in one state, and the staircase over all of them with the step that each point begins."""

    steps: tuple[FirstStep, ...]
    times_us: list[float]
    costs: list[float]
    owners: list[int]
    by_time: tuple[FirstStep, ...]
    by_cost: tuple[FirstStep, ...]


class _Layer(Struct, frozen=True):
    """The configurations of one group as arrays; ``steps`` holds all, the arrays those that no other beats."""

    steps: tuple[Step, ...]
    times: Floats
    costs: Floats


class Staircases:
    """For every state of finished stages and every head, what may run next. Made by ``build``."""

    def __init__(
        self,
        predecessors: Sequence[int],
        steps_by_mask: Mapping[int, Sequence[Step]],
        max_labels: int,
    ) -> None:
        self._lattice = Lattice(predecessors, steps_by_mask)
        self._layers = {mask: _layer(steps) for mask, steps in steps_by_mask.items()}
        self._max_labels = max_labels
        self._fronts: dict[int, Front] = {}
        self._keys: dict[int, tuple[int, ...]] = {}
        self._shares: dict[int, tuple[list[float], list[float]]] = {}
        self._stairs: dict[tuple[int, int], _Stair | None] = {}
        self.gap = 0.0
        """By how much a remaining cost may lie above the least one: 0.01 means one per cent. 0 where exact."""

    @property
    def is_exact(self) -> bool:
        """Whether every answer is the least cost there is."""
        return self.gap == 0.0

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
        if stair is None:
            return None
        at = bisect_right(stair.times_us, slack_us)
        if not at:
            return None
        first = stair.steps[stair.owners[at - 1]]
        if is_able is None or is_able(first):
            return Choice(first, stair.times_us[at - 1], stair.costs[at - 1])
        best: tuple[float, float, int] | None = None
        chosen = None
        for first in stair.by_cost:
            if best is not None and first.least_cost > best[0]:
                break
            found = first.within(slack_us)
            if found is None:
                continue
            key = (found[1], found[0], first.order)
            if (best is None or key < best) and is_able(first):
                best, chosen = key, first
        return Choice(chosen, best[1], best[0]) if chosen is not None and best is not None else None

    def fastest(self, done: int, head: int, is_able: Able | None = None) -> Choice | None:
        """The able step at ``head`` with the shortest remaining time; of equal ones the cheapest."""
        stair = self._stair(done, head)
        for first in stair.by_time if stair else ():
            if is_able is None or is_able(first):
                found = first.within(first.least_us)
                return Choice(first, *found) if found else None
        return None

    def cheapest(self, done: int, head: int, is_able: Able | None = None) -> Choice | None:
        """The able step at ``head`` with the least remaining cost, however long it takes; of equal ones the fastest."""
        stair = self._stair(done, head)
        for first in stair.by_cost if stair else ():
            if is_able is None or is_able(first):
                return Choice(first, first.times_us[-1], first.least_cost)
        return None

    def prepare(self, done: int, max_states: int) -> bool:
        """Tabulate every state that can follow ``done``; whether there were no more than ``max_states``."""
        states = self._lattice.states(done, max_states)
        if states is None:
            return False
        for state in reversed(states):
            self._front(state)
        for state in states:
            for head in bits(self._lattice.ready(state)):
                self._stair(state, head)
        return True

    def _stair(self, done: int, head: int) -> _Stair | None:
        key = (done, head)
        if key not in self._stairs:
            self._stairs[key] = self._make_stair(done, head)
        return self._stairs[key]

    def _make_stair(self, done: int, head: int) -> _Stair | None:
        if not self._lattice.ready(done) >> head & 1:
            return None
        found: list[FirstStep] = []
        for mask in self._lattice.followers(done):
            if not mask >> head & 1:
                continue
            after = self._front(done | mask)
            if not len(after.costs):
                continue
            columns = self._columns(done | mask)
            is_serial = len(self._columns(done)) == 1 and len(columns) <= 1 and all(key & mask for key in columns)
            for step in self._layers[mask].steps:
                if is_serial:
                    base, (times, costs) = step.time_us, self._shared(done | mask)
                else:
                    base, (times, costs) = 0.0, self._totals(done, mask, step.time_us)
                found.append(FirstStep(step, len(found), base, step.cost, times, costs))
        if not found:
            return None
        steps = tuple(found)
        totals = np.concatenate([np.array(each.times_us) for each in steps])
        sums = np.concatenate([np.array(each.costs) for each in steps])
        owners = np.concatenate([np.full(len(each.costs), each.order) for each in steps])
        kept = pareto(totals[:, None], sums)
        return _Stair(
            steps,
            totals[kept].tolist(),
            sums[kept].tolist(),
            owners[kept].tolist(),
            tuple(sorted(steps, key=lambda each: (each.least_us, _cost_when_fastest(each), each.order))),
            tuple(sorted(steps, key=lambda each: (each.least_cost, each.times_us[-1], each.order))),
        )

    def _shared(self, done: int) -> tuple[list[float], list[float]]:
        """The front of a state as lists: of one column, or of none when everything is done."""
        if done not in self._shares:
            front = self._front(done)
            times = front.times[:, 0] if front.times.shape[1] else np.zeros(len(front.costs))
            self._shares[done] = (times.tolist(), front.costs.tolist())
        return self._shares[done]

    def _totals(self, done: int, mask: int, time_us: float) -> tuple[list[float], list[float]]:
        """The staircase of what is left after ``mask`` took ``time_us`` from now: of totals, so that columns collapse."""
        times, costs = self._before(done, mask, np.array([time_us]), np.array([0.0]))
        total = times.max(axis=1)
        kept = pareto(total[:, None], costs)
        return total[kept].tolist(), costs[kept].tolist()

    def _columns(self, done: int) -> tuple[int, ...]:
        """The sets of finished stages that something left waits for; 0 stands for stages that wait for nothing."""
        if done not in self._keys:
            predecessors = self._lattice.predecessors
            left = self._lattice.everything & ~done
            found = {predecessors[index] & done: None for index in bits(left) if predecessors[index] & done}
            if any(not predecessors[index] for index in bits(left)):
                found[0] = None
            self._keys[done] = tuple(sorted(found))
        return self._keys[done]

    def _before(self, done: int, mask: int, layer_times: Floats, layer_costs: Floats) -> tuple[Floats, Floats]:
        """The labels of state ``done`` that begin with ``mask``: every configuration with every label after it."""
        after = self._front(done | mask)
        after_columns, columns = self._columns(done | mask), self._columns(done)
        place = {key: at for at, key in enumerate(columns)}
        behind = np.zeros(len(after.costs))
        for at, key in enumerate(after_columns):
            if key & mask:
                behind = np.maximum(behind, after.times[:, at])
        # Rows: configuration by configuration, each with all labels after it.
        tail = (layer_times[:, None] + behind[None, :]).reshape(-1)
        times = np.zeros((len(tail), len(columns)))
        for at, key in enumerate(after_columns):
            kept_key = key & ~mask
            if kept_key or not key:
                column = place[kept_key]
                times[:, column] = np.maximum(times[:, column], np.tile(after.times[:, at], len(layer_times)))
        predecessors = self._lattice.predecessors
        for index in bits(mask):
            if predecessors[index] & done or not predecessors[index]:
                column = place[predecessors[index] & done]
                times[:, column] = np.maximum(times[:, column], tail)
        return times, (layer_costs[:, None] + after.costs[None, :]).reshape(-1)

    def _front(self, done: int) -> Front:
        found = self._fronts.get(done)
        if found is None:
            found = self._fronts[done] = self._make_front(done)
            self.gap = max(self.gap, found.gap)
        return found

    def _make_front(self, done: int) -> Front:
        if done == self._lattice.everything:
            return Front(np.zeros((1, 0)), np.zeros(1))
        all_times: list[Floats] = []
        all_costs: list[Floats] = []
        gap = 0.0
        for mask in self._lattice.moves(done):
            gap = max(gap, self._front(done | mask).gap)
            layer = self._layers[mask]
            times, costs = self._before(done, mask, layer.times, layer.costs)
            all_times.append(times)
            all_costs.append(costs)
        if not all_times:
            return Front(np.zeros((0, len(self._columns(done)))), np.zeros(0))
        times, costs = np.concatenate(all_times), np.concatenate(all_costs)
        kept = pareto(times, costs)
        return thinned(Front(times[kept], costs[kept], gap), self._max_labels)


def build(
    predecessors: Sequence[int],
    steps_by_mask: Mapping[int, Sequence[Step]],
    residencies: Iterable[int] | None = None,
    *,
    max_states: int = MAX_STATES,
    max_labels: int = MAX_LABELS,
) -> Staircases:
    """The staircases of an app.

    Args:
        predecessors: for each stage, in topological order, the mask of the stages that it waits for (``Graph.predecessors``).
        steps_by_mask: the configurations of every legal group; times are those of all elements of a fan-out.
        residencies: only extents within one of these masks; all where ``None``.
        max_states: states of finished stages that are tabulated at once.
        max_labels: labels kept per state before they are thinned out.

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
    if not found.prepare(0, max_states):
        raise InfeasibleError(f"more than {max_states} states")
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


def _layer(steps: Sequence[Step]) -> _Layer:
    times = np.array([step.time_us for step in steps])
    costs = np.array([step.cost for step in steps])
    kept: Indices = pareto(times[:, None], costs)
    return _Layer(tuple(steps), times[kept], costs[kept])


def _cost_when_fastest(first: FirstStep) -> float:
    found = first.within(first.least_us)
    return found[1] if found else first.least_cost
