"""The controller: a pure function of (event, now). It performs nothing, reads no clock, and returns actions."""

from collections.abc import Callable

import msgspec

from grainwise.control.actions import Action, Reject, RejectCode
from grainwise.control.core import DEADLINE, DISPATCH, LIMIT, Core
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
from grainwise.control.requests import Flow, Request
from grainwise.control.scaling import REPLACE, Scaler
from grainwise.control.state import AppState, ControllerState, Instance, Invocation, NodeState, Running
from grainwise.control.status import AppStatus, describe
from grainwise.control.transition import Regranulation
from grainwise.domain.because import Because
from grainwise.domain.time import SECOND, Instant, from_ms
from grainwise.domain.values import Payload
from grainwise.policies import admission, regranulate

PAST_DEADLINE = Because("its deadline passed")
MAX_ATTEMPTS = 2
GIVE_UP_STARTS = 3


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
        self._dispatcher = Dispatcher(self._core, self._fleet)
        self._scaler = Scaler(self._core, self._fleet, self._dispatcher)
        self._regranulation = Regranulation(self._core, self._fleet, self._endings, self._scaler)
        self._handlers: dict[type, Callable[..., None]] = {
            RequestArrived: self._request_arrived,
            RequestCancelled: self._request_cancelled,
            InvocationDone: self._invocation_done,
            InvocationFailed: self._invocation_failed,
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
        handles = [ref.handle for payload in event.inputs for ref in payload.refs]
        if app is None:
            core.release(handles)
            self._refuse(event, "unknown_app", Because("no such app", (("app", event.app),)), 0)
            return
        now = core.now
        app.rate.add(now)
        app.last_arrival = now
        spec = app.deployed.app
        due = now + from_ms(spec.slo.latency_ms)
        deadline = event.deadline or now + app.deployed.config.patience_us
        due = min(due, deadline)
        self._scaler.arrived(app)
        verdict = self._admit(app, event, due)
        if isinstance(verdict, admission.Refuse):
            core.release(handles)
            self._refuse(event, "too_late" if verdict.is_late else "queue_full", verdict.because, verdict.retry_after_us)
            return
        if app.starts_failed >= GIVE_UP_STARTS and not self._fleet.of(app):
            core.release(handles)
            facts = (("failed_starts", app.starts_failed), ("detail", app.last_start_error))
            self._refuse(event, "no_capacity", Because("instances do not start", facts), max(1, app.start_after - now))
            self._scaler.warm(app)
            return
        plan = app.plan.id
        request = Request(event.request, spec.name, plan, now, due, deadline, len(core.routing(app, plan).final))
        core.state.requests[event.request] = request
        app.in_flight += 1
        app.requests_by_plan[plan] = app.requests_by_plan.get(plan, 0) + 1
        core.set_timer(deadline, DEADLINE, event.request)
        self._scaler.warm(app)
        flow = core.flow(app, request)
        flow.begin(event.inputs)
        self._proceed(app, request, flow)
        self._dispatcher.run(app)

    def _admit(self, app: AppState, event: RequestArrived, due: Instant) -> admission.Accept | admission.Refuse:
        config, spec = app.deployed.config, app.deployed.app
        is_full = app.in_flight >= config.max_requests
        wait = self._dispatcher.wait_us(app) if is_full or spec.reject_late else 0.0
        work = self._core.work_us(app) if spec.reject_late else 0.0
        view = admission.AdmissionView(app.in_flight, config.max_requests, spec.reject_late, due, wait, work)
        return admission.decide(view, self._core.now)

    def _refuse(self, event: RequestArrived, code: RejectCode, because: Because, retry_after_us: int) -> None:
        self._core.emit(Reject(event.request, code, because, "", retry_after_us))

    def _request_cancelled(self, event: RequestCancelled) -> None:
        request = self._core.state.requests.get(event.request)
        if request is not None and not request.is_ended:
            self._endings.cancel(request)

    def _proceed(self, app: AppState, request: Request, flow: Flow) -> None:
        """Queue what became ready; answer when every output is known."""
        flow.settle()
        if flow.released:
            self._core.release(flow.released)
            flow.released = []
        if request.outputs_left == 0:
            app.means.requests += 1
            self._endings.respond(request, flow)
        elif flow.ready:
            self._dispatcher.enqueue(app, request, flow.ready)

    # Invocations

    def _invocation_done(self, event: InvocationDone) -> None:
        core = self._core
        invocation = core.state.invocations.pop(event.invocation, None)
        if invocation is None:
            core.release([ref.handle for result in event.results for payload in result.outputs for ref in payload.refs])
            return
        app = core.state.apps[invocation.app]
        self._free(invocation.instance, event.invocation)
        self._learn(app, event)
        at = 0
        for item in invocation.items:
            count = item.hi - item.lo
            results = event.results[at : at + count]
            self._item_results(app, item, results, invocation.inputs[at : at + count])
            at += count
        self._after_invocation(app)

    def _free(self, number: int, invocation: int) -> None:
        instance = self._core.state.instances.get(number)
        if instance is not None and instance.invocation == invocation:
            instance.invocation = 0
            instance.idle_since = self._core.now
            self._fleet.uncharge(instance)

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
        self, app: AppState, item: Running, results: tuple[ItemResult, ...], inputs: list[tuple[Payload, ...]]
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
        failure = None
        for offset, result in enumerate(results):
            if result.failure is not None:
                failure = failure or result.failure
                continue
            flow.consume(item.group, inputs[offset])
            flow.complete(item.group, item.outer, item.lo + offset, result.outputs)
        if failure is not None:
            core.release(flow.released)
            because = Because(f"the stage {failure.kind}", (("stage", failure.stage), ("reason", failure.reason)))
            self._endings.reject(request, "stage_failed", because, failure.stage)
            return
        self._proceed(app, request, flow)

    def _after_invocation(self, app: AppState) -> None:
        if app.pending_starts:
            self._fleet.start_pending(app)
        if app.transition is not None:
            self._regranulation.advance(app)
        self._run_all(app)

    def _run_all(self, app: AppState) -> None:
        """Dispatch the app whose cores were freed first, then the others that share them."""
        self._dispatcher.run(app)
        if len(self._core.state.apps) > 1:
            for other in self._core.state.apps.values():
                if other is not app:
                    self._dispatcher.run(other)

    def _invocation_failed(self, event: InvocationFailed) -> None:
        core = self._core
        invocation = core.state.invocations.pop(event.invocation, None)
        if invocation is None:
            return
        app = core.state.apps[invocation.app]
        self._free(invocation.instance, event.invocation)
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
        self._after_invocation(app)

    def _retry(self, app: AppState, request: Request, item: Running, detail: str, stage: str) -> None:
        """Each item again, alone, once; a second loss quarantines the request."""
        if item.attempt >= MAX_ATTEMPTS:
            because = Because("its instance was lost twice while it ran", (("detail", detail), ("stage", stage)))
            self._endings.reject(request, "stage_lost", because, stage)
            return
        for index in range(item.lo, item.hi):
            self._dispatcher.retry(app, request, item, index, item.attempt + 1)

    # Instances

    def _instance_ready(self, event: InstanceReady) -> None:
        instance = self._core.state.instances.get(event.instance)
        if instance is None or instance.phase != "starting":
            return
        app = self._core.state.apps[instance.app]
        app.starts_failed = 0
        app.start_after = 0
        self._core.fleet_changed(app)
        self._fleet.ready(instance)
        self._after_invocation(app)

    def _instance_failed(self, event: InstanceFailed) -> None:
        core = self._core
        instance = core.state.instances.get(event.instance)
        if instance is None:
            return
        app = core.state.apps[instance.app]
        core.fleet_changed(app)
        phase = instance.phase
        if event.cause == "hung":
            if phase != "ending":
                self._lose(app, instance, event.detail or "silent", event.stage)
                self._fleet.kill(instance, Because("silent", (("detail", event.detail),)))
        else:
            if phase != "ending":
                self._lose(app, instance, event.detail, event.stage)
            self._fleet.gone(instance)
        if phase == "starting":
            app.last_start_error = event.detail
            self._scaler.start_failed(app)
            self._regranulation.start_failed(app, event.detail)
            if app.starts_failed >= GIVE_UP_STARTS and not self._fleet.of(app):
                self._give_up(app)
        elif phase != "ending":
            self._replace(app, instance)
        self._after_invocation(app)

    def _give_up(self, app: AppState) -> None:
        """Nothing starts: whoever waits is told so."""
        because = Because("instances do not start", (("detail", app.last_start_error),))
        name = app.deployed.app.name
        for request in [each for each in self._core.state.requests.values() if each.app == name and not each.is_ended]:
            self._endings.reject(request, "no_capacity", because, retry_after_us=max(1, app.start_after - self._core.now))

    def _lose(self, app: AppState, instance: Instance, detail: str, stage: str) -> None:
        """Retry the items of the invocation that an instance took with it."""
        core = self._core
        invocation: Invocation | None = core.state.invocations.pop(instance.invocation, None)
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

    def _replace(self, app: AppState, lost: Instance) -> None:
        for group in self._core.routing(app, app.plan.id).groups:
            if lost.stages & group.mask != group.mask:
                continue
            have = len(self._fleet.serving(app, group.mask)) + self._fleet.coming(app, group.mask)
            if have < self._scaler.needed(app, app.plan.id, group):
                self._fleet.start(app, lost.stages, lost.share, REPLACE)
                return

    def _instance_stopped(self, event: InstanceStopped) -> None:
        instance = self._core.state.instances.get(event.instance)
        if instance is None:
            return
        app = self._core.state.apps[instance.app]
        core = self._core
        core.fleet_changed(app)
        self._lose(app, instance, "stopped", "")
        self._fleet.gone(instance)
        if instance.was_killed:
            self._replace(app, instance)
        self._after_invocation(app)

    def _stages_loaded(self, event: StagesLoaded) -> None:
        instance = self._core.state.instances.get(event.instance)
        if instance is None or instance.phase != "loading":
            return
        app = self._core.state.apps[instance.app]
        self._core.fleet_changed(app)
        self._fleet.loaded(instance, event.stages, event.error)
        if event.error:
            self._regranulation.start_failed(app, event.error)
        self._after_invocation(app)

    # Plans and models

    def _plan_requested(self, event: PlanRequested) -> None:
        app = self._core.state.apps.get(event.app)
        if app is not None:
            because = Because("asked for", (("by", event.by),))
            app.vote = ""
            self._scaler.compute(app, event.grain, event.by, because)

    def _plan_ready(self, event: PlanReady) -> None:
        core = self._core
        app = core.state.apps.get(event.app)
        if app is None or event.table.problem != app.problem:
            return
        app.problem = 0
        app.last_table = event.table
        if app.problem_grain is not None or app.problem_by != "the regranulation policy":
            because = Because("on command", (("by", app.problem_by),))
            self._regranulation.begin(app, event.table.winner.plan, because)
        else:
            view = regranulate.VerdictView(
                event.table, app.plan, app.deployed.app.slo.target, app.deployed.config.replan_gain_fraction, app.vote
            )
            decision = regranulate.verdict(view, core.now)
            app.last_verdict = decision.because.render()
            if isinstance(decision, regranulate.Switch):
                app.vote = ""
                self._regranulation.begin(app, decision.plan, decision.because)
            else:
                app.vote = regranulate.vote_of(event.table) if regranulate.is_candidate(view) else ""
        self._dispatcher.run(app)

    def _plan_failed(self, event: PlanFailed) -> None:
        app = self._core.state.apps.get(event.app)
        if app is not None and event.problem == app.problem:
            app.problem = 0
            app.last_refusal = f"planning failed: {event.reason}"

    def _model_ready(self, event: ModelReady) -> None:
        app = self._core.state.apps.get(event.app)
        if app is not None:
            app.deployed = msgspec.structs.replace(app.deployed, model=event.model)
            self._core.forget_costs(event.app)

    def _app_deployed(self, event: AppDeployed) -> None:
        app = AppState(event, event.plan, {event.plan.id: event.plan})
        self._core.state.apps[event.app.name] = app
        self._scaler.deploy(app)

    def _capacity_changed(self, event: CapacityChanged) -> None:
        nodes = self._core.state.nodes
        for node in event.nodes:
            known = nodes.get(node.name)
            if known is None:
                nodes[node.name] = NodeState(node)
            else:
                known.node = node
        for name in [name for name in nodes if name not in {node.name for node in event.nodes}]:
            if not any(instance.node == name for instance in self._core.state.instances.values()):
                del nodes[name]

    # Time

    def _wake(self, event: Wake) -> None:
        core = self._core
        for kind, number, name in core.due_timers():
            if kind == DEADLINE:
                request = core.state.requests[number]
                app = core.app_of(request)
                self._endings.reject(request, "deadline", PAST_DEADLINE)
            elif kind == LIMIT:
                self._hung(core.state.invocations[number])
            elif kind == DISPATCH:
                self._dispatcher.run(core.state.apps[name])
            else:
                app = core.state.apps[name]
                self._scaler.review(app)
                if app.transition is not None:
                    self._regranulation.advance(app)
                self._dispatcher.run(app)

    def _hung(self, invocation: Invocation) -> None:
        core = self._core
        instance = core.state.instances[invocation.instance]
        app = core.state.apps[invocation.app]
        facts = (("invocation", invocation.number), ("limit_ms", (invocation.limit - invocation.started) / 1000))
        self._lose(app, instance, "hung past its limit", "")
        self._fleet.kill(instance, Because("hung past its limit", facts))
        core.fleet_changed(app)
        self._replace(app, instance)
        instance.was_killed = False
        self._after_invocation(app)
