"""What a group of stages may do next: one configuration of it, what it takes and what it costs."""

from collections.abc import Sequence

from msgspec import Struct

from grainwise.planning.lattice import bits


class Step(Struct, frozen=True):
    """One configuration of one group: what it takes and what it costs. ``payload`` is the caller's number for it.

    ``resources`` are amounts that add up over the groups of a plan, in the order of the bounds given to a search.
    """

    mask: int
    time_us: float
    cost: float
    payload: int = 0
    resources: tuple[float, ...] = ()


def useful(steps: Sequence[Step], keep: int, *, is_bounded: bool) -> tuple[Step, ...]:
    """The steps of one group that can be part of one of the ``keep`` best plans, cheapest first.

    Left out is what at least ``keep`` others match in time and cost and, where resources are bounded, in each of them.
    """
    kept: list[Step] = []
    for step in sorted(steps, key=lambda each: (each.cost, each.time_us, each.resources)):
        matched = 0
        for other in kept:
            if other.time_us <= step.time_us and (not is_bounded or _needs_no_more(other, step)):
                matched += 1
        if matched < keep:
            kept.append(step)
    return tuple(kept)


def longest_path_us(predecessors: Sequence[int], steps: Sequence[Step]) -> float:
    """The longest path through groups that stand in an order in which they can run."""
    finish = [0.0] * len(predecessors)
    last = 0.0
    for step in steps:
        start = 0.0
        for index in bits(step.mask):
            for other in bits(predecessors[index] & ~step.mask):
                start = max(start, finish[other])
        end = start + step.time_us
        for index in bits(step.mask):
            finish[index] = end
        last = max(last, end)
    return last


def _needs_no_more(step: Step, other: Step) -> bool:
    return all(our <= their for our, their in zip(step.resources, other.resources, strict=True))
