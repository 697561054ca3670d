"""How many instances there should be, reviewed when something changed and at the instants that policies ask for."""

from grainwise.control.actions import ComputePlan
from grainwise.control.core import REVIEW, Core
from grainwise.control.dispatch import Dispatcher
from grainwise.control.fleet import Fleet
from grainwise.control.routing import Group
from grainwise.control.state import AppState, Instance, LiveMeans
from grainwise.domain.because import Because
from grainwise.domain.plan import Grain
from grainwise.domain.time import SECOND, from_ms
from grainwise.planning.problem import Problem, Workload
from grainwise.policies import autoscale, keep_alive, regranulate
from grainwise.policies.placement import NoRoom

RATE_WINDOW_S = 5
LIVELY_US = 30 * SECOND
MIN_REQUESTS_FOR_MEANS = 20
BACKOFF_US = SECOND // 2
MAX_BACKOFF_DOUBLINGS = 6

WARM = Because("the first request of an idle app warms every function")
REPLACE = Because("a lost instance is replaced")


class Scaler:
    """Starts, keeps and ends instances as the policies say, and asks for plans."""

    def __init__(self, core: Core, fleet: Fleet, dispatcher: Dispatcher) -> None:
        self._core = core
        self._fleet = fleet
        self._dispatcher = dispatcher

    def _view(self, app: AppState, plan_id: str, group: Group) -> autoscale.ScaleView:
        core = self._core
        cost = core.cost(app, plan_id, group)
        meter = app.items_rate.get(group.mask)
        rate = meter.per_second(core.now, RATE_WINDOW_S) if meter is not None else self._expected_rate(app, group)
        batch = group.function.max_batch
        per_item_us = cost.item_us + cost.size_us * cost.mean_size + cost.fixed_us / batch
        queue = app.queues.get(group.mask)
        backlog = self._dispatcher.backlog_us(app, queue) if queue is not None else 0.0
        function = group.function
        return autoscale.ScaleView(
            offered=rate * per_item_us / SECOND,
            backlog_us=backlog,
            patience_us=from_ms(app.deployed.app.slo.latency_ms) / 2,
            instances=len(self._fleet.serving(app, group.mask)),
            planned=function.instances,
            min_instances=0
            if app.deployed.config.scale_to_zero and not self._is_lively(app)
            else max(1, function.min_instances),
            max_instances=max(function.max_instances, function.instances, 1),
        )

    def _expected_rate(self, app: AppState, group: Group) -> float:
        """Items per second of a function that has served nothing yet."""
        items = app.deployed.workload.items[group.extent.stages[0]] if group.depth else 1.0
        return app.rate.per_second(self._core.now, RATE_WINDOW_S) * items

    def needed(self, app: AppState, plan_id: str, group: Group) -> int:
        """Instances that the present rate needs for a function of any plan, at least one."""
        view = self._view(app, plan_id, group)
        steady = autoscale.ScaleView(view.offered, 0.0, 0.0, view.instances, view.planned, 1, view.max_instances)
        return autoscale.decide(steady).instances

    def _is_lively(self, app: AppState) -> bool:
        return app.in_flight > 0 or (app.last_arrival > 0 and self._core.now - app.last_arrival < LIVELY_US)

    def warm(self, app: AppState) -> None:
        """Start an instance for every function that has none."""
        if self._core.is_covered(app):
            return
        for group in self._core.routing(app, app.plan.id).groups:
            if not self._fleet.serving(app, group.mask) and not self._fleet.coming(app, group.mask):
                self.start(app, group, WARM)
        self._core.mark_covered(app)

    def start(self, app: AppState, group: Group, because: Because) -> bool:
        """Start an instance of a function unless starts have been failing; False where there is no room."""
        if self._core.now < app.start_after:
            self._review_at(app, app.start_after)
            return False
        verdict = self._fleet.start(app, group.mask, group.function.cpu_cores, because)
        return not isinstance(verdict, NoRoom)

    def start_failed(self, app: AppState) -> None:
        """Wait longer after each start that fails."""
        doublings = min(app.starts_failed, MAX_BACKOFF_DOUBLINGS)
        app.starts_failed += 1
        app.start_after = self._core.now + (BACKOFF_US << doublings)
        self._review_at(app, app.start_after)

    def deploy(self, app: AppState) -> None:
        """Start what the first plan asks for."""
        for group in self._core.routing(app, app.plan.id).groups:
            floor = 0 if app.deployed.config.scale_to_zero else 1
            for _ in range(
                max(group.function.min_instances, min(group.function.instances, group.function.max_instances), floor)
            ):
                if not self.start(app, group, Because("deployed", (("function", group.name),))):
                    break
        self._review_at(app, self._core.now + SECOND)

    def review_soon(self, app: AppState) -> None:
        """Review at the next wake."""
        self._review_at(app, self._core.now)

    def arrived(self, app: AppState) -> None:
        """A request came: review within a second."""
        if app.review_at <= self._core.now:
            self._review_at(app, self._core.now + SECOND)

    def _review_at(self, app: AppState, at: int) -> None:
        if app.review_at > self._core.now and app.review_at <= at:
            return
        app.review_at = at
        self._core.set_timer(at, REVIEW, 0, app.deployed.app.name)

    def review(self, app: AppState) -> None:
        """Scale every function, end what is spare, ask for a plan when it is time."""
        core = self._core
        app.review_at = 0
        if app.transition is None and core.now >= app.start_after:
            self._scale_up(app)
        until = self._scale_down(app)
        if app.deployed.config.replan_us and self._is_lively(app):
            self._ask(app)
        if self._is_lively(app) or app.transition is not None:
            self._review_at(app, core.now + SECOND)
        elif until:
            self._review_at(app, until)

    def _scale_up(self, app: AppState) -> None:
        budget = max(1, int(sum(node.node.usable_cores for node in self._core.state.nodes.values())))
        for group in self._core.routing(app, app.plan.id).groups:
            decision = autoscale.decide(self._view(app, app.plan.id, group))
            have = len(self._fleet.serving(app, group.mask)) + self._fleet.coming(app, group.mask)
            while have < decision.instances and budget > 0:
                if not self.start(app, group, decision.because):
                    break
                have += 1
                budget -= 1

    def _scale_down(self, app: AppState) -> int:
        """End what is idle and spare; returns the instant at which the next one may be, 0 for none."""
        core = self._core
        earliest = 0
        for instance in self._fleet.of(app):
            if instance.phase != "ready" or instance.invocation:
                continue
            serves = self._serves(app, instance)
            spare = all(
                len(self._fleet.serving(app, group.mask)) > autoscale.decide(self._view(app, plan, group)).instances
                for plan, group in serves
            )
            view = keep_alive.IdleView(
                instance.idle_since, app.deployed.config.keep_alive_us, spare and app.transition is None, not serves
            )
            decision = keep_alive.decide(view, core.now)
            if isinstance(decision, keep_alive.End):
                if app.transition is None:
                    self._fleet.stop(instance, decision.because)
            elif decision.until and (not earliest or decision.until < earliest):
                earliest = decision.until
        return earliest

    def _serves(self, app: AppState, instance: Instance) -> list[tuple[str, Group]]:
        return [
            (plan.id, group)
            for plan in app.plans.values()
            for group in self._core.routing(app, plan.id).groups
            if instance.stages & group.mask == group.mask
        ]

    def _ask(self, app: AppState) -> None:
        core = self._core
        rate = app.rate.per_second(core.now, RATE_WINDOW_S)
        view = regranulate.AskView(
            app.last_asked,
            app.last_rate_per_s,
            rate,
            app.deployed.config.replan_us,
            app.transition is None and not app.problem,
            bool(app.vote),
        )
        decision = regranulate.ask(view, core.now)
        if isinstance(decision, regranulate.Ask):
            self.compute(app, None, "the regranulation policy", decision.because)

    def compute(self, app: AppState, grain: Grain | None, by: str, because: Because) -> None:
        """Ask the planner, under the load that is seen now."""
        core = self._core
        state = core.state
        number = state.next_problem
        state.next_problem = number + 1
        rate = app.rate.per_second(core.now, RATE_WINDOW_S)
        deployed = app.deployed
        app.problem, app.problem_grain, app.problem_by = number, grain, by
        app.last_asked, app.last_rate_per_s = core.now, rate
        problem = Problem(
            number,
            deployed.app,
            deployed.model,
            deployed.hop,
            self._workload(app, rate),
            tuple(node.node for node in state.nodes.values()),
            deployed.capabilities,
            deployed.prices,
            app.plan.objective,
            grain=grain,
            current=app.plan,
        )
        app.means = LiveMeans()
        core.emit(ComputePlan(problem, because))

    def _workload(self, app: AppState, rate: float) -> Workload:
        known, means = app.deployed.workload, app.means
        rate = max(rate, 0.1)
        if means.requests < MIN_REQUESTS_FOR_MEANS or not means.items:
            return Workload(rate, known.items, known.item_size, known.output_bytes, known.input_bytes, known.arrival_scv)
        items = tuple(count / means.requests for count in means.items)
        sizes = tuple(
            total / count if count else old
            for total, count, old in zip(means.size_sums, means.items, known.item_size, strict=True)
        )
        return Workload(rate, items, sizes, known.output_bytes, known.input_bytes, known.arrival_scv)
