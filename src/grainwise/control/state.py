"""All that the controller remembers, as plain mutable records that name each other by number.

A snapshot is the encoding of ``ControllerState``: nothing that decides lives outside it.
"""

from typing import Literal

from msgspec import Struct, field

from grainwise.control.events import AppDeployed
from grainwise.control.queues import FunctionQueue, Waiting
from grainwise.control.rates import RateMeter
from grainwise.control.requests import Request
from grainwise.domain.because import Because
from grainwise.domain.machine import Node
from grainwise.domain.plan import Grain, Plan
from grainwise.domain.time import Instant, Micros
from grainwise.domain.values import Payload
from grainwise.planning.problem import PlanTable
from grainwise.policies import forecast
from grainwise.policies.autoscale import Panic

InstancePhase = Literal["starting", "ready", "loading", "ending"]


class NodeState(Struct):
    """A node and what is charged on it: memory and hard shares from start to stop, soft shares while loading or invoking.

    ``usable_cores`` are what instances may be given here. ``is_present`` is false for a node that is gone while instances are
    still charged to it; it gives nothing any more.
    """

    node: Node
    usable_cores: float
    memory_mib: float = 0.0
    cores: float = 0.0
    is_present: bool = True

    @property
    def free_cores(self) -> float:
        """Cores that no instance is charged for now."""
        return self.usable_cores - self.cores

    @property
    def free_memory_mib(self) -> float:
        """Memory that no instance is charged for now."""
        return self.node.memory_mib - self.memory_mib if self.is_present else 0.0


class Instance(Struct):
    """One instance: ``stages`` is its residency, ``share`` its function's share, ``cores`` what it is charged now.

    ``loading`` and ``loading_mib`` are what it is loading. A start, load or invocation that is not over by ``limit`` is taken
    for hung; 0 while it does nothing. ``patience`` is by how much an invocation that goes on moves it.
    ``watched_at`` is the instant of its timer, 0 for none. ``was_killed`` instances are replaced when they have ended.
    From start to end it has ``gpu_share_fraction`` of ``device`` and ``device_mib`` of its memory: where there are hard slices
    the one at ``slice_start``, so that nobody else can have ``slots`` (a mask).
    """

    number: int
    app: str
    node: str
    stages: int
    phase: InstancePhase
    memory_mib: float
    share: float
    started: Instant
    idle_since: Instant = 0
    invocation: int = 0
    loading: int = 0
    loading_mib: float = 0.0
    limit: Instant = 0
    patience: Micros = 0
    watched_at: Instant = 0
    cores: float = 0.0
    was_killed: bool = False
    device: str = ""
    gpu_share_fraction: float = 0.0
    slice_start: int = -1
    slots: int = 0
    device_mib: float = 0.0
    loading_device_mib: float = 0.0


class Invocation(Struct, gc=False):
    """An invocation that has not ended. ``items`` are the ranges that it took from a queue."""

    number: int
    instance: int
    app: str
    extent: int
    items: list[Waiting]
    inputs: tuple[tuple[Payload, ...], ...]
    started: Instant


class PendingStart(Struct):
    """A start that waits for free cores; ``gpu`` is the part of a device that it needs, 0 for none."""

    stages: int
    share: float
    reason: str
    gpu: float = 0.0


class Backoff(Struct):
    """Starts of one residency that have failed in a row, and the instant before which it is not tried again."""

    failures: int = 0
    until: Instant = 0


class Transition(Struct):
    """A re-granulation under way: new requests switch to ``plan`` when every function of it is covered.

    ``is_stocked``: what the planned ``rate_per_s`` needs beyond the present rate was started, as far as there was room.
    """

    plan: Plan
    plan_id: str
    began: Instant
    by: str
    failures: int = 0
    rate_per_s: float = 0.0
    is_stocked: bool = False


class LiveMeans(Struct):
    """Running sums per stage since the last plan, for forecasts: items, sizes, requests answered."""

    requests: int = 0
    items: list[int] = []
    size_sums: list[float] = []


class FunctionLoad(Struct):
    """Items that waited or ran, sampled at most once per second, and what the autoscaling policy remembers."""

    seconds: list[int] = []
    items: list[int] = []
    panic: Panic = Panic()

    def sample(self, second: int, items: int, kept_s: int) -> None:
        """Add the sample of a second, and drop what is older than ``kept_s``."""
        if self.seconds and self.seconds[-1] == second:
            return
        self.seconds.append(second)
        self.items.append(items)
        while self.seconds[0] <= second - kept_s:
            del self.seconds[0], self.items[0]

    def mean(self, second: int, window_s: int) -> float:
        """Mean of the last ``window_s`` seconds, or of those since the first sample; a second without one counts as empty."""
        if not self.seconds:
            return 0.0
        oldest = second - window_s
        total = sum(count for at, count in zip(self.seconds, self.items, strict=True) if at > oldest)
        return total / max(1, min(window_s, second - self.seconds[0] + 1))

    def variance(self, second: int, window_s: int) -> float:
        """Variance of the same samples around that mean."""
        if not self.seconds:
            return 0.0
        counts = [count for at, count in zip(self.seconds, self.items, strict=True) if at > second - window_s]
        seconds = max(1, min(window_s, second - self.seconds[0] + 1))
        # In whole numbers, so that it is exact however long the window.
        return (seconds * sum(count * count for count in counts) - sum(counts) ** 2) / (seconds * seconds)


class AppState(Struct):
    """One app under control.

    ``is_covered``: since its fleet last changed, every function of the plan was found to have an instance or one on its way.
    ``changed_at`` is when its granularity was last changed, ``tuned_at`` when only how it is run was, 0 for never. A vote is
    looked at again at ``vote_due``. ``refusals`` are granularities that could not be carried out, ``planning`` how often in a
    row no plan could be computed. ``is_missing``: the present plan was predicted to miss the SLO when the last one was asked
    for. ``last_ask`` is why a plan was last asked for, or is not.
    """

    deployed: AppDeployed
    plan: Plan
    plan_id: str
    plans: dict[str, Plan]
    requests_by_plan: dict[str, int] = {}
    queues: dict[int, FunctionQueue] = {}
    rate: RateMeter = field(default_factory=RateMeter)
    means: LiveMeans = field(default_factory=LiveMeans)
    in_flight: int = 0
    transition: Transition | None = None
    problem: int = 0
    problem_grain: Grain | None = None
    problem_by: str = ""
    last_asked: Instant = 0
    planning_us: Micros = 0
    last_rate_per_s: float = 0.0
    vote: str = ""
    last_table: PlanTable | None = None
    backoffs: dict[int, Backoff] = {}
    last_arrival: Instant = 0
    review_at: Instant = 0
    pending_starts: list[PendingStart] = []
    is_covered: bool = False
    loads: dict[int, FunctionLoad] = {}
    regranulations: int = 0
    last_refusal: str = ""
    last_change: str = ""
    last_verdict: str = ""
    last_start_error: str = ""
    arrivals: forecast.Memory = forecast.Memory()
    asked_nodes: tuple[Node, ...] = ()
    vote_due: Instant = 0
    changed_at: Instant = 0
    tuned_at: Instant = 0
    refusals: dict[str, Backoff] = {}
    planning: Backoff = field(default_factory=Backoff)
    is_missing: bool = False
    last_ask: Because | None = None

    @property
    def starts_failed(self) -> int:
        """The most starts of one residency that have failed in a row."""
        return max((backoff.failures for backoff in self.backoffs.values()), default=0)


class ControllerState(Struct):
    """The whole memory of a controller. ``armed`` is the instant of the last ``WakeAt``, 0 when none is outstanding."""

    nodes: dict[str, NodeState] = {}
    apps: dict[str, AppState] = {}
    instances: dict[int, Instance] = {}
    requests: dict[int, Request] = {}
    invocations: dict[int, Invocation] = {}
    timers: list[tuple[Instant, int, int, str]] = []
    timers_bound: int = 4096
    armed: Instant = 0
    next_instance: int = 1
    next_invocation: int = 1
    next_sequence: int = 1
    next_problem: int = 1
