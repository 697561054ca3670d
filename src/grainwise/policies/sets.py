"""Which policies an app is controlled by: a set names one for each recurring question, and an app names its set.

The adaptive set is the product's: the slow loop decides what instances hold, the fast one what each invocation runs of it.
``residency`` has the slow loop alone, ``extent`` the fast one, ``fixed`` neither. The others change one answer each, so that a
comparison says what that answer is worth.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import Instant
from grainwise.policies import (
    admission,
    autoscale,
    autoscale_concurrency,
    batching,
    keep_alive,
    ordering,
    placement,
    regranulate,
    routing,
)
from grainwise.policies import extent as extents
from grainwise.policies.slices import DeviceNeed

C = TypeVar("C", bound=routing.Candidate)


class Route(Protocol):
    """Which instance gets this invocation?"""

    def __call__(self, extent: int, idle: Iterable[C], home: str = "") -> C | None:
        """The instance for ``extent``, or nothing where no idle instance holds it; ``home`` is where its inputs lie."""
        ...


class Place(Protocol):
    """On which node does a new instance go?"""

    def __call__(
        self,
        nodes: Sequence[placement.NodeView],
        memory_mib: float,
        cpu_cores: float,
        is_share_hard: bool,
        need: DeviceNeed | None = None,
    ) -> placement.Place | placement.NoRoom:
        """A node, and a part of a device where one is needed, for a new instance; or what is missing."""
        ...


@dataclass(frozen=True, slots=True)
class PolicySet:
    """One policy for each question. All are pure functions of their view, so a set holds no state and is shared by apps.

    ``rank`` must end in the sequence number. ``measures_concurrency`` asks the controller to sample, once per second, how many
    items each function has; ``scale`` finds the means in its view.
    """

    name: str
    admit: Callable[[admission.AdmissionView, Instant], admission.Accept | admission.Refuse]
    batch_now: Callable[[int, int, int], batching.Dispatch | None]
    batch_or_wait: Callable[[batching.BatchView, Instant], batching.Dispatch | batching.WaitUntil]
    rank: Callable[[Instant, int], tuple[Instant, int]]
    route: Route
    scale: Callable[[autoscale.ScaleView], autoscale.ScaleTo]
    keep: Callable[[keep_alive.IdleView, Instant], keep_alive.Keep | keep_alive.End]
    place: Place
    ask: Callable[[regranulate.AskView, Instant], regranulate.Ask | regranulate.Hold]
    verdict: Callable[[regranulate.VerdictView, Instant], regranulate.Switch | regranulate.Hold]
    measures_concurrency: bool = False
    extent: Callable[[extents.ExtentView, Instant], extents.Run | extents.Drop] | None = None


ADAPTIVE = PolicySet(
    name="adaptive",
    admit=admission.decide,
    batch_now=batching.without_waiting,
    batch_or_wait=batching.decide,
    rank=ordering.decide,
    route=routing.decide,
    scale=autoscale.decide,
    keep=keep_alive.decide,
    place=placement.decide,
    ask=regranulate.ask,
    verdict=regranulate.verdict,
    extent=extents.decide,
)
RESIDENCY = replace(ADAPTIVE, name="residency", extent=None)
EXTENT = replace(ADAPTIVE, name="extent", ask=regranulate.never_ask, verdict=regranulate.never_switch)
FIXED = replace(EXTENT, name="fixed", extent=None)
FIFO = replace(ADAPTIVE, name="fifo", rank=ordering.by_arrival)
EAGER = replace(ADAPTIVE, name="eager", batch_or_wait=batching.never_wait)
CONCURRENCY = replace(ADAPTIVE, name="concurrency", scale=autoscale_concurrency.decide, measures_concurrency=True)
NO_BATCHING = replace(ADAPTIVE, name="no_batching", batch_now=batching.one_at_a_time)
NO_LOCALITY = replace(ADAPTIVE, name="no_locality", route=routing.anywhere, place=placement.spread)
NO_PREWARM = replace(ADAPTIVE, name="no_prewarm", scale=autoscale.by_backlog)

SETS: dict[str, PolicySet] = {
    each.name: each
    for each in (
        ADAPTIVE, RESIDENCY, EXTENT, FIXED, FIFO, EAGER, CONCURRENCY, NO_BATCHING, NO_LOCALITY, NO_PREWARM,
    )
}  # fmt: skip
"""The known sets by name."""


def policy_set(name: str) -> PolicySet:
    """The set of this name.

    Raises:
        ConfigurationError: no set has this name; the message names those that there are.
    """
    found = SETS.get(name)
    if found is None:
        raise ConfigurationError(f"there is no policy set {name!r}; choose one of {', '.join(sorted(SETS))}")
    return found
