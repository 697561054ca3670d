"""Cutting a large DAG at its dominators, and a time among its pieces (after ESG's SLO distribution, reconstructed).

A stage on every way from an entry to a result is a cut point: it dominates what comes after it and post-dominates what comes
before. Cut points follow one another; between two of them lie branches side by side, which are cut again. A piece weighs its
average normalised length: for a stage the mean over configurations of its part in the time of all stages under the same
configuration, the sum of its pieces where they follow one another, the longest where they run side by side. Time is split in
proportion to the weights, in whole microseconds that add up; each branch gets the whole time of its segment.

A dispatch distributes time, so sums are formed one by one: ``sum`` rounds differently from one interpreter to the next.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from grainwise.planning.lattice import ancestors, bits, successors


class Leaf(Struct, frozen=True):
    """One stage."""

    stage: int


class Serial(Struct, frozen=True):
    """Pieces that run one after the other."""

    parts: "tuple[Piece, ...]"


class Parallel(Struct, frozen=True):
    """Pieces that run side by side."""

    branches: "tuple[Piece, ...]"


Piece = Leaf | Serial | Parallel


class Share(Struct, frozen=True):
    """A run of stages, or a fork-join with the shares of each branch, and the time that it gets, microseconds."""

    mask: int
    time_us: int
    branches: "tuple[tuple[Share, ...], ...]" = ()


def dominators(predecessors: Sequence[int]) -> tuple[int, ...]:
    """For each stage the mask of those on every way to it, itself included."""
    masks: list[int] = []
    for stage, before in enumerate(predecessors):
        common = -1 if before else 0
        for other in bits(before):
            common &= masks[other]
        masks.append(common | 1 << stage)
    return tuple(masks)


def post_dominators(predecessors: Sequence[int]) -> tuple[int, ...]:
    """For each stage the mask of those on every way from it to a result, itself included."""
    after = successors(predecessors)
    masks = [0] * len(predecessors)
    for stage in reversed(range(len(predecessors))):
        common = -1 if after[stage] else 0
        for other in bits(after[stage]):
            common &= masks[other]
        masks[stage] = common | 1 << stage
    return tuple(masks)


def immediate_dominators(predecessors: Sequence[int]) -> tuple[int | None, ...]:
    """For each stage the nearest one before it that dominates it, ``None`` where there is none."""
    masks = dominators(predecessors)
    found: list[int | None] = []
    for stage, mask in enumerate(masks):
        strict = list(bits(mask & ~(1 << stage)))
        found.append(max(strict, key=lambda other: masks[other].bit_count()) if strict else None)
    return tuple(found)


def cut_points(predecessors: Sequence[int], mask: int | None = None) -> tuple[int, ...]:
    """The stages on every way through the stages of ``mask``, all by default, in the order in which they run."""
    within = (1 << len(predecessors)) - 1 if mask is None else mask
    inner = [before & within for before in predecessors]
    after = successors([before if within >> stage & 1 else 0 for stage, before in enumerate(inner)])
    on_all_ways = within
    masks = dominators(inner)
    for stage in bits(within):
        if not after[stage]:
            on_all_ways &= masks[stage]
    return tuple(bits(on_all_ways))


def decompose(predecessors: Sequence[int], mask: int | None = None) -> Piece:
    """The pieces of a DAG, all of it by default.

    Where stages are tangled, so that there is neither a cut point nor a branch, those at the same depth count as side by side
    and the depths as one after the other: an upper bound on the time.
    """
    within = (1 << len(predecessors)) - 1 if mask is None else mask
    cuts = cut_points(predecessors, within)
    if not cuts:
        branches = _components(predecessors, within)
        if len(branches) == 1:
            return _by_depth(predecessors, within)
        return Parallel(tuple(decompose(predecessors, branch) for branch in branches))
    parts: list[Piece] = []
    left, earlier = within, ancestors(predecessors)
    for cut in cuts:
        before = earlier[cut] & left
        if before:
            parts.extend(_flat(_between(predecessors, before)))
        parts.append(Leaf(cut))
        left &= ~(before | 1 << cut)
    if left:
        parts.extend(_flat(_between(predecessors, left)))
    return parts[0] if len(parts) == 1 else Serial(tuple(parts))


def mask_of(piece: Piece) -> int:
    """The stages of a piece."""
    if isinstance(piece, Leaf):
        return 1 << piece.stage
    mask = 0
    for part in piece.parts if isinstance(piece, Serial) else piece.branches:
        mask |= mask_of(part)
    return mask


def normalised_lengths(times: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The weight of each stage.

    Args:
        times: for each stage its time under each configuration, the same configurations for all.
    """
    totals = [_total(column) for column in zip(*times, strict=True)]
    return tuple(
        _total(time / total if total > 0 else 1 / len(times) for time, total in zip(row, totals, strict=True)) / len(totals)
        for row in times
    )


def weight(piece: Piece, weights: Sequence[float]) -> float:
    """The weight of a piece from those of the stages: sums along, the longest of what runs side by side."""
    if isinstance(piece, Leaf):
        return weights[piece.stage]
    if isinstance(piece, Serial):
        return _total(weight(part, weights) for part in piece.parts)
    return max(weight(branch, weights) for branch in piece.branches)


def remaining(piece: Piece, done: int) -> Piece | None:
    """What is left of a piece when the stages ``done`` have run; ``None`` if nothing."""
    if isinstance(piece, Leaf):
        return None if done >> piece.stage & 1 else piece
    inner = piece.parts if isinstance(piece, Serial) else piece.branches
    left = tuple(kept for kept in (remaining(part, done) for part in inner) if kept is not None)
    if len(left) < 2:
        return left[0] if left else None
    if isinstance(piece, Parallel):
        return Parallel(left)
    # What is left of a fork-join may be one branch, whose stages then follow on those before it.
    return Serial(tuple(each for part in left for each in _flat(part)))


def distribute(piece: Piece, time_us: int, weights: Sequence[float], most: int = 3) -> tuple[Share, ...]:
    """Split a time among the segments of a piece, in the order in which they run. The parts add up to ``time_us`` exactly.

    Call it anew with what is ``remaining`` and the time that is really left after each segment.

    Args:
        piece: see ``decompose``.
        time_us: the time left, whole microseconds.
        weights: of each stage, see ``normalised_lengths``.
        most: stages that follow one another are searched together in runs of at most this many.
    """
    runs = _runs(piece, most)
    heavy = [_total(weight(each, weights) for each in run) for run in runs]
    shares: list[Share] = []
    left_us = time_us
    for number, run in enumerate(runs):
        still = _total(heavy[number:])
        is_last = number == len(runs) - 1
        share_us = left_us if is_last or still <= 0 else int(left_us * (heavy[number] / still))
        mask = 0
        for each in run:
            mask |= mask_of(each)
        branches: tuple[tuple[Share, ...], ...] = ()
        if isinstance(run[0], Parallel):
            branches = tuple(distribute(branch, share_us, weights, most) for branch in run[0].branches)
        shares.append(Share(mask, share_us, branches))
        left_us -= share_us
    return tuple(shares)


def _runs(piece: Piece, most: int) -> list[list[Piece]]:
    """Stages that follow one another in runs of at most ``most``; each fork-join alone."""
    parts = piece.parts if isinstance(piece, Serial) else (piece,)
    runs: list[list[Piece]] = []
    for part in parts:
        if isinstance(part, Leaf) and runs and isinstance(runs[-1][0], Leaf) and len(runs[-1]) < most:
            runs[-1].append(part)
        else:
            runs.append([part])
    return runs


def _total(values: Iterable[float]) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


def _flat(piece: Piece) -> tuple[Piece, ...]:
    return piece.parts if isinstance(piece, Serial) else (piece,)


def _between(predecessors: Sequence[int], mask: int) -> Piece:
    """What lies between two cut points: branches, or one branch that an edge passes by."""
    branches = _components(predecessors, mask)
    if len(branches) == 1:
        return decompose(predecessors, branches[0])
    return Parallel(tuple(decompose(predecessors, branch) for branch in branches))


def _components(predecessors: Sequence[int], mask: int) -> list[int]:
    """The connected parts of ``mask``, by their first stage."""
    found: list[int] = []
    for stage in bits(mask):
        joined = 1 << stage
        neighbours = predecessors[stage] & mask
        apart = []
        for part in found:
            if part & neighbours:
                joined |= part
            else:
                apart.append(part)
        found = [*apart, joined]
    return sorted(found, key=lambda part: part & -part)


def _by_depth(predecessors: Sequence[int], mask: int) -> Piece:
    depth: dict[int, int] = {}
    for stage in bits(mask):
        depth[stage] = 1 + max((depth[other] for other in bits(predecessors[stage] & mask)), default=-1)
    levels: list[Piece] = []
    for level in range(max(depth.values()) + 1):
        leaves = tuple(Leaf(stage) for stage in bits(mask) if depth[stage] == level)
        levels.append(leaves[0] if len(leaves) == 1 else Parallel(leaves))
    return Serial(tuple(levels))
