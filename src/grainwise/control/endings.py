"""How a request ends: answered once, or rejected once, its handles released, its waiting items dropped."""

from grainwise.control.actions import CancelInvocation, Reject, RejectCode, Respond
from grainwise.control.core import Core
from grainwise.control.requests import Flow, Request
from grainwise.control.routing import Routing
from grainwise.domain.because import Because
from grainwise.domain.time import Micros

CLIENT_GONE = Because("the client went away")


class Endings:
    """Answers and rejections."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def respond(self, request: Request, flow: Flow) -> None:
        """Answer with the outputs; their handles now belong to the door."""
        outputs = flow.results()
        leased = {ref.handle for payload in outputs for ref in payload.refs}
        for handle in leased:
            request.live.pop(handle, None)
        self._core.emit(Respond(request.number, outputs))
        self._end(request)

    def reject(self, request: Request, code: RejectCode, because: Because, stage: str = "", retry_after_us: Micros = 0) -> None:
        """Answer with an error."""
        self._core.emit(Reject(request.number, code, because, stage, retry_after_us))
        self._end(request)

    def cancel(self, request: Request) -> None:
        """No one awaits the answer."""
        self._end(request)

    def _end(self, request: Request) -> None:
        core = self._core
        app = core.app_of(request)
        request.is_ended = True
        app.in_flight -= 1
        if request.queued:
            for mask in sorted(set(request.queued.values())):
                app.queues[mask].drop(request.number)
            request.queued.clear()
        if request.running:
            self._cancel_unawaited(request)
        else:
            self.forget(request)

    def _cancel_unawaited(self, request: Request) -> None:
        """Cancel the invocations all of whose items belong to ended requests."""
        state = self._core.state
        for invocation in state.invocations.values():
            numbers = [item.request for item in invocation.items]
            if request.number not in numbers:
                continue
            if all(number not in state.requests or state.requests[number].is_ended for number in numbers):
                self._core.emit(CancelInvocation(invocation.number, invocation.instance))

    def forget(self, request: Request) -> None:
        """Release whatever an ended request still holds and forget it, and its plan with the last that followed it."""
        core = self._core
        if request.live:
            core.release(list(request.live))
            request.live.clear()
        core.state.requests.pop(request.number, None)
        app = core.app_of(request)
        left = app.requests_by_plan[request.plan] - 1
        if left:
            app.requests_by_plan[request.plan] = left
            return
        del app.requests_by_plan[request.plan]
        self.retire_plan(app.deployed.app.name, request.plan)

    def retire_plan(self, app_name: str, plan_id: str) -> None:
        """Drop a plan that neither the app nor a request follows, with the queues that only it had."""
        core = self._core
        app = core.state.apps[app_name]
        if plan_id == app.plan.id or plan_id in app.requests_by_plan or plan_id not in app.plans:
            return
        if app.transition is not None and app.transition.plan.id == plan_id:
            return
        del app.plans[plan_id]
        core.forget_plan(app, plan_id)
        wanted = {group.mask for plan in app.plans.values() for group in self._routing(app_name, plan.id).groups}
        for mask in [mask for mask in app.queues if mask not in wanted]:
            del app.queues[mask]
            app.items_rate.pop(mask, None)

    def _routing(self, app_name: str, plan_id: str) -> Routing:
        return self._core.routing(self._core.state.apps[app_name], plan_id)
