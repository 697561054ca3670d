"""One exact search over groups of stages and their configurations: the K cheapest plans within a time limit.

The layers of the search are (group, configuration) instead of (stage, configuration), so that the granularity and each
function's configuration are chosen together. A label is a state (``lattice``), the instant from which each stage next to it
may start, and the cost so far. Labels are taken in the order of a lower bound on the cost of whatever they become (A*). They
are dropped when a bound on time or on cost (``bounds``) says that nothing good can come of them (after ESG's two blades,
reconstructed), or when as many others as are wanted are as good in everything.

Times add up along the longest path through the groups. The search is bounded by labels, never by time.
"""

import heapq
import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from grainwise.planning.bounds import Bounds
from grainwise.planning.lattice import Lattice, bits
from grainwise.planning.steps import Step, longest_path_us, useful

MAX_NODES = 200_000
"""Labels that one search may make; beyond it the answer is the best found, and says so."""

_ROUNDING = 1e-9
"""Bounds are sums in another order than what they bound: they give way by this part."""

_Path = tuple[Step, "_Path"] | None


class Combination(Struct, frozen=True):
    """A granularity with a configuration of each group, the groups in an order in which they can run; cost, longest path."""

    steps: tuple[Step, ...]
    cost: float
    time_us: float


class Found(Struct, frozen=True):
    """The cheapest combinations, cheapest first; whether there are none cheaper; the labels made.

    No combination within the limit costs less than ``bound``: infinity where there is none.
    """

    combinations: tuple[Combination, ...]
    is_exact: bool
    expanded: int
    bound: float


class _Move(Struct, frozen=True):
    """One group after one state, with what the inner loop needs.

    ``starts``: positions of the instants that the group waits for. ``carried``: for each instant of the state after, its
    position now, -1 if it is new, and whether the group's end counts. ``priced``: for each price whether the group is on the
    path, the position of the instant until which the path is known, -1 for none, the price, and the rest of the bound.
    """

    after: int
    steps: tuple[Step, ...]
    marks: tuple[int, ...]
    starts: tuple[int, ...]
    carried: tuple[tuple[int, bool], ...]
    latest_us: float
    least_cost: float
    most_resources: tuple[float, ...]
    priced: tuple[tuple[bool, int, float, float], ...]


def search(
    predecessors: Sequence[int],
    steps_by_mask: Mapping[int, Sequence[Step]],
    limit_us: float,
    keep: int = 1,
    *,
    resource_limits: Sequence[float] = (),
    max_nodes: int = MAX_NODES,
) -> Found:
    """The ``keep`` cheapest distinct combinations of groups and configurations whose longest path is within ``limit_us``.

    Args:
        predecessors: for each stage, in topological order, the mask of the stages that it waits for (``Graph.predecessors``).
        steps_by_mask: the configurations of every group that is allowed; times and costs are not negative.
        limit_us: the bound on the longest path through the groups, microseconds.
        keep: how many combinations.
        resource_limits: upper bounds on the sums of ``Step.resources``.
        max_nodes: labels that may be made.
    """
    steps = {
        mask: useful(steps, keep, is_bounded=bool(resource_limits)) for mask, steps in sorted(steps_by_mask.items()) if steps
    }
    lattice = Lattice(predecessors, steps)
    bounds = Bounds(lattice, steps, limit_us, len(resource_limits))
    if bounds.is_hopeless:
        return Found((), True, 0, math.inf)
    return _Search(lattice, steps, bounds, limit_us, keep, tuple(resource_limits), max_nodes).run()


class _Search:
    def __init__(
        self,
        lattice: Lattice,
        steps: Mapping[int, tuple[Step, ...]],
        bounds: Bounds,
        limit_us: float,
        keep: int,
        resource_limits: tuple[float, ...],
        max_nodes: int,
    ) -> None:
        self._lattice = lattice
        self._steps = steps
        self._bounds = bounds
        self._limit_us = limit_us
        self._keep = keep
        self._limits = resource_limits
        self._max_nodes = max_nodes
        self._moves: dict[int, tuple[_Move, ...]] = {}
        self._is_told_apart = not bounds.is_ordered
        self._marks: dict[int, tuple[int, ...]] = {}
        number = 0
        for mask, each in steps.items():
            # What a label is made of, as one number: only needed where the same groups can be taken in several orders.
            self._marks[mask] = tuple(1 << number + at if self._is_told_apart else 0 for at in range(len(each)))
            number += len(each)
        self._best: list[tuple[float, int, _Path]] = []
        """The best complete combinations, the worst of them first, as (-cost, -serial, path)."""

    def run(self) -> Found:
        if self._keep == 1:
            self._try_candidates()
        best, keep, limits = self._best, self._keep, self._limits
        everything, is_told_apart = self._lattice.everything, self._is_told_apart
        worst = -best[0][0] if len(best) == keep else math.inf
        popped: dict[int, list[tuple[float, tuple[float, ...], tuple[float, ...]]]] = {}
        seen: set[tuple[int, int]] = set()
        heap: list[tuple[float, int, int, int, tuple[float, ...], float, tuple[float, ...], int, _Path]] = [
            (self._bounds.least_cost(0), 0, 0, 0, (), 0.0, (0.0,) * len(limits), 0, None)
        ]
        serial, popped_least = 0, 0.0
        is_cut = False
        while heap and heap[0][0] < worst and not is_cut:
            popped_least, _, _, state, ready, cost, used, content, path = heapq.heappop(heap)
            if self._is_matched(popped.setdefault(state, []), cost, ready, used):
                continue
            for move in self._moves_of(state):
                start = 0.0
                for at in move.starts:
                    if ready[at] > start:
                        start = ready[at]
                base, latest, after = cost + move.least_cost, move.latest_us - start, move.after
                for step, mark in zip(move.steps, move.marks, strict=True):
                    least = base + step.cost
                    if least >= worst:
                        break  # steps are ordered by cost
                    if step.time_us > latest:
                        continue
                    end = start + step.time_us
                    for is_on_path, at, per_us, rest in move.priced:
                        known = end if is_on_path else ready[at] if at >= 0 else 0.0
                        bound = cost + step.cost + per_us * known + rest
                        if bound > least:
                            least = bound
                    if least >= worst:
                        continue
                    now_used = used
                    if limits:
                        now_used = tuple(our + more for our, more in zip(used, step.resources, strict=True))
                        if any(our > most for our, most in zip(now_used, move.most_resources, strict=True)):
                            continue
                    serial += 1
                    if serial > self._max_nodes:
                        is_cut = True
                        break
                    now_content = content | mark
                    if is_told_apart:
                        if (after, now_content) in seen:
                            continue
                        seen.add((after, now_content))
                    if after == everything:
                        heapq.heappush(best, (-(cost + step.cost), -serial, (step, path)))
                        if len(best) > keep:
                            heapq.heappop(best)
                        if len(best) == keep:
                            worst = -best[0][0]
                        continue
                    now_ready = tuple(
                        (end if at < 0 else max(end, ready[at])) if counts else ready[at] for at, counts in move.carried
                    )
                    heapq.heappush(
                        heap,
                        (
                            least,
                            -after.bit_count(),
                            serial,
                            after,
                            now_ready,
                            cost + step.cost,
                            now_used,
                            now_content,
                            (step, path),
                        ),
                    )
                if is_cut:
                    break
        found = sorted(best, key=lambda each: (-each[0], -each[1]))
        combinations = tuple(self._combination(path) for _, _, path in found)
        bound = combinations[0].cost if combinations else math.inf
        if is_cut:
            bound = min(bound, popped_least, *(each[0] for each in heap[:1]))
        return Found(combinations, not is_cut, serial, bound)

    def _is_matched(
        self,
        popped: list[tuple[float, tuple[float, ...], tuple[float, ...]]],
        cost: float,
        ready: tuple[float, ...],
        used: tuple[float, ...],
    ) -> bool:
        """Whether as many labels of the state as are wanted are as good in everything; if not, this one counts too."""
        matched = 0
        for other_cost, other_ready, other_used in popped:
            if other_cost <= cost and all(map(_is_at_most, other_ready, ready)) and all(map(_is_at_most, other_used, used)):
                matched += 1
                if matched == self._keep:
                    return True
        popped.append((cost, ready, used))
        return False

    def _moves_of(self, state: int) -> tuple[_Move, ...]:
        found = self._moves.get(state)
        if found is None:
            found = self._moves[state] = tuple(self._make_move(state, mask) for mask in self._lattice.moves(state))
        return found

    def _make_move(self, state: int, mask: int) -> _Move:
        predecessors, bounds = self._lattice.predecessors, self._bounds
        after = state | mask
        now = {stage: at for at, stage in enumerate(self._next_to(state))}
        following = self._next_to(after)
        tail_us = max((bounds.tails_us[stage] for stage in following if predecessors[stage] & mask), default=0.0)
        priced = []
        for price in bounds.prices:
            left = price.path & ~after
            if left:
                first = next(bits(price.path & ~state))
                rest = price.least[after] - price.per_us * self._limit_us
                rest -= _ROUNDING * (price.least[after] + price.per_us * self._limit_us)
                priced.append((bool(price.path & mask), now.get(first, -1), price.per_us, rest))
        return _Move(
            after,
            self._steps[mask],
            self._marks[mask],
            tuple(now[stage] for stage in bits(mask) if stage in now),
            tuple((now.get(stage, -1), bool(predecessors[stage] & mask)) for stage in following),
            self._limit_us - tail_us,
            bounds.least_cost(after) * (1 - _ROUNDING) if after != self._lattice.everything else 0.0,
            tuple(
                (most - bounds.least_resource(after, kind)) * (1 + _ROUNDING) + _ROUNDING
                for kind, most in enumerate(self._limits)
            ),
            tuple(priced),
        )

    def _next_to(self, state: int) -> tuple[int, ...]:
        """The stages outside a state that wait for one of it."""
        predecessors = self._lattice.predecessors
        return tuple(stage for stage in bits(self._lattice.everything & ~state) if predecessors[stage] & state)

    def _try_candidates(self) -> None:
        for number, steps in enumerate(self._bounds.candidates):
            if sum(step.mask for step in steps) != self._lattice.everything:
                continue
            is_fitting = all(sum(step.resources[kind] for step in steps) <= most for kind, most in enumerate(self._limits))
            if is_fitting and longest_path_us(self._lattice.predecessors, steps) <= self._limit_us:
                path: _Path = None
                cost = 0.0
                for step in steps:
                    path = (step, path)
                    cost += step.cost
                if not self._best or cost < -self._best[0][0]:
                    self._best[:] = [(-cost, number, path)]

    def _combination(self, path: _Path) -> Combination:
        steps: list[Step] = []
        while path is not None:
            step, path = path
            steps.append(step)
        steps.reverse()
        return Combination(tuple(steps), sum(step.cost for step in steps), longest_path_us(self._lattice.predecessors, steps))


def _is_at_most(our: float, their: float) -> bool:
    return our <= their


__all__ = ["MAX_NODES", "Combination", "Found", "Step", "search"]
