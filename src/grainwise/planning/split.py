"""Planning a large DAG piece by piece: the time is distributed over its segments, and each is searched alone.

The segments are those of ``dominators``; neighbours that hold few stages together are one segment, so no group reaches from
one into the next. A segment gets its part of the time that is left after those before it, by weight, but no less than its
fastest plan and no more than leaves the others theirs; so there is an answer whenever the pieces have one. What that costs
beside searching everything at once is reported as a gap to a lower bound.
"""

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from grainwise.planning.bounds import Bounds
from grainwise.planning.dominators import Parallel, Piece, Serial, decompose, mask_of, normalised_lengths, weight
from grainwise.planning.joint import Combination, search
from grainwise.planning.lattice import Lattice, bits
from grainwise.planning.steps import Step, longest_path_us

MOST_STAGES = 6
"""Stages that are searched together."""

_BISECTIONS = 24


class SplitFound(Struct, frozen=True):
    """A plan made piece by piece, ``None`` where no pieces keep within the limit.

    No plan at all within the limit costs less than ``bound``; the one found costs at most ``1 + gap`` times that.
    """

    combination: Combination | None
    bound: float
    expanded: int

    @property
    def gap(self) -> float:
        """By how much the plan may be dearer than the best: 0.01 means one per cent. Infinite where there is none."""
        if self.combination is None:
            return math.inf
        if self.combination.cost <= self.bound:
            return 0.0
        return self.combination.cost / self.bound - 1 if self.bound > 0 else math.inf


class _Segment(Struct, frozen=True):
    """Stages that are searched together, or branches that hold segments of their own."""

    mask: int
    weight: float
    fastest_us: float
    branches: "tuple[tuple[_Segment, ...], ...]" = ()


def split_search(
    predecessors: Sequence[int],
    steps_by_mask: Mapping[int, Sequence[Step]],
    limit_us: float,
    *,
    most: int = MOST_STAGES,
) -> SplitFound:
    """A cheap plan of a large DAG whose longest path is within ``limit_us``.

    Args:
        predecessors: for each stage, in topological order, the mask of the stages that it waits for.
        steps_by_mask: the configurations of every group that is allowed.
        limit_us: the bound on the longest path, microseconds.
        most: stages that are searched together.
    """
    return _Splitter(predecessors, steps_by_mask, most).run(limit_us)


class _Splitter:
    def __init__(self, predecessors: Sequence[int], steps_by_mask: Mapping[int, Sequence[Step]], most: int) -> None:
        self._predecessors = tuple(predecessors)
        self._steps = {mask: tuple(steps) for mask, steps in sorted(steps_by_mask.items()) if steps}
        self._most = most
        self._expanded = 0
        self._weights = self._make_weights()
        self._segments = self._cut(decompose(predecessors))

    def run(self, limit_us: float) -> SplitFound:
        bounds = Bounds(Lattice(self._predecessors, self._steps), self._steps, limit_us, 0)
        if bounds.is_hopeless:
            return SplitFound(None, math.inf, self._expanded)
        bound = max(
            [bounds.least_cost(0), *(price.least[0] - price.per_us * limit_us for price in bounds.prices)],
        )
        chosen = self._plan(self._segments, limit_us)
        if chosen is None:
            return SplitFound(None, bound, self._expanded)
        combination = Combination(chosen, sum(step.cost for step in chosen), longest_path_us(self._predecessors, chosen))
        return SplitFound(combination, bound, self._expanded)

    def _make_weights(self) -> tuple[float, ...]:
        """Average normalised lengths over as many configurations as every stage has on its own."""
        alone = [
            [step.time_us for step in self._steps.get(1 << stage, ())]
            or [min((s[0].time_us for mask, s in self._steps.items() if mask >> stage & 1), default=1.0)]
            for stage in range(len(self._predecessors))
        ]
        common = min(len(times) for times in alone)
        return normalised_lengths([times[:common] for times in alone])

    def _cut(self, piece: Piece) -> tuple[_Segment, ...]:
        parts = piece.parts if isinstance(piece, Serial) else (piece,)
        found: list[_Segment] = []
        pending = 0
        pending_weight = 0.0
        for part in parts:
            mask = mask_of(part)
            if pending and (pending | mask).bit_count() > self._most:
                found.append(_Segment(pending, pending_weight, self._fastest(pending)))
                pending, pending_weight = 0, 0.0
            if isinstance(part, Parallel) and mask.bit_count() > self._most:
                branches = tuple(self._cut(branch) for branch in part.branches)
                fastest = max(sum(segment.fastest_us for segment in branch) for branch in branches)
                found.append(_Segment(mask, weight(part, self._weights), fastest, branches))
            else:
                pending |= mask
                pending_weight += weight(part, self._weights)
        if pending:
            found.append(_Segment(pending, pending_weight, self._fastest(pending)))
        return tuple(found)

    def _plan(self, segments: Sequence[_Segment], time_us: float) -> tuple[Step, ...] | None:
        chosen: list[Step] = []
        left_us = time_us
        for number, segment in enumerate(segments):
            rest = segments[number + 1 :]
            still = segment.weight + sum(each.weight for each in rest)
            part_us = left_us * segment.weight / still if still > 0 and rest else left_us
            part_us = max(segment.fastest_us, min(part_us, left_us - sum(each.fastest_us for each in rest)))
            if segment.branches:
                steps: tuple[Step, ...] = ()
                for branch in segment.branches:
                    planned = self._plan(branch, part_us)
                    if planned is None:
                        return None
                    steps += planned
            else:
                found = self._search(segment.mask, part_us)
                if found is None:
                    return None
                steps = found
            chosen += steps
            left_us -= longest_path_us(self._predecessors, steps)
        # Sums of the fastest pieces are rounded; a limit met to a part in 10**9 is met.
        return tuple(chosen) if left_us >= -1e-9 * abs(time_us) else None

    def _search(self, mask: int, limit_us: float) -> tuple[Step, ...] | None:
        """The cheapest way through the stages of ``mask`` alone."""
        stages = list(bits(mask))
        place = {stage: 1 << at for at, stage in enumerate(stages)}
        predecessors = [sum(place[other] for other in bits(self._predecessors[stage] & mask)) for stage in stages]
        inner: dict[int, list[Step]] = {}
        outer: dict[int, tuple[Step, ...]] = {}
        for group, steps in self._steps.items():
            if not group & ~mask:
                moved = sum(place[stage] for stage in bits(group))
                inner[moved] = [Step(moved, step.time_us, step.cost, at) for at, step in enumerate(steps)]
                outer[moved] = steps
        found = search(predecessors, inner, limit_us)
        self._expanded += found.expanded
        if not found.combinations:
            return None
        return tuple(outer[step.mask][step.payload] for step in found.combinations[0].steps)

    def _fastest(self, mask: int) -> float:
        """The shortest longest path through the stages of ``mask``, from above, by bisection."""
        found = self._search(mask, math.inf)
        if found is None:
            return math.inf
        low, high = 0.0, longest_path_us(self._predecessors, found)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            found = self._search(mask, middle)
            if found is None:
                low = middle
            else:
                high = longest_path_us(self._predecessors, found)
        return high
