"""Re-granulation: make before break. New requests switch when every function of the new plan is covered.

The steps, each within capacity: adopt (an instance already holds the stages: nothing to do), load what is missing into an
instance that can be spared, start, end an instance that can be spared to make room for a start. A change for which there is
no such sequence is refused, with what is missing.

A function is covered when it has the instances that the present rate needs. Those that the planned rate or the long run needs
beyond that are started too where there is room, and not waited for: a change at a trough would otherwise meet the next peak
with cold starts.
"""

from collections.abc import Sequence

from grainwise.control.actions import AdoptPlan
from grainwise.control.core import Core
from grainwise.control.devices import device_views
from grainwise.control.endings import Endings
from grainwise.control.fleet import Fleet
from grainwise.control.routing import Group
from grainwise.control.scaling import Scaler
from grainwise.control.state import AppState, Backoff, Instance, Transition
from grainwise.domain.because import Because
from grainwise.domain.plan import Plan, render_grain
from grainwise.domain.time import SECOND
from grainwise.policies.autoscale import HEADROOM, whole_above
from grainwise.policies.gain import Change
from grainwise.policies.placement import NoRoom
from grainwise.policies.slices import EPSILON, DeviceNeed, grant, lacking

MAX_FAILED_STARTS = 3
MAX_DOUBLINGS = 4
"""A granularity that was refused is left alone for the dwell time, after every further refusal for twice as long as before."""


class Regranulation:
    """Carries an app from one plan to another without losing or repeating a request."""

    def __init__(self, core: Core, fleet: Fleet, endings: Endings, scaler: Scaler) -> None:
        self._core = core
        self._fleet = fleet
        self._endings = endings
        self._scaler = scaler

    def change_to(self, app: AppState, plan: Plan) -> Change:
        """What it would cost to have the instances of a plan beside the present ones until the last of them is up."""
        deployed, fleet = app.deployed, self._fleet
        starts, longest_us, usd_per_second = 0, 0.0, 0.0
        for function in plan.functions:
            mask = deployed.app.graph.mask(function.stages)
            missing = function.instances - fleet.serving(app, mask) - fleet.coming(app, mask)
            if missing <= 0:
                continue
            starts += missing
            longest_us = max(longest_us, deployed.model.cold_start_us(mask))
            price = deployed.prices.usd_per_second(function.cpu_cores, fleet.memory_mib(app, mask), function.device_fraction)
            usd_per_second += missing * price
        return Change(starts, longest_us, usd_per_second * longest_us / SECOND)

    def begin(self, app: AppState, plan: Plan, because: Because) -> None:
        """Aim at ``plan``; a change under way is redirected, and one that cannot be carried out is refused at once."""
        plan_id = plan.id
        abandoned = app.transition.plan_id if app.transition is not None else ""
        app.transition = None
        if plan_id != app.plan_id:
            app.plans[plan_id] = plan
            rate = max(app.last_rate_per_s, app.arrivals.long_run)
            app.transition = Transition(plan, plan_id, self._core.now, because.render(), rate_per_s=rate)
        if abandoned and abandoned != plan_id:
            self._endings.retire_plan(app, abandoned)
        if app.transition is not None:
            missing = self._missing(app, plan_id)
            if missing:
                self.refuse(app, missing)
        self._scaler.review_at(app, self._core.now)
        self.advance(app)

    def _missing(self, app: AppState, plan_id: str) -> str:
        """What the nodes lack for the instances that a plan needs and does not have, found by trying; empty when they fit."""
        fleet = self._fleet
        free = {name: node.free_memory_mib for name, node in self._core.state.nodes.items() if node.is_present}
        for instance in self._core.state.instances.values():
            if instance.phase == "ending" and instance.node in free:
                free[instance.node] += instance.memory_mib
        spares = self._spares(app)
        for group in self._core.routing(app, plan_id).groups:
            missing = self._scaler.needed(app, plan_id, group)
            missing -= fleet.serving(app, group.mask) + fleet.coming(app, group.mask)
            for _ in range(missing):
                missing_mib = self._take(free, spares, fleet.memory_mib(app, group.mask))
                if missing_mib > 0:
                    return _no_room(group, NoRoom(missing_mib))
        return self._missing_on_devices(app, plan_id)

    def _missing_on_devices(self, app: AppState, plan_id: str) -> str:
        """What devices lack for the first instance of a function, even if all that can be spared were given up."""
        groups = [group for group in self._core.routing(app, plan_id).groups if group.function.device_fraction]
        if not groups:
            return ""
        state = self._core.state
        leaving = {each.number for each in state.instances.values() if each.phase == "ending"}
        leaving.update(each.number for each in self._spares(app))
        present = [node for node in state.nodes.values() if node.is_present]
        views = tuple(view for node in present for view in device_views(node, state.instances.values(), leaving))
        for group in groups:
            if self._fleet.has_or_awaits(app, group.mask):
                continue
            need = DeviceNeed(group.function.device_fraction, self._fleet.device_mib(app, group.mask))
            if all(grant(view, need) is None for view in views):
                return _no_room(group, NoRoom(0.0, 0.0, lacking(views, need)))
        return ""

    def _take(self, free: dict[str, float], spares: list[Instance], need: float) -> float:
        """Take the memory of one instance out of ``free``, giving up spares where that helps; returns what is missing."""
        best = max(free, key=lambda name: (free[name], name), default="")
        while best and free[best] + EPSILON < need:
            giver = next((each for each in spares if each.node == best), None)
            if giver is None:
                return need - free[best]
            # Loading into it or ending it: either way what it holds now counts for the new function.
            spares.remove(giver)
            free[best] += giver.memory_mib
        if not best:
            return need
        free[best] -= need
        return 0.0

    def advance(self, app: AppState) -> None:
        """Take the next steps that capacity allows; switch when everything is covered."""
        transition = app.transition
        if transition is None:
            return
        is_short = is_waiting = False
        groups = self._core.routing(app, transition.plan_id).groups
        for group in groups:
            missing = self._scaler.needed(app, transition.plan_id, group) - self._fleet.serving(app, group.mask)
            if missing <= 0:
                continue
            is_short = True
            missing -= self._fleet.coming(app, group.mask)
            while missing > 0 and self._step(app, transition, group):
                missing -= 1
            is_waiting = is_waiting or missing > 0
            if app.transition is None:
                return
        if not is_waiting and not transition.is_stocked:
            transition.is_stocked = True
            self._stock(app, transition, groups)
        if not is_short:
            self._switch(app, transition)

    def _stock(self, app: AppState, transition: Transition, groups: Sequence[Group]) -> None:
        """Start what the planned rate needs beyond the present one, where there is room for it beside everything else."""
        if transition.plan.grain == app.plan.grain:
            return
        because = Because(
            "re-granulation, for the planned rate",
            (("to", render_grain(transition.plan.grain)), ("rate_per_s", transition.rate_per_s)),
        )
        for group in groups:
            function = group.function
            missing = self._planned(app, transition, group)
            missing -= self._fleet.serving(app, group.mask) + self._fleet.coming(app, group.mask)
            for _ in range(missing):
                verdict = self._fleet.start(app, group.mask, function.cpu_cores, because, function.device_fraction)
                if isinstance(verdict, NoRoom):
                    return

    def _planned(self, app: AppState, transition: Transition, group: Group) -> int:
        """Instances of a function that the planned rate needs, within the plan's bounds."""
        function, workload = group.function, app.deployed.workload
        cost = self._core.cost(app, transition.plan_id, group)
        items = workload.items[group.extent.stages[0]] if group.depth else 1.0
        per_item_us = cost.per_item_us + cost.fixed_us / function.max_batch
        offered = transition.rate_per_s * items * per_item_us / SECOND
        return min(whole_above(offered / HEADROOM), max(function.max_instances, function.instances, 1))

    def _step(self, app: AppState, transition: Transition, group: Group) -> bool:
        """One load or start towards covering ``group``; False where the next step has to wait or there is none."""
        because = Because(
            "re-granulation", (("to", render_grain(transition.plan.grain)), ("covers", group.name), ("asked", transition.by))
        )
        spares = [each for each in self._spares(app) if each.stages & group.mask != group.mask]
        idle = [each for each in spares if each.phase == "ready" and not each.invocation]
        gpu = group.function.device_fraction
        able = [each for each in idle if each.device] if gpu else idle
        nearest = min(able, key=lambda each: ((group.mask & ~each.stages).bit_count(), each.number), default=None)
        if nearest is not None and self._fleet.load(nearest, group.mask, because, gpu):
            return True
        verdict = self._fleet.start(app, group.mask, group.function.cpu_cores, because, gpu)
        if not isinstance(verdict, NoRoom):
            return True
        if self._fleet.is_any_ending():
            return False
        if verdict.device:
            # Only who has a part of a device can give one up.
            idle, spares = [each for each in idle if each.device], [each for each in spares if each.device]
        if idle:
            self._fleet.stop(max(idle, key=lambda each: (each.memory_mib, -each.number)), because)
        elif not spares and not self._fleet.coming(app, group.mask):
            self.refuse(app, _no_room(group, verdict))
        return False

    def _spares(self, app: AppState) -> list[Instance]:
        """Instances that could all be given up while every function that someone follows keeps what it needs."""
        left: list[tuple[int, int]] = []
        for plan_id in app.plans:
            for group in self._core.routing(app, plan_id).groups:
                spare = self._fleet.serving(app, group.mask) - self._scaler.needed(app, plan_id, group)
                left.append((group.mask, spare))
        found: list[Instance] = []
        for instance in self._fleet.of(app):
            if instance.phase != "ready":
                continue
            if all(spare > 0 for mask, spare in left if instance.stages & mask == mask):
                left = [(mask, spare - (instance.stages & mask == mask)) for mask, spare in left]
                found.append(instance)
        return found

    def _switch(self, app: AppState, transition: Transition) -> None:
        before = app.plan_id
        if app.plan.grain == transition.plan.grain:
            app.tuned_at = self._core.now
        else:
            app.regranulations += 1
            app.changed_at = self._core.now
        app.plan, app.plan_id = transition.plan, transition.plan_id
        app.transition = None
        app.is_covered = app.is_missing = False
        app.refusals.pop(render_grain(app.plan.grain), None)
        app.last_refusal = ""
        app.last_change = transition.by
        self._core.emit(AdoptPlan(app.deployed.app.name, app.plan, Because(transition.by), self._reshare(app)))
        self._endings.retire_plan(app, before)
        self._scaler.review_at(app, self._core.now)

    def _reshare(self, app: AppState) -> tuple[tuple[int, float], ...]:
        """Give instances the share of the function that they serve now, where a running one can have another."""
        capabilities = app.deployed.capabilities
        if capabilities.is_share_hard or capabilities.share_scope != "invocation":
            return ()
        compiled = self._core.compiled(app, app.plan_id)
        changed: list[tuple[int, float]] = []
        for instance in self._fleet.of(app):
            share = compiled.share_of(instance.stages | instance.loading)
            if share and share != instance.share and instance.phase != "ending":
                instance.share = share
                changed.append((instance.number, share))
        return tuple(changed)

    def refuse(self, app: AppState, reason: str) -> None:
        """Give the change up and keep the present plan."""
        transition = app.transition
        if transition is None:
            return
        app.transition = None
        name = render_grain(transition.plan.grain)
        app.last_refusal = f"{name} was refused: {reason}"
        refusal = app.refusals.setdefault(name, Backoff())
        wait_us = max(SECOND, app.deployed.config.dwell_us)
        refusal.until = self._core.now + (wait_us << min(refusal.failures, MAX_DOUBLINGS))
        refusal.failures += 1
        self._endings.retire_plan(app, transition.plan_id)
        self._scaler.review_at(app, self._core.now)

    def failed(self, app: AppState, detail: str) -> None:
        """A start or a load that the change may need did not succeed."""
        if app.transition is None:
            return
        app.transition.failures += 1
        if app.transition.failures >= MAX_FAILED_STARTS:
            self.refuse(app, f"{MAX_FAILED_STARTS} starts failed, the last with: {detail}")


def _no_room(group: Group, verdict: NoRoom) -> str:
    return f"no room for {group.name}: {verdict.render()}"
