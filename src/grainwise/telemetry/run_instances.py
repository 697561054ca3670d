"""The instances of a run: what each holds and costs from its start to its end, on which node, for which function."""

from collections.abc import Callable

from grainwise.control.actions import AdoptPlan, KillInstance, LoadStages, StartInstance, StopInstance
from grainwise.control.events import InstanceFailed, InstanceReady, InstanceStopped, StagesLoaded
from grainwise.domain.time import SECOND, Instant, Micros
from grainwise.telemetry.result import InstanceSpan
from grainwise.telemetry.run_sums import FunctionSums, RunApp, RunNode

MAX_INSTANCE_SPANS = 500


class RunInstance:
    """An instance between its start and its end."""

    __slots__ = (
        "app",
        "billed_cores",
        "busy_us",
        "cores",
        "ended",
        "ending",
        "function",
        "gpu_share_fraction",
        "invocations",
        "is_serving",
        "memory_mib",
        "node",
        "number",
        "ready",
        "stages",
        "started",
        "usd_per_us",
    )  # fmt: skip

    def __init__(self, action: StartInstance, app: RunApp, function: FunctionSums, node: RunNode, now: Instant) -> None:
        self.number = action.instance
        self.app = app
        self.function = function
        self.node = node
        self.stages = action.stages
        self.cores = action.function_cores
        self.memory_mib = action.memory_mib
        self.gpu_share_fraction = action.gpu_share_fraction
        self.started = now
        self.ready: Instant | None = None
        self.ended: Instant | None = None
        self.ending = ""
        self.busy_us: Micros = 0
        self.is_serving = False
        self.invocations: set[int] = set()
        self.price()

    def price(self) -> None:
        """Rate of what it holds, in USD per microsecond; that of an invocation is worked out at the next one."""
        self.usd_per_us = self._usd_per_us(self.cores)
        self.billed_cores = (self.cores, self.usd_per_us)

    def billed_usd_per_us(self, cpu_cores: float) -> float:
        """Rate of an invocation on ``cpu_cores``."""
        known = self.billed_cores
        if known[0] != cpu_cores:
            known = self.billed_cores = (cpu_cores, self._usd_per_us(cpu_cores))
        return known[1]

    def _usd_per_us(self, cpu_cores: float) -> float:
        return self.app.prices.usd_per_second(cpu_cores, self.memory_mib, self.gpu_share_fraction) / SECOND


class RunInstances:
    """The instances of a run; the first 500 stay listed after their end.

    ``end_invocation`` is told of each invocation that an instance takes with it. An instance that is ready by ``origin`` was up
    when the measured time began, and is no cold start of it.
    """

    def __init__(
        self, apps: dict[str, RunApp], nodes: dict[str, RunNode], end_invocation: Callable[[int, Instant], object]
    ) -> None:
        self.live: dict[int, RunInstance] = {}
        self.spans: list[RunInstance] = []
        self.left_out = 0
        self.origin: Instant = 0
        self._apps = apps
        self._nodes = nodes
        self._end = end_invocation

    def start(self, action: StartInstance, now: Instant) -> None:
        """An instance is asked for, and costs from now on."""
        app = self._apps.get(action.app)
        if app is None:
            return
        node = self._nodes.get(action.node)
        if node is None:
            node = self._nodes[action.node] = RunNode(action.node, now)
        instance = RunInstance(action, app, app.function(action.stages, now), node, now)
        self.live[action.instance] = instance
        instance.function.held.change(now, 1, instance.cores, instance.usd_per_us)
        node.held.change(now, 1, instance.cores, instance.usd_per_us)
        if len(self.spans) < MAX_INSTANCE_SPANS:
            self.spans.append(instance)
        else:
            self.left_out += 1

    def ready(self, event: InstanceReady, now: Instant) -> None:
        """It serves."""
        instance = self.live.get(event.instance)
        if instance is None:
            return
        instance.ready = now
        if now > self.origin:
            app = instance.app
            app.cold_starts += 1
            instance.function.cold_starts += 1
            for at, part in enumerate((event.process_us, event.import_us, event.load_us, event.first_call_us)):
                app.cold_parts[at] += part
        if not instance.ending:
            self._serve(instance, True, now)

    def _serve(self, instance: RunInstance, is_serving: bool, now: Instant) -> None:
        if instance.is_serving == is_serving:
            return
        instance.is_serving = is_serving
        if is_serving:
            instance.app.coverage.add(instance.stages, now)
            instance.function.ready += 1
        else:
            instance.app.coverage.remove(instance.stages, now)
            instance.function.ready -= 1

    def load(self, action: LoadStages, now: Instant) -> None:
        """It loads, and serves nothing meanwhile."""
        instance = self.live.get(action.instance)
        if instance is not None:
            self._serve(instance, False, now)

    def loaded(self, event: StagesLoaded, now: Instant) -> None:
        """It holds more stages, and counts for that function from now on; or it keeps what it had."""
        instance = self.live.get(event.instance)
        if instance is None:
            return
        if not event.error and event.stages & ~instance.stages:
            app = instance.app
            app.loads += 1
            app.load_us += event.load_us
            self._serve(instance, False, now)
            instance.function.held.change(now, -1, -instance.cores, -instance.usd_per_us)
            before = instance.usd_per_us
            instance.memory_mib += app.model.memory_mib(event.stages & ~instance.stages, 0.0)
            instance.stages |= event.stages
            instance.price()
            instance.function = app.function(instance.stages, now)
            instance.function.held.change(now, 1, instance.cores, instance.usd_per_us)
            instance.node.held.change(now, 0, 0.0, instance.usd_per_us - before)
        if not instance.ending:
            self._serve(instance, True, now)

    def reshare(self, action: AdoptPlan, now: Instant) -> None:
        """It has another share under another plan."""
        for number, cores in action.shares:
            instance = self.live.get(number)
            if instance is not None:
                more, before = cores - instance.cores, instance.usd_per_us
                instance.cores = cores
                instance.price()
                instance.function.held.change(now, 0, more, instance.usd_per_us - before)
                instance.node.held.change(now, 0, more, instance.usd_per_us - before)

    def stop(self, action: StopInstance | KillInstance, now: Instant) -> None:
        """It is asked to end."""
        instance = self.live.get(action.instance)
        if instance is not None:
            instance.ending = "stopped" if type(action) is StopInstance else "killed"
            self._serve(instance, False, now)

    def stopped(self, event: InstanceStopped, now: Instant) -> None:
        """It has ended."""
        self._forget(event.instance, now)

    def fail(self, event: InstanceFailed, now: Instant) -> None:
        """It is gone."""
        instance = self._forget(event.instance, now)
        if instance is not None:
            instance.ending = event.cause
            failures = instance.app.failures
            failures[event.cause] = failures.get(event.cause, 0) + 1

    def _forget(self, number: int, now: Instant) -> RunInstance | None:
        instance = self.live.pop(number, None)
        if instance is not None:
            for invocation in sorted(instance.invocations):
                self._end(invocation, now)
            self._serve(instance, False, now)
            instance.ended = now
            instance.function.held.change(now, -1, -instance.cores, -instance.usd_per_us)
            instance.node.held.change(now, -1, -instance.cores, -instance.usd_per_us)
        return instance


def span_of(instance: RunInstance, start: Instant, end: Instant) -> InstanceSpan:
    """What is shown of an instance, in seconds since ``start``."""
    since = (instance.ended or end) - (instance.ready or end)
    return InstanceSpan(
        instance.number,
        instance.app.name,
        instance.function.name,
        instance.node.name,
        (instance.started - start) / SECOND,
        None if instance.ready is None else (instance.ready - start) / SECOND,
        None if instance.ended is None else (instance.ended - start) / SECOND,
        instance.ending,
        instance.busy_us / since if since > 0 else 0.0,
    )
