"""What happened, in numbers: sums kept from events and actions, cheap enough to be called for each of them.

Nothing grows with the number of finished requests, and no label comes from a client.
"""

from bisect import bisect_left
from collections.abc import Callable

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
    Event,
    InstanceFailed,
    InstanceReady,
    InstanceStopped,
    InvocationDone,
    InvocationFailed,
    ModelReady,
    PlanFailed,
    PlanReady,
    PlanRequested,
    RequestArrived,
    RequestCancelled,
    StagesLoaded,
)
from grainwise.domain.time import SECOND, Instant, Micros, from_ms
from grainwise.predictors.latency import LatencyModel
from grainwise.telemetry.accuracy import Accuracy, StageAccuracy

LATENCY_BOUNDS_US: tuple[Micros, ...] = tuple(
    from_ms(bound) for bound in (1, 2, 5, 10, 20, 35, 50, 75, 100, 150, 200, 300, 400, 600, 800, 1_000, 2_000, 5_000, 10_000)
)
ITEM_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128)
MAX_EXTENTS = 64
"""So many extents of an app have a series of their own; the rest share ``other``."""
OTHER = "other"
COLD_PARTS = ("process", "import", "load", "first_call")


class Histogram:
    """Counts of observations per bucket, their number and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[int, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0

    def observe(self, value: int) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class StageSums:
    """Sums over the calls of one stage."""

    __slots__ = ("calls", "duration_us", "items", "raised")

    def __init__(self) -> None:
        self.calls = 0
        self.items = 0
        self.duration_us = 0
        self.raised = 0


class ExtentSums:
    """Sums over the invocations of one extent."""

    __slots__ = ("busy_us", "count")

    def __init__(self) -> None:
        self.count = 0
        self.busy_us = 0


class AppSums:
    """Everything that is counted for one app."""

    def __init__(self, deployed: AppDeployed) -> None:
        self.graph = deployed.app.graph
        self.slo_us = from_ms(deployed.app.slo.latency_ms)
        self.prices = deployed.prices
        self.accuracy: list[Accuracy] = []
        self.take_model(deployed.model)
        self.in_flight = 0
        self.outcomes: dict[str, int] = {}
        self.met_slo = 0
        self.latency = Histogram(LATENCY_BOUNDS_US)
        self.items = Histogram(ITEM_BOUNDS)
        self.extents: dict[str, ExtentSums] = {}
        self.extent_by_mask: dict[int, ExtentSums] = {}
        self.stages = [StageSums() for _ in self.graph.stages]
        self.cold_starts = 0
        self.cold_us = [0] * len(COLD_PARTS)
        self.loads = 0
        self.failures: dict[str, int] = {}
        self.plan_requests = 0
        self.plans: dict[str, int] = {}
        self.provisioned_usd = 0.0
        self.billed_usd = 0.0

    def take_model(self, model: LatencyModel) -> None:
        """Compare live calls with this model from now on."""
        self.model = model
        self.accuracy = [Accuracy(stage) for stage in model.stages]

    def stage_accuracy(self) -> tuple[StageAccuracy, ...]:
        """The predictions of each stage against its latest calls."""
        return tuple(each.describe(node.name) for node, each in zip(self.graph.stages, self.accuracy, strict=False))

    def memory_mib(self, stages: int) -> float:
        """Memory that the stages of a mask take, by the model."""
        return self.model.memory_mib(stages, 0.0)

    def extent(self, mask: int) -> ExtentSums:
        """The sums of an extent, made at its first invocation."""
        sums = self.extent_by_mask.get(mask)
        if sums is None:
            name = "+".join(self.graph.names(mask)) if len(self.extents) < MAX_EXTENTS else OTHER
            sums = self.extents.setdefault(name, ExtentSums())
            self.extent_by_mask[mask] = sums
        return sums


class InstanceRecord:
    """One instance between its start and its end."""

    __slots__ = (
        "app",
        "began",
        "cpu_cores",
        "gpu_share_fraction",
        "invocations",
        "memory_mib",
        "stages",
        "state",
        "usd_per_second",
    )

    def __init__(
        self, app: AppSums, stages: int, began: Instant, cpu_cores: float, memory_mib: float, gpu_share_fraction: float = 0.0
    ) -> None:
        self.app = app
        self.stages = stages
        self.state = "starting"
        self.began = began
        """Since when it costs ``usd_per_second``; what it cost before is in the app's sum."""
        self.cpu_cores = cpu_cores
        self.memory_mib = memory_mib
        self.gpu_share_fraction = gpu_share_fraction
        self.usd_per_second = app.prices.usd_per_second(cpu_cores, memory_mib, gpu_share_fraction)
        self.invocations: set[int] = set()

    def settle(self, now: Instant) -> None:
        """Add what it has cost until ``now`` to the app's sum."""
        self.app.provisioned_usd += (now - self.began) / SECOND * self.usd_per_second
        self.began = now

    def change(self, now: Instant, *, more_mib: float = 0.0, cpu_cores: float | None = None) -> None:
        """It holds ``more_mib`` of memory more from ``now`` on, or has another share."""
        self.settle(now)
        self.memory_mib += more_mib
        self.cpu_cores = self.cpu_cores if cpu_cores is None else cpu_cores
        self.usd_per_second = self.app.prices.usd_per_second(self.cpu_cores, self.memory_mib, self.gpu_share_fraction)


class Recorder:
    """Keeps the sums. ``observe`` is an observer of the driver."""

    def __init__(self) -> None:
        self.apps: dict[str, AppSums] = {}
        self.instances: dict[int, InstanceRecord] = {}
        self.last: Instant = 0
        self._requests: dict[int, tuple[AppSums, Instant]] = {}
        self._invocations: dict[int, tuple[InstanceRecord, ExtentSums, Instant, float]] = {}
        self._on_event: dict[type, Callable[..., None]] = {
            AppDeployed: self._deployed,
            ModelReady: self._model_ready,
            RequestArrived: self._arrived,
            RequestCancelled: self._cancelled,
            InvocationDone: self._done,
            InvocationFailed: self._invocation_failed,
            InstanceReady: self._ready,
            InstanceFailed: self._instance_failed,
            InstanceStopped: self._stopped,
            StagesLoaded: self._loaded,
            PlanRequested: self._plan_requested,
            PlanReady: self._plan_ready,
            PlanFailed: self._plan_failed,
        }
        self._on_action: dict[type, Callable[..., None]] = {
            Respond: self._respond,
            Reject: self._reject,
            Invoke: self._invoke,
            StartInstance: self._start,
            StopInstance: self._stop,
            KillInstance: self._stop,
            LoadStages: self._load,
            AdoptPlan: self._adopt,
        }

    def observe(self, event: Event, actions: list[Action], now: Instant) -> None:
        """Count what one event and the actions that followed it say."""
        self.last = now
        handler = self._on_event.get(type(event))
        if handler is not None:
            handler(event, now)
        on_action = self._on_action
        for action in actions:
            handler = on_action.get(type(action))
            if handler is not None:
                handler(action, now)

    def provisioned_usd(self, app: AppSums, now: Instant) -> float:
        """Cost of everything of an app that is or was up, until ``now``."""
        return app.provisioned_usd + sum(
            (now - each.began) / SECOND * each.usd_per_second for each in self.instances.values() if each.app is app
        )

    def _deployed(self, event: AppDeployed, now: Instant) -> None:
        known = self.apps.get(event.app.name)
        if known is None:
            self.apps[event.app.name] = AppSums(event)
        elif known.graph == event.app.graph:
            known.take_model(event.model)

    def _model_ready(self, event: ModelReady, now: Instant) -> None:
        app = self.apps.get(event.app)
        if app is not None:
            app.take_model(event.model)

    def _arrived(self, event: RequestArrived, now: Instant) -> None:
        app = self.apps.get(event.app)
        if app is not None:
            app.in_flight += 1
            self._requests[event.request] = (app, now)

    def _settle(self, request: int, outcome: str) -> tuple[AppSums, Instant] | None:
        entry = self._requests.pop(request, None)
        if entry is not None:
            app = entry[0]
            app.in_flight -= 1
            app.outcomes[outcome] = app.outcomes.get(outcome, 0) + 1
        return entry

    def _cancelled(self, event: RequestCancelled, now: Instant) -> None:
        self._settle(event.request, "cancelled")

    def _respond(self, action: Respond, now: Instant) -> None:
        entry = self._settle(action.request, "ok")
        if entry is not None:
            app, arrival = entry
            latency = now - arrival
            app.latency.observe(latency)
            if latency <= app.slo_us:
                app.met_slo += 1

    def _reject(self, action: Reject, now: Instant) -> None:
        self._settle(action.request, action.code)

    def _invoke(self, action: Invoke, now: Instant) -> None:
        record = self.instances.get(action.instance)
        if record is None:
            return
        app = record.app
        extent = app.extent(action.extent)
        extent.count += 1
        count = 0
        for item in action.items:
            count += item.hi - item.lo
        app.items.observe(count)
        record.invocations.add(action.invocation)
        self._invocations[action.invocation] = (record, extent, now, action.cpu_cores)

    def _end(self, invocation: int, now: Instant) -> tuple[AppSums, float] | None:
        """The app of an invocation and the cores that it ran on; None where it is not known."""
        entry = self._invocations.pop(invocation, None)
        if entry is None:
            return None
        record, extent, began, cpu_cores = entry
        record.invocations.discard(invocation)
        extent.busy_us += now - began
        app = record.app
        prices = app.prices
        busy_usd = (now - began) / SECOND * prices.usd_per_second(cpu_cores, record.memory_mib, record.gpu_share_fraction)
        app.billed_usd += busy_usd + prices.usd_per_million_requests / 1e6
        return app, cpu_cores

    def _done(self, event: InvocationDone, now: Instant) -> None:
        ended = self._end(event.invocation, now)
        if ended is not None:
            app, cpu_cores = ended
            stages, accuracy = app.stages, app.accuracy
            for span in event.spans:
                sums = stages[span.stage]
                sums.calls += 1
                sums.items += span.items
                sums.duration_us += span.duration_us
                if span.raised:
                    sums.raised += 1
                elif accuracy:
                    accuracy[span.stage].add(span.items, span.size_sum, cpu_cores, span.duration_us)

    def _invocation_failed(self, event: InvocationFailed, now: Instant) -> None:
        self._end(event.invocation, now)

    def _start(self, action: StartInstance, now: Instant) -> None:
        app = self.apps.get(action.app)
        if app is not None:
            self.instances[action.instance] = InstanceRecord(
                app, action.stages, now, action.function_cores, action.memory_mib, action.gpu_share_fraction
            )

    def _ready(self, event: InstanceReady, now: Instant) -> None:
        record = self.instances.get(event.instance)
        if record is not None:
            record.state = "ready"
            app = record.app
            app.cold_starts += 1
            parts = (event.process_us, event.import_us, event.load_us, event.first_call_us)
            for index, part in enumerate(parts):
                app.cold_us[index] += part

    def _adopt(self, action: AdoptPlan, now: Instant) -> None:
        for number, cores in action.shares:
            record = self.instances.get(number)
            if record is not None:
                record.change(now, cpu_cores=cores)

    def _load(self, action: LoadStages, now: Instant) -> None:
        record = self.instances.get(action.instance)
        if record is not None:
            record.state = "loading"

    def _loaded(self, event: StagesLoaded, now: Instant) -> None:
        record = self.instances.get(event.instance)
        if record is not None:
            record.state = "ready"
            if not event.error:
                record.change(now, more_mib=record.app.memory_mib(event.stages & ~record.stages))
                record.stages |= event.stages
                record.app.loads += 1

    def _stop(self, action: StopInstance | KillInstance, now: Instant) -> None:
        record = self.instances.get(action.instance)
        if record is not None:
            record.state = "stopping"

    def _stopped(self, event: InstanceStopped, now: Instant) -> None:
        self._forget(event.instance, now)

    def _instance_failed(self, event: InstanceFailed, now: Instant) -> None:
        record = self._forget(event.instance, now)
        if record is not None:
            record.app.failures[event.cause] = record.app.failures.get(event.cause, 0) + 1

    def _forget(self, instance: int, now: Instant) -> InstanceRecord | None:
        record = self.instances.pop(instance, None)
        if record is not None:
            for invocation in tuple(record.invocations):
                self._end(invocation, now)
            record.settle(now)
        return record

    def _plan_requested(self, event: PlanRequested, now: Instant) -> None:
        app = self.apps.get(event.app)
        if app is not None:
            app.plan_requests += 1

    def _plan_ready(self, event: PlanReady, now: Instant) -> None:
        self._count_plan(event.app, "feasible" if event.table.is_feasible else "infeasible")

    def _plan_failed(self, event: PlanFailed, now: Instant) -> None:
        self._count_plan(event.app, "failed")

    def _count_plan(self, name: str, result: str) -> None:
        app = self.apps.get(name)
        if app is not None:
            app.plans[result] = app.plans.get(result, 0) + 1
