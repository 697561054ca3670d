"""Which requests take a branch: disjoint intervals of one draw, so that two branches of a ``choose`` exclude each other."""

from msgspec import Struct

from grainwise.domain.graph import Graph, Source
from grainwise.predictors.workload import Workload


class Branch(Struct, frozen=True):
    """A stage runs for the requests whose draw number ``draw`` falls in ``[low, high)``."""

    draw: int
    low: float
    high: float


def branches(graph: Graph, workload: Workload) -> tuple[Branch | None, ...]:
    """For each stage its branch, or ``None`` where it runs for every request or inside a fan-out.

    The draw is numbered by the first stage that the same ``choose`` guards. Of nested branches the innermost counts.
    """
    draws: list[tuple[Source, int]] = []
    edges: dict[int, list[tuple[object, float, float]]] = {}
    found: list[Branch | None] = []
    for index, node in enumerate(graph.stages):
        if not node.guards or node.scope or workload.items[index] >= 1:
            found.append(None)
            continue
        guard = node.guards[-1]
        draw = next((number for source, number in draws if source == guard.on), index)
        if draw == index:
            draws.append((guard.on, index))
        taken = edges.setdefault(draw, [])
        same = next((edge for edge in taken if edge[0] == (type(guard.equals), guard.equals)), None)
        if same is None:
            low = taken[-1][2] if taken else 0.0
            same = ((type(guard.equals), guard.equals), low, min(1.0, low + workload.items[index]))
            taken.append(same)
        found.append(Branch(draw, same[1], same[2]))
    return tuple(found)
