"""The live loop: stamps events with the clock, feeds the controller, logs, and routes actions to the four performers.

Everything runs on one event loop thread. A performer that posts while its action is being performed is queued behind it, so
the controller never sees two events at once.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from grainwise.control.actions import (
    Action,
    ComputePlan,
    Invoke,
    KillInstance,
    LoadStages,
    StartInstance,
    StopInstance,
    WakeAt,
)
from grainwise.control.controller import Controller
from grainwise.control.events import Event, InstanceFailed, InvocationFailed, PlanFailed, StagesLoaded, Wake
from grainwise.control.performers import Door, Planner, Runtime, Store, routes
from grainwise.domain.time import MILLISECOND, SECOND, Instant
from grainwise.runtimes.log_writer import LogWriter

logger = logging.getLogger("grainwise.driver")

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
        self._wake: asyncio.TimerHandle | None = None
        self._performers: dict[type, Callable[..., None]] = {}

    def attach(self, *, runtime: Runtime, store: Store, door: Door, planner: Planner, log: LogWriter | None = None) -> None:
        """Name who performs which action, and the log where it was not known before."""
        self._log = log or self._log
        self._performers = routes(runtime=runtime, store=store, door=door, planner=planner, wake_at=self._wake_at)

    def observe(self, observer: Observer) -> None:
        """Call ``observer`` after each event."""
        self._observers.append(observer)

    def unobserve(self, observer: Observer) -> None:
        """Stop calling ``observer``."""
        self._observers = [each for each in self._observers if each != observer]

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
        # Before the log, which nobody waits for; what performers post meanwhile is handled, and logged, after this event.
        for action in actions:
            try:
                performers[type(action)](action)
            except Exception as error:  # noqa: BLE001 - whatever it is, the other actions must be performed
                self._not_performed(action, error)
        if self._log is not None:
            self._log.append(seq, now, event, actions, self.controller)
        for observer in self._observers:
            observer(event, actions, now)

    def _not_performed(self, action: Action, error: Exception) -> None:
        """The other actions of the event are performed all the same; who waits for an answer to this one is told."""
        logger.error("an action could not be performed: %.1000r", action, exc_info=error)
        failure = _failure_of(action, f"{type(error).__name__}: {error}")
        if failure is not None:
            self.post(failure)

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
        try:
            self.post(Wake())
        except BaseException:
            # Whatever broke, deadlines still have to be kept.
            if self._wake is None:
                self._arm(self.now() + SECOND)
            raise

    def close(self) -> None:
        """Stop waking. The log is the caller's to close."""
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None


def _failure_of(action: Action, why: str) -> Event | None:
    """What the controller has to hear when an action that it awaits an answer to was not performed."""
    if isinstance(action, Invoke):
        return InvocationFailed(action.invocation, action.instance, "refused", why)
    if isinstance(action, StartInstance):
        return InstanceFailed(action.instance, "starting", why)
    if isinstance(action, StopInstance | KillInstance):
        return InstanceFailed(action.instance, "lost", why)
    if isinstance(action, LoadStages):
        return StagesLoaded(action.instance, action.stages, 0, 0.0, why)
    if isinstance(action, ComputePlan):
        return PlanFailed(action.problem.app.name, action.problem.number, why)
    return None
