"""A world that goes on from the memory of a controller: instances, invocations and requests as that memory describes them.

What a controller does not know is imagined: what is inside a request is the kind that is nearest to the values it has shown,
what is under way takes what is left of its predicted time. The actions of the event in which a snapshot was taken may not have
been performed; in the resumed world they have just been.
"""

import msgspec

from grainwise.control.actions import Invoke, LoadStages, StartInstance
from grainwise.control.controller import Controller
from grainwise.control.events import CapacityChanged, InstanceFailed, InstanceStopped, ItemRange
from grainwise.control.fleet import LOAD_FLOOR, PATIENCE_FACTOR
from grainwise.control.requests import Request
from grainwise.control.state import ControllerState, Instance
from grainwise.domain.because import Because
from grainwise.domain.errors import ArtifactError, ConfigurationError
from grainwise.domain.machine import Node
from grainwise.domain.plan import Plan
from grainwise.domain.time import Instant, Micros
from grainwise.domain.values import Payload
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.cluster import Cluster
from grainwise.simulation.contents import Contents, Value
from grainwise.simulation.imagined import imagined, imagined_cluster
from grainwise.simulation.loop import COMPLETION, Observer
from grainwise.simulation.run import Scenario, Simulation
from grainwise.simulation.runtime import STOP_US, SimulatedRuntime
from grainwise.workloads.integers import mixed
from grainwise.workloads.traffic import Arrival, Traffic, open_arrivals

_OF_OLD = Because("it was so when the snapshot was taken")

_WRONG_BRANCH = 1000.0
"""Of two kinds the one that takes the branches which a request has taken is nearer, whatever its sizes."""

_LENGTH = 10.0
"""Numbers of elements that differ weigh so many times what sizes that differ do."""


class Present:
    """A moment of a controller, from which any number of worlds can go on, each under the plan that it is given.

    Args:
        snapshot: the controller's memory.
        now: the instant of it.
        app: the app of which plans are judged, as it is imagined.
        nodes: the machines, for a memory that knows of none.
        known: what is known of the machines beyond that, see ``imagined.imagined_cluster``.

    Raises:
        ArtifactError: the snapshot is no memory of a controller of this version.
        ConfigurationError: it does not know the app.
    """

    def __init__(
        self,
        snapshot: bytes,
        now: Instant,
        app: SimulatedApp,
        nodes: tuple[Node, ...] = (),
        known: Cluster | None = None,
    ) -> None:
        self._snapshot = snapshot
        self.now = now
        state = self._state()
        name = app.spec.name
        if name not in state.apps:
            raise ConfigurationError(f"the snapshot knows no app {name!r}: it has {', '.join(state.apps) or 'none'}")
        self.plan = state.apps[name].plan
        self.dwell_us = state.apps[name].deployed.config.dwell_us
        self.apps = {other: app if other == name else _as_deployed(state, other) for other in state.apps}
        self.prices = state.apps[name].deployed.prices
        present = [node.node for node in state.nodes.values()] or list(nodes)
        self._cluster = imagined_cluster(present, state.apps[name].deployed.capabilities, self.prices, known)
        self._kinds = self._kinds_of(state)

    def _state(self) -> ControllerState:
        try:
            return msgspec.msgpack.decode(self._snapshot, type=ControllerState)
        except msgspec.DecodeError as error:
            raise ArtifactError(f"the snapshot is no memory of a controller of this version: {error}") from error

    def _kinds_of(self, state: ControllerState) -> dict[int, tuple[int, float]]:
        contents = {name: Contents(app.spec.graph, app.kinds) for name, app in self.apps.items()}
        return {number: _nearest(contents[each.app], each) for number, each in state.requests.items() if not each.is_ended}

    def rates_per_s(self, window_s: int) -> dict[str, float]:
        """For each app how many requests came per second lately."""
        return {name: app.rate.per_second(self.now, window_s) for name, app in self._state().apps.items()}

    def resume(self, traffic: Traffic, duration_us: Micros, seed: int, observers: tuple[Observer, ...] = ()) -> Simulation:
        """The world at that moment, in which nothing has happened yet; ``go_on`` lets it.

        Args:
            traffic: who asks for what from now on.
            duration_us: for how long.
            seed: of arrivals, kinds and service times.
            observers: see every event.
        """
        state = self._state()
        for app in state.apps.values():
            app.problem, app.vote = 0, ""
            # Nobody plans inside a plan's judgement.
            config = msgspec.structs.replace(app.deployed.config, replan_us=0)
            app.deployed = msgspec.structs.replace(app.deployed, config=config)
        # Nobody has been told to wake the controller here; its next answer says when.
        state.armed = 0
        scenario = Scenario(self._cluster, tuple(self.apps.values()), duration_us, seed)
        arrivals = open_arrivals(traffic, seed)
        simulation = Simulation(scenario, arrivals, observers=observers, controller=Controller(state))
        simulation.loop.now = self.now
        self._fill(simulation, state)
        return simulation

    def _fill(self, simulation: Simulation, state: ControllerState) -> None:
        """Put everything into the world that the controller believes to be there."""
        runtime = simulation.runtime
        for name, node in state.nodes.items():
            runtime.machines[name].is_up = node.is_present
        for handle, nbytes in _live_bytes(state).items():
            simulation.store.adopt(handle, nbytes)
        for number, request in state.requests.items():
            if not request.is_ended:
                kind, scale = self._kinds[number]
                runtime.recall(request.app, number, kind, scale)
                simulation.in_flight[number] = Arrival(request.arrived - self.now, request.app)
        simulation.offered = max(state.requests, default=0)
        for instance in state.instances.values():
            self._stand(simulation, runtime, state, instance)

    def _stand(self, simulation: Simulation, runtime: SimulatedRuntime, state: ControllerState, instance: Instance) -> None:
        loop, number = simulation.loop, instance.number
        if not state.nodes[instance.node].is_present:
            loop.schedule(self.now + STOP_US, COMPLETION, loop.post, InstanceFailed(number, "lost", "its node is gone"))
        elif instance.phase == "ending":
            loop.schedule(self.now + STOP_US, COMPLETION, loop.post, InstanceStopped(number))
        elif instance.phase == "starting":
            runtime.start(
                StartInstance(
                    number, instance.app, instance.stages, instance.node, instance.cores, instance.memory_mib, _OF_OLD,
                    instance.share, instance.device, instance.gpu_share_fraction, instance.slice_start, instance.device_mib,
                ),
                self.now - instance.started,
            )  # fmt: skip
        else:
            runtime.stand(
                number, instance.app, instance.node, instance.stages, instance.device, instance.gpu_share_fraction
            )  # fmt: skip
            if instance.phase == "loading":
                load = LoadStages(number, instance.loading, _OF_OLD, instance.loading_device_mib)
                runtime.load(load, self._loading_since(state, instance))
            elif instance.invocation:
                self._run(runtime, state, instance)

    def _loading_since(self, state: ControllerState, instance: Instance) -> Micros:
        """For how long an instance has been loading: its limit was set when it began."""
        if not instance.limit:
            return 0
        predicted_us = state.apps[instance.app].deployed.model.cold_start_us(instance.loading)
        began = instance.limit - max(LOAD_FLOOR, int(predicted_us * PATIENCE_FACTOR))
        return max(0, self.now - began)

    def _run(self, runtime: SimulatedRuntime, state: ControllerState, instance: Instance) -> None:
        invocation = state.invocations[instance.invocation]
        items = tuple(ItemRange(each.request, each.outer, each.lo, each.hi, each.attempt) for each in invocation.items)
        limit = max(1, instance.patience or instance.limit - invocation.started)
        runtime.invoke(
            Invoke(
                invocation.number, instance.number, invocation.extent, items, invocation.inputs,
                instance.cores or instance.share, limit, _OF_OLD,
            ),
            self.now - invocation.started,
        )  # fmt: skip

    def go_on(self, simulation: Simulation, plan: Plan) -> None:
        """Let the present world change to ``plan``, make before break, unless it has it or is about to; then traffic comes."""
        loop = simulation.loop
        # Whatever the event of the snapshot left to do is done now: waiting items are given out, a change goes on.
        loop.post(CapacityChanged(simulation.runtime.nodes()))
        app = simulation.controller.state.apps[plan.app]
        aim = app.transition.plan_id if app.transition is not None else app.plan_id
        if plan.id != aim:
            loop.post(msgspec.structs.replace(app.deployed, plan=plan))
        simulation.begin()


def _as_deployed(state: ControllerState, name: str) -> SimulatedApp:
    """Another app of the cluster as it was deployed."""
    app = state.apps[name]
    deployed = app.deployed
    return imagined(deployed.app, deployed.model, deployed.hop, deployed.workload, app.plan, deployed.config)


def _live_bytes(state: ControllerState) -> dict[int, int]:
    """Handles that someone still reads, with the length of what is behind them."""
    known: dict[int, int] = {}

    def note(payload: Payload) -> None:
        for ref in payload.refs:
            known[ref.handle] = ref.nbytes

    for request in state.requests.values():
        for payload in request.values.values():
            note(payload)
    for invocation in state.invocations.values():
        for row in invocation.inputs:
            for payload in row:
                note(payload)
    return {handle: known.get(handle, 0) for request in state.requests.values() for handle in request.live}


def _nearest(contents: Contents, request: Request) -> tuple[int, float]:
    """The kind whose values are most like those that a request has, and by how much its sizes differ."""
    count = len(contents.kinds)
    first = mixed(request.number) % count
    best, least = first, -1.0
    for step in range(count):
        # Of kinds that are equally near each is as likely.
        kind = (first + step) % count
        distance = _distance(contents, kind, request)
        if least < 0 or distance < least:
            best, least = kind, distance
    has = wanted = 0.0
    for at, value in enumerate(contents.entries(best, 1.0)):
        payload = request.values.get((at,))
        if payload is not None:
            wanted += value.count * sum(value.sizes)
            has += sum(sum(ref.sizes) for ref in payload.refs)
    return best, round(min(10.0, max(0.1, has / wanted)), 2) if has > 0 and wanted > 0 else 1.0


def _distance(contents: Contents, kind: int, request: Request) -> float:
    graph, values = contents.graph, request.values
    total = 0.0
    for at, value in enumerate(contents.entries(kind, 1.0)):
        payload = values.get((at,))
        if payload is not None:
            total += _unlike(value, payload)
    inputs = len(graph.input_names)
    for stage, node in enumerate(graph.stages):
        payload = values.get((inputs + stage,))
        if payload is not None and not node.scope:
            total += sum(_unlike(value, payload) for value in contents.work(kind, 1 << stage, (), 1.0).outputs[:1])
    return total


def _unlike(value: Value, payload: Payload) -> float:
    """How different what a kind would hand on is from what was handed on."""
    is_skipped = payload.shape == "skipped"
    if value.is_skipped or is_skipped:
        return 0.0 if value.is_skipped and is_skipped else _WRONG_BRANCH
    if value.key is not None and payload.key is not None and value.key != payload.key:
        return _WRONG_BRANCH
    refs = payload.refs
    found = _LENGTH * _relative(value.count, len(refs)) if value.is_many else 0.0
    found += _relative(value.count * sum(value.sizes), sum(sum(ref.sizes) for ref in refs))
    return found + _relative(value.count * value.nbytes, sum(ref.nbytes for ref in refs)) / _LENGTH


def _relative(left: float, right: float) -> float:
    most = max(left, right)
    return abs(left - right) / most if most > 0 else 0.0
