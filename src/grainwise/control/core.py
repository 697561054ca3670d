"""What the parts of the controller share during one event: the state, the instant, the actions so far, compiled plans.

Compiled routings and costs are derived from the state and rebuilt on demand, so a snapshot need not hold them.
"""

import heapq
from collections.abc import Iterator

from grainwise.control.actions import Action, Release, WakeAt
from grainwise.control.requests import Flow, Request
from grainwise.control.routing import Group, GroupCost, Routing
from grainwise.control.state import AppState, ControllerState
from grainwise.domain.time import Instant, from_ms

DEADLINE, LIMIT, DISPATCH, REVIEW = 0, 1, 2, 3
"""Kinds of timers: a request's deadline, an invocation's limit, a queue's batch wait, an app's review."""


class Core:
    """State, instant and actions of the event that is being handled."""

    def __init__(self, state: ControllerState) -> None:
        self.state = state
        self.now: Instant = 0
        self.out: list[Action] = []
        self._routings: dict[tuple[str, str], Routing] = {}
        self._costs: dict[tuple[str, str], tuple[GroupCost, ...]] = {}
        self._remaining: dict[tuple[str, str], tuple[float, ...]] = {}
        self._covered: dict[str, str] = {}
        self._releases: list[int] = []

    def routing(self, app: AppState, plan_id: str) -> Routing:
        """The compiled form of a plan that requests in flight may still follow."""
        key = (app.deployed.app.name, plan_id)
        found = self._routings.get(key)
        if found is None:
            spec = app.deployed.app
            limits = tuple(from_ms(spec.spec(index).timeout_ms or 0.0) for index in range(len(spec.graph.stages)))
            found = self._routings[key] = Routing(spec.graph, app.plans[plan_id], limits)
        return found

    def cost(self, app: AppState, plan_id: str, group: Group) -> GroupCost:
        """The predicted cost of a batch of a group under the present latency model."""
        key = (app.deployed.app.name, plan_id)
        found = self._costs.get(key)
        if found is None:
            deployed = app.deployed
            routing = self.routing(app, plan_id)
            found = self._costs[key] = tuple(
                routing.group_cost(each, deployed.model, deployed.workload) for each in routing.groups
            )
        return found[group.index]

    def flow(self, app: AppState, request: Request) -> Flow:
        """A step of a request through the plan that it follows."""
        return Flow(request, self.routing(app, request.plan))

    def remaining_us(self, app: AppState, plan_id: str, group: Group) -> float:
        """Predicted work from the start of a group to the answer, along the longest chain of functions after it."""
        key = (app.deployed.app.name, plan_id)
        found = self._remaining.get(key)
        if found is None:
            found = self._remaining[key] = self._longest_chains(app, plan_id)
        return found[group.index]

    def _longest_chains(self, app: AppState, plan_id: str) -> tuple[float, ...]:
        routing = self.routing(app, plan_id)
        hop_us = app.deployed.hop.fixed_us
        after: dict[int, float] = {}

        def chain(index: int) -> float:
            if index not in after:
                group = routing.groups[index]
                cost = self.cost(app, plan_id, group)
                own = cost.predict_us(1, cost.mean_size)
                following = [chain(reader) for reader in routing.followers(group)]
                after[index] = own + max((hop_us + each for each in following), default=0.0)
            return after[index]

        return tuple(chain(index) for index in range(len(routing.groups)))

    def forget_plan(self, app: AppState, plan_id: str) -> None:
        """Drop what was compiled for a plan that no request follows any more."""
        key = (app.deployed.app.name, plan_id)
        self._routings.pop(key, None)
        self._costs.pop(key, None)
        self._remaining.pop(key, None)

    def forget_costs(self, app: str) -> None:
        """Drop predicted costs after a new latency model."""
        self._costs = {key: value for key, value in self._costs.items() if key[0] != app}
        self._remaining = {key: value for key, value in self._remaining.items() if key[0] != app}

    def work_us(self, app: AppState) -> float:
        """Predicted work of a fresh request along the longest chain of the present plan."""
        routing = self.routing(app, app.plan.id)
        return max(self.remaining_us(app, app.plan.id, group) for group in routing.groups)

    def is_covered(self, app: AppState) -> bool:
        """Whether every function of the plan was found to have an instance since the fleet last changed."""
        return self._covered.get(app.deployed.app.name) == app.plan.id

    def mark_covered(self, app: AppState) -> None:
        """Every function of the plan has an instance or one on its way."""
        self._covered[app.deployed.app.name] = app.plan.id

    def fleet_changed(self, app: AppState) -> None:
        """An instance came, went or changed what it holds."""
        self._covered.pop(app.deployed.app.name, None)

    def emit(self, action: Action) -> None:
        """Ask a performer for something."""
        self.out.append(action)

    def release(self, handles: list[int]) -> None:
        """Collect handles; one ``Release`` per event carries them."""
        self._releases.extend(handles)

    def set_timer(self, at: Instant, kind: int, number: int, app: str = "") -> None:
        """Be woken at ``at``."""
        heapq.heappush(self.state.timers, (at, kind, number, app))

    def due_timers(self) -> Iterator[tuple[int, int, str]]:
        """Timers whose instant has come and whose matter is still open, one after the other."""
        timers = self.state.timers
        while timers and timers[0][0] <= self.now:
            timer = heapq.heappop(timers)
            if not self.is_stale(timer):
                yield timer[1:]

    def is_stale(self, timer: tuple[Instant, int, int, str]) -> bool:
        """Whether what a timer was set for is over."""
        at, kind, number, name = timer
        if kind == DEADLINE:
            request = self.state.requests.get(number)
            return request is None or request.is_ended
        if kind == LIMIT:
            return number not in self.state.invocations
        app = self.state.apps.get(name)
        if app is None:
            return True
        if kind == REVIEW:
            return app.review_at != at
        queue = app.queues.get(number)
        return queue is None or not queue.items

    def finish(self) -> list[Action]:
        """The actions of the event, with one release and, where needed, one request to be woken."""
        state, out = self.state, self.out
        if self._releases:
            out.append(Release(tuple(self._releases)))
            self._releases = []
        timers = state.timers
        while timers and self.is_stale(timers[0]):
            heapq.heappop(timers)
        if timers and (timers[0][0] < state.armed or state.armed <= self.now):
            state.armed = timers[0][0]
            out.append(WakeAt(state.armed))
        self.out = []
        return out

    def app_of(self, request: Request) -> AppState:
        """The app that a request belongs to."""
        return self.state.apps[request.app]
