"""The exact search for one granularity: the K cheapest choices of configurations whose additive times meet a limit.

Depth-first branch and bound over the functions in topological order with two admissible bounds: the least time that the
functions still to be chosen add to the longest path, and the least that they cost (``remaining`` knows it better for a chain of
many choices). The first is the time test, the second the cost test of a search over (group, configuration) layers (after ESG's
two bounds, reconstructed). It is bounded by nodes expanded, never by time, so the answer is the same on every machine.
"""

import heapq
import math
from collections.abc import Sequence

from msgspec import Struct

from grainwise.domain.plan import Plan
from grainwise.planning.options import Choice, explain_misfit, fits
from grainwise.planning.problem import Problem
from grainwise.planning.remaining import LeastCost

MAX_NODES = 20_000
"""Nodes that one search may expand; beyond it the answer is the best found, and says so."""

_BISECTIONS = 6


class Found(Struct, frozen=True):
    """The cheapest combinations, cheapest first, and whether the search was cut off."""

    combinations: tuple[tuple[Choice, ...], ...]
    expanded: int
    is_exact: bool


def cheapest(
    problem: Problem,
    layers: Sequence[Sequence[Choice]],
    before: Sequence[Sequence[int]],
    limit_us: float,
    keep: int,
    *,
    is_overload_allowed: bool = False,
) -> Found:
    """The ``keep`` cheapest combinations with a longest path of at most ``limit_us`` that fit the nodes.

    Args:
        problem: capacity and objective.
        layers: the choices of each function, functions in topological order.
        before: for each function the functions that it waits for.
        limit_us: the bound on the sum of times along every path.
        keep: how many combinations to return.
        is_overload_allowed: also combinations that ask for more cores than there are; their memory must fit all the same.
    """
    count = len(layers)
    after: list[list[int]] = [[] for _ in range(count)]
    for at, sources in enumerate(before):
        for source in sources:
            after[source].append(at)
    least_time = [min(choice.time_us for choice in layer) for layer in layers] if all(layers) else []
    if not least_time:
        return Found((), 0, True)
    tail = [0.0] * count
    for at in reversed(range(count)):
        tail[at] = max((least_time[follower] + tail[follower] for follower in after[at]), default=0.0)
    cost_left = [0.0] * (count + 1)
    demand_left = [0.0] * (count + 1)
    memory_left = [0.0] * (count + 1)
    devices_left = [0.0] * (count + 1)
    for at in reversed(range(count)):
        cost_left[at] = cost_left[at + 1] + min(choice.cost for choice in layers[at])
        demand_left[at] = demand_left[at + 1] + min(choice.demand_cores for choice in layers[at])
        memory_left[at] = memory_left[at + 1] + min(choice.memory_mib for choice in layers[at])
        devices_left[at] = devices_left[at + 1] + min(choice.devices for choice in layers[at])
    # Where the search might be cut off, a bound that knows the time that is left is worth its price.
    is_chain = all(list(sources) == ([at - 1] if at else []) for at, sources in enumerate(before))
    is_long = math.prod(len(layer) for layer in layers) > MAX_NODES
    least_cost = LeastCost(layers) if is_chain and is_long and limit_us < math.inf else None
    # Shares of devices add up without fitting far more often than memory does: a combination must be placed to count.
    is_on_device = any(choice.devices > 0 for layer in layers for choice in layer)
    on_devices = _Placing(problem) if is_on_device else None
    best: list[tuple[float, int, tuple[Choice, ...]]] = []
    expanded = serial = 0

    def descend(
        at: int, chosen: tuple[Choice, ...], finish: tuple[float, ...], sums: tuple[float, float, float, float, float]
    ) -> bool:
        nonlocal expanded, serial
        cost, demand, hard, memory, devices = sums
        if at == count:
            if on_devices is not None and not on_devices.hold(chosen):
                return True
            serial += 1
            heapq.heappush(best, (-cost, -serial, chosen))
            if len(best) > keep:
                heapq.heappop(best)
            return True
        start = max((finish[source] for source in before[at]), default=0.0)
        for choice in layers[at]:
            if expanded >= MAX_NODES:
                return False
            expanded += 1
            total = cost + choice.cost
            if len(best) == keep and total + cost_left[at + 1] >= -best[0][0]:
                break  # choices are ordered by cost: the rest costs no less
            end = start + choice.time_us
            if end + tail[at] > limit_us:
                continue
            if least_cost is not None and len(best) == keep and total + least_cost.at(at + 1, limit_us - end) > -best[0][0]:
                continue
            used = (
                total,
                demand + choice.demand_cores,
                hard + choice.hard_cores,
                memory + choice.memory_mib,
                devices + choice.devices,
            )
            if not fits(
                problem,
                used[1] + demand_left[at + 1],
                used[2],
                used[3] + memory_left[at + 1],
                used[4] + devices_left[at + 1],
                is_overload_allowed=is_overload_allowed,
            ):
                continue
            if not descend(at + 1, (*chosen, choice), (*finish, end), used):
                return False
        return True

    is_exact = descend(0, (), (), (0.0, 0.0, 0.0, 0.0, 0.0))
    ordered = sorted(best, key=lambda each: (-each[0], -each[1]))
    return Found(tuple(chosen for _, _, chosen in ordered), expanded, is_exact)


class _Placing:
    """Whether combinations can be placed on the nodes; those that differ only in what placing does not see are asked once."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._known: dict[tuple[tuple[float, int, int, float], ...], bool] = {}

    def hold(self, combination: Sequence[Choice]) -> bool:
        problem, is_hard = self._problem, self._problem.capabilities.is_share_hard
        functions = tuple([choice.function for choice in combination])
        key = tuple(
            [
                (each.gpu_share_fraction, each.max_batch, each.instances, each.cpu_cores if is_hard else 0.0)
                for each in functions
            ]
        )
        known = self._known.get(key)
        if known is None:
            plan = Plan(problem.app.name, functions, problem.objective)
            known = self._known[key] = explain_misfit(problem, plan) is None
        return known


def fastest(
    problem: Problem,
    layers: Sequence[Sequence[Choice]],
    before: Sequence[Sequence[int]],
    keep: int,
    *,
    is_overload_allowed: bool = False,
) -> Found:
    """The cheapest combinations whose longest path is within a part in 64 of the shortest that fits the nodes."""
    found = cheapest(problem, layers, before, math.inf, keep, is_overload_allowed=is_overload_allowed)
    expanded = found.expanded
    if not found.combinations:
        return found
    low, high = 0.0, min(longest_path_us(combination, before) for combination in found.combinations)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        tried = cheapest(problem, layers, before, middle, keep, is_overload_allowed=is_overload_allowed)
        expanded += tried.expanded
        if tried.combinations:
            found, high = tried, middle
        else:
            low = middle
    return Found(found.combinations, expanded, found.is_exact)


def longest_path_us(combination: Sequence[Choice], before: Sequence[Sequence[int]]) -> float:
    """The additive time of a combination along its longest path."""
    finish: list[float] = []
    for at, choice in enumerate(combination):
        finish.append(max((finish[source] for source in before[at]), default=0.0) + choice.time_us)
    return max(finish, default=0.0)
