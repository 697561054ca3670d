"""Which groupings of a DAG are legal, and all of them.

A group is legal when it is connected, convex, and keeps to scopes: it lies wholly inside one ``each`` body, or holds the
whole body of every fan-out that it touches. A granularity is a partition into legal groups whose quotient is acyclic: convex
groups alone do not guarantee that (edges a→a', b→b', a→b', b→a' with groups {a, a'} and {b, b'}).
"""

from collections.abc import Iterable, Iterator

from grainwise.domain.errors import InfeasibleError
from grainwise.domain.extent import common_scope
from grainwise.domain.graph import Graph

MAX_STAGES = 16
"""Above this the number of subsets makes exhaustive enumeration pointless."""


def explain_illegal(graph: Graph, mask: int) -> str | None:
    """Why the stages of ``mask`` may not share a function, or ``None`` when they may."""
    if not mask:
        return "a group needs at least one stage"
    scope = common_scope(graph, mask)
    for index in _bits(mask):
        inner = graph.stages[index].scope[len(scope) :]
        if inner and graph.body_masks[inner[0]] & ~mask:
            missing = graph.names(graph.body_masks[inner[0]] & ~mask)
            return (
                f"{graph.stages[index].name} runs inside an each and the group reaches outside it, "
                f"so it must hold the whole body: {', '.join(missing)} missing"
            )
    if not _is_connected(graph, mask):
        return f"{', '.join(graph.names(mask))} are not connected: no value passes between all of them"
    between = _reachable(graph, mask, forward=True) & _reachable(graph, mask, forward=False) & ~mask
    if between:
        return (
            f"a path leaves the group and comes back through {', '.join(graph.names(between))}: the group would wait for itself"
        )
    return None


def legal_groups(graph: Graph) -> tuple[int, ...]:
    """Every legal group, by its mask, in increasing order.

    Raises:
        InfeasibleError: the graph has more than ``MAX_STAGES`` stages.
    """
    count = len(graph.stages)
    if count > MAX_STAGES:
        raise InfeasibleError(
            f"the app has {count} stages; every granularity is enumerated up to {MAX_STAGES}. Merge stages or split the app"
        )
    return tuple(mask for mask in range(1, 1 << count) if explain_illegal(graph, mask) is None)


def granularities(graph: Graph) -> Iterator[tuple[int, ...]]:
    """Every granularity as the masks of its groups, ordered by their first stage. A chain of n stages has 2**(n-1).

    Raises:
        InfeasibleError: see ``legal_groups``.
    """
    groups = legal_groups(graph)
    by_first: dict[int, list[int]] = {}
    for mask in groups:
        by_first.setdefault(mask & -mask, []).append(mask)
    everything = graph.all_mask

    def extend(chosen: tuple[int, ...], used: int) -> Iterator[tuple[int, ...]]:
        if used == everything:
            if is_acyclic(graph, chosen):
                yield chosen
            return
        free = everything & ~used
        for mask in by_first[free & -free]:
            if not mask & used:
                yield from extend((*chosen, mask), used | mask)

    yield from extend((), 0)


def is_acyclic(graph: Graph, groups: tuple[int, ...]) -> bool:
    """Whether no groups wait for one another."""
    return not _waiting_for_one_another(graph, groups)


def check_granularity(graph: Graph, groups: tuple[int, ...]) -> str | None:
    """Why a partition is no granularity of the graph, or ``None`` when it is one."""
    used = 0
    for mask in groups:
        reason = explain_illegal(graph, mask)
        if reason is not None:
            return reason
        if mask & used:
            return f"{', '.join(graph.names(mask & used))} stand in two groups"
        used |= mask
    if used != graph.all_mask:
        return f"{', '.join(graph.names(graph.all_mask & ~used))} stand in no group"
    waiting = _waiting_for_one_another(graph, groups)
    if waiting:
        return f"{' and '.join('+'.join(graph.names(mask)) for mask in waiting)} wait for one another"
    return None


def _waiting_for_one_another(graph: Graph, groups: tuple[int, ...]) -> tuple[int, ...]:
    """The groups that neither can start first nor stand behind those that wait; none where there is an order."""
    left = [(mask, _needs(graph, mask) & ~mask) for mask in groups]
    is_moving = True
    while left and is_moving:
        open_mask = _union(mask for mask, _ in left)
        needed = _union(needs for _, needs in left)
        kept = [(mask, needs) for mask, needs in left if needs & open_mask and mask & needed]
        is_moving = len(kept) < len(left)
        left = kept
    return tuple(mask for mask, _ in left)


def _union(masks: Iterable[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union


def _needs(graph: Graph, mask: int) -> int:
    needed = 0
    for index in _bits(mask):
        needed |= graph.predecessors[index]
    return needed


def _is_connected(graph: Graph, mask: int) -> bool:
    reached = mask & -mask
    while True:
        grown = reached
        for index in _bits(mask):
            neighbours = graph.predecessors[index] & mask
            if reached >> index & 1:
                grown |= neighbours
            if neighbours & reached:
                grown |= 1 << index
        if grown == reached:
            return reached == mask
        reached = grown


def _reachable(graph: Graph, mask: int, *, forward: bool) -> int:
    """Stages that ``mask`` reaches, or that reach it."""
    reached = mask
    while True:
        grown = reached
        for index in range(len(graph.stages)):
            if forward and graph.predecessors[index] & reached:
                grown |= 1 << index
            if not forward and reached >> index & 1:
                grown |= graph.predecessors[index]
        if grown == reached:
            return reached & ~mask
        reached = grown


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
