"""ESG_1Q: the configurations of the stages that follow one another, cheapest first (after ESG, HPDC 2024, reconstructed).

Choosing a configuration for each of the stages that remain is a search for a path: a layer for each stage, a node for each
configuration. It goes best first by a lower bound on the cost, with two prunes. The time blade drops what cannot be in time
even if all that follows runs as fast as it can; the cost blade what costs at least as much as the dearest of the paths that
are kept, even if all that follows is as cheap as it can be. Both bounds are admissible, so the answer is exact.

That there is an A* search with these two prunes is published; this form of it is our own (evidence grade: reconstructed).
A later stage batches no more requests than the stage before it hands on at once: a batch that nothing waits for would reserve
time that nobody asked for. So both bounds depend on the batch before, and are minima over paths and not sums of minima.
"""

import heapq
import math
from collections.abc import Sequence

from msgspec import Struct

_ROUNDING = 1e-9
_LEAST = 1e-30
"""What the bound from a fast finish gives way by: a part of it, and where that is nothing this."""


class Configuration(Struct, frozen=True, gc=False):
    """One configuration of one stage.

    Attributes:
        time_us: how long an invocation takes, microseconds.
        cost: USD that a request pays for its part of the batch.
        batch: items that an invocation takes.
        requests: how many requests these are of: what later stages may batch at most.
        cpu_cores: its CPU share.
        gpu_share_fraction: its part of a device.
    """

    time_us: float
    cost: float
    batch: int = 1
    requests: int = 1
    cpu_cores: float = 1.0
    gpu_share_fraction: float = 0.0


class Path(Struct, frozen=True, gc=False):
    """A configuration for each stage, as places in its layer; the sums of their times and costs."""

    places: tuple[int, ...]
    time_us: float
    cost: float


class Found(Struct, frozen=True):
    """The cheapest paths in time, cheapest first, the faster of equals before the slower; none where no path is in time.

    ``expanded`` counts the partial paths that were looked at.
    """

    paths: tuple[Path, ...]
    expanded: int

    @property
    def firsts(self) -> tuple[Path, ...]:
        """For each configuration of the first stage its cheapest path, cheapest first: what dispatch tries in turn."""
        seen: dict[int, Path] = {}
        for path in self.paths:
            seen.setdefault(path.places[0], path)
        return tuple(seen.values())


class _Rest(Struct, frozen=True, gc=False):
    """Bounds on what follows: the least time, the least cost, and the cost of the cheapest of the fastest finishes."""

    time_us: float
    least_cost: float
    fastest_cost: float


_NOTHING = _Rest(0.0, 0.0, 0.0)
_NO_WAY = _Rest(math.inf, math.inf, math.inf)


class Layers:
    """The stages that follow one another, made ready for searches under any limit and queue.

    Args:
        layers: for each stage, in the order in which they run, its configurations. At least one stage.
    """

    def __init__(self, layers: Sequence[Sequence[Configuration]]) -> None:
        self.layers = tuple(tuple(layer) for layer in layers)
        caps = sorted({each.requests for layer in self.layers for each in layer})
        rests = dict.fromkeys(caps, _NOTHING)
        ordered: list[list[tuple[float, int, Configuration, _Rest]]] = []
        for layer in reversed(self.layers):
            # By the time of all that follows too, so that the first one that is late ends the list.
            ordered.append(
                sorted(
                    (
                        (each.time_us + rests[each.requests].time_us, place, each, rests[each.requests])
                        for place, each in enumerate(layer)
                    ),
                    key=lambda entry: (entry[0], entry[2].cost + entry[3].fastest_cost, entry[1]),
                )
            )
            rests = {cap: _rest_within(ordered[-1], cap) for cap in caps}
        ordered.reverse()
        self._ordered = ordered

    def search(self, limit_us: float, keep: int = 1, queue: int = 1 << 30, *, is_pruned: bool = True) -> Found:
        """The ``keep`` cheapest paths that take no longer than ``limit_us``.

        Args:
            limit_us: the time left, microseconds.
            keep: how many paths, at least one.
            queue: items that wait for the first stage: it takes no larger batch.
            is_pruned: without, nothing but complete paths is tested; for comparisons.
        """
        last = len(self.layers) - 1
        best: list[tuple[float, float, tuple[int, ...]]] = []
        bound = math.inf
        ticket = expanded = 0
        # No node is pushed that cannot be finished, so a bound of the root would never be looked at.
        waiting: list[tuple[float, int, int, int, float, float, tuple[int, ...]]] = [(0.0, 0, 0, queue, 0.0, 0.0, ())]
        while waiting:
            low, _, depth, cap, before_us, before_cost, places = heapq.heappop(waiting)
            if is_pruned and low >= bound:
                break
            expanded += 1
            for total_us, place, each, rest in self._ordered[depth]:
                if is_pruned and before_us + total_us > limit_us:
                    break
                if (each.requests if depth else each.batch) > cap:
                    continue
                cost = before_cost + each.cost
                least = cost + rest.least_cost
                if is_pruned:
                    if least >= bound:
                        continue
                    if keep == 1:
                        fast = cost + rest.fastest_cost
                        bound = min(bound, fast + max(_LEAST, fast * _ROUNDING))
                time_us = before_us + each.time_us
                path = (*places, place)
                if depth < last:
                    ticket += 1
                    heapq.heappush(waiting, (least, ticket, depth + 1, each.requests, time_us, cost, path))
                    continue
                if time_us > limit_us:
                    continue
                entry = (-cost, -time_us, path)
                if len(best) < keep:
                    heapq.heappush(best, entry)
                elif cost < -best[0][0]:
                    heapq.heapreplace(best, entry)
                if len(best) == keep:
                    dearest = -best[0][0]
                    bound = min(bound, dearest + max(_LEAST, dearest * _ROUNDING) if keep == 1 else dearest)
        paths = sorted((Path(places, -time_us, -cost) for cost, time_us, places in best), key=_rank)
        return Found(tuple(paths), expanded)

    def fastest(self, queue: int = 1 << 30) -> Path | None:
        """The path that is over first, of equals the cheapest: what is run when none is in time. ``None`` without any."""
        places: list[int] = []
        cap, time_us, cost = queue, 0.0, 0.0
        for depth, ordered in enumerate(self._ordered):
            first = next(
                ((place, each) for _, place, each, _ in ordered if (each.requests if depth else each.batch) <= cap), None
            )
            if first is None:
                return None
            places.append(first[0])
            cap, time_us, cost = first[1].requests, time_us + first[1].time_us, cost + first[1].cost
        return Path(tuple(places), time_us, cost)


def _rank(path: Path) -> tuple[float, float, tuple[int, ...]]:
    return (path.cost, path.time_us, path.places)


def _rest_within(ordered: Sequence[tuple[float, int, Configuration, _Rest]], cap: int) -> _Rest:
    """The bounds from a stage on, for batches of up to ``cap`` requests; ``ordered`` has the fastest finish first."""
    able = [(total_us, each, rest) for total_us, _, each, rest in ordered if each.requests <= cap]
    if not able:
        return _NO_WAY
    total_us, each, rest = able[0]
    return _Rest(total_us, min(one.cost + after.least_cost for _, one, after in able), each.cost + rest.fastest_cost)
