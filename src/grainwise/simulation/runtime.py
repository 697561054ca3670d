"""A runtime that pretends: instances start, load, run and fail in virtual time as profiles and the cluster file say.

It performs what the controller asks and decides nothing. What no real machine could do is an error of the product.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from grainwise.control.actions import CancelInvocation, Invoke, KillInstance, LoadStages, StartInstance, StopInstance
from grainwise.control.events import (
    CapacityChanged,
    Event,
    InstanceFailed,
    InstanceReady,
    InstanceStopped,
    InvocationDone,
    InvocationProgressed,
    ItemResult,
    StagesLoaded,
    StageSpan,
)
from grainwise.domain.machine import Node
from grainwise.domain.time import MILLISECOND, Micros
from grainwise.domain.values import SKIPPED, Payload, Ref
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.cluster import Cluster, ClusterNode
from grainwise.simulation.contents import MAX_WORKS, Contents, Value, Work
from grainwise.simulation.failure_plan import Target
from grainwise.simulation.loop import COMPLETION, VirtualLoop
from grainwise.simulation.performers import CountingStore, SimulationError
from grainwise.simulation.service import Call, ServiceTimes, another_luck, duration_us, hop_us, residual_table

STOP_US: Micros = MILLISECOND
"""From asking an instance to end until its memory is free."""

_MIB = 1_048_576


class _App:
    """What the runtime knows of one app, ready to be drawn from."""

    __slots__ = ("contents", "hop", "hop_residuals", "is_calibrated", "model", "name", "service", "simulated", "single")

    def __init__(self, simulated: SimulatedApp, seed: int) -> None:
        spec = simulated.spec
        declared = [spec.spec(index) for index in range(len(spec.graph.stages))]
        self.name = spec.name
        self.simulated = simulated
        self.model = simulated.model
        self.hop = simulated.hop
        self.hop_residuals = residual_table(simulated.hop_residuals) if simulated.hop_residuals else ()
        self.contents = Contents(spec.graph, simulated.kinds)
        self.is_calibrated = all(kind.factors and kind.splits for kind in simulated.kinds)
        batches = [stage.max_batch for stage in declared]
        self.service = ServiceTimes(simulated.model, batches, simulated.residuals, seed)
        self.single: dict[tuple[object, ...], tuple[Sequence[Work], Sequence[Call], Micros]] = {}
        """Answers for invocations of one item, which are most; the hop is right where there is one node."""

    def holds(self, stages: int, name: str) -> bool:
        """Whether a stage of this name is among the stages of a mask."""
        index = self.simulated.spec.graph.index_by_name.get(name)
        return index is not None and bool(stages >> index & 1)


class _Node:
    """A machine: what runs on it now, and how slow it is."""

    __slots__ = ("busy_cores", "cluster_node", "index", "is_contended", "is_up", "name", "signal_us", "slowness", "speed")

    def __init__(self, index: int, cluster_node: ClusterNode) -> None:
        self.index = index
        self.cluster_node = cluster_node
        self.name = cluster_node.node.name
        self.speed = cluster_node.speed
        self.signal_us = cluster_node.signal_us
        self.is_contended = cluster_node.interference_fraction > 0
        self.is_up = True
        self.slowness = 1.0
        self.busy_cores = 0.0


class _Instance:
    """One instance between its start and its end."""

    __slots__ = ("app", "cold", "invocation", "node", "number", "phase", "slowness", "stages", "will_hang")

    def __init__(self, number: int, app: _App, node: _Node, stages: int) -> None:
        self.number = number
        self.app = app
        self.node = node
        self.stages = stages
        self.phase: Literal["starting", "ready", "loading"] = "starting"
        self.invocation: Invoke | None = None
        self.will_hang = False
        self.slowness = 1.0
        self.cold = 0
        """Stages whose first call is still to come and takes longer."""


class SimulatedRuntime:
    """Performs a controller's actions in virtual time.

    Args:
        loop: whose time it is, and who hears of what happened.
        cluster: machines, network and hop.
        apps: by name.
        store: counts what invocations hand on.
        seed: of the service times.
    """

    def __init__(
        self, loop: VirtualLoop, cluster: Cluster, apps: Mapping[str, SimulatedApp], store: CountingStore, seed: int
    ) -> None:
        self._loop = loop
        self._store = store
        self._cluster = cluster
        self._nodes = {node.node.name: _Node(index, node) for index, node in enumerate(cluster.nodes)}
        self._names = [node.node.name for node in cluster.nodes]
        self._gateway = self._names.index(cluster.network.gateway)
        self._is_one_node = len(self._names) == 1
        self._apps = {name: _App(app, seed + index) for index, (name, app) in enumerate(apps.items())}
        self._requests: dict[int, tuple[int, float, int]] = {}
        self.instances: dict[int, _Instance] = {}

    # Requests

    def admit(self, app: str, request: int, kind: int, scale: float) -> tuple[Payload, ...]:
        """Store the entry values of a request, of which the runtime knows from now on what is inside."""
        found = self._apps[app]
        self._requests[request] = (kind, scale, found.service.luck(request))
        return tuple([self._payload(value, self._gateway) for value in found.contents.entries(kind, scale)])

    def entry_bytes(self, app: str, kind: int, scale: float) -> int:
        """Length of the entry values of a request."""
        return sum(value.nbytes for value in self._apps[app].contents.entries(kind, scale))

    def forget(self, request: int) -> None:
        """A request has ended; what still runs for it is not asked for any more."""
        del self._requests[request]

    # Runtime

    def start(self, action: StartInstance) -> None:
        """Ready after process, import and load as the profile measured them, and the first call where instances warm up."""
        app, node = self._apps[action.app], self._nodes[action.node]
        if not node.is_up:
            raise SimulationError(f"instance {action.instance} is started on {action.node}, which is down")
        instance = self.instances[action.instance] = _Instance(action.instance, app, node, action.stages)
        slow = node.slowness / node.cluster_node.speed
        cold = app.model.cold
        process = int(cold.process_us * slow) + node.cluster_node.provision_us
        load, first_call = self._load_us(instance, action.stages, slow)
        ready = InstanceReady(
            action.instance, process, int(cold.import_us * slow), load, first_call, action.memory_mib
        )  # fmt: skip
        took = process + ready.import_us + load + first_call
        self._tell_later(instance, took, self._ready, (instance, ready))

    def stop(self, action: StopInstance) -> None:
        """Ended a little later."""
        instance = self.instances.get(action.instance)
        if instance is not None and instance.invocation is not None:
            raise SimulationError(f"instance {action.instance} is stopped while it works")
        self._end(action.instance)

    def kill(self, action: KillInstance) -> None:
        """Ended a little later; what it ran is dropped."""
        self._end(action.instance)

    def load(self, action: LoadStages) -> None:
        """The further stages are there after load and first call."""
        instance = self.instances.get(action.instance)
        if instance is None:
            return
        if instance.phase != "ready" or instance.invocation is not None:
            raise SimulationError(f"instance {action.instance} is to load while it is {instance.phase}")
        instance.phase = "loading"
        node = instance.node
        load, first_call = self._load_us(instance, action.stages & ~instance.stages, node.slowness / node.cluster_node.speed)
        self._tell_later(instance, load + first_call, self._loaded, (instance, action, load + first_call))

    def invoke(self, action: Invoke) -> None:
        """Done after the hop and the calls of the stages."""
        instance = self.instances.get(action.instance)
        if instance is None:
            # It has just failed and the controller has not heard of it yet; that event answers the invocation too.
            return
        if instance.invocation is not None or instance.phase != "ready" or action.extent & ~instance.stages:
            raise SimulationError(
                f"instance {action.instance} holds {instance.stages:b}, is {instance.phase} and "
                f"{'busy' if instance.invocation is not None else 'free'}; it is told to run {action.extent:b}"
            )
        instance.invocation = action
        if instance.will_hang:
            return
        app, node, cores = instance.app, instance.node, action.cpu_cores
        works, calls, elapsed = self._work(app, node, action)
        slow = node.slowness * instance.slowness
        if node.is_contended:
            slow *= node.cluster_node.interference_factor(node.busy_cores)
        node.busy_cores += cores
        first = action.items[0]
        luck = self._requests.get(first.request, GONE)[2]
        if first.lo or first.path or first.attempt != 1:
            luck = another_luck(luck, (*first.path, first.lo), first.attempt)
        service = 0
        spans: list[StageSpan] = []
        for call in calls:
            duration = duration_us(call, luck)
            if slow != 1.0:
                duration = int(duration * slow)
            service += duration
            spans.append(StageSpan(call[0], call[1], call[2], duration))
        if instance.cold:
            service = _first_calls(instance, spans, slow / node.speed)
        if app.hop_residuals:
            elapsed = hop_us(elapsed, app.hop_residuals, luck, action.extent)
        elapsed += service
        loop = self._loop
        at = loop.now + elapsed + node.signal_us
        loop.schedule(at, COMPLETION, self._done, (instance, action, works, spans, service))
        if len(spans) > 1 and elapsed > action.limit_us // 2:
            self._progress(instance, action, elapsed - service, spans)

    def cancel(self, action: CancelInvocation) -> None:
        """Too late: an invocation begins when it is told, and one of its events follows all the same."""

    # What takes time

    def _load_us(self, instance: _Instance, stages: int, slow: float) -> tuple[Micros, Micros]:
        """Load and first call; the latter is left to the first invocation where instances do not warm up."""
        load = first_call = 0.0
        for index, stage in enumerate(instance.app.model.stages):
            if stages >> index & 1:
                load += stage.load_us
                first_call += stage.first_call_us
        if not self._cluster.warms_up:
            instance.cold |= stages
            first_call = 0.0
        return int(load * slow), int(first_call * slow)

    def _hop_us(self, app: _App, node: _Node, action: Invoke) -> Micros:
        """From the server to the instance: a message, and every input from where it lies."""
        nbytes = 0
        if self._is_one_node:
            for row in action.inputs:
                for payload in row:
                    for ref in payload.refs:
                        nbytes += ref.nbytes
            return int(app.hop.latency_us(nbytes))
        here = node.index
        node_of = self._store.node_of
        far: dict[int, int] = {}
        for row in action.inputs:
            for payload in row:
                for ref in payload.refs:
                    nbytes += ref.nbytes
                    source = node_of(ref.handle)
                    if source != here:
                        far[source] = far.get(source, 0) + ref.nbytes
        took = int(app.hop.latency_us(nbytes))
        network = self._cluster.network
        if here != self._gateway:
            took += network.latency_us
        if far:
            took += max(network.transfer_us(self._names[source], node.name, part) for source, part in far.items())
        return took

    def _work(self, app: _App, node: _Node, action: Invoke) -> tuple[Sequence[Work], Sequence[Call], Micros]:
        """What each item comes to, the calls of the stages for all of them together, and the hop."""
        extent, requests, items, cores = action.extent, self._requests, action.items, action.cpu_cores
        first = items[0]
        is_single = len(items) == 1 and first.hi - first.lo == 1
        if is_single:
            kind, scale, _ = requests.get(first.request, GONE)
            key = (extent, kind, scale, cores, node.speed, first.path, first.lo)
            known = app.single.get(key)
            if known is not None:
                return known if self._is_one_node else (known[0], known[1], self._hop_us(app, node, action))
        contents = app.contents
        is_scoped = bool(contents.extent(extent).scope)
        works: list[Work] = []
        totals: dict[int, tuple[int, float]] = {}
        weights: dict[int, tuple[float, float]] = {}
        for item in items:
            kind, scale, _ = requests.get(item.request, GONE)
            for index in range(item.lo, item.hi):
                work = contents.work(kind, extent, (*item.path, index) if is_scoped else (), scale)
                works.append(work)
                for stage, count, size_sum in work.calls:
                    before = totals.get(stage, (0, 0.0))
                    totals[stage] = (before[0] + count, before[1] + size_sum)
                    if app.is_calibrated:
                        content = contents.kinds[kind]
                        others = weights.get(stage, (0.0, 0.0))
                        weights[stage] = (others[0] + count * content.factors[stage], others[1] + count * content.splits[stage])
        calls: list[Call] = []
        for stage in contents.extent(extent).stages:
            if stage in totals:
                count, size_sum = totals[stage]
                factor, split = weights.get(stage, (float(count), float(count)))
                calls.extend(
                    app.service.calls(stage, count, size_sum, cores, node.speed, work=factor / count, split=split / count)
                )
        answer = (works, calls, self._hop_us(app, node, action))
        if is_single and len(app.single) < MAX_WORKS:
            app.single[key] = answer
        return answer

    def _progress(self, instance: _Instance, action: Invoke, at: Micros, spans: list[StageSpan]) -> None:
        """A long invocation says that it goes on when another call begins, but not all the time."""
        told = 0
        for span in spans[:-1]:
            at += span.duration_us
            if at - told >= action.limit_us // 4:
                told = at
                event = InvocationProgressed(action.invocation, action.instance)
                self._loop.schedule(self._loop.now + at, COMPLETION, self._progressed, (instance, action, event))

    # What happens

    def _tell_later(self, instance: _Instance, delay: Micros, call: object, argument: object) -> None:
        at = self._loop.now + delay + instance.node.cluster_node.signal_us
        self._loop.schedule(at, COMPLETION, call, argument)  # type: ignore[arg-type]

    def _ready(self, argument: tuple[_Instance, InstanceReady]) -> None:
        instance, event = argument
        if self.instances.get(instance.number) is instance:
            instance.phase = "ready"
            self._loop.post(event)

    def _loaded(self, argument: tuple[_Instance, LoadStages, Micros]) -> None:
        instance, action, took = argument
        if self.instances.get(instance.number) is instance:
            fresh = action.stages & ~instance.stages
            instance.stages |= action.stages
            instance.phase = "ready"
            memory = instance.app.model.memory_mib(fresh, 0.0)
            self._loop.post(StagesLoaded(instance.number, action.stages, took, memory))

    def _progressed(self, argument: tuple[_Instance, Invoke, InvocationProgressed]) -> None:
        instance, action, event = argument
        if instance.invocation is action:
            self._loop.post(event)

    def _done(self, argument: tuple[_Instance, Invoke, Sequence[Work], list[StageSpan], Micros]) -> None:
        instance, action, works, spans, service = argument
        if instance.invocation is not action:
            return
        instance.invocation = None
        node = instance.node
        node.busy_cores -= action.cpu_cores
        here, payload = node.index, self._payload
        if len(works) == 1:
            results: tuple[ItemResult, ...] = (ItemResult(tuple([payload(value, here) for value in works[0].outputs])),)
        else:
            results = tuple([ItemResult(tuple([payload(value, here) for value in work.outputs])) for work in works])
        self._loop.post(InvocationDone(action.invocation, action.instance, results, service, tuple(spans)))

    def _payload(self, value: Value, node: int) -> Payload:
        put = self._store.put
        nbytes, sizes = value.nbytes, value.sizes
        if value.is_skipped:
            return SKIPPED
        if value.is_many:
            return Payload(tuple([Ref(put(nbytes, node), nbytes, sizes) for _ in range(value.count)]), "many", value.key)
        return Payload((Ref(put(nbytes, node), nbytes, sizes),), "one", value.key)

    def _end(self, number: int) -> None:
        instance = self._drop(number)
        if instance is not None:
            self._loop.schedule(self._loop.now + STOP_US, COMPLETION, self._loop.post, InstanceStopped(number))

    def _drop(self, number: int) -> _Instance | None:
        instance = self.instances.pop(number, None)
        if instance is not None and instance.invocation is not None:
            if not instance.will_hang:
                instance.node.busy_cores -= instance.invocation.cpu_cores
            instance.invocation = None
        return instance

    # Failures, which the world inflicts

    def crash(self, number: int, detail: str) -> bool:
        """The process of an instance ends now; False where it has ended already."""
        instance = self._drop(number)
        if instance is None:
            return False
        cause: Literal["starting", "lost"] = "starting" if instance.phase == "starting" else "lost"
        self._lose(instance, InstanceFailed(number, cause, detail))
        return True

    def hang(self, number: int) -> bool:
        """What an instance is told from now on never ends, until it is killed."""
        instance = self.instances.get(number)
        if instance is None or instance.will_hang:
            return False
        instance.will_hang = True
        if instance.invocation is not None:
            instance.node.busy_cores -= instance.invocation.cpu_cores
            # Its completion is in the schedule already: a copy takes its place, so that it is not recognised.
            hung = instance.invocation
            instance.invocation = Invoke(
                hung.invocation,
                hung.instance,
                hung.extent,
                hung.items,
                hung.inputs,
                hung.cpu_cores,
                hung.limit_us,
                hung.because,
            )
        return True

    def resume(self, number: int) -> bool:
        """A hanging instance goes on: what it was told last begins anew. False where it has ended."""
        instance = self.instances.get(number)
        if instance is None or not instance.will_hang:
            return False
        instance.will_hang = False
        waiting, instance.invocation = instance.invocation, None
        if waiting is not None:
            self.invoke(waiting)
        return True

    def matching(self, target: Target) -> list[int]:
        """The instances that fit a target, by number."""
        return sorted(
            number
            for number, instance in self.instances.items()
            if target.app in ("", instance.app.name)
            and target.node in ("", instance.node.name)
            and (not target.stage or instance.app.holds(instance.stages, target.stage))
        )

    def node_names(self, *, is_up: bool) -> list[str]:
        """The nodes that are up, or those that are down."""
        return [node.name for node in self._nodes.values() if node.is_up == is_up]

    def slow_instance(self, number: int, factor: float) -> bool:
        """An instance takes ``factor`` times as long from its next invocation on."""
        instance = self.instances.get(number)
        if instance is None:
            return False
        instance.slowness = factor
        return True

    def slow_node(self, name: str, factor: float) -> bool:
        """Everything on a node takes ``factor`` times as long from its next start or invocation on."""
        node = self._nodes[name]
        node.slowness = factor
        return node.is_up

    def lose_node(self, name: str) -> bool:
        """A machine is gone with every instance on it; False where it was already."""
        node = self._nodes[name]
        if not node.is_up:
            return False
        node.is_up = False
        lost = [instance for instance in self.instances.values() if instance.node is node]
        for instance in lost:
            self._drop(instance.number)
        node.busy_cores = 0.0
        self._loop.post(CapacityChanged(self.nodes()))
        for instance in lost:
            self._lose(instance, InstanceFailed(instance.number, "lost", f"node {name} is gone"))
        return True

    def return_node(self, name: str) -> bool:
        """A lost machine is back, empty."""
        node = self._nodes[name]
        if node.is_up:
            return False
        node.is_up = True
        node.slowness = 1.0
        self._loop.post(CapacityChanged(self.nodes()))
        return True

    def nodes(self) -> tuple[Node, ...]:
        """The machines that are up, as the controller sees them."""
        return tuple(node.cluster_node.node for node in self._nodes.values() if node.is_up)

    def _lose(self, instance: _Instance, event: Event) -> None:
        delay = instance.node.cluster_node.signal_us
        if delay:
            self._loop.schedule(self._loop.now + delay, COMPLETION, self._loop.post, event)
        else:
            self._loop.post(event)


def _first_calls(instance: _Instance, spans: list[StageSpan], slow: float) -> Micros:
    """The service time, once the first call of each cold stage has been given the time that the profile measured for one."""
    stages = instance.app.model.stages
    for at, span in enumerate(spans):
        if instance.cold >> span.stage & 1:
            instance.cold &= ~(1 << span.stage)
            duration = max(span.duration_us, int(stages[span.stage].first_call_us * slow))
            spans[at] = StageSpan(span.stage, span.items, span.size_sum, duration)
    return sum(span.duration_us for span in spans)


GONE = (0, 1.0, 0)
"""An invocation may still run for a request that has ended; of what kind it was does not matter any more."""
