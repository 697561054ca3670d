"""The numbered invariants, checked from the outside on the stream of (event, actions).

The monitor keeps its own books and never reads the controller's state (except in ``check_state``), so a mistake in the
controller's books cannot hide itself. Tests run it on every event; ``serve --check-invariants`` does so live.

1. No request is lost: each one that arrived is answered, rejected, cancelled or still in flight.
2. None is answered twice.
3. No invocation on an instance that is not ready, is busy, or does not hold the stages.
4. Capacity is never exceeded: memory and hard shares from start to stop, soft shares while loading or invoking. No part of a
   device is given twice, and what is held on it fits its memory. Where a node shrinks under what it carries, nothing more is
   put on it.
5. Every decision is explained.
6. A handle is released exactly once, and never used after that; with no request in flight nothing is live.
"""

from collections.abc import Sequence

from grainwise.control.actions import (
    Action,
    AdoptPlan,
    ComputePlan,
    Invoke,
    KillInstance,
    LoadStages,
    Reject,
    Release,
    Respond,
    StartInstance,
    StopInstance,
)
from grainwise.control.controller import Controller
from grainwise.control.device_invariants import Held, check_books, check_device, held_by
from grainwise.control.events import (
    AppDeployed,
    CapacityChanged,
    Event,
    InstanceFailed,
    InstanceReady,
    InstanceStopped,
    InvocationDone,
    InvocationFailed,
    RequestArrived,
    RequestCancelled,
    StagesLoaded,
)
from grainwise.control.state import ControllerState
from grainwise.domain.errors import GrainwiseError
from grainwise.domain.machine import Node
from grainwise.domain.values import Payload

EPSILON = 1e-6
EXPLAINED = StartInstance | StopInstance | KillInstance | LoadStages | Invoke | Reject | ComputePlan | AdoptPlan


class InvariantError(GrainwiseError):
    """An invariant does not hold; the message starts with its number."""


class _Instance:
    def __init__(self, action: StartInstance) -> None:
        self.node = action.node
        self.stages = action.stages
        self.phase = "starting"
        self.loading = 0
        self.invocation = 0
        self.cores = action.cpu_cores
        self.memory_mib = action.memory_mib
        self.held: Held | None = None


class Monitor:
    """Checks invariants 1 to 6 event by event. Raises ``InvariantError`` on the first that does not hold."""

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._last_request = 0
        self._instances: dict[int, _Instance] = {}
        self._invocations: dict[int, tuple[int, tuple[int, ...]]] = {}
        self._live: set[int] = set()
        self._nodes: dict[str, Node] = {}
        self._is_hard = False

    def observe(self, event: Event, actions: Sequence[Action], now: int) -> None:
        """Check one step of a controller."""
        self._take(event)
        for action in actions:
            self._check(action)
        self._check_capacity(actions)
        self._check_devices(actions)
        if not self._open and not self._invocations and self._live:
            raise InvariantError(f"6: no request is in flight and handles {sorted(self._live)[:10]} are live")

    def _take(self, event: Event) -> None:
        if isinstance(event, RequestArrived):
            self._open.add(event.request)
            self._last_request = max(self._last_request, event.request)
            self._publish(event.inputs)
        elif isinstance(event, RequestCancelled):
            self._open.discard(event.request)
        elif isinstance(event, InvocationDone):
            self._end(event.invocation, event.instance)
            for result in event.results:
                self._publish(result.outputs)
        elif isinstance(event, InvocationFailed):
            self._end(event.invocation, event.instance)
        elif isinstance(event, InstanceReady) and event.instance in self._instances:
            self._idle(self._instances[event.instance])
        elif isinstance(event, StagesLoaded) and event.instance in self._instances:
            instance = self._instances[event.instance]
            self._idle(instance)
            if not event.error:
                instance.stages |= event.stages
            elif instance.held is not None:
                instance.held.memory_mib -= instance.held.loading_mib
            if instance.held is not None:
                instance.held.loading_mib = 0.0
        elif isinstance(event, InstanceFailed | InstanceStopped):
            gone = self._instances.pop(event.instance, None)
            if gone is not None and gone.invocation:
                self._invocations.pop(gone.invocation, None)
        elif isinstance(event, CapacityChanged):
            self._nodes = {node.name: node for node in event.nodes}
        elif isinstance(event, AppDeployed):
            self._is_hard = event.capabilities.is_share_hard

    def _idle(self, instance: _Instance) -> None:
        if instance.phase != "ending":
            instance.phase = "ready"
        if not self._is_hard:
            instance.cores = 0.0

    def _end(self, invocation: int, instance: int) -> None:
        self._invocations.pop(invocation, None)
        known = self._instances.get(instance)
        if known is not None and known.invocation == invocation:
            known.invocation = 0
            self._idle(known)

    def _publish(self, payloads: Sequence[Payload]) -> None:
        for payload in payloads:
            for ref in payload.refs:
                if ref.handle in self._live:
                    raise InvariantError(f"6: handle {ref.handle} was published twice")
                self._live.add(ref.handle)

    def _check(self, action: Action) -> None:
        if isinstance(action, Respond | Reject):
            if action.request not in self._open:
                known = "was answered before" if action.request <= self._last_request else "never arrived"
                raise InvariantError(f"2: request {action.request} is answered and {known}")
            self._open.discard(action.request)
            if isinstance(action, Respond):
                self._forget([ref.handle for payload in action.outputs for ref in payload.refs], "answered")
        elif isinstance(action, Release):
            self._forget(list(action.handles), "released")
        elif isinstance(action, Invoke):
            self._check_invoke(action)
        elif isinstance(action, StartInstance):
            self._start(action)
        elif isinstance(action, LoadStages):
            instance = self._instances.get(action.instance)
            if instance is None or instance.phase != "ready" or instance.invocation:
                raise InvariantError(f"3: instance {action.instance} is told to load and is not idle")
            instance.phase = "loading"
            if instance.held is not None:
                instance.held.memory_mib += action.device_memory_mib
                instance.held.loading_mib = action.device_memory_mib
            elif action.device_memory_mib:
                raise InvariantError(f"4: instance {action.instance} loads onto a device and has none")
        elif isinstance(action, StopInstance):
            instance = self._instances.get(action.instance)
            if instance is None or instance.invocation:
                raise InvariantError(f"3: instance {action.instance} is told to stop and is not idle")
            instance.phase = "ending"
        elif isinstance(action, KillInstance) and action.instance in self._instances:
            killed = self._instances[action.instance]
            killed.phase = "ending"
            self._invocations.pop(killed.invocation, None)
            killed.invocation = 0
        because = getattr(action, "because", None)
        needs = isinstance(action, EXPLAINED)
        if needs and (because is None or not because.rule):
            raise InvariantError(f"5: {action} does not say why")

    def _start(self, action: StartInstance) -> None:
        instance = self._instances[action.instance] = _Instance(action)
        instance.held, wrong = held_by(action, self._nodes.get(action.node))
        if wrong:
            raise InvariantError(f"4: instance {action.instance} {wrong}")

    def _forget(self, handles: list[int], verb: str) -> None:
        for handle in dict.fromkeys(handles):
            if handle not in self._live:
                raise InvariantError(f"6: handle {handle} is {verb} and is not live")
            self._live.discard(handle)
            for number, (_, used) in self._invocations.items():
                if handle in used:
                    raise InvariantError(f"6: handle {handle} is {verb} while invocation {number} reads it")

    def _check_invoke(self, action: Invoke) -> None:
        instance = self._instances.get(action.instance)
        if instance is None or instance.phase != "ready":
            phase = "unknown" if instance is None else instance.phase
            raise InvariantError(f"3: invocation {action.invocation} goes to instance {action.instance}, which is {phase}")
        if instance.invocation:
            raise InvariantError(f"3: instance {action.instance} is busy with {instance.invocation}")
        if instance.stages & action.extent != action.extent:
            raise InvariantError(f"3: instance {action.instance} does not hold extent {action.extent:b}")
        if sum(item.count for item in action.items) != len(action.inputs) or not action.inputs:
            raise InvariantError(f"1: invocation {action.invocation} has {len(action.inputs)} inputs for its items")
        used = tuple(ref.handle for inputs in action.inputs for payload in inputs for ref in payload.refs)
        for handle in used:
            if handle not in self._live:
                raise InvariantError(f"6: invocation {action.invocation} reads handle {handle}, which is not live")
        instance.invocation = action.invocation
        if not self._is_hard:
            instance.cores = action.cpu_cores
        self._invocations[action.invocation] = (action.instance, used)

    def _check_devices(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if not isinstance(action, StartInstance | LoadStages):
                continue
            instance = self._instances[action.instance]
            if instance.held is None:
                continue
            here = [each.held for each in self._instances.values() if each.held is not None and each.node == instance.node]
            wrong = check_device(self._nodes[instance.node], instance.held, here)
            if wrong and (isinstance(action, StartInstance) or action.device_memory_mib > 0):
                raise InvariantError(f"4: {wrong}")

    def _check_capacity(self, actions: Sequence[Action]) -> None:
        charged = [action.instance for action in actions if isinstance(action, StartInstance | LoadStages | Invoke)]
        for name in dict.fromkeys(self._instances[number].node for number in charged):
            node = self._nodes.get(name)
            if node is None:
                raise InvariantError(f"4: an instance on {name} is given work, and there is no such node")
            here = [each for each in self._instances.values() if each.node == name]
            is_start = any(isinstance(action, StartInstance) and action.node == name for action in actions)
            memory = sum(each.memory_mib for each in here)
            if memory > node.memory_mib + EPSILON and is_start:
                raise InvariantError(f"4: {memory:.1f} MiB are charged on {name}, which has {node.memory_mib:.1f}")
            cores = sum(each.cores for each in here)
            if cores > node.usable_cores + EPSILON and (is_start or not self._is_hard):
                raise InvariantError(f"4: {cores:.3f} cores are charged on {name}, which has {node.usable_cores:.3f}")

    @property
    def open_requests(self) -> frozenset[int]:
        """Requests that arrived and were neither answered nor cancelled."""
        return frozenset(self._open)

    @property
    def live_handles(self) -> frozenset[int]:
        """Handles that were published and neither released nor handed to the door."""
        return frozenset(self._live)


def check_state(controller: Controller, monitor: Monitor) -> None:
    """Invariants 1, 4 and 6 on the controller's own books: they agree with what was seen from outside and with each other.

    Raises:
        InvariantError: a request is lost, kept too long, or waits for nothing; a handle has leaked; a sum is wrong.
    """
    state = controller.state
    held = {number for number, request in state.requests.items() if not request.is_ended}
    if held != monitor.open_requests:
        lost, kept = sorted(monitor.open_requests - held), sorted(held - monitor.open_requests)
        raise InvariantError(f"1: requests {lost[:10]} are lost, requests {kept[:10]} are kept after their answer")
    for number in sorted(held):
        request = state.requests[number]
        if not request.queued and not request.running:
            raise InvariantError(f"1: request {number} neither waits nor runs")
    live = {handle for request in state.requests.values() for handle in request.live}
    if live != monitor.live_handles:
        leaked, lacking = sorted(monitor.live_handles - live), sorted(live - monitor.live_handles)
        raise InvariantError(f"6: handles {leaked[:10]} have leaked, handles {lacking[:10]} are held and are not live")
    _check_queues(state)
    _check_charges(state)


def _check_queues(state: ControllerState) -> None:
    for name, app in state.apps.items():
        in_flight = sum(1 for request in state.requests.values() if request.app == name and not request.is_ended)
        if app.in_flight != in_flight:
            raise InvariantError(f"1: app {name} counts {app.in_flight} requests in flight; there are {in_flight}")
        for mask, queue in app.queues.items():
            items = sum(waiting.hi - waiting.lo for waiting in queue.waiting.values())
            if items != queue.items:
                raise InvariantError(f"1: queue {mask:b} of app {name} counts {queue.items} items; there are {items}")
            for sequence, waiting in queue.waiting.items():
                request = state.requests.get(waiting.request)
                if request is None or request.queued.get(sequence) != mask:
                    raise InvariantError(f"1: queue {mask:b} of app {name} holds items that request {waiting.request} lacks")


def _check_charges(state: ControllerState) -> None:
    for name, node in state.nodes.items():
        here = [each for each in state.instances.values() if each.node == name]
        memory, cores = sum(each.memory_mib for each in here), sum(each.cores for each in here)
        if abs(node.memory_mib - memory) > EPSILON or abs(node.cores - cores) > EPSILON:
            raise InvariantError(
                f"4: {name} is charged {node.memory_mib:.1f} MiB and {node.cores:.3f} cores; "
                f"its instances have {memory:.1f} and {cores:.3f}"
            )
    wrong = check_books(state.instances.values())
    if wrong:
        raise InvariantError(f"4: {wrong}")
    for number, invocation in state.invocations.items():
        if state.instances[invocation.instance].invocation != number:
            raise InvariantError(f"3: invocation {number} and instance {invocation.instance} do not know each other")
