"""What the parts of the controller share during one event: the state, the instant, the actions so far, compiled plans.

What is compiled is derived from the state and rebuilt on demand, so a snapshot need not hold it.
"""

import heapq
from collections.abc import Iterator

from grainwise.control.actions import Action, Release, WakeAt
from grainwise.control.costs import GroupCost, group_cost
from grainwise.control.extents import Extents
from grainwise.control.requests import Flow, Request
from grainwise.control.routing import Group, Routing
from grainwise.control.state import AppState, ControllerState
from grainwise.domain.machine import Node
from grainwise.domain.time import Instant, from_ms
from grainwise.policies.extent import OfferSource
from grainwise.policies.policy_set import PolicySet
from grainwise.policies.sets import policy_set
from grainwise.predictors.effects import Setting

DEADLINE, WATCH, DISPATCH, REVIEW = 0, 1, 2, 3
"""Kinds of timers: a request's deadline, the limit of what an instance does, a queue's batch wait, an app's review."""

SWEEP = 4096
"""Below this many timers they are not swept."""


class Compiled:
    """A plan of an app, compiled.

    ``functions`` is its routing from function to function, by which instances are started and scaled. ``flows`` is the routing
    by which values go: the same, or where each invocation's extent is decided at dispatch, from stage to stage; then there
    are ``extents``. Costs are of a batch of a group of either; ``remaining_us`` is the work from a group of ``flows`` to the
    answer.
    """

    __slots__ = (
        "_app",
        "_batches",
        "_extent_costs",
        "_rest",
        "_shares",
        "costs",
        "extents",
        "flow_costs",
        "flows",
        "functions",
        "remaining_us",
    )

    def __init__(self, app: AppState, plan_id: str, nodes: tuple[Node, ...], policies: PolicySet) -> None:
        deployed = app.deployed
        spec = deployed.app
        plan = app.plans[plan_id]
        declared = [spec.spec(index) for index in range(len(spec.graph.stages))]
        limits = tuple(from_ms(stage.timeout_ms or 0.0) for stage in declared)
        self._app = deployed
        self._batches = tuple(stage.max_batch for stage in declared)
        self._extent_costs: dict[tuple[int, float], GroupCost] = {}
        self._shares: dict[int, float] = {}
        self._rest: dict[tuple[int, int], float] = {}
        self.functions = Routing(spec.graph, plan, limits)
        self.costs = self._costs_of(self.functions)
        is_stagewise = policies.extent is not None
        if is_stagewise:
            self.flows = Routing(spec.graph, plan, limits, is_stagewise=True)
            self.flow_costs = self._costs_of(self.flows)
            scenario = Setting(
                spec, deployed.model, deployed.hop, deployed.workload, nodes, deployed.capabilities, deployed.prices
            )
            self.extents: OfferSource | None = (
                Extents(scenario, plan, self.flows, varies_share=policies.varies_share)
                if policies.offer is None
                else policies.offer(scenario, plan)
            )
        else:
            self.flows, self.flow_costs, self.extents = self.functions, self.costs, None
        # A function that follows takes a hop; a stage that follows may run in the same invocation.
        self.remaining_us: tuple[float, ...] = self._longest_chains(0.0 if is_stagewise else deployed.hop.fixed_us)

    def extent_cost(self, part: Group, cpu_cores: float) -> GroupCost:
        """The predicted cost of a batch of an extent on so many cores."""
        key = (part.mask, cpu_cores)
        found = self._extent_costs.get(key)
        if found is None:
            found = self._extent_costs[key] = self._cost(part, cpu_cores)
        return found

    def share_of(self, stages: int) -> float:
        """The CPU share of an instance that holds ``stages``: of the functions that it can run the largest; 0 without one."""
        found = self._shares.get(stages)
        if found is None:
            able = (group for group in self.functions.groups if stages & group.mask == group.mask)
            found = self._shares[stages] = max((group.function.cpu_cores for group in able), default=0.0)
        return found

    def rest_us(self, stage: int, function: int) -> float:
        """Predicted work for an item that waits for ``stage``, from there to the end of the function that holds it."""
        key = (stage, function)
        found = self._rest.get(key)
        if found is None:
            unit = max(self._app.workload.items[stage], 1e-9)
            reached = 1 << stage
            found = 0.0
            for index in range(stage, len(self.flows.groups)):
                if function >> index & 1 and (reached >> index & 1 or self._app.app.graph.predecessors[index] & reached):
                    reached |= 1 << index
                    cost = self.flow_costs[index]
                    found += cost.predict_us(1, cost.mean_size) * self._app.workload.items[index] / unit
            self._rest[key] = found
        return found

    def _costs_of(self, routing: Routing) -> tuple[GroupCost, ...]:
        return tuple(self._cost(group, group.function.cpu_cores) for group in routing.groups)

    def _cost(self, group: Group, cpu_cores: float) -> GroupCost:
        deployed = self._app
        share = group.function.device_fraction
        return group_cost(deployed.app.graph, group.extent, cpu_cores, deployed.model, deployed.workload, self._batches, share)

    def _longest_chains(self, hop_us: float) -> tuple[float, ...]:
        after: dict[int, float] = {}

        def chain(index: int) -> float:
            if index not in after:
                group, cost = self.flows.groups[index], self.flow_costs[index]
                following = [chain(reader) for reader in self.flows.followers(group)]
                after[index] = cost.predict_us(1, cost.mean_size) + max((hop_us + each for each in following), default=0.0)
            return after[index]

        return tuple(chain(index) for index in range(len(self.flows.groups)))


class Core:
    """State, instant and actions of the event that is being handled, and by name the policies of each app."""

    def __init__(self, state: ControllerState) -> None:
        self.state = state
        self.now: Instant = 0
        self.out: list[Action] = []
        self.policies: dict[str, PolicySet] = {
            name: policy_set(app.deployed.config.policies) for name, app in state.apps.items()
        }
        self._compiled: dict[str, Compiled] = {}
        self._releases: list[int] = []

    def compiled(self, app: AppState, plan_id: str) -> Compiled:
        """The compiled form of a plan that the app or a request in flight follows. A plan's id names its app too."""
        found = self._compiled.get(plan_id)
        if found is None:
            nodes = tuple(node.node for node in self.state.nodes.values() if node.is_present)
            found = self._compiled[plan_id] = Compiled(app, plan_id, nodes, self.policies[app.deployed.app.name])
        return found

    def is_stagewise(self, app: AppState) -> bool:
        """Whether the extent of each invocation of the app is decided when it is dispatched."""
        return self.policies[app.deployed.app.name].extent is not None

    def routing(self, app: AppState, plan_id: str) -> Routing:
        """The functions of a plan and what they hand to one another."""
        return self.compiled(app, plan_id).functions

    def flows(self, app: AppState, plan_id: str) -> Routing:
        """How values travel under a plan: from function to function, or from stage to stage."""
        return self.compiled(app, plan_id).flows

    def cost(self, app: AppState, plan_id: str, group: Group) -> GroupCost:
        """The predicted cost of a batch of a function under the present latency model."""
        return self.compiled(app, plan_id).costs[group.index]

    def flow(self, app: AppState, request: Request) -> Flow:
        """A step of a request through the plan that it follows."""
        return Flow(request, self.compiled(app, request.plan).flows)

    def forget_plan(self, plan_id: str) -> None:
        """Drop what was compiled for a plan that no request follows any more."""
        self._compiled.pop(plan_id, None)

    def forget_costs(self, app: AppState) -> None:
        """Compile the plans of an app anew, after a new latency model or on other machines."""
        for plan_id in app.plans:
            self._compiled.pop(plan_id, None)

    def work_us(self, app: AppState) -> float:
        """Predicted work of a fresh request along the longest chain of the present plan."""
        return max(self.compiled(app, app.plan_id).remaining_us)

    def emit(self, action: Action) -> None:
        """Ask a performer for something."""
        self.out.append(action)

    def release(self, handles: list[int]) -> None:
        """Collect handles; one ``Release`` per event carries them."""
        self._releases.extend(handles)

    def set_timer(self, at: Instant, kind: int, number: int, app: str = "") -> None:
        """Be woken at ``at``. Timers whose matter is over are swept away when they are the great majority."""
        state = self.state
        timers = state.timers
        heapq.heappush(timers, (at, kind, number, app))
        if len(timers) > state.timers_bound:
            timers[:] = [timer for timer in timers if not self.is_stale(timer)]
            heapq.heapify(timers)
            state.timers_bound = max(SWEEP, 4 * len(timers))

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
        state = self.state
        if kind == DEADLINE:
            request = state.requests.get(number)
            return request is None or request.is_ended
        if kind == WATCH:
            instance = state.instances.get(number)
            return instance is None or instance.watched_at != at
        app = state.apps.get(name)
        if app is None:
            return True
        if kind == REVIEW:
            return app.review_at != at
        queue = app.queues.get(number)
        return queue is None or queue.wait_until != at

    def finish(self) -> list[Action]:
        """The actions of the event, with one release and, where needed, one request to be woken."""
        state, out = self.state, self.out
        if self._releases:
            out.append(Release(tuple(self._releases)))
            self._releases = []
        timers = state.timers
        while timers and (not state.armed or timers[0][0] < state.armed):
            if self.is_stale(timers[0]):
                heapq.heappop(timers)
            else:
                state.armed = timers[0][0]
                out.append(WakeAt(state.armed))
        self.out = []
        return out

    def app_of(self, request: Request) -> AppState:
        """The app that a request belongs to."""
        return self.state.apps[request.app]
