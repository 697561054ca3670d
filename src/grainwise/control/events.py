"""Everything that the controller can learn. Events are past tense and carry no payload bytes."""

from typing import Literal

from msgspec import Struct

from grainwise.domain.app import AppSpec
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import Capabilities, HopModel, Node, Prices
from grainwise.domain.plan import Grain, Plan
from grainwise.domain.time import Instant
from grainwise.domain.values import Payload
from grainwise.planning.problem import PlanTable, Workload
from grainwise.predictors.latency import LatencyModel


class ItemRange(Struct, frozen=True, array_like=True, gc=False):
    """Consecutive items of one request at one place: ``path`` are the outer fan-out indices, ``lo:hi`` the innermost.

    Outside any fan-out ``path`` is empty and the range is ``0:1``. ``attempt`` is 1 for the first execution.
    """

    request: int
    path: tuple[int, ...]
    lo: int
    hi: int
    attempt: int = 1

    @property
    def count(self) -> int:
        """How many items the range holds."""
        return self.hi - self.lo


class ItemFailure(Struct, frozen=True, array_like=True, gc=False):
    """A stage failed for one item. ``declared``: the stage returned ``Failed``; ``raised``: it raised."""

    stage: str
    kind: Literal["declared", "raised", "value"]
    reason: str


class ItemResult(Struct, frozen=True, array_like=True, gc=False):
    """What one item of an invocation came to: a payload for each external output of the extent, or a failure."""

    outputs: tuple[Payload, ...]
    failure: ItemFailure | None = None


class StageSpan(Struct, frozen=True, array_like=True, gc=False):
    """One call of a stage inside an invocation: batch, sizes, and its duration measured on the instance."""

    stage: int
    items: int
    size_sum: float
    duration_us: int
    raised: bool = False


class RequestArrived(Struct, frozen=True, tag=True, gc=False):
    """A client asked for ``app``. ``inputs`` follow the app's entry values.

    ``deadline`` is the instant after which the client no longer waits, 0 for the app's patience; due is another instant.
    """

    request: int
    app: str
    inputs: tuple[Payload, ...]
    deadline: Instant = 0


class RequestCancelled(Struct, frozen=True, tag=True, gc=False):
    """The client went away."""

    request: int


class InvocationDone(Struct, frozen=True, tag=True, gc=False):
    """An invocation ended; ``results`` has one entry per item, in the order of its ranges."""

    invocation: int
    instance: int
    results: tuple[ItemResult, ...]
    busy_us: int
    spans: tuple[StageSpan, ...] = ()


class InvocationProgressed(Struct, frozen=True, tag=True, gc=False):
    """A long invocation goes on: another call of a stage began. What goes on is not hung, however long it takes."""

    invocation: int
    instance: int


class InvocationFailed(Struct, frozen=True, tag=True):
    """An invocation could not be performed although its instance lives (its arena was full, or it was refused)."""

    invocation: int
    instance: int
    kind: Literal["backpressure", "refused", "cancelled"]
    detail: str = ""


class InstanceReady(Struct, frozen=True, tag=True):
    """An instance holds its stages and can serve. Parts of its cold start in microseconds, memory in MiB."""

    instance: int
    process_us: int
    import_us: int
    load_us: int
    first_call_us: int
    memory_mib: float


class InstanceFailed(Struct, frozen=True, tag=True):
    """An instance is gone. ``starting``: it never became ready; ``lost``: its process ended; ``hung``: it was silent.

    ``stage`` is the stage that it was in, where known.
    """

    instance: int
    cause: Literal["starting", "lost", "hung"]
    detail: str = ""
    stage: str = ""


class InstanceStopped(Struct, frozen=True, tag=True):
    """An instance that was asked to stop or was killed has ended and its memory is free."""

    instance: int


class StagesLoaded(Struct, frozen=True, tag=True):
    """An instance answered ``LoadStages``: it now also holds ``stages``, or kept its old residency because of ``error``."""

    instance: int
    stages: int
    load_us: int
    memory_mib: float
    error: str = ""


class PlanRequested(Struct, frozen=True, tag=True):
    """Someone asked for a new plan, with a given granularity or with whatever is best."""

    app: str
    by: str
    grain: Grain | None = None


class PlanReady(Struct, frozen=True, tag=True):
    """The planner answered a problem; the table holds the plans whole."""

    app: str
    table: PlanTable


class PlanFailed(Struct, frozen=True, tag=True):
    """The planner could not answer a problem."""

    app: str
    problem: int
    reason: str


class ModelReady(Struct, frozen=True, tag=True):
    """A new latency model for an app."""

    app: str
    model: LatencyModel


class AppDeployed(Struct, frozen=True, tag=True):
    """An app with everything that is known about it; ``plan`` is served from now on."""

    app: AppSpec
    model: LatencyModel
    hop: HopModel
    workload: Workload
    plan: Plan
    capabilities: Capabilities
    prices: Prices
    config: AppConfig


class CapacityChanged(Struct, frozen=True, tag=True):
    """The nodes that exist now."""

    nodes: tuple[Node, ...]


class Wake(Struct, frozen=True, tag=True, gc=False):
    """The instant that the controller asked for has come."""


Event = (
    RequestArrived
    | RequestCancelled
    | InvocationDone
    | InvocationProgressed
    | InvocationFailed
    | InstanceReady
    | InstanceFailed
    | InstanceStopped
    | StagesLoaded
    | PlanRequested
    | PlanReady
    | PlanFailed
    | ModelReady
    | AppDeployed
    | CapacityChanged
    | Wake
)
