"""What a stretch of a run comes to for one app: requests in time, by when they came, and what the app cost meanwhile."""

from collections.abc import Iterable

from grainwise.control.actions import Action, AdoptPlan, Invoke, Reject, Respond, StartInstance
from grainwise.control.events import (
    Event,
    InstanceFailed,
    InstanceStopped,
    InvocationDone,
    InvocationFailed,
    RequestArrived,
    StagesLoaded,
)
from grainwise.control.state import ControllerState
from grainwise.domain.machine import Prices
from grainwise.domain.plan import Objective
from grainwise.domain.time import SECOND, Instant, Micros, from_ms
from grainwise.simulation.app import SimulatedApp

SLICES = 5
"""A stretch is cut into so many equal parts, whose spread tells how sure its mean is."""


class Tally:
    """Counts for one app between ``begin`` and ``close``; ``observe`` is an observer of the loop.

    Args:
        app: whose requests count and whose instances cost.
        prices: rates of the catalogue.
        objective: which money is counted: of all that is up, or of invocations.
        duration_us: how long the stretch is to be.
    """

    def __init__(self, app: SimulatedApp, prices: Prices, objective: Objective, duration_us: Micros) -> None:
        self.offered = [0] * SLICES
        self.met = [0] * SLICES
        self.open: dict[int, tuple[Instant, int]] = {}
        """Requests without an answer, with their arrival and their part of the stretch."""
        self._name = app.spec.name
        self._model = app.model
        self._slo_us = from_ms(app.spec.slo.latency_ms)
        self._prices = prices
        self._is_billed = objective == "billed"
        self._fee_usd = prices.usd_per_million_requests / 1e6
        self._width = -(-duration_us // SLICES)
        self._origin: Instant = 0
        self._last: Instant = 0
        self._held: dict[int, tuple[float, float, float, int]] = {}
        """Cores, memory, part of a device and stages of the instances that are up."""
        self._rate = 0.0
        self._usd = 0.0
        self._running: dict[int, tuple[int, float, Instant]] = {}

    def begin(self, now: Instant) -> None:
        """The stretch begins."""
        self._origin = self._last = now
        self._usd = 0.0

    def go_on_from(self, state: ControllerState, now: Instant) -> None:
        """What is up, runs and waits already. A request that is late already is not counted: no plan can change that."""
        self.begin(now)
        for instance in state.instances.values():
            if instance.app == self._name:
                memory = instance.memory_mib - instance.loading_mib
                self._held[instance.number] = (instance.share, memory, instance.gpu_share_fraction, instance.stages)
                if instance.invocation:
                    self._running[instance.invocation] = (instance.number, instance.cores or instance.share, now)
        self._rate = self._held_usd_per_us()
        for request in state.requests.values():
            if request.app == self._name and not request.is_ended and request.arrived + self._slo_us >= now:
                self.open[request.number] = (request.arrived, 0)
                self.offered[0] += 1

    def observe(self, event: Event, actions: Iterable[Action], now: Instant) -> None:
        """Count what one event and the actions that followed it say."""
        kind = type(event)
        if kind is RequestArrived:
            if event.app == self._name:  # type: ignore[union-attr]
                part = min(SLICES - 1, (now - self._origin) // self._width)
                self.offered[part] += 1
                self.open[event.request] = (now, part)  # type: ignore[union-attr]
        elif kind is InvocationDone or kind is InvocationFailed:
            self._end(event.invocation, now)  # type: ignore[union-attr]
        elif kind is InstanceStopped or kind is InstanceFailed:
            self._gone(event.instance, now)  # type: ignore[union-attr]
        elif isinstance(event, StagesLoaded) and not event.error:
            self._loaded(event, now)
        for action in actions:
            done = type(action)
            if done is Respond:
                found = self.open.pop(action.request, None)  # type: ignore[union-attr]
                if found is not None and now - found[0] <= self._slo_us:
                    self.met[found[1]] += 1
            elif done is Reject:
                self.open.pop(action.request, None)  # type: ignore[union-attr]
            elif done is Invoke:
                if self._is_billed and action.instance in self._held:  # type: ignore[union-attr]
                    self._running[action.invocation] = (action.instance, action.cpu_cores, now)  # type: ignore[union-attr]
            elif isinstance(action, AdoptPlan):
                for number, cores in action.shares:
                    if number in self._held:
                        self._hold(number, (cores, *self._held[number][1:]), now)
            elif isinstance(action, StartInstance) and action.app == self._name:
                self._hold(
                    action.instance,
                    (action.function_cores, action.memory_mib, action.gpu_share_fraction, action.stages),
                    now,
                )

    def close(self, end: Instant) -> float:
        """Money counts no more; what the stretch cost, in USD per hour."""
        self._spend(end)
        if self._is_billed:
            self._usd = self._usd + sum(self._billed(*each, end) for each in self._running.values())
        self._running.clear()
        return self._usd * 3600 * SECOND / max(1, end - self._origin)

    def _hold(self, number: int, held: tuple[float, float, float, int], now: Instant) -> None:
        self._spend(now)
        self._held[number] = held
        self._rate = self._held_usd_per_us()

    def _gone(self, number: int, now: Instant) -> None:
        if number in self._held:
            self._spend(now)
            for invocation in [each for each, run in self._running.items() if run[0] == number]:
                self._end(invocation, now)
            del self._held[number]
            self._rate = self._held_usd_per_us()

    def _loaded(self, event: StagesLoaded, now: Instant) -> None:
        held = self._held.get(event.instance)
        if held is not None:
            more = self._model.memory_mib(event.stages & ~held[3], 0.0)
            self._hold(event.instance, (held[0], held[1] + more, held[2], held[3] | event.stages), now)

    def _end(self, invocation: int, now: Instant) -> None:
        run = self._running.pop(invocation, None)
        if run is not None and self._is_billed:
            self._usd += self._billed(*run, now)

    def _billed(self, instance: int, cores: float, began: Instant, now: Instant) -> float:
        held = self._held.get(instance)
        if held is None:
            return self._fee_usd
        elapsed = now - max(began, self._origin)
        return self._fee_usd + elapsed * self._prices.usd_per_second(cores, held[1], held[2]) / SECOND

    def _spend(self, now: Instant) -> None:
        if not self._is_billed:
            self._usd += (now - self._last) * self._rate
        self._last = now

    def _held_usd_per_us(self) -> float:
        return sum(self._prices.usd_per_second(held[0], held[1], held[2]) for held in self._held.values()) / SECOND
