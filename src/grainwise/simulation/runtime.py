"""A runtime that pretends: instances start, load and run in virtual time as profiles and the cluster file say.

It performs what the controller asks and decides nothing. What no real machine could do is an error of the product.
"""

from collections.abc import Mapping, Sequence

from grainwise.control.actions import CancelInvocation, Invoke, KillInstance, LoadStages, StartInstance, StopInstance
from grainwise.control.events import (
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
from grainwise.simulation.cluster import Cluster
from grainwise.simulation.contents import MAX_WORKS, Value, Work
from grainwise.simulation.loop import COMPLETION, VirtualLoop
from grainwise.simulation.machines import AppInside, Machine, SimulatedInstance
from grainwise.simulation.performers import CountingStore, SimulationError
from grainwise.simulation.service import Call, DevicePart, another_luck, hop_us, served

STOP_US: Micros = MILLISECOND
"""From asking an instance to end until its memory is free."""


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
        self.machines = {node.node.name: Machine(index, node) for index, node in enumerate(cluster.nodes)}
        self._names = [node.node.name for node in cluster.nodes]
        self._gateway = self._names.index(cluster.network.gateway)
        self._is_one_node = len(self._names) == 1
        self._apps = {name: AppInside(app, seed + index) for index, (name, app) in enumerate(apps.items())}
        self._requests: dict[int, tuple[int, float, int]] = {}
        self.instances: dict[int, SimulatedInstance] = {}

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

    def start(self, action: StartInstance, spent_us: Micros = 0) -> None:
        """Ready after process, import and load as the profile measured them, and the first call where instances warm up.

        Here and below ``spent_us`` of what it takes are over already.
        """
        app, node = self._apps[action.app], self.machines[action.node]
        if not node.is_up:
            raise SimulationError(f"instance {action.instance} is started on {action.node}, which is down")
        speed = node.speed_on(action.device)
        part = DevicePart(action.gpu_share_fraction, node.speed) if action.device else None
        instance = self.instances[action.instance] = SimulatedInstance(action.instance, app, node, action.stages, speed, part)
        slow = node.slowness / node.speed
        cold = app.model.cold
        process = int(cold.process_us * slow) + node.cluster_node.provision_us
        load, first_call = self._load_us(instance, action.stages, slow)
        ready = InstanceReady(
            action.instance, process, int(cold.import_us * slow), load, first_call, action.memory_mib
        )  # fmt: skip
        took = process + ready.import_us + load + first_call
        self._tell_later(instance, left_us(took, spent_us), self._ready, (instance, ready))

    def stop(self, action: StopInstance) -> None:
        """Ended a little later."""
        instance = self.instances.get(action.instance)
        if instance is not None and instance.invocation is not None:
            raise SimulationError(f"instance {action.instance} is stopped while it works")
        self._end(action.instance)

    def kill(self, action: KillInstance) -> None:
        """Ended a little later; what it ran is dropped."""
        self._end(action.instance)

    def load(self, action: LoadStages, spent_us: Micros = 0) -> None:
        """The further stages are there after load and first call."""
        instance = self.instances.get(action.instance)
        if instance is None:
            return
        if instance.phase != "ready" or instance.invocation is not None:
            raise SimulationError(f"instance {action.instance} is to load while it is {instance.phase}")
        instance.phase = "loading"
        node = instance.node
        load, first_call = self._load_us(instance, action.stages & ~instance.stages, node.slowness / node.speed)
        took = load + first_call
        self._tell_later(instance, left_us(took, spent_us), self._loaded, (instance, action, took))

    def invoke(self, action: Invoke, spent_us: Micros = 0) -> None:
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
        first = action.items[0]
        inside = self._requests.get(first.request, GONE)
        works, calls, elapsed = self._work(app, instance, action, inside)
        slow = node.slowness * instance.slowness
        if node.is_contended:
            slow *= node.cluster_node.interference_factor(node.busy_cores)
        node.busy_cores += cores
        luck = inside[2]
        if first.lo or first.path or first.attempt != 1:
            luck = another_luck(luck, (*first.path, first.lo), first.attempt)
        service, spans = served(calls, luck, slow)
        if instance.cold:
            service = _first_calls(instance, spans, slow / instance.speed)
        if app.hop_residuals:
            elapsed = hop_us(elapsed, app.hop_residuals, luck, action.extent)
        elapsed += service
        loop = self._loop
        if spent_us:
            elapsed = left_us(elapsed, spent_us)
        at = loop.now + elapsed + node.signal_us
        loop.schedule(at, COMPLETION, self._done, (instance, action, works, spans, service))
        if len(spans) > 1 and elapsed > action.limit_us // 2 and not spent_us:
            self._progress(instance, action, elapsed - service, spans)

    def cancel(self, action: CancelInvocation) -> None:
        """Too late: an invocation begins when it is told, and one of its events follows all the same."""

    # For a world that goes on from a state of the controller

    def recall(self, app: str, request: int, kind: int, scale: float) -> None:
        """A request is in flight, and its values are in the store."""
        self._requests[request] = (kind, scale, self._apps[app].service.luck(request))

    def stand(self, number: int, app: str, node: str, stages: int, device: str = "", gpu_share_fraction: float = 0.0) -> None:
        """An instance is there, holds its stages and is idle."""
        machine = self.machines[node]
        part = DevicePart(gpu_share_fraction, machine.speed) if device else None
        instance = SimulatedInstance(number, self._apps[app], machine, stages, machine.speed_on(device), part)
        instance.phase = "ready"
        self.instances[number] = instance

    # What takes time

    def _load_us(self, instance: SimulatedInstance, stages: int, slow: float) -> tuple[Micros, Micros]:
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

    def _hop_us(self, app: AppInside, node: Machine, action: Invoke) -> Micros:
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

    def _work(
        self, app: AppInside, instance: SimulatedInstance, action: Invoke, inside: tuple[int, float, int]
    ) -> tuple[Sequence[Work], Sequence[Call], Micros]:
        """What each item comes to, the calls of the stages for all of them together, and the hop."""
        extent, requests, items, cores = action.extent, self._requests, action.items, action.cpu_cores
        first, node, speed, part = items[0], instance.node, instance.speed, instance.part
        is_single = len(items) == 1 and first.hi - first.lo == 1
        if is_single:
            key = (extent, inside[0], inside[1], cores, speed, part, first.path, first.lo)
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
                    app.service.calls(stage, count, size_sum, cores, speed, work=factor / count, split=split / count, part=part)
                )
        answer = (works, calls, self._hop_us(app, node, action))
        if is_single and len(app.single) < MAX_WORKS:
            app.single[key] = answer
        return answer

    def _progress(self, instance: SimulatedInstance, action: Invoke, at: Micros, spans: list[StageSpan]) -> None:
        """A long invocation says that it goes on when another call begins, but not all the time."""
        told = 0
        for span in spans[:-1]:
            at += span.duration_us
            if at - told >= action.limit_us // 4:
                told = at
                event = InvocationProgressed(action.invocation, action.instance)
                self._loop.schedule(self._loop.now + at, COMPLETION, self._progressed, (instance, action, event))

    # What happens

    def _tell_later(self, instance: SimulatedInstance, delay: Micros, call: object, argument: object) -> None:
        at = self._loop.now + delay + instance.node.cluster_node.signal_us
        self._loop.schedule(at, COMPLETION, call, argument)  # type: ignore[arg-type]

    def _ready(self, argument: tuple[SimulatedInstance, InstanceReady]) -> None:
        instance, event = argument
        if self.instances.get(instance.number) is instance:
            instance.phase = "ready"
            self._loop.post(event)

    def _loaded(self, argument: tuple[SimulatedInstance, LoadStages, Micros]) -> None:
        instance, action, took = argument
        if self.instances.get(instance.number) is instance:
            fresh = action.stages & ~instance.stages
            instance.stages |= action.stages
            instance.phase = "ready"
            memory = instance.app.model.memory_mib(fresh, 0.0)
            self._loop.post(StagesLoaded(instance.number, action.stages, took, memory))

    def _progressed(self, argument: tuple[SimulatedInstance, Invoke, InvocationProgressed]) -> None:
        instance, action, event = argument
        if instance.invocation is action:
            self._loop.post(event)

    def _done(self, argument: tuple[SimulatedInstance, Invoke, Sequence[Work], list[StageSpan], Micros]) -> None:
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
        nbytes = value.nbytes
        if value.is_many:
            put, sizes = self._store.put, value.sizes
            return Payload(tuple([Ref(put(nbytes, node), nbytes, sizes) for _ in range(value.count)]), "many", value.key)
        if value.is_skipped:
            return SKIPPED
        return Payload((Ref(self._store.put(nbytes, node), nbytes, value.sizes),), "one", value.key)

    def _end(self, number: int) -> None:
        instance = self.drop(number)
        if instance is not None:
            self._loop.schedule(self._loop.now + STOP_US, COMPLETION, self._loop.post, InstanceStopped(number))

    # For failures, which the world inflicts

    def drop(self, number: int) -> SimulatedInstance | None:
        """Take an instance and what it runs away; ``None`` where it has ended already."""
        instance = self.instances.pop(number, None)
        if instance is not None and instance.invocation is not None:
            if not instance.will_hang:
                instance.node.busy_cores -= instance.invocation.cpu_cores
            instance.invocation = None
        return instance

    def nodes(self) -> tuple[Node, ...]:
        """The machines that are up, as the controller sees them."""
        return tuple(machine.cluster_node.node for machine in self.machines.values() if machine.is_up)


def left_us(took: Micros, spent: Micros) -> Micros:
    """What is left of something that takes ``took``, ``spent`` after it began; a tenth where it should be over already."""
    return took if not spent else max(took - spent, took // 10, 1)


def _first_calls(instance: SimulatedInstance, spans: list[StageSpan], slow: float) -> Micros:
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
