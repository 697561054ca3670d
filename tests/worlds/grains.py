"""Every legal granularity of a small graph, by trying all partitions; the definition, not the planner's way to it."""

from collections.abc import Iterator, Sequence
from functools import cache

import msgspec

from grainwise.domain.graph import Graph
from grainwise.domain.plan import FunctionPlan, Grain, Plan


def is_group(graph: Graph, mask: int) -> bool:
    """Whether the stages of ``mask`` may share a function: connected, convex, and whole where they meet a fan-out."""
    for body in graph.body_masks:
        if mask & body and mask & ~body and body & ~mask:
            return False
    stages = [index for index in range(len(graph.stages)) if mask >> index & 1]
    reached = 1 << stages[0]
    while True:
        grown = reached
        for index in stages:
            before = graph.predecessors[index]
            if reached >> index & 1:
                grown |= before & mask
            elif before & reached:
                grown |= 1 << index
        if grown == reached:
            break
        reached = grown
    if reached != mask:
        return False
    ancestors = _ancestors(graph)
    return all(
        not (ancestors[index] & mask and any(ancestors[other] >> index & 1 for other in stages))
        for index in range(len(graph.stages))
        if not mask >> index & 1
    )


def _ancestors(graph: Graph) -> list[int]:
    found: list[int] = []
    for before in graph.predecessors:
        mask = before
        for index in range(len(graph.stages)):
            if before >> index & 1:
                mask |= found[index]
        found.append(mask)
    return found


def _partitions(items: list[int]) -> Iterator[list[int]]:
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for others in range(1 << len(rest)):
        mask = 1 << first
        left: list[int] = []
        for at, item in enumerate(rest):
            if others >> at & 1:
                mask |= 1 << item
            else:
                left.append(item)
        for more in _partitions(left):
            yield [mask, *more]


def _is_acyclic(graph: Graph, groups: list[int]) -> bool:
    left = list(groups)
    done = 0
    while left:
        free = [
            group
            for group in left
            if all(not graph.predecessors[index] & ~(done | group) for index in range(len(graph.stages)) if group >> index & 1)
        ]
        if not free:
            return False
        for group in free:
            done |= group
            left.remove(group)
    return True


@cache
def legal_grains(graph: Graph) -> tuple[Grain, ...]:
    """All granularities, fused first."""
    found = [
        groups
        for groups in _partitions(list(range(len(graph.stages))))
        if all(is_group(graph, group) for group in groups) and _is_acyclic(graph, groups)
    ]
    found.sort(key=len)
    return tuple(tuple(graph.names(group) for group in groups) for groups in found)


def on_gpu(plan: Plan, gpu_share_fraction: float) -> Plan:
    """The same plan with every function on a part of a device."""
    functions = [msgspec.structs.replace(each, device="gpu", gpu_share_fraction=gpu_share_fraction) for each in plan.functions]
    return msgspec.structs.replace(plan, functions=tuple(functions))


def plan_for(app: str, grain: Grain, *, cpu_cores: float = 1.0, max_batch: int = 4, instances: int = 1, **more: int) -> Plan:
    """A plan of one granularity in which every function is run alike."""
    return Plan(
        app,
        tuple(
            FunctionPlan(stages, cpu_cores, max_batch, instances, max_instances=max(instances, more.get("max_instances", 4)))
            for stages in grain
        ),
    )


def members(mask: int) -> list[int]:
    return [index for index in range(mask.bit_length()) if mask >> index & 1]


def partitions(left: int, masks: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Set partitions of ``left`` into groups of ``masks``, whether or not they wait for one another."""
    if not left:
        yield ()
        return
    for mask in masks:
        if mask & left & -left and not mask & ~left:
            for rest in partitions(left & ~mask, masks):
                yield (mask, *rest)
