"""How many instances there should be, reviewed when something changed and at the instants that policies ask for."""

from grainwise.control.core import REVIEW, Core
from grainwise.control.dispatch import Dispatcher
from grainwise.control.fleet import Fleet
from grainwise.control.routing import Group
from grainwise.control.state import AppState, Backoff, FunctionLoad, Instance
from grainwise.domain.because import Because
from grainwise.domain.time import SECOND, Instant, Micros, from_ms
from grainwise.policies.autoscale import Concurrency, ScaleView
from grainwise.policies.autoscale_concurrency import PANIC_WINDOW_S, STABLE_WINDOW_S
from grainwise.policies.keep_alive import End, IdleView
from grainwise.policies.placement import NoRoom
from grainwise.policies.policy_set import PolicySet

RATE_WINDOW_S = 5
LIVELY_US = 30 * SECOND
BACKOFF_US = SECOND // 2
MAX_BACKOFF_DOUBLINGS = 6
GIVE_UP_STARTS = 3

WARM = Because("the first request of an idle app warms every function")
REPLACE = Because("a lost instance is replaced")
RESCUE = Because("items wait for a function of which there is no instance")


class Scaler:
    """Starts, keeps and ends instances as the policies say."""

    def __init__(self, core: Core, fleet: Fleet, dispatcher: Dispatcher) -> None:
        self._core = core
        self._fleet = fleet
        self._dispatcher = dispatcher

    # What is needed

    def _policies(self, app: AppState) -> PolicySet:
        return self._core.policies[app.deployed.app.name]

    def _view(self, app: AppState, plan_id: str, group: Group) -> ScaleView:
        core = self._core
        cost = core.cost(app, plan_id, group)
        function = group.function
        per_item_us = cost.per_item_us + cost.fixed_us / function.max_batch
        return ScaleView(
            offered=self._items_per_s(app, group) * per_item_us / SECOND,
            backlog_us=self._dispatcher.backlog_us(app, group.mask),
            # What will be gone before an instance is up needs none.
            patience_us=max(from_ms(app.deployed.app.slo.latency_ms) / 2, app.deployed.model.cold_start_us(group.mask)),
            instances=self._fleet.serving(app, group.mask),
            min_instances=max(1, function.min_instances) if self._is_kept_up(app) else 0,
            max_instances=max(function.max_instances, function.instances, 1),
            concurrency=self._concurrency(app, group),
            offered_ahead=self._arriving_per_s(app, group) * per_item_us / SECOND,
        )

    def _concurrency(self, app: AppState, group: Group) -> Concurrency | None:
        """What was sampled of a function; nothing where its policies do not ask for it."""
        load = app.loads.get(group.mask) if self._policies(app).measures_concurrency else None
        if load is None:
            return None
        now = self._core.now
        second = now // SECOND
        stable, sudden = load.mean(second, STABLE_WINDOW_S), load.mean(second, PANIC_WINDOW_S)
        variance = load.variance(second, STABLE_WINDOW_S)
        return Concurrency(now, stable, sudden, group.function.max_batch, load.panic, variance)

    def _measure(self, app: AppState) -> None:
        """Sample how many items each function of the plan has, waiting or running."""
        second = self._core.now // SECOND
        masks = [group.mask for group in self._core.routing(app, app.plan_id).groups]
        counts = {mask: sum(queue.items for queue in app.queues.values() if queue.mask & mask == queue.mask) for mask in masks}
        name = app.deployed.app.name
        for invocation in self._core.state.invocations.values():
            extent = invocation.extent
            for mask in counts:
                if invocation.app == name and extent & mask == extent:
                    counts[mask] += len(invocation.inputs)
        app.loads = {mask: app.loads.get(mask) or FunctionLoad() for mask in masks}
        for mask, load in app.loads.items():
            load.sample(second, counts[mask], STABLE_WINDOW_S)

    def _items_per_s(self, app: AppState, group: Group) -> float:
        """Items per second of a function: as measured, or what the requests bring where it has served nothing yet."""
        now = self._core.now
        # Where values go stage by stage, all that a function serves has waited for its first stage.
        first = 1 << group.extent.stages[0] if self._core.is_stagewise(app) else group.mask
        queue = app.queues.get(first)
        if queue is not None and 0 <= queue.rate.since <= now - RATE_WINDOW_S * SECOND:
            return queue.rate.per_second(now, RATE_WINDOW_S)
        return self._arriving_per_s(app, group)

    def _arriving_per_s(self, app: AppState, group: Group) -> float:
        """Items per second that the requests bring which arrive at present."""
        items = app.deployed.workload.items[group.extent.stages[0]] if group.depth else 1.0
        return app.rate.per_second(self._core.now, RATE_WINDOW_S) * items

    def _is_kept_up(self, app: AppState) -> bool:
        return not app.deployed.config.scale_to_zero or self.is_lively(app)

    def needed(self, app: AppState, plan_id: str, group: Group) -> int:
        """Instances that the present rate needs for a function of any plan, at least one."""
        view = self._view(app, plan_id, group)
        offered, ahead = view.offered, view.offered_ahead
        steady = ScaleView(offered, 0.0, 0.0, view.instances, 1, view.max_instances, view.concurrency, ahead)
        return self._policies(app).scale(steady).instances

    def is_lively(self, app: AppState) -> bool:
        """Whether requests are in flight or came a short while ago."""
        return app.in_flight > 0 or (app.last_arrival > 0 and self._core.now - app.last_arrival < LIVELY_US)

    # Starts

    def deploy(self, app: AppState) -> None:
        """Start what the first plan asks for."""
        floor = 0 if app.deployed.config.scale_to_zero else 1
        for group in self._core.routing(app, app.plan_id).groups:
            function = group.function
            for _ in range(max(function.min_instances, min(function.instances, function.max_instances), floor)):
                if not self.start(app, group, Because("deployed", (("function", group.name),))):
                    break
        self.review_at(app, self._core.now + SECOND)

    def warm(self, app: AppState) -> Because | None:
        """Start an instance for every function that has none.

        Returns why a request cannot be served, where a function that every request needs has no instance and will not have one
        soon; None where all is well.
        """
        if app.is_covered:
            return None
        hopeless: Because | None = None
        is_covered = True
        for group in self._core.routing(app, app.plan_id).groups:
            if self._fleet.has_or_awaits(app, group.mask):
                continue
            backoff = app.backoffs.get(group.mask)
            if backoff is not None and self._core.now < backoff.until:
                is_covered = False
                self.review_at(app, backoff.until)
                if backoff.failures >= GIVE_UP_STARTS and group.always_runs:
                    facts = (("failed_starts", backoff.failures), ("detail", app.last_start_error))
                    hopeless = Because("instances do not start", facts)
                continue
            function = group.function
            verdict = self._fleet.start(app, group.mask, function.cpu_cores, WARM, function.device_fraction)
            if isinstance(verdict, NoRoom):
                is_covered = False
                if group.always_runs and not self._fleet.is_any_ending():
                    hopeless = Because("no room for an instance", (("function", group.name), ("detail", verdict.render())))
        app.is_covered = is_covered
        if not is_covered:
            self.review_at(app, self._core.now + SECOND)
        return hopeless

    def start(self, app: AppState, group: Group, because: Because) -> bool:
        """Start an instance of a function unless its starts have been failing; False where it is not started."""
        return self._start(app, group.mask, group.function.cpu_cores, because, group.function.device_fraction)

    def _start(self, app: AppState, mask: int, share: float, because: Because, gpu: float) -> bool:
        backoff = app.backoffs.get(mask)
        if backoff is not None and self._core.now < backoff.until:
            self.review_at(app, backoff.until)
            return False
        return not isinstance(self._fleet.start(app, mask, share, because, gpu), NoRoom)

    def replace(self, app: AppState, lost: Instance) -> None:
        """Start another in the place of an instance that is gone, if a function that requests follow is short of one."""
        for group in self._core.routing(app, app.plan_id).groups:
            if lost.stages & group.mask != group.mask:
                continue
            have = self._fleet.serving(app, group.mask) + self._fleet.coming(app, group.mask)
            if have < self.needed(app, app.plan_id, group):
                if not self._start(app, lost.stages, lost.share, REPLACE, lost.gpu_share_fraction):
                    self.start(app, group, REPLACE)
                break
        self.rescue(app)

    def rescue(self, app: AppState) -> None:
        """Start an instance for every function for which items wait and of which there is none, whichever plan they follow."""
        waiting = [queue.mask for queue in app.queues.values() if queue.items]
        for plan_id in app.plans:
            for group in self._core.routing(app, plan_id).groups:
                if any(mask & group.mask == mask and not self._fleet.has_or_awaits(app, mask) for mask in waiting):
                    self.start(app, group, RESCUE)

    def start_failed(self, app: AppState, mask: int, detail: str) -> None:
        """Wait longer after each start of a residency that fails."""
        backoff = app.backoffs.setdefault(mask, Backoff())
        backoff.until = self._core.now + (BACKOFF_US << min(backoff.failures, MAX_BACKOFF_DOUBLINGS))
        backoff.failures += 1
        app.last_start_error = detail
        self.review_at(app, backoff.until)

    def start_succeeded(self, app: AppState, mask: int) -> None:
        """A residency starts again."""
        app.backoffs.pop(mask, None)

    def retry_after_us(self, app: AppState) -> Micros:
        """When it is worth a client's while to come back to an app that does not start."""
        until = max((backoff.until for backoff in app.backoffs.values()), default=0)
        return max(SECOND, until - self._core.now)

    def start_pending(self, app: AppState) -> None:
        """Start what waited for cores and is still wanted."""
        if not app.pending_starts:
            return
        plans = [app.plan_id] if app.transition is None else [app.plan_id, app.transition.plan_id]
        wanted = [group.mask for plan_id in plans for group in self._core.routing(app, plan_id).groups]
        self._fleet.start_pending(app, wanted)

    # Reviews

    def review_at(self, app: AppState, at: Instant) -> None:
        """Review an app at ``at`` at the latest."""
        if app.review_at and app.review_at <= at:
            return
        app.review_at = at
        self._core.set_timer(at, REVIEW, 0, app.deployed.app.name)

    def review(self, app: AppState) -> None:
        """Scale every function and end what is spare."""
        core = self._core
        app.review_at = 0
        if self._policies(app).measures_concurrency:
            self._measure(app)
        elif app.loads:
            app.loads = {}
        if app.transition is None:
            self._scale_up(app)
        self.rescue(app)
        until = self._scale_down(app)
        # A burst is remembered a little longer than what was measured of it, and only a review can see it over.
        is_measured = any(load.panic.last_at or any(load.items) for load in app.loads.values())
        if self.is_lively(app) or app.transition is not None or is_measured:
            self.review_at(app, core.now + SECOND)
        elif until:
            self.review_at(app, until)

    def _scale_up(self, app: AppState) -> None:
        budget = max(1, int(sum(node.usable_cores for node in self._core.state.nodes.values())))
        for group in self._core.routing(app, app.plan_id).groups:
            decision = self._policies(app).scale(self._view(app, app.plan_id, group))
            if decision.panic is not None:
                app.loads[group.mask].panic = decision.panic
            have = self._fleet.serving(app, group.mask) + self._fleet.coming(app, group.mask)
            while have < decision.instances and budget > 0:
                if not self.start(app, group, decision.because):
                    self._make_room(app, group)
                    break
                have += 1
                budget -= 1

    def _make_room(self, app: AppState, group: Group) -> None:
        """End an idle instance that holds more than any function of the plan, where others hold all that it serves.

        What is left of a coarser plan serves every function and is the first to go when a finer one needs its memory.
        """
        if group.mask in app.backoffs or self._fleet.is_any_ending() or self._fleet.coming(app, group.mask):
            return
        masks = [each.mask for each in self._core.routing(app, app.plan_id).groups]
        for instance in sorted(self._fleet.idle(app).values(), key=lambda each: (each.idle_since, each.number)):
            if instance.stages in masks:
                continue
            served = [mask for mask in masks if instance.stages & mask == mask]
            if all(self._fleet.serving(app, mask) > 1 for mask in served):
                self._fleet.stop(instance, Because("makes room for a function of the plan", (("function", group.name),)))
                app.is_covered = False
                return

    def _scale_down(self, app: AppState) -> Instant:
        """End what is idle and spare; returns the instant at which the next one may be, 0 for none."""
        core = self._core
        if app.transition is not None:
            return 0
        policies = self._policies(app)
        scale = policies.scale
        left = [
            [group.mask, self._fleet.serving(app, group.mask) - scale(self._view(app, plan_id, group)).instances]
            for plan_id in app.plans
            for group in core.routing(app, plan_id).groups
        ]
        masks = [group.mask for group in core.routing(app, app.plan_id).groups]
        earliest = 0
        # What fits no function of the plan exactly goes first, then what has been idle longest.
        for instance in sorted(
            self._fleet.idle(app).values(), key=lambda each: (each.stages in masks, each.idle_since, each.number)
        ):
            serves = [entry for entry in left if instance.stages & entry[0] == entry[0]]
            is_spare = all(spare > 0 for _, spare in serves)
            if is_spare:
                for entry in serves:
                    entry[1] -= 1
            view = IdleView(instance.idle_since, app.deployed.config.keep_alive_us, is_spare, not serves)
            decision = policies.keep(view, core.now)
            if isinstance(decision, End):
                self._fleet.stop(instance, decision.because)
                app.is_covered = False
            elif decision.until and (not earliest or decision.until < earliest):
                earliest = decision.until
        return earliest
