"""Everything that the controller can ask for. Actions are imperative; a performer carries each out."""

from typing import Literal

from msgspec import Struct

from grainwise.control.events import ItemRange
from grainwise.domain.because import Because
from grainwise.domain.plan import Plan
from grainwise.domain.time import Instant, Micros
from grainwise.domain.values import Payload
from grainwise.planning.problem import Problem

RejectCode = Literal[
    "queue_full",  # 429: bounded queue
    "too_late",  # 429: cannot meet its deadline, refused at arrival
    "backpressure",  # 429: the arena is full
    "deadline",  # 504
    "stage_failed",  # 500, names the stage
    "stage_lost",  # 502: crash or hang twice, quarantined
    "no_capacity",  # 503
    "unknown_app",  # 404
]


class StartInstance(Struct, frozen=True, tag=True):
    """Start an instance of ``app`` that holds ``stages`` (a mask) on ``node``.

    ``cpu_cores`` is what it is held to, and charged, while it loads; ``share`` is the CPU share of the function that it is for,
    by which it is sized and paid for; 0 where that is ``cpu_cores``.

    A function on a GPU gets a part of ``device`` until the instance has ended: ``gpu_share_fraction`` of it and
    ``device_memory_mib`` of its memory, in a hard slice from slot ``slice_start`` on where the device is cut into such.
    """

    instance: int
    app: str
    stages: int
    node: str
    cpu_cores: float
    memory_mib: float
    because: Because
    share: float = 0.0
    device: str = ""
    gpu_share_fraction: float = 0.0
    slice_start: int = -1
    device_memory_mib: float = 0.0

    @property
    def function_cores(self) -> float:
        """The CPU share of the function, in cores."""
        return self.share or self.cpu_cores


class StopInstance(Struct, frozen=True, tag=True):
    """Let an idle instance end."""

    instance: int
    because: Because


class KillInstance(Struct, frozen=True, tag=True):
    """End an instance now, whatever it does."""

    instance: int
    because: Because


class LoadStages(Struct, frozen=True, tag=True):
    """Load further stages into an idle instance; ``device_memory_mib`` is what they take on its device."""

    instance: int
    stages: int
    because: Because
    device_memory_mib: float = 0.0


class Invoke(Struct, frozen=True, tag=True, gc=False):
    """Run the stages of ``extent`` in ``instance`` for some items.

    ``inputs`` has an entry per item (in the order of the ranges): a payload for each external input of the extent, in the
    order of ``Extent.inputs``. ``cpu_cores`` is the share for this invocation where the mechanism can change it. After
    ``limit_us`` the controller takes the instance for hung.
    """

    invocation: int
    instance: int
    extent: int
    items: tuple[ItemRange, ...]
    inputs: tuple[tuple[Payload, ...], ...]
    cpu_cores: float
    limit_us: Micros
    because: Because


class CancelInvocation(Struct, frozen=True, tag=True):
    """No one awaits this invocation any more; it may be dropped if it has not begun."""

    invocation: int
    instance: int


class Release(Struct, frozen=True, tag=True, gc=False):
    """No item reads these handles any more."""

    handles: tuple[int, ...]


class Respond(Struct, frozen=True, tag=True, gc=False):
    """Answer a request. The door owns the handles of ``outputs`` from now on and releases them when they are written."""

    request: int
    outputs: tuple[Payload, ...]


class Reject(Struct, frozen=True, tag=True, gc=False):
    """Answer a request with an error."""

    request: int
    code: RejectCode
    because: Because
    stage: str = ""
    retry_after_us: Micros = 0


class ComputePlan(Struct, frozen=True, tag=True):
    """Plan off the hot path."""

    problem: Problem
    because: Because


class AdoptPlan(Struct, frozen=True, tag=True):
    """New requests of ``app`` follow ``plan`` from now on. Nobody has to perform it: the log says when, and why.

    ``shares`` are the instances whose CPU share is another under it, by number.
    """

    app: str
    plan: Plan
    because: Because
    shares: tuple[tuple[int, float], ...] = ()


class WakeAt(Struct, frozen=True, tag=True, gc=False):
    """Send ``Wake`` at ``at``. The latest ``WakeAt`` replaces every earlier one."""

    at: Instant


Action = (
    StartInstance
    | StopInstance
    | KillInstance
    | LoadStages
    | Invoke
    | CancelInvocation
    | Release
    | Respond
    | Reject
    | ComputePlan
    | AdoptPlan
    | WakeAt
)
