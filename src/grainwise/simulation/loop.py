"""The loop in virtual time: feeds the product's controller, routes its actions, jumps from one thing that happens to the next.

Things that happen are totally ordered by (instant, priority, order of scheduling). At one instant completions precede arrivals,
and arrivals precede wakes.
"""

import heapq
from collections.abc import Callable
from typing import Any

from grainwise.control.actions import Action, WakeAt
from grainwise.control.controller import Controller
from grainwise.control.events import Event, Wake
from grainwise.control.performers import Door, Planner, Runtime, Store, routes
from grainwise.domain.time import Instant

COMPLETION, ARRIVAL = 0, 1
"""Priorities at one instant; wakes come last."""

Observer = Callable[[Event, list[Action], Instant], None]
Append = Callable[[int, Instant, Event, list[Action], Controller], None]
"""Takes an entry of the log: its number, the instant, the event, the actions, and the controller for a snapshot."""


class VirtualLoop:
    """Feeds one controller. ``attach`` names the performers before the first event.

    Args:
        controller: the state machine.
        append: where the entries of the log go, or ``None``.
        observers: called after each event with (event, actions, now), as in a live run.
    """

    def __init__(self, controller: Controller, *, append: Append | None = None, observers: tuple[Observer, ...] = ()) -> None:
        self.controller = controller
        self._handle = controller.handle
        self.now: Instant = 0
        self.events = 0
        self._append = append
        self._observers = list(observers)
        self._due: list[tuple[Instant, int, int, Callable[[Any], None], Any]] = []
        self._scheduled = 0
        self._wake_at: Instant = 0
        self._performers: dict[type, Callable[..., None]] = {}

    def attach(self, *, runtime: Runtime, store: Store, door: Door, planner: Planner) -> None:
        """Name who performs which action."""
        self._performers = routes(runtime=runtime, store=store, door=door, planner=planner, wake_at=self._wake)

    def observe(self, observer: Observer) -> None:
        """Call ``observer`` after each event."""
        self._observers.append(observer)

    def schedule(self, at: Instant, priority: int, call: Callable[[Any], None], argument: Any = None) -> None:
        """Call ``call(argument)`` at ``at``, which must not be before now."""
        self._scheduled = order = self._scheduled + 1
        heapq.heappush(self._due, (at, priority, order, call, argument))

    def post(self, event: Event) -> None:
        """Tell the controller what happened now, log it, and do what the controller says."""
        now = self.now
        actions = self._handle(event, now)
        performers = self._performers
        for action in actions:
            performers[type(action)](action)
        if self._append is not None:
            self._append(self.events, now, event, actions, self.controller)
        self.events += 1
        for observer in self._observers:
            observer(event, actions, now)

    def _wake(self, action: WakeAt) -> None:
        self._wake_at = action.at

    def run_until(self, instant: Instant, is_over: Callable[[], bool] | None = None) -> None:
        """Let everything happen up to and including ``instant``, or until ``is_over`` holds after some event.

        Afterwards now is ``instant`` unless it ended earlier.
        """
        due, pop, wake = self._due, heapq.heappop, Wake()
        while True:
            wake_at = self._wake_at
            if due and (not wake_at or due[0][0] <= wake_at):
                at = due[0][0]
                if at > instant:
                    break
                _, _, _, call, argument = pop(due)
                self.now = at
                call(argument)
            elif wake_at:
                if wake_at > instant:
                    break
                if wake_at > self.now:
                    self.now = wake_at
                self._wake_at = 0
                self.post(wake)
            else:
                break
            if is_over is not None and is_over():
                return
        if instant > self.now:
            self.now = instant
