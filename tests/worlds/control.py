"""A small virtual world around a controller: a clock that is moved by hand, values behind handles, instances that may fail.

Stages really run, on the values behind the handles at the moment at which an invocation ends, so a handle that was released
too early or a value that went astray shows as a wrong answer. Every event is checked against the numbered invariants.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec

from grainwise import App
from grainwise.control.actions import (
    Action,
    CancelInvocation,
    ComputePlan,
    Invoke,
    KillInstance,
    LoadStages,
    Reject,
    Release,
    Respond,
    StartInstance,
    StopInstance,
    WakeAt,
)
from grainwise.control.controller import Controller
from grainwise.control.events import (
    AppDeployed,
    CapacityChanged,
    Event,
    InstanceFailed,
    InstanceReady,
    InstanceStopped,
    InvocationDone,
    InvocationFailed,
    ItemFailure,
    ItemResult,
    PlanReady,
    PlanRequested,
    RequestArrived,
    RequestCancelled,
    StagesLoaded,
    StageSpan,
    Wake,
)
from grainwise.control.invariants import Monitor, check_state
from grainwise.control.log import Entry
from grainwise.domain.app import AppSpec
from grainwise.domain.config import AppConfig
from grainwise.domain.extent import Extent, keyed_sources, make_extent
from grainwise.domain.graph import Input, Source
from grainwise.domain.machine import NOMINAL_PRICES, Capabilities, HopModel, Node
from grainwise.domain.plan import Grain, Plan, Prediction
from grainwise.domain.time import MILLISECOND, SECOND, Instant
from grainwise.domain.values import SKIPPED, Payload, Ref
from grainwise.planning.problem import Option, PlanTable, Problem
from grainwise.predictors.latency import ColdStartModel, LatencyModel, StageModel
from grainwise.predictors.workload import Workload
from grainwise.runtimes.columns import SKIPPED_VALUE
from grainwise.runtimes.execute import Resident
from worlds.grains import plan_for

SOFT = Capabilities("virtual", "none", "invocation", False, 0.1, 1 << 30)
HARD = Capabilities("virtual-hard", "cgroup2", "instance", True, 0.1, 1 << 30)
HOP = HopModel(100.0, 0.0, 50.0, 0.0, 10.0)
PREDICTED = Prediction(1.0, 2.0, 3.0, 1.0, 100.0, 0.1, 0.1, 0.1)


def model_of(spec: AppSpec, *, fixed_us: float = 5000.0, item_us: float = 1000.0, memory_mib: float = 100.0) -> LatencyModel:
    """Every stage alike."""
    stage = StageModel(fixed_us, item_us, 0.0, (1.0,), (1.0,), (1.0,) * 7, 0.0, memory_mib, 50_000.0, 1000.0)
    return LatencyModel((stage,) * len(spec.graph.stages), ColdStartModel(50_000.0, 0.0), "virtual", "none")


def workload_of(spec: AppSpec, rate_per_s: float = 1.0) -> Workload:
    """One item everywhere."""
    stages = len(spec.graph.stages)
    return Workload(rate_per_s, (1.0,) * stages, (1.0,) * stages, (8.0,) * stages, (8.0,) * len(spec.graph.input_names))


@cache
def _spec(app: App) -> AppSpec:
    return app.spec(app.name.encode())


def _on_gpu(spec: AppSpec) -> AppSpec:
    stages = tuple(msgspec.structs.replace(stage, device="gpu") for stage in spec.stages)
    return msgspec.structs.replace(spec, stages=stages)


@cache
def _resident(app: App) -> Resident:
    resident = Resident(app, _spec(app), lambda: 0)
    resident.load(_spec(app).graph.all_mask)
    return resident


@dataclass
class Deployed:
    """An app in the world."""

    app: App
    spec: AppSpec
    resident: Resident
    keyed: frozenset[Source]
    extents: dict[int, Extent] = field(default_factory=dict)

    def extent(self, mask: int) -> Extent:
        if mask not in self.extents:
            self.extents[mask] = make_extent(self.spec.graph, mask)
        return self.extents[mask]


@dataclass
class Asked:
    """A request as the door sees it."""

    app: str
    arguments: tuple[Any, ...]
    at: Instant
    answer: Any = None
    reject: Reject | None = None
    is_cancelled: bool = False
    answered_at: Instant = 0

    @property
    def is_over(self) -> bool:
        return self.answered_at > 0 or self.is_cancelled

    @property
    def code(self) -> str:
        """``ok``, the code of a rejection, or ``open``."""
        if self.reject is not None:
            return self.reject.code
        return "ok" if self.answered_at else "open"


class World:
    """A controller and everything that it believes to be outside.

    ``invoked`` decides what becomes of an invocation: ``done``, ``hang``, ``crash``, ``backpressure``, ``refused``, or a
    callable that makes the results. ``started`` and ``loaded`` decide likewise: ``ok``, ``fail`` or ``hang``.
    ``fails`` names requests on which stages fail. With ``on_gpu`` every stage is declared for a GPU.
    """

    def __init__(
        self,
        *apps: App,
        grains: Sequence[Grain | None] = (),
        plans: Sequence[Plan] = (),
        nodes: tuple[Node, ...] = (Node("here", 4.0, 10_000.0),),
        capabilities: Capabilities = SOFT,
        config: AppConfig | None = None,
        service_us: int = 10 * MILLISECOND,
        start_us: int = 100 * MILLISECOND,
        model: Callable[[AppSpec], LatencyModel] = model_of,
        max_batch: int = 4,
        warm: bool = True,
        is_checked: bool = True,
        on_gpu: bool = False,
        started: Callable[[StartInstance], str] = lambda action: "ok",
    ) -> None:
        self.controller = Controller()
        self.monitor = Monitor()
        self.now: Instant = SECOND
        self.log: list[Entry] = []
        self.actions: list[Action] = []
        self.values: dict[int, Any] = {}
        self.asked: dict[int, Asked] = {}
        self.apps: dict[str, Deployed] = {}
        self.service_us = service_us
        self.start_us = start_us
        self.invoked: Callable[[Invoke], Any] = lambda action: "done"
        self.started = started
        self.loaded: Callable[[LoadStages], str] = lambda action: "ok"
        self.before: Callable[[Event, list[Action]], None] = lambda event, actions: None
        self.fails: set[int] = set()
        self.cancelled: set[int] = set()
        self.running: dict[int, Invoke] = {}
        self.instances: dict[int, StartInstance] = {}
        self.residency: dict[int, int] = {}
        self.problems: list[Problem] = []
        self.wake_at: Instant = 0
        self._is_checked = is_checked
        self._due: list[tuple[Instant, int, Callable[[], None]]] = []
        self._ticket = 0
        self._handles = 0
        self.post(CapacityChanged(nodes))
        for at, app in enumerate(apps):
            spec = _on_gpu(_spec(app)) if on_gpu else _spec(app)
            self.apps[spec.name] = Deployed(app, spec, _resident(app), frozenset(keyed_sources(spec.graph)))
            grain = grains[at] if at < len(grains) else None
            plan = (
                plans[at]
                if at < len(plans)
                else plan_for(spec.name, grain or (spec.graph.names(spec.graph.all_mask),), max_batch=max_batch)
            )
            self.post(
                AppDeployed(
                    spec, model(spec), HOP, workload_of(spec), plan, capabilities, NOMINAL_PRICES,
                    config or AppConfig(replan_us=0),
                )
            )  # fmt: skip
        if warm:
            self.run(lambda: all(self.controller.status(name).is_ready for name in self.apps), "every app is ready")

    # Time

    def later(self, delay: int, call: Callable[[], None]) -> None:
        """Do something after a delay."""
        self._ticket += 1
        heapq.heappush(self._due, (self.now + delay, self._ticket, call))

    @property
    def next_at(self) -> Instant:
        """When something happens next, 0 for never."""
        instants = [self._due[0][0]] if self._due else []
        if self.wake_at:
            instants.append(max(self.wake_at, self.now))
        return min(instants, default=0)

    def step(self) -> bool:
        """Let the next thing happen: completions before wakes. False when nothing is to come."""
        at = self.next_at
        if not at:
            return False
        self.now = max(self.now, at)
        if self._due and self._due[0][0] <= self.now:
            heapq.heappop(self._due)[2]()
        else:
            self.wake_at = 0
            self.post(Wake())
        return True

    def run_until(self, instant: Instant) -> None:
        """Let everything happen up to an instant."""
        while self.next_at and self.next_at <= instant:
            self.step()
        self.now = max(self.now, instant)

    def run_for(self, duration: int) -> None:
        """Let time pass."""
        self.run_until(self.now + duration)

    def run(self, claim: Callable[[], bool], words: str, within: int = 600 * SECOND) -> None:
        """Let things happen until a claim holds."""
        until = self.now + within
        while not claim():
            assert self.next_at and self.next_at <= until, f"it never came about that {words}"
            self.step()

    def drain(self) -> None:
        """Let every request end; afterwards nothing may be live."""
        self.run(lambda: all(asked.is_over for asked in self.asked.values()), "every request ended")
        self.run(lambda: not self.controller.state.invocations, "every invocation ended")
        assert not self.controller.state.requests
        assert not self.values, f"values behind {sorted(self.values)} are left"

    # Events

    def post(self, event: Event) -> list[Action]:
        """Tell the controller something, check what it says, and do it."""
        actions = self.controller.handle(event, self.now)
        self.log.append(Entry(len(self.log), self.now, event, actions))
        self.actions.extend(actions)
        self.before(event, actions)
        if self._is_checked:
            self.monitor.observe(event, actions, self.now)
            check_state(self.controller, self.monitor)
        for action in actions:
            self._perform(action)
        return actions

    def ask(self, *arguments: Any, app: str = "", within_us: int = 0) -> int:
        """A client asks; returns the request's number."""
        name = app or next(iter(self.apps))
        number = len(self.asked) + 1
        self.asked[number] = Asked(name, arguments, self.now)
        deployed = self.apps.get(name)
        inputs: tuple[Payload, ...] = ()
        if deployed is not None:
            inputs = tuple(self._payload(deployed, Input(at), value) for at, value in enumerate(arguments))
        self.post(RequestArrived(number, name, inputs, self.now + within_us if within_us else 0))
        return number

    def cancel(self, request: int) -> None:
        """A client goes away."""
        if not self.asked[request].is_over:
            self.asked[request].is_cancelled = True
            self.post(RequestCancelled(request))

    def crash(self, instance: int, cause: Any = "lost", stage: str = "") -> None:
        """The process of an instance ends."""
        if instance in self.instances:
            self._forget(instance)
            self.post(InstanceFailed(instance, cause, f"signal 11 in {instance}", stage))

    def regranulate(self, grain: Grain | Plan, app: str = "", **more: Any) -> None:
        """Command a granularity, and answer for the planner at once."""
        name = app or next(iter(self.apps))
        plan = grain if isinstance(grain, Plan) else plan_for(name, grain, **more)
        self.post(PlanRequested(name, "a test", plan.grain))
        self.answer(plan, name)

    def answer(self, plan: Plan, app: str = "", current: Prediction | None = None, predicted: Prediction = PREDICTED) -> None:
        """The planner answers the latest problem with one plan."""
        name = app or next(iter(self.apps))
        option = Option(plan, predicted, True)
        self.post(PlanReady(name, PlanTable(self.problems[-1].number, (option,), "a test says so", True, current=current)))

    # What has been seen

    def outcomes(self) -> list[str]:
        """How each request ended, in the order of asking."""
        return [asked.code for asked in self.asked.values()]

    def seen(self, kind: type, since: int = 0) -> list[Any]:
        """The actions of a kind, from the one numbered ``since`` on."""
        return [action for action in self.actions[since:] if isinstance(action, kind)]

    @property
    def busy(self) -> list[Invoke]:
        """What runs now."""
        return list(self.running.values())

    def status(self, app: str = "") -> Any:
        """The status of an app."""
        return self.controller.status(app or next(iter(self.apps)))

    def state_of(self, app: str = "") -> Any:
        """The controller's memory of an app."""
        return self.controller.state.apps[app or next(iter(self.apps))]

    # Actions

    def _perform(self, action: Action) -> None:
        if isinstance(action, Invoke):
            self._invoke(action)
        elif isinstance(action, StartInstance):
            self._start(action)
        elif isinstance(action, StopInstance | KillInstance):
            if action.instance in self.instances:
                self._forget(action.instance)
                self.later(MILLISECOND, lambda: self._stopped(action.instance))
        elif isinstance(action, LoadStages):
            if self.loaded(action) != "hang":
                error = "out of luck" if self.loaded(action) == "fail" else ""
                self.later(self.start_us, lambda: self._loaded(action, error))
        elif isinstance(action, Release):
            for handle in action.handles:
                del self.values[handle]
        elif isinstance(action, Respond):
            self._respond(action)
        elif isinstance(action, Reject):
            self._over(action.request).reject = action
        elif isinstance(action, WakeAt):
            self.wake_at = action.at
        elif isinstance(action, ComputePlan):
            self.problems.append(action.problem)
        elif isinstance(action, CancelInvocation):
            self.cancelled.add(action.invocation)

    def _over(self, request: int) -> Asked:
        asked = self.asked[request]
        assert not asked.is_over, f"request {request} ends twice"
        asked.answered_at = self.now
        return asked

    def _respond(self, action: Respond) -> None:
        asked = self._over(action.request)
        deployed = self.apps[asked.app]
        found = [self._value(payload) for payload in action.outputs]
        flow = deployed.app._flow
        assert flow is not None
        expected = flow(*asked.arguments)
        asked.answer = found[0] if len(found) == 1 else tuple(found)
        assert asked.answer == expected, f"request {action.request} is answered {asked.answer}, not {expected}"
        for handle in dict.fromkeys(ref.handle for payload in action.outputs for ref in payload.refs):
            del self.values[handle]

    def _start(self, action: StartInstance) -> None:
        self.instances[action.instance] = action
        outcome = self.started(action)
        if outcome == "ok":
            self.later(self.start_us, lambda: self._ready(action))
        elif outcome == "fail":
            self.later(self.start_us, lambda: self._failed_to_start(action))

    def _ready(self, action: StartInstance) -> None:
        if self.instances.get(action.instance) is action:
            self.residency[action.instance] = action.stages
            self.post(InstanceReady(action.instance, 1, 2, 3, 4, action.memory_mib))

    def _failed_to_start(self, action: StartInstance) -> None:
        if self.instances.pop(action.instance, None) is not None:
            self.post(InstanceFailed(action.instance, "starting", "no such model"))

    def _stopped(self, instance: int) -> None:
        self.post(InstanceStopped(instance))

    def _loaded(self, action: LoadStages, error: str) -> None:
        if action.instance in self.instances:
            if not error:
                self.residency[action.instance] |= action.stages
            self.post(StagesLoaded(action.instance, action.stages, self.start_us, 0.0, error))

    def _forget(self, instance: int) -> None:
        del self.instances[instance]
        self.residency.pop(instance, None)
        for number in [number for number, invoke in self.running.items() if invoke.instance == instance]:
            del self.running[number]

    def _invoke(self, action: Invoke) -> None:
        assert self.residency[action.instance] & action.extent == action.extent
        assert not any(invoke.instance == action.instance for invoke in self.running.values())
        self.running[action.invocation] = action
        outcome = self.invoked(action)
        if outcome in ("backpressure", "refused"):
            self.later(self.service_us, lambda: self.fail(action, outcome))
        elif outcome == "crash":
            self.later(self.service_us, lambda: self._crash_in(action))
        elif outcome == "done":
            self.later(self.service_us, lambda: self.complete(action))

    def _crash_in(self, action: Invoke) -> None:
        if action.invocation in self.running:
            self.crash(action.instance)

    def fail(self, action: Invoke, kind: Any) -> None:
        """An invocation is not performed."""
        if self.running.pop(action.invocation, None) is not None:
            self.post(InvocationFailed(action.invocation, action.instance, kind, "the arena"))

    def complete(self, action: Invoke) -> None:
        """An invocation ends: its stages run now."""
        if self.running.pop(action.invocation, None) is not None:
            self.post(self.result_of(action))

    def result_of(self, action: Invoke) -> InvocationDone:
        """What an invocation comes to, with fresh handles."""
        app = self._app_of(action)
        extent = app.extent(action.extent)
        rows = [[self._value(payload) for payload in inputs] for inputs in action.inputs]
        outcome = app.resident.run(extent, rows)
        requests = [item.request for item in action.items for _ in range(item.count)]
        results = tuple(
            self._result(app, extent, request, values) for request, values in zip(requests, outcome.results, strict=True)
        )
        spans = tuple(StageSpan(span.stage, span.items, span.size_sum, 1000, span.raised) for span in outcome.spans)
        return InvocationDone(action.invocation, action.instance, results, self.service_us, spans)

    def _app_of(self, action: Invoke) -> Deployed:
        return self.apps[self.asked[action.items[0].request].app]

    def _result(self, app: Deployed, extent: Extent, request: int, values: Any) -> ItemResult:
        name = app.spec.graph.names(extent.mask)[0]
        if request in self.fails:
            return ItemResult((), ItemFailure(name, "raised", "poison"))
        if isinstance(values, ItemFailure):
            return ItemResult((), values)
        return ItemResult(
            tuple(self._payload(app, source, value) for source, value in zip(extent.outputs, values, strict=True))
        )

    # Values

    def _payload(self, app: Deployed, source: Source, value: Any) -> Payload:
        if value is SKIPPED_VALUE:
            return SKIPPED
        key = app.resident.key(source, value) if source in app.keyed else None
        if app.resident.is_many(source):
            return Payload(tuple(self._ref(app, source, element) for element in value), "many", key)
        return Payload((self._ref(app, source, value),), "one", key)

    def _ref(self, app: Deployed, source: Source, value: Any) -> Ref:
        self._handles += 1
        self.values[self._handles] = value
        return Ref(self._handles, 8, app.resident.measure(source, value))

    def _value(self, payload: Payload) -> Any:
        if payload.shape == "skipped":
            return SKIPPED_VALUE
        if payload.shape == "many":
            return [self.values[ref.handle] for ref in payload.refs]
        return self.values[payload.refs[0].handle]
