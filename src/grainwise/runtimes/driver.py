"""The live loop: stamps events with the clock, feeds the controller, logs, and routes actions to the four performers.

Everything runs on one event loop thread. A performer that posts while its action is being performed is queued behind it, so
the controller never sees two events at once.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from grainwise.control.actions import (
    Action,
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
from grainwise.control.controller import Controller
from grainwise.control.events import Event, Wake
from grainwise.control.performers import Door, Planner, Runtime, Store
from grainwise.domain.time import MILLISECOND, Instant
from grainwise.runtimes.log_writer import LogWriter

Observer = Callable[[Event, list[Action], Instant], None]


def monotonic_us() -> Instant:
    """The clock of a live run, in microseconds."""
    return time.monotonic_ns() // 1000


class Driver:
    """Feeds one controller. ``attach`` names the performers before the first event.

    Args:
        controller: the state machine.
        log: where (event, now, actions) go, or ``None``.
        observers: called after each event with (event, actions, now).
        clock: microseconds that never decrease.
    """

    def __init__(
        self,
        controller: Controller,
        *,
        log: LogWriter | None = None,
        observers: tuple[Observer, ...] = (),
        clock: Callable[[], Instant] = monotonic_us,
    ) -> None:
        self.controller = controller
        self.now: Callable[[], Instant] = clock
        self._log = log
        self._observers = list(observers)
        self._pending: deque[Event] = deque()
        self._is_busy = False
        self._seq = 0
        self._last: Instant = 0
        self._requests = 0
        self._wake: asyncio.TimerHandle | None = None
        self._performers: dict[type, Callable[..., None]] = {}

    def attach(self, *, runtime: Runtime, store: Store, door: Door, planner: Planner) -> None:
        """Name who performs which action."""
        self._performers = {
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
            WakeAt: self._wake_at,
        }

    def observe(self, observer: Observer) -> None:
        """Call ``observer`` after each event."""
        self._observers.append(observer)

    def unobserve(self, observer: Observer) -> None:
        """Stop calling ``observer``."""
        self._observers = [each for each in self._observers if each != observer]

    def next_request(self) -> int:
        """A fresh request number."""
        self._requests += 1
        return self._requests

    def post(self, event: Event) -> None:
        """Tell the controller what happened and do what it says. Called on the loop's thread only."""
        self._pending.append(event)
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._pending:
                self._step(self._pending.popleft())
        finally:
            self._is_busy = False

    def _step(self, event: Event) -> None:
        now = self.now()
        if now < self._last:
            now = self._last
        self._last = now
        actions = self.controller.handle(event, now)
        seq = self._seq
        self._seq = seq + 1
        performers = self._performers
        try:
            # Before the log, which nobody waits for; what performers post meanwhile is handled, and logged, after this event.
            for action in actions:
                performers[type(action)](action)
        finally:
            if self._log is not None:
                self._log.append(seq, now, event, actions, self.controller)
        for observer in self._observers:
            observer(event, actions, now)

    def _wake_at(self, action: WakeAt) -> None:
        if self._wake is not None:
            self._wake.cancel()
        self._arm(action.at)

    def _arm(self, at: Instant) -> None:
        # Rounded up to what a loop's timers can tell apart; uvloop would round down and call too early.
        delay_ms = -(-max(0, at - self.now()) // MILLISECOND)
        self._wake = asyncio.get_running_loop().call_later(delay_ms / 1000, self._on_wake, at)

    def _on_wake(self, at: Instant) -> None:
        self._wake = None
        if self.now() < at:
            # The loop reckons from when its turn began, which may be a while ago.
            self._arm(at)
            return
        self.post(Wake())

    def close(self) -> None:
        """Stop waking. The log is the caller's to close."""
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
