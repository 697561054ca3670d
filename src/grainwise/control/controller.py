"""The controller: a pure function of (event, now). It performs nothing, reads no clock, and returns actions."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from grainwise.control.actions import Action, Reject, RejectCode
from grainwise.control.core import DEADLINE, DISPATCH, WATCH, Core
from grainwise.control.dispatch import Dispatcher
from grainwise.control.endings import Endings
from grainwise.control.events import (
    AppDeployed,
    CapacityChanged,
    Event,
    InstanceFailed,
    InstanceReady,
    InstanceStopped,
    InvocationDone,
    InvocationFailed,
    InvocationProgressed,
    ItemFailure,
    ItemResult,
    ModelReady,
    PlanFailed,
    PlanReady,
    PlanRequested,
    RequestArrived,
    RequestCancelled,
    StagesLoaded,
    Wake,
)
from grainwise.control.fleet import Fleet
from grainwise.control.queues import Waiting
from grainwise.control.replanning import Replanner
from grainwise.control.requests import Flow, Request
from grainwise.control.scaling import GIVE_UP_STARTS, Scaler
from grainwise.control.state import AppState, ControllerState, Instance, NodeState
from grainwise.control.status import AppStatus, describe
from grainwise.control.transition import Regranulation
from grainwise.domain.because import Because
from grainwise.domain.time import SECOND, Instant, from_ms
from grainwise.domain.values import Payload
from grainwise.policies import admission
from grainwise.policies.sets import policy_set

PAST_DEADLINE = Because("its deadline passed")
MAX_ATTEMPTS = 2

E = TypeVar("E", AppDeployed, CapacityChanged, ModelReady, PlanReady)


class Controller:
    """One controller owns all the apps of a cluster.

    ``handle`` must be called with instants that never decrease. Two controllers that are fed the same events at the same
    instants return the same actions.
    """

    def __init__(self, state: ControllerState | None = None) -> None:
        self.state = state if state is not None else ControllerState()
        self._core = Core(self.state)
        self._endings = Endings(self._core)
        self._fleet = Fleet(self._core)
        self._dispatcher = Dispatcher(self._core, self._fleet, self._endings)
        self._scaler = Scaler(self._core, self._fleet, self._dispatcher)
        self._regranulation = Regranulation(self._core, self._fleet, self._endings, self._scaler)
        self._replanner = Replanner(self._core, self._scaler, self._regranulation)
        self._handlers: dict[type, Callable[..., None]] = {
            RequestArrived: self._request_arrived,
            RequestCancelled: self._request_cancelled,
            InvocationDone: self._invocation_done,
            InvocationFailed: self._invocation_failed,
            InvocationProgressed: self._invocation_progressed,
            InstanceReady: self._instance_ready,
            InstanceFailed: self._instance_failed,
            InstanceStopped: self._instance_stopped,
            StagesLoaded: self._stages_loaded,
            PlanRequested: self._plan_requested,
            PlanReady: self._plan_ready,
            PlanFailed: self._plan_failed,
            ModelReady: self._model_ready,
            AppDeployed: self._app_deployed,
            CapacityChanged: self._capacity_changed,
            Wake: self._wake,
        }

    def handle(self, event: Event, now: Instant) -> list[Action]:
        """Take one event in and say what to do about it."""
        self._core.now = now
        self._handlers[type(event)](event)
        return self._core.finish()

    def snapshot(self) -> bytes:
        """The whole memory of the controller, for the head of a log segment."""
        return msgspec.msgpack.encode(self.state)

    @classmethod
    def restore(cls, snapshot: bytes) -> "Controller":
        """A controller that goes on where ``snapshot`` was taken."""
        return cls(msgspec.msgpack.decode(snapshot, type=ControllerState))

    def status(self, app: str) -> AppStatus:
        """What an operator may see of an app.

        Raises:
            KeyError: no such app is deployed.
        """
        return describe(self.state, app)

    # Requests

    def _request_arrived(self, event: RequestArrived) -> None:
        core = self._core
        app = core.state.apps.get(event.app)
        if app is None:
            self._refuse(event, "unknown_app", Because("no such app", (("app", event.app),)), 0)
            return
        now = core.now
        app.rate.add(now)
        app.last_arrival = now
        config, spec = app.deployed.config, app.deployed.app
        deadline = event.deadline or now + config.patience_us
        if deadline <= now:
            self._refuse(event, "deadline", PAST_DEADLINE, 0)
            return
        due = min(now + from_ms(spec.slo.latency_ms), deadline)
        if not app.review_at:
            self._scaler.review_at(app, now + SECOND)
        if spec.reject_late or app.in_flight >= config.max_requests:
            verdict = self._admit(app, due)
            if isinstance(verdict, admission.Refuse):
                self._refuse(event, "too_late" if verdict.is_late else "queue_full", verdict.because, verdict.retry_after_us)
                return
        if not app.is_covered:
            hopeless = self._scaler.warm(app)
            if hopeless is not None:
                self._refuse(event, "no_capacity", hopeless, self._scaler.retry_after_us(app))
                return
        plan = app.plan_id
        routing = core.flows(app, plan)
        request = Request(event.request, spec.name, plan, now, due, deadline, len(routing.final))
        core.state.requests[event.request] = request
        app.in_flight += 1
        app.requests_by_plan[plan] = app.requests_by_plan.get(plan, 0) + 1
        core.set_timer(deadline, DEADLINE, event.request)
        flow = Flow(request, routing)
        flow.begin(event.inputs)
        self._proceed(app, request, flow)
        self._dispatcher.run()

    def _admit(self, app: AppState, due: Instant) -> admission.Accept | admission.Refuse:
        config, spec = app.deployed.config, app.deployed.app
        wait = self._dispatcher.wait_us(app)
        work = self._core.work_us(app) if spec.reject_late else 0.0
        view = admission.AdmissionView(app.in_flight, config.max_requests, spec.reject_late, due, wait, work)
        return self._core.policies[spec.name].admit(view, self._core.now)

    def _refuse(self, event: RequestArrived, code: RejectCode, because: Because, retry_after_us: int) -> None:
        self._core.release([ref.handle for payload in event.inputs for ref in payload.refs])
        self._core.emit(Reject(event.request, code, because, "", retry_after_us))

    def _request_cancelled(self, event: RequestCancelled) -> None:
        request = self._core.state.requests.get(event.request)
        if request is not None and not request.is_ended:
            self._endings.cancel(request)

    def _proceed(self, app: AppState, request: Request, flow: Flow) -> None:
        """Queue what became ready; answer when every output is known and nothing of the request runs any more."""
        if flow.routing.has_guards:
            flow.settle()
        if flow.released:
            self._core.release(flow.released)
        if not request.outputs_left and not request.running:
            app.means.requests += 1
            self._endings.respond(request, flow)
        elif flow.ready:
            self._dispatcher.enqueue(app, request, flow)

    # Invocations

    def _invocation_done(self, event: InvocationDone) -> None:
        core = self._core
        invocation = core.state.invocations.pop(event.invocation, None)
        if invocation is None:
            core.release([ref.handle for result in event.results for payload in result.outputs for ref in payload.refs])
            return
        app = core.state.apps[invocation.app]
        self._fleet.free(app, invocation.instance, event.invocation)
        self._learn(app, event)
        at = 0
        home = ""
        if len(core.state.nodes) > 1 and event.instance in core.state.instances:
            home = core.state.instances[event.instance].node
        for item in invocation.items:
            until = at + item.hi - item.lo
            self._item_results(app, item, invocation.extent, event.results[at:until], invocation.inputs[at:until], home)
            at = until
        self._go_on(app)

    def _learn(self, app: AppState, event: InvocationDone) -> None:
        means = app.means
        if not means.items:
            stages = len(app.deployed.app.graph.stages)
            means.items = [0] * stages
            means.size_sums = [0.0] * stages
        for span in event.spans:
            means.items[span.stage] += span.items
            means.size_sums[span.stage] += span.size_sum

    def _item_results(
        self,
        app: AppState,
        item: Waiting,
        extent: int,
        results: tuple[ItemResult, ...],
        inputs: tuple[tuple[Payload, ...], ...],
        home: str,
    ) -> None:
        core = self._core
        request = core.state.requests[item.request]
        request.running -= 1
        if request.is_ended:
            core.release([ref.handle for result in results for payload in result.outputs for ref in payload.refs])
            if not request.running:
                self._endings.forget(request)
            return
        flow = core.flow(app, request)
        part = flow.routing.part(extent, item.group)
        failure: ItemFailure | None = None
        for offset, result in enumerate(results):
            if result.failure is not None:
                failure = failure or result.failure
                continue
            flow.consume(part, inputs[offset])
            flow.complete(part, item.outer, item.lo + offset, result.outputs, home)
        if failure is not None:
            core.release(flow.released)
            because = Because(f"the stage {failure.kind}", (("stage", failure.stage), ("reason", failure.reason)))
            self._endings.reject(request, "stage_failed", because, failure.stage)
            return
        self._proceed(app, request, flow)

    def _go_on(self, app: AppState) -> None:
        """An instance, cores or memory became free, or are there anew: take the steps that waited for them."""
        apps = self._core.state.apps
        for other in apps.values() if len(apps) > 1 else (app,):
            if other.pending_starts:
                self._scaler.start_pending(other)
            if other.transition is not None:
                self._regranulation.advance(other)
        if not app.review_at:
            self._scaler.review_at(app, self._core.now + SECOND)
        self._dispatcher.run()

    def _invocation_failed(self, event: InvocationFailed) -> None:
        core = self._core
        invocation = core.state.invocations.pop(event.invocation, None)
        if invocation is None:
            return
        app = core.state.apps[invocation.app]
        self._fleet.free(app, invocation.instance, event.invocation)
        if event.kind == "refused":
            self._distrust(app, invocation.instance, event.detail)
        for item in invocation.items:
            request = core.state.requests[item.request]
            request.running -= 1
            if request.is_ended:
                if not request.running:
                    self._endings.forget(request)
            elif event.kind == "backpressure":
                because = Because("the memory for payloads is full", (("detail", event.detail),))
                self._endings.reject(request, "backpressure", because, retry_after_us=SECOND)
            else:
                self._retry(app, request, item, f"invocation {event.kind}: {event.detail}", "")
        self._go_on(app)

    def _distrust(self, app: AppState, number: int, detail: str) -> None:
        """An instance that refuses work is about to end or broken: what it refused has to run elsewhere."""
        instance = self._core.state.instances.get(number)
        if instance is not None and instance.phase == "ready":
            self._fleet.kill(instance, Because("it refused an invocation", (("detail", detail),)))
            app.is_covered = False
            self._scaler.replace(app, instance)

    def _retry(self, app: AppState, request: Request, item: Waiting, detail: str, stage: str) -> None:
        """Each item again, alone, once; a second loss quarantines the request."""
        if item.attempt >= MAX_ATTEMPTS:
            because = Because("its instance was lost twice while it ran", (("detail", detail), ("stage", stage)))
            self._endings.reject(request, "stage_lost", because, stage)
            return
        for index in range(item.lo, item.hi):
            self._dispatcher.retry(app, request, item, index, item.attempt + 1)

    def _invocation_progressed(self, event: InvocationProgressed) -> None:
        instance = self._core.state.instances.get(event.instance)
        if instance is not None and instance.invocation == event.invocation:
            self._fleet.progressed(instance)

    # Instances

    def _instance_ready(self, event: InstanceReady) -> None:
        instance = self._core.state.instances.get(event.instance)
        if instance is None or instance.phase != "starting":
            return
        app = self._core.state.apps[instance.app]
        self._scaler.start_succeeded(app, instance.stages)
        self._fleet.ready(instance)
        self._go_on(app)

    def _instance_failed(self, event: InstanceFailed) -> None:
        instance = self._core.state.instances.get(event.instance)
        if instance is None:
            return
        app = self._core.state.apps[instance.app]
        phase = instance.phase
        self._lose(app, instance, event.detail or event.cause, event.stage)
        self._fleet.gone(instance)
        app.is_covered = False
        if phase == "starting":
            self._scaler.start_failed(app, instance.stages, event.detail)
            self._give_up(app)
        if phase in ("starting", "loading"):
            self._regranulation.failed(app, event.detail)
        if phase in ("ready", "loading") or instance.was_killed:
            self._scaler.replace(app, instance)
        self._go_on(app)

    def _give_up(self, app: AppState) -> None:
        """Whoever waits for a function of which no instance is there or on its way is told so."""
        because = Because("instances do not start", (("detail", app.last_start_error),))
        retry_after_us = self._scaler.retry_after_us(app)
        for mask, queue in list(app.queues.items()):
            failures = max((each.failures for held, each in app.backoffs.items() if held & mask == mask), default=0)
            if failures < GIVE_UP_STARTS or self._fleet.has_or_awaits(app, mask):
                continue
            for waiting in list(queue.waiting.values()):
                request = self._core.state.requests.get(waiting.request)
                if request is not None and not request.is_ended:
                    self._endings.reject(request, "no_capacity", because, retry_after_us=retry_after_us)

    def _lose(self, app: AppState, instance: Instance, detail: str, stage: str) -> None:
        """Retry the items of the invocation that an instance took with it."""
        core = self._core
        invocation = core.state.invocations.pop(instance.invocation, None)
        instance.invocation = 0
        if invocation is None:
            return
        for item in invocation.items:
            request = core.state.requests[item.request]
            request.running -= 1
            if not request.is_ended:
                self._retry(app, request, item, detail, stage)
            elif not request.running:
                self._endings.forget(request)

    def _instance_stopped(self, event: InstanceStopped) -> None:
        instance = self._core.state.instances.get(event.instance)
        if instance is None:
            return
        app = self._core.state.apps[instance.app]
        self._lose(app, instance, "stopped", "")
        self._fleet.gone(instance)
        app.is_covered = False
        if instance.was_killed:
            self._scaler.replace(app, instance)
        self._go_on(app)

    def _stages_loaded(self, event: StagesLoaded) -> None:
        instance = self._core.state.instances.get(event.instance)
        if instance is None or instance.phase != "loading":
            return
        app = self._core.state.apps[instance.app]
        self._fleet.loaded(instance, event.stages, event.error)
        if event.error:
            app.is_covered = False
            self._regranulation.failed(app, event.error)
        self._go_on(app)

    # Plans and models

    def _plan_requested(self, event: PlanRequested) -> None:
        app = self._core.state.apps.get(event.app)
        if app is not None:
            app.vote = ""
            self._replanner.compute(app, event.grain, event.by, Because("asked for", (("by", event.by),)))

    def _plan_ready(self, event: PlanReady) -> None:
        app = self._core.state.apps.get(event.app)
        if app is not None and app.problem and event.table.problem == app.problem:
            self._replanner.answered(app, _as_logged(event).table)
            self._dispatcher.run()

    def _plan_failed(self, event: PlanFailed) -> None:
        app = self._core.state.apps.get(event.app)
        if app is not None and app.problem and event.problem == app.problem:
            self._replanner.failed(app, event.reason)

    def _model_ready(self, event: ModelReady) -> None:
        event = _as_logged(event)
        app = self._core.state.apps.get(event.app)
        if app is not None:
            app.deployed = msgspec.structs.replace(app.deployed, model=event.model)
            self._core.forget_costs(app)

    def _app_deployed(self, event: AppDeployed) -> None:
        event = _as_logged(event)
        name, plan_id = event.app.name, event.plan.id
        policies = policy_set(event.config.policies)
        known = self._core.state.apps.get(name)
        if known is None:
            app = AppState(event, event.plan, plan_id, {plan_id: event.plan})
            self._core.state.apps[name] = app
            self._core.policies[name] = policies
            self._fleet.add_app(name)
            self._scaler.deploy(app)
        elif known.deployed.app.digest != event.app.digest:
            known.last_refusal = f"another declaration of app {name!r} is being served; restart the server to change it"
        elif (policies.extent is None) != (self._core.policies[name].extent is None):
            known.last_refusal = (
                f"app {name!r} is under the policy set {known.deployed.config.policies}, and {policies.name} decides extents "
                "in another way; restart the server to change it"
            )
        else:
            known.deployed = event
            self._core.policies[name] = policies
            self._core.forget_costs(known)
            self._regranulation.begin(known, event.plan, Because("deployed again", (("app", name),)))
            self._go_on(known)

    def _capacity_changed(self, event: CapacityChanged) -> None:
        event = _as_logged(event)
        state = self._core.state
        present = {node.name: node for node in event.nodes}
        for name, node in present.items():
            known = state.nodes.get(name)
            if known is None:
                state.nodes[name] = NodeState(node, node.usable_cores)
            else:
                known.node, known.usable_cores, known.is_present = node, node.usable_cores, True
        for name in [name for name in state.nodes if name not in present]:
            if any(instance.node == name for instance in state.instances.values()):
                state.nodes[name].is_present = False
                state.nodes[name].usable_cores = 0.0
            else:
                del state.nodes[name]
        # Of all apps first: the first that goes on dispatches for the others too.
        for app in state.apps.values():
            app.is_covered = False
            self._core.forget_costs(app)
        for app in state.apps.values():
            self._go_on(app)

    # Time

    def _wake(self, event: Wake) -> None:
        core = self._core
        core.state.armed = 0
        for kind, number, name in core.due_timers():
            if kind == DEADLINE:
                self._endings.reject(core.state.requests[number], "deadline", PAST_DEADLINE)
            elif kind == WATCH:
                self._look_at(core.state.instances[number])
            elif kind == DISPATCH:
                core.state.apps[name].queues[number].wait_until = 0
                self._dispatcher.run()
            else:
                self._review(core.state.apps[name])

    def _review(self, app: AppState) -> None:
        self._scaler.review(app)
        self._replanner.review(app)
        if app.transition is not None:
            self._regranulation.advance(app)
        self._dispatcher.run()

    def _look_at(self, instance: Instance) -> None:
        """Take an instance for hung if what it does is not over by its limit."""
        instance.watched_at = 0
        if not instance.limit:
            return
        if instance.limit > self._core.now:
            self._fleet.watch(instance)
        elif instance.phase == "ready":
            self._hung(instance)
        else:
            self._never_ready(instance)

    def _hung(self, instance: Instance) -> None:
        app = self._core.state.apps[instance.app]
        invocation = self._core.state.invocations[instance.invocation]
        facts = (("invocation", invocation.number), ("limit_ms", (instance.limit - invocation.started) / 1000))
        self._lose(app, instance, "hung past its limit", "")
        self._kill(app, instance, Because("hung past its limit", facts))

    def _never_ready(self, instance: Instance) -> None:
        app = self._core.state.apps[instance.app]
        phase = instance.phase
        if phase == "starting":
            self._scaler.start_failed(app, instance.stages, "a start that did not end")
        self._kill(app, instance, Because(f"it was {phase} for too long", (("instance", instance.number),)))
        self._regranulation.failed(app, f"{phase} that did not end")
        self._give_up(app)

    def _kill(self, app: AppState, instance: Instance, because: Because) -> None:
        """Its memory is free, and it is replaced at the latest, when it has ended."""
        self._fleet.kill(instance, because)
        app.is_covered = False
        self._scaler.replace(app, instance)
        self._go_on(app)


def _as_logged(event: E) -> E:
    """``event`` as a replay reads it: a whole number that someone gave for a float is a float."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=type(event))
