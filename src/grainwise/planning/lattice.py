"""The states of a DAG whose stages finish group by group, and which group leads from one state to the next.

A state is the mask of the stages that are done. It is an order ideal: with a stage it holds every stage before it. A group may
follow a state when nothing that it waits for is missing, so the groups on a way from nothing to everything always form an
acyclic quotient, and every granularity with an acyclic quotient is a way.
"""

from collections.abc import Iterable, Iterator, Sequence


def bits(mask: int) -> Iterator[int]:
    """The positions of the stages of a mask, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def successors(predecessors: Sequence[int]) -> tuple[int, ...]:
    """For each stage the mask of the stages that wait for it directly."""
    masks = [0] * len(predecessors)
    for index, before in enumerate(predecessors):
        for other in bits(before):
            masks[other] |= 1 << index
    return tuple(masks)


def descendants(predecessors: Sequence[int]) -> tuple[int, ...]:
    """For each stage the mask of the stages that wait for it, directly or not. Stages stand in a topological order."""
    after = successors(predecessors)
    masks = [0] * len(predecessors)
    for index in reversed(range(len(predecessors))):
        masks[index] = after[index]
        for other in bits(after[index]):
            masks[index] |= masks[other]
    return tuple(masks)


def ancestors(predecessors: Sequence[int]) -> tuple[int, ...]:
    """For each stage the mask of the stages that it waits for, directly or not. Stages stand in a topological order."""
    masks: list[int] = []
    for before in predecessors:
        mask = before
        for other in bits(before):
            mask |= masks[other]
        masks.append(mask)
    return tuple(masks)


def needs(predecessors: Sequence[int], mask: int) -> int:
    """The stages outside ``mask`` that a stage of it waits for directly."""
    needed = 0
    for index in bits(mask):
        needed |= predecessors[index]
    return needed & ~mask


class Lattice:
    """The groups that may follow each state. States are looked at when they are asked for, and remembered."""

    def __init__(self, predecessors: Sequence[int], groups: Iterable[int]) -> None:
        """``predecessors``: per stage the mask of the stages that it waits for; ``groups``: the groups there are."""
        self.predecessors = tuple(predecessors)
        self.everything = (1 << len(self.predecessors)) - 1
        self.groups = tuple(groups)
        self._needs = {mask: needs(predecessors, mask) for mask in self.groups}
        self._by_stage: list[list[int]] = [[] for _ in self.predecessors]
        for mask in self.groups:
            for index in bits(mask):
                self._by_stage[index].append(mask)
        self._followers: dict[int, tuple[int, ...]] = {}
        self._moves: dict[int, tuple[int, ...]] = {}

    def ready(self, done: int) -> int:
        """The stages outside ``done`` that wait for nothing outside it."""
        mask = 0
        for index, before in enumerate(self.predecessors):
            if not before & ~done:
                mask |= 1 << index
        return mask & ~done

    def followers(self, done: int) -> tuple[int, ...]:
        """The groups that may be next when ``done`` is done, by their first stage that is ready."""
        found = self._followers.get(done)
        if found is None:
            ready, earlier, listed = self.ready(done), 0, []
            for index in bits(ready):
                listed += [
                    mask for mask in self._by_stage[index] if not mask & (done | earlier) and not self._needs[mask] & ~done
                ]
                earlier |= 1 << index
            found = self._followers[done] = tuple(listed)
        return found

    def moves(self, done: int) -> tuple[int, ...]:
        """Followers that suffice: from every granularity one of them, mostly those of one ready stage alone.

        Where whatever group a ready stage is in may be next, it may as well be next, so that the orders in which groups side by
        side can be taken are not told apart.
        """
        found = self._moves.get(done)
        if found is None:
            found = self._moves[done] = self._make_moves(done)
        return found

    def _make_moves(self, done: int) -> tuple[int, ...]:
        for index in bits(self.ready(done)):
            around = [mask for mask in self._by_stage[index] if not mask & done]
            if all(not self._needs[mask] & ~done for mask in around):
                return tuple(around)
        return self.followers(done)

    def is_ordered(self, done: int) -> bool:
        """Whether every group among ``moves`` holds one and the same stage, so that one of them must be next."""
        common = self.everything
        for mask in self.moves(done):
            common &= mask
        return bool(common)

    def states(self, done: int, most: int, *, is_every_order: bool = True) -> tuple[int, ...] | None:
        """Every state on a way from ``done``, the least first; ``None`` where there are more than ``most``.

        ``is_every_order``: of all ``followers``, else of the ``moves`` alone.
        """
        seen = {done: None}
        queue = [done]
        while queue:
            state = queue.pop()
            for mask in self.followers(state) if is_every_order else self.moves(state):
                after = state | mask
                if after not in seen:
                    if len(seen) >= most:
                        return None
                    seen[after] = None
                    queue.append(after)
        return tuple(sorted(seen, key=lambda state: (state.bit_count(), state)))
