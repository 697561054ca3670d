"""From events and actions to the result of a run. It is called alike for a live driver, for a log, and in virtual time."""

from collections.abc import Callable, Mapping, Sequence

from msgspec import UNSET, UnsetType

from grainwise.control.actions import (
    Action,
    AdoptPlan,
    Invoke,
    KillInstance,
    LoadStages,
    Reject,
    Respond,
    StartInstance,
    StopInstance,
)
from grainwise.control.events import (
    AppDeployed,
    CapacityChanged,
    Event,
    InstanceFailed,
    InstanceReady,
    InstanceStopped,
    InvocationDone,
    InvocationFailed,
    ModelReady,
    RequestArrived,
    RequestCancelled,
    StagesLoaded,
)
from grainwise.domain.time import SECOND, Instant, Micros
from grainwise.telemetry.breakdown import Flight, Step
from grainwise.telemetry.request_rows import RequestRow
from grainwise.telemetry.result import RESULT_SCHEMA, Kind, Provenance, Regranulation, RunResult
from grainwise.telemetry.run_instances import RunInstance, RunInstances, span_of
from grainwise.telemetry.run_sums import FunctionSums, RunApp, RunNode, TenantSums
from grainwise.telemetry.timeline import Bins, Standing, thin

MAX_TENANTS = 64
OTHER = "other"


Visit = tuple[Flight, Step, Micros, Micros]
"""A range of items of a request in an invocation: the request, the step before, and the time it queued and waited cold."""


class RunRecorder:
    """Keeps the sums of a run. ``observe`` is an observer of the driver; what it needs is bounded by what is in flight.

    Args:
        kind: what kind of run it is.
        on_request: takes each request as it ends.
        start: the origin of the run's time; 0 for the instant of the first event.
        warmup_us: what happens before ``start + warmup_us`` is not counted: neither requests that arrived by then nor cost.
        tenant_of: names the tenant of a request by its number; at most 64 are told apart.

    The run is observed from its first event on (a log from its first segment), since apps are known from ``AppDeployed``.
    """

    def __init__(
        self,
        kind: Kind,
        *,
        on_request: Callable[[RequestRow], None] | None = None,
        start: Instant = 0,
        warmup_us: Micros = 0,
        tenant_of: Callable[[int], str] | None = None,
    ) -> None:
        self.kind: Kind = kind
        self.apps: dict[str, RunApp] = {}
        self.nodes: dict[str, RunNode] = {}
        self.instances = RunInstances(self.apps, self.nodes, self._end)
        self.events = 0
        self.unknown_app = 0
        self._live = self.instances.live
        self._on_request = on_request
        self._tenant_of = tenant_of
        self._warmup_us = warmup_us
        self._start = start
        self._is_begun = False
        self._is_counting = False
        self._last: Instant = start
        self._due: Instant = start
        self._bins = Bins(start)
        self._flights: dict[int, Flight] = {}
        self._invocations: dict[int, tuple[RunInstance, FunctionSums, Instant, float, list[Visit]]] = {}
        self._on_event: dict[type, Callable[..., None]] = {
            InvocationDone: self._done,
            RequestArrived: self._arrived,
            AppDeployed: self._deployed,
            CapacityChanged: self._capacity_changed,
            ModelReady: self._model_ready,
            RequestCancelled: self._cancelled,
            InvocationFailed: self._invocation_failed,
            InstanceReady: self.instances.ready,
            InstanceFailed: self.instances.fail,
            InstanceStopped: self.instances.stopped,
            StagesLoaded: self.instances.loaded,
        }
        self._on_action: dict[type, Callable[..., None]] = {
            Invoke: self._invoke,
            Respond: self._respond,
            Reject: self._reject,
            StartInstance: self.instances.start,
            StopInstance: self.instances.stop,
            KillInstance: self.instances.stop,
            LoadStages: self.instances.load,
            AdoptPlan: self._adopt,
        }

    def observe(self, event: Event, actions: list[Action], now: Instant) -> None:
        """Count what one event and the actions that followed it say."""
        if now >= self._due:
            self._advance(now)
        self._last = now
        self.events += 1
        handler = self._on_event.get(type(event))
        if handler is not None:
            handler(event, now)
        on_action = self._on_action
        for action in actions:
            handler = on_action.get(type(action))
            if handler is not None:
                handler(action, now)

    def result(
        self,
        *,
        end: Instant | None = None,
        hardware: str = "",
        seed: int | None = None,
        seeds: Mapping[str, int] | None = None,
        policy: str = "",
        cluster: str = "",
        workload: str = "",
        versions: Mapping[str, str] | None = None,
        digests: Mapping[str, str] | None = None,
        notes: Sequence[str] = (),
        kind: Kind | UnsetType = UNSET,
    ) -> RunResult:
        """What the run has come to by its last event, or by ``end`` where that is later. The recorder can go on from there.

        ``end`` is when the traffic ended; without it, requests are taken to have come up to the last event.
        """
        offered_until = self._last if end is None else end
        end = max(self._last, offered_until)
        if end >= self._due:
            self._advance(end)
        start = self._origin
        offered_us = max(offered_until - start, 0)
        unfinished: dict[str, int] = {}
        for flight in self._flights.values():
            if flight.is_counted:
                unfinished[flight.app] = unfinished.get(flight.app, 0) + 1
        return RunResult(
            schema=RESULT_SCHEMA,
            kind=self.kind if kind is UNSET else kind,
            hardware=hardware,
            duration_s=max(end - start, 0) / SECOND,
            warmup_s=self._warmup_us / SECOND,
            events=self.events,
            unknown_app=self.unknown_app,
            apps=tuple(
                app.result(offered_us, end, self._bins.width_us, unfinished.get(name, 0)) for name, app in self.apps.items()
            ),
            nodes=tuple(node.result(end) for node in self.nodes.values()),
            instances=tuple(span_of(each, start, end) for each in self.instances.spans),
            instances_left_out=self.instances.left_out,
            provenance=Provenance(
                seed, dict(seeds or {}), policy, cluster, workload, dict(versions or {}), dict(digests or {}), tuple(notes)
            ),
            offered_s=offered_us / SECOND,
        )

    # Time

    @property
    def _origin(self) -> Instant:
        return self._start + self._warmup_us

    def _advance(self, now: Instant) -> None:
        """Begin, or end bins: nothing has changed since the event before ``now``."""
        if not self._is_begun:
            self._is_begun = True
            if not self._start:
                self._start = now
            self._due = self.instances.origin = self._origin
        if not self._is_counting:
            if now < self._origin:
                return
            self._begin_counting(self._origin)
        while now >= self._due:
            due = self._due
            for app in self.apps.values():
                app.standings.append(app.standing(due))
            if self._bins.end():
                for app in self.apps.values():
                    thin(app.standings)
            self._due = self._bins.next_end

    def _begin_counting(self, at: Instant) -> None:
        self._is_counting = True
        self._bins = Bins(at)
        self._due = self._bins.next_end
        self.events = self.unknown_app = 0
        for app in self.apps.values():
            app.begin(at)
        for node in self.nodes.values():
            node.begin(at)
        for flight in self._flights.values():
            flight.is_counted = False

    # Apps and nodes

    def _deployed(self, event: AppDeployed, now: Instant) -> None:
        known = self.apps.get(event.app.name)
        if known is None:
            app = self.apps[event.app.name] = RunApp(event, now)
            app.first = app.standing(max(self._origin, 0))
            app.standings = self._empty_bins(app)
        elif known.graph == event.app.graph:
            known.model = event.model

    def _empty_bins(self, app: RunApp) -> list[Standing]:
        """The bins that had ended before an app was deployed."""
        width, start = self._bins.width_us, self._bins.start
        return [app.standing(start + (at + 1) * width) for at in range(self._bins.count)] if self._is_counting else []

    def _capacity_changed(self, event: CapacityChanged, now: Instant) -> None:
        present = {node.name: node for node in event.nodes}
        for name in present:
            if name not in self.nodes:
                self.nodes[name] = RunNode(name, now)
        for name, node in self.nodes.items():
            node.give(present[name].usable_cores if name in present else 0.0, now)

    def _model_ready(self, event: ModelReady, now: Instant) -> None:
        app = self.apps.get(event.app)
        if app is not None:
            app.model = event.model

    def _adopt(self, action: AdoptPlan, now: Instant) -> None:
        self.instances.reshare(action, now)
        app = self.apps[action.app]
        previous = app.grain
        app.take_grain(action.plan.grain)
        if self._is_counting and app.grain != previous:
            app.regranulations.append(Regranulation((now - self._origin) / SECOND, previous, app.grain))

    # Requests

    def _arrived(self, event: RequestArrived, now: Instant) -> None:
        app = self.apps.get(event.app)
        if app is None:
            self.unknown_app += 1
            return
        app.in_flight += 1
        app.offered += 1
        tenant = ""
        if self._tenant_of is not None:
            tenant = self._tenant_of(event.request)
            sums = app.tenants.get(tenant)
            if sums is None:
                if len(app.tenants) >= MAX_TENANTS:
                    tenant = OTHER
                sums = app.tenants.setdefault(tenant, TenantSums())
            sums.offered += 1
        self._flights[event.request] = Flight(event.app, tenant, now, app.grain, self._is_counting)

    def _respond(self, action: Respond, now: Instant) -> None:
        flight = self._flights.pop(action.request, None)
        if flight is None:
            return
        app = self.apps[flight.app]
        app.in_flight -= 1
        latency = now - flight.arrived
        met = latency <= app.slo_us
        _, at, queue, service, hop, cold, _ = flight.last
        queue += now - at
        if flight.is_counted:
            app.latency.add(latency)
            app.met += met
            app.queue_us += queue
            app.service_us += service
            app.hop_us += hop
            app.cold_us += cold
            if flight.tenant:
                tenant = app.tenants[flight.tenant]
                tenant.met += met
                tenant.latency.add(latency)
            if self._on_request is not None:
                self._on_request(
                    RequestRow(
                        action.request, app.name, flight.tenant, flight.arrived - self._origin, latency,
                        "ok", met, queue, service, hop, cold, flight.grain,
                    )
                )  # fmt: skip

    def _reject(self, action: Reject, now: Instant) -> None:
        self._miss(action.request, action.code, now)

    def _cancelled(self, event: RequestCancelled, now: Instant) -> None:
        self._miss(event.request, "cancelled", now)

    def _miss(self, request: int, outcome: str, now: Instant) -> None:
        flight = self._flights.pop(request, None)
        if flight is None:
            return
        app = self.apps[flight.app]
        app.in_flight -= 1
        if not flight.is_counted:
            return
        app.rejected[outcome] = app.rejected.get(outcome, 0) + 1
        if self._on_request is not None:
            _, _, queue, service, hop, cold, _ = flight.last
            arrived = flight.arrived
            self._on_request(
                RequestRow(
                    request, app.name, flight.tenant, arrived - self._origin, now - arrived, outcome, False, queue, service,
                    hop, cold, flight.grain,
                )
            )  # fmt: skip

    # Invocations

    def _invoke(self, action: Invoke, now: Instant) -> None:
        instance = self._live.get(action.instance)
        if instance is None:
            return
        app = instance.app
        mask = action.extent
        function = app.functions.get(mask) or app.function(mask, now)
        predecessors = function.predecessors
        changed_at = app.coverage.changed_at
        flights = self._flights
        node = instance.node.name
        visits: list[Visit] = []
        items = 0
        for item in action.items:
            items += item.hi - item.lo
            flight = flights.get(item.request)
            if flight is None:
                continue
            base = flight.last
            # Before its first step a request stands at its arrival, whatever the function reads.
            if base[0] and not base[0] & predecessors:
                base = flight.base(predecessors)
            if base[0]:
                app.hops += 1
                app.local_hops += base[6] == node
            queue = now - base[1]
            cold = app.coverage.uncovered_us(mask, base[1], now) if changed_at > base[1] else 0
            visits.append((flight, base, queue - cold, cold))
        function.items += items
        function.invocations += 1
        instance.invocations.add(action.invocation)
        self._invocations[action.invocation] = (instance, function, now, action.cpu_cores, visits)

    def _done(self, event: InvocationDone, now: Instant) -> None:
        entry = self._end(event.invocation, now)
        if entry is None:
            return
        instance, function, began, _, visits = entry
        elapsed = now - began
        service = 0
        for span in event.spans:
            service += span.duration_us
        if service > elapsed:
            service = elapsed
        hop = elapsed - service
        mask = function.mask
        for flight, base, queue, cold in visits:
            flight.last = flight.steps[mask] = (
                mask, now, base[2] + queue, base[3] + service, base[4] + hop, base[5] + cold,
                instance.node.name,
            )  # fmt: skip
            function.queue_us += queue
            function.cold_us += cold
        count = len(visits)
        function.visits += count
        function.service_us += service * count
        function.hop_us += hop * count

    def _end(self, number: int, now: Instant) -> tuple[RunInstance, FunctionSums, Instant, float, list[Visit]] | None:
        entry = self._invocations.pop(number, None)
        if entry is None:
            return None
        instance, function, began, cores, _ = entry
        instance.invocations.discard(number)
        elapsed = now - began
        busy = elapsed * cores
        instance.busy_us += elapsed
        instance.function.busy_core_us += busy
        instance.node.busy_core_us += busy
        function.busy_us += elapsed
        function.billed_usd += elapsed * instance.billed_usd_per_us(cores) + instance.app.fee_usd
        return entry

    def _invocation_failed(self, event: InvocationFailed, now: Instant) -> None:
        self._end(event.invocation, now)
