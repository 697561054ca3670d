"""What a policy set is: one policy for each recurring question, and where the idea is from."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from grainwise.domain.plan import Plan
from grainwise.domain.time import Instant
from grainwise.planning.problem import PlanTable, Problem
from grainwise.policies import admission, autoscale, batching, keep_alive, placement, regranulate, routing
from grainwise.policies import extent as extents
from grainwise.policies.slices import DeviceNeed
from grainwise.predictors.effects import Setting

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


Grade = Literal["ours", "published", "code", "recalled", "reconstructed"]
"""How well is known what a set does: our own design; read in text; read in code; from memory; our own derivation."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Whose idea a set is. ``summary`` is one sentence; ``source`` names the publication, empty for our own."""

    summary: str
    source: str = ""
    grade: Grade = "ours"


@dataclass(frozen=True, slots=True)
class PolicySet:
    """One policy for each question. All are pure functions of their view, so a set holds no state and is shared by apps.

    ``rank`` must end in the sequence number. ``measures_concurrency`` asks the controller to sample, once per second, how many
    items each function has; ``scale`` finds the means in its view.

    ``configure`` answers planning problems, off the hot path; without one the joint search does, judged by the evaluator that
    the app names. Where there is an ``extent`` policy, values go from stage to stage and it decides what each invocation runs,
    out of what ``offer`` has for a plan; without an ``offer`` those are all extents within the plan's functions.
    ``varies_share``: an invocation may have another share than the plan's, where the platform can change it.
    """

    name: str
    provenance: Provenance
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
    offer: Callable[[Setting, Plan], extents.OfferSource] | None = None
    configure: Callable[[Problem], PlanTable] | None = None
    varies_share: bool = True
