"""Re-granulation: make before break. New requests switch when every function of the new plan is covered.

The steps, each within capacity: adopt (an instance already holds the stages: nothing to do), load what is missing into an
instance that can be spared, start. A change for which no step is left is refused, with what is missing.
"""

from grainwise.control.core import Core
from grainwise.control.endings import Endings
from grainwise.control.fleet import Fleet
from grainwise.control.routing import Group
from grainwise.control.scaling import Scaler
from grainwise.control.state import AppState, Instance, Transition
from grainwise.domain.because import Because
from grainwise.domain.plan import Plan, render_grain
from grainwise.policies.placement import NoRoom

MAX_FAILED_STARTS = 3


class Regranulation:
    """Carries an app from one plan to another without losing or repeating a request."""

    def __init__(self, core: Core, fleet: Fleet, endings: Endings, scaler: Scaler) -> None:
        self._core = core
        self._fleet = fleet
        self._endings = endings
        self._scaler = scaler

    def begin(self, app: AppState, plan: Plan, because: Because) -> None:
        """Aim at ``plan``; a change under way is redirected."""
        abandoned = app.transition.plan.id if app.transition is not None else ""
        if plan.id == app.plan.id:
            app.transition = None
        else:
            app.plans[plan.id] = plan
            app.transition = Transition(plan, self._core.now, because.render())
        if abandoned and abandoned != plan.id:
            self._endings.retire_plan(app.deployed.app.name, abandoned)
        self.advance(app)

    def advance(self, app: AppState) -> None:
        """Take the next steps that capacity allows; switch when everything is covered."""
        transition = app.transition
        if transition is None:
            return
        short = False
        for group in self._core.routing(app, transition.plan.id).groups:
            have = len(self._fleet.serving(app, group.mask))
            missing = self._scaler.needed(app, transition.plan.id, group) - have
            if missing <= 0:
                continue
            missing -= self._fleet.coming(app, group.mask)
            while missing > 0 and self._step(app, transition, group):
                missing -= 1
            if app.transition is None:
                return
            short = short or have == 0 or self._fleet.coming(app, group.mask) > 0
        if not short:
            self._switch(app, transition)

    def _step(self, app: AppState, transition: Transition, group: Group) -> bool:
        """One load or start towards covering ``group``; False where there is nothing left to try now."""
        because = Because(
            "re-granulation", (("to", render_grain(transition.plan.grain)), ("covers", group.name), ("asked", transition.by))
        )
        spare = self._spare(app, group.mask)
        if spare is not None and self._fleet.load(spare, group.mask, because):
            return True
        verdict = self._fleet.start(app, group.mask, group.function.cpu_cores, because)
        if not isinstance(verdict, NoRoom):
            return True
        if not self._fleet.serving(app, group.mask) and not self._fleet.coming(app, group.mask):
            self.refuse(
                app, f"no room for {group.name}: {verdict.missing_mib:.0f} MiB of memory are missing on the roomiest node"
            )
        return False

    def _spare(self, app: AppState, mask: int) -> Instance | None:
        """An idle instance that nothing in use needs, the one with least to load."""
        best: Instance | None = None
        best_rank = (0, 0)
        for instance in self._fleet.of(app):
            if instance.phase != "ready" or instance.invocation or instance.stages & mask == mask:
                continue
            if not self._is_spare(app, instance):
                continue
            rank = ((mask & ~instance.stages).bit_count(), instance.number)
            if best is None or rank < best_rank:
                best, best_rank = instance, rank
        return best

    def _is_spare(self, app: AppState, instance: Instance) -> bool:
        """Whether every function that someone follows keeps as many instances as it needs without this one."""
        for plan in app.plans.values():
            for group in self._core.routing(app, plan.id).groups:
                if instance.stages & group.mask != group.mask:
                    continue
                others = len(self._fleet.serving(app, group.mask)) - 1
                if others < self._scaler.needed(app, plan.id, group):
                    return False
        return True

    def _switch(self, app: AppState, transition: Transition) -> None:
        before = app.plan
        app.plan = transition.plan
        app.transition = None
        app.regranulations += 1
        app.last_refusal = ""
        self._endings.retire_plan(app.deployed.app.name, before.id)
        self._scaler.review_soon(app)

    def refuse(self, app: AppState, reason: str) -> None:
        """Give the change up and keep the present plan."""
        transition = app.transition
        if transition is None:
            return
        app.transition = None
        app.last_refusal = f"{render_grain(transition.plan.grain)} was refused: {reason}"
        self._endings.retire_plan(app.deployed.app.name, transition.plan.id)

    def start_failed(self, app: AppState, detail: str) -> None:
        """An instance that the change needs did not come up."""
        if app.transition is None:
            return
        app.transition.failures += 1
        if app.transition.failures >= MAX_FAILED_STARTS:
            self.refuse(app, f"{MAX_FAILED_STARTS} starts failed, the last with: {detail}")
