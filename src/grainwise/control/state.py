"""All that the controller remembers, as plain mutable records that name each other by number.

A snapshot is the encoding of ``ControllerState``: nothing that decides lives outside it.
"""

from typing import Literal

from msgspec import Struct, field

from grainwise.control.events import AppDeployed
from grainwise.control.queues import FunctionQueue
from grainwise.control.requests import Request
from grainwise.control.routing import Path
from grainwise.domain.machine import Node
from grainwise.domain.plan import Grain, Plan
from grainwise.domain.time import SECOND, Instant
from grainwise.domain.values import Payload
from grainwise.planning.problem import PlanTable

InstancePhase = Literal["starting", "ready", "loading", "ending"]


class NodeState(Struct):
    """A node and what is charged on it: memory from start to stop, soft cores while loading or invoking."""

    node: Node
    memory_mib: float = 0.0
    cores: float = 0.0

    @property
    def free_cores(self) -> float:
        """Cores that no instance is charged for now."""
        return self.node.usable_cores - self.cores


class Instance(Struct):
    """One instance: ``stages`` is its residency, ``cores`` what it is charged now, ``share`` its own share when hard."""

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
    cores: float = 0.0
    was_killed: bool = False


class Running(Struct):
    """Items of one request inside an invocation."""

    request: int
    plan: str
    group: int
    outer: Path
    lo: int
    hi: int
    attempt: int


class Invocation(Struct):
    """An invocation that has not ended."""

    number: int
    instance: int
    app: str
    extent: int
    items: list[Running]
    inputs: list[tuple[Payload, ...]]
    started: Instant
    limit: Instant


class PendingStart(Struct):
    """A start that waits for free cores."""

    stages: int
    share: float
    reason: str


class Transition(Struct):
    """A re-granulation under way: new requests switch to ``plan`` when every function of it is covered."""

    plan: Plan
    began: Instant
    by: str
    waits_for: list[int] = []
    failures: int = 0
    tried_without_room: bool = False


class RateMeter(Struct):
    """Arrivals per whole second over a short window, as integers."""

    seconds: list[int] = []
    counts: list[int] = []

    def add(self, now: Instant, count: int = 1) -> None:
        """Some arrivals at once."""
        second = now // SECOND
        if self.seconds and self.seconds[-1] == second:
            self.counts[-1] += count
            return
        self.seconds.append(second)
        self.counts.append(count)
        if len(self.seconds) > 64:
            del self.seconds[:32]
            del self.counts[:32]

    def per_second(self, now: Instant, window_s: int) -> float:
        """Mean rate over the last ``window_s`` whole seconds and the present one."""
        second = now // SECOND
        total = 0
        for at in range(len(self.seconds) - 1, -1, -1):
            if self.seconds[at] < second - window_s:
                break
            total += self.counts[at]
        elapsed_us = window_s * SECOND + now % SECOND
        first = self.seconds[0] if self.seconds else second
        if first > second - window_s:
            elapsed_us = max(SECOND, (second - first) * SECOND + now % SECOND)
        return total * SECOND / elapsed_us


class LiveMeans(Struct):
    """Running sums per stage since the last plan, for forecasts: items, sizes, requests answered."""

    requests: int = 0
    items: list[int] = []
    size_sums: list[float] = []


class AppState(Struct):
    """One app under control."""

    deployed: AppDeployed
    plan: Plan
    plans: dict[str, Plan]
    requests_by_plan: dict[str, int] = {}
    queues: dict[int, FunctionQueue] = {}
    rate: RateMeter = field(default_factory=RateMeter)
    items_rate: dict[int, RateMeter] = {}
    means: LiveMeans = field(default_factory=LiveMeans)
    in_flight: int = 0
    transition: Transition | None = None
    queued_plan: Plan | None = None
    queued_by: str = ""
    problem: int = 0
    problem_grain: Grain | None = None
    problem_by: str = ""
    last_asked: Instant = 0
    last_rate_per_s: float = 0.0
    vote: str = ""
    last_table: PlanTable | None = None
    starts_failed: int = 0
    start_after: Instant = 0
    last_arrival: Instant = 0
    review_at: Instant = 0
    pending_starts: list[PendingStart] = []
    regranulations: int = 0
    last_refusal: str = ""
    last_verdict: str = ""
    last_start_error: str = ""


class ControllerState(Struct):
    """The whole memory of a controller."""

    nodes: dict[str, NodeState] = {}
    apps: dict[str, AppState] = {}
    instances: dict[int, Instance] = {}
    requests: dict[int, Request] = {}
    invocations: dict[int, Invocation] = {}
    timers: list[tuple[Instant, int, int, str]] = []
    armed: Instant = 0
    next_instance: int = 1
    next_invocation: int = 1
    next_sequence: int = 1
    next_problem: int = 1
