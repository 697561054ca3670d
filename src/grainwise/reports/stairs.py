"""What dispatch will do under a plan: from the time that a request has left to the first extent, and what the rest will cost.

Only where the extent of each invocation is decided at dispatch. The staircases are those by which dispatch decides; it also
weighs what is warm and what waits, which no picture of a plan knows.
"""

from msgspec import Struct

from grainwise.control.extents import Extents
from grainwise.control.routing import Routing
from grainwise.domain.plan import Plan
from grainwise.planning.problem import Problem
from grainwise.policies.sets import policy_set
from grainwise.predictors.effects import setting


class FirstExtent(Struct, frozen=True):
    """One way to begin: the stages of the first extent, its share and its batch.

    With ``times_ms[i]`` left to a request, the least cost of the rest is ``usd_per_million[i]`` of a million requests.
    """

    stages: tuple[str, ...]
    cpu_cores: float
    batch: int
    times_ms: tuple[float, ...]
    usd_per_million: tuple[float, ...]

    @property
    def name(self) -> str:
        """The extent in words."""
        return f"{'+'.join(self.stages)} ({self.cpu_cores:g} core{'' if self.cpu_cores == 1 else 's'}, batch {self.batch})"


class Tread(Struct, frozen=True):
    """From ``from_ms`` left on, up to the next tread, the cheapest way begins with the extent of number ``first``."""

    from_ms: float
    first: int
    usd_per_million: float


class Stairs(Struct, frozen=True):
    """The staircase at one stage with which requests begin: every first extent, and the treads of the cheapest."""

    head: str
    extents: tuple[FirstExtent, ...]
    treads: tuple[Tread, ...]


def stairs_of(problem: Problem, plan: Plan) -> tuple[Stairs, ...]:
    """Those of a lone request that has just arrived, one for each stage that it begins with; none where extents are fixed."""
    if not problem.is_stagewise or policy_set(problem.policies).offer is not None:
        return ()
    graph = problem.app.graph
    limits = tuple(0 for _ in graph.stages)
    extents = Extents(setting(problem), plan, Routing(graph, plan, limits, is_stagewise=True))
    heads = [stage for stage, before in enumerate(graph.predecessors) if not before and not graph.stages[stage].scope]
    return tuple(_stairs(problem, extents, head) for head in heads)


def _stairs(problem: Problem, extents: Extents, head: int) -> Stairs:
    graph = problem.app.graph
    firsts = tuple(
        FirstExtent(
            graph.names(offer.mask),
            offer.cpu_cores,
            offer.batch,
            tuple(round(each / 1000, 3) for each in offer.times_us),
            tuple(round(each * 1e6, 6) for each in offer.costs),
        )
        for offer in extents.offers(0, head, 1, 1)
    )
    return Stairs(graph.stages[head].name, firsts, _treads(firsts))


def _treads(firsts: tuple[FirstExtent, ...]) -> tuple[Tread, ...]:
    """The lower envelope: a tread for each remaining time from which the rest costs less than with any time before."""
    steps = sorted(
        (at_ms, usd, number)
        for number, first in enumerate(firsts)
        for at_ms, usd in zip(first.times_ms, first.usd_per_million, strict=True)
    )
    found: list[Tread] = []
    for at_ms, usd, number in steps:
        if not found or usd < found[-1].usd_per_million:
            if found and found[-1].from_ms == at_ms:
                found.pop()
            found.append(Tread(at_ms, number, usd))
    return tuple(found)
