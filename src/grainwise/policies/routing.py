"""Which instance gets this invocation? One where the data lies, that holds least beyond the extent, most recently used."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from grainwise.domain.time import Instant


class Candidate(Protocol):
    """An idle instance as this policy sees it."""

    @property
    def number(self) -> int:
        """Its number."""
        ...

    @property
    def node(self) -> str:
        """Where it is."""
        ...

    @property
    def stages(self) -> int:
        """The mask of the stages that it holds."""
        ...

    @property
    def idle_since(self) -> Instant:
        """When it last became idle."""
        ...


C = TypeVar("C", bound=Candidate)


def decide(extent: int, idle: Iterable[C], home: str = "") -> C | None:
    """The instance for ``extent``, or nothing where no idle instance holds it; ``home`` is the node where its inputs lie.

    Keeping wide residencies free leaves them for extents that only they can run; using the most recently used lets the
    others grow idle, so that keep-alive can end them.
    """
    best: C | None = None
    best_rank = (False, 0, 0, 0)
    for candidate in idle:
        if candidate.stages & extent != extent:
            continue
        is_away = home != "" and candidate.node != home
        rank = (is_away, (candidate.stages ^ extent).bit_count(), -candidate.idle_since, candidate.number)
        if best is None or rank < best_rank:
            best, best_rank = candidate, rank
    return best


def anywhere(extent: int, idle: Iterable[C], home: str = "") -> C | None:
    """The same wherever the inputs lie: what nearness is worth shows in a comparison with this."""
    return decide(extent, idle)
