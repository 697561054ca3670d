"""The four performers that carry actions out. Each is small; differences between platforms are ``Capabilities``."""

from collections.abc import Callable
from typing import Protocol

from grainwise.control.actions import (
    AdoptPlan,
    CancelInvocation,
    ComputePlan,
    Invoke,
    KillInstance,
    LoadStages,
    Reject,
    Release,
    Respond,
    StartInstance,
    StopInstance,
    WakeAt,
)
from grainwise.control.events import Event

Post = Callable[[Event], None]
"""How a performer tells the driver what happened. Called on the driver's thread only."""


class Runtime(Protocol):
    """Starts, stops, loads and invokes instances, and posts what became of them."""

    def start(self, action: StartInstance) -> None:
        """Begin a start; ``InstanceReady`` or ``InstanceFailed(starting)`` follows."""
        ...

    def stop(self, action: StopInstance) -> None:
        """Let an instance end; ``InstanceStopped`` follows."""
        ...

    def kill(self, action: KillInstance) -> None:
        """End an instance now; ``InstanceStopped`` follows."""
        ...

    def load(self, action: LoadStages) -> None:
        """Load stages into an idle instance; ``StagesLoaded`` follows."""
        ...

    def invoke(self, action: Invoke) -> None:
        """Run an extent; ``InvocationDone``, ``InvocationFailed`` or ``InstanceFailed`` follows."""
        ...

    def cancel(self, action: CancelInvocation) -> None:
        """Drop an invocation that has not begun; one of invoke's events follows all the same."""
        ...


class Store(Protocol):
    """Payload bytes behind handles."""

    def release(self, handles: tuple[int, ...]) -> None:
        """Forget these handles; their bytes may be reused."""
        ...


class Door(Protocol):
    """Answers clients."""

    def respond(self, action: Respond) -> None:
        """Write the answer, then release the handles of its outputs."""
        ...

    def reject(self, action: Reject) -> None:
        """Write the error."""
        ...


class Planner(Protocol):
    """Computes plans off the hot path."""

    def compute(self, action: ComputePlan) -> None:
        """Begin; ``PlanReady`` or ``PlanFailed`` follows."""
        ...


def routes(
    *, runtime: Runtime, store: Store, door: Door, planner: Planner, wake_at: Callable[[WakeAt], None]
) -> dict[type, Callable[..., None]]:
    """Who performs which action: the same for the live loop and for the one in virtual time."""
    return {
        StartInstance: runtime.start,
        StopInstance: runtime.stop,
        KillInstance: runtime.kill,
        LoadStages: runtime.load,
        Invoke: runtime.invoke,
        CancelInvocation: runtime.cancel,
        Release: lambda action: store.release(action.handles),
        Respond: door.respond,
        Reject: door.reject,
        ComputePlan: planner.compute,
        AdoptPlan: lambda action: None,
        WakeAt: wake_at,
    }
