"""How a request ends: answered once, or rejected once, its handles released, its waiting items dropped."""

from grainwise.control.actions import CancelInvocation, Reject, RejectCode, Respond
from grainwise.control.core import Core
from grainwise.control.requests import Flow, Request
from grainwise.control.state import AppState
from grainwise.domain.because import Because
from grainwise.domain.time import Micros


class Endings:
    """Answers and rejections."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def respond(self, request: Request, flow: Flow) -> None:
        """Answer with the outputs; their handles now belong to the door."""
        outputs = flow.results()
        live = request.live
        for payload in outputs:
            for ref in payload.refs:
                live.pop(ref.handle, None)
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
        app = self._core.app_of(request)
        request.is_ended = True
        app.in_flight -= 1
        if request.queued:
            for sequence, mask in request.queued.items():
                app.queues[mask].drop(sequence)
            request.queued.clear()
        if request.running:
            self._cancel_unawaited(request)
        else:
            self.forget(request)

    def _cancel_unawaited(self, request: Request) -> None:
        """Cancel the invocations all of whose items belong to ended requests."""
        requests = self._core.state.requests
        for invocation in self._core.state.invocations.values():
            if any(item.request == request.number for item in invocation.items) and all(
                requests[item.request].is_ended for item in invocation.items
            ):
                self._core.emit(CancelInvocation(invocation.number, invocation.instance))

    def forget(self, request: Request) -> None:
        """Release whatever an ended request still holds and forget it, and its plan with the last that followed it."""
        core = self._core
        if request.live:
            core.release(list(request.live))
            request.live.clear()
        del core.state.requests[request.number]
        app = core.app_of(request)
        left = app.requests_by_plan[request.plan] - 1
        if left:
            app.requests_by_plan[request.plan] = left
            return
        del app.requests_by_plan[request.plan]
        self.retire_plan(app, request.plan)

    def retire_plan(self, app: AppState, plan_id: str) -> None:
        """Drop a plan that neither the app, a change under way nor a request follows, with the queues that only it had."""
        core = self._core
        if plan_id == app.plan_id or plan_id in app.requests_by_plan or plan_id not in app.plans:
            return
        if app.transition is not None and app.transition.plan_id == plan_id:
            return
        del app.plans[plan_id]
        core.forget_plan(plan_id)
        wanted = {group.mask for other in app.plans for group in core.flows(app, other).groups}
        for mask in [mask for mask in app.queues if mask not in wanted]:
            del app.queues[mask]
