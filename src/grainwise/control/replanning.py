"""When to plan again, under which load, and what to make of the answer."""

from grainwise.control.actions import ComputePlan
from grainwise.control.core import Core
from grainwise.control.scaling import RATE_WINDOW_S, Scaler
from grainwise.control.state import AppState, LiveMeans
from grainwise.control.transition import Regranulation
from grainwise.domain.because import Because
from grainwise.domain.plan import Grain
from grainwise.planning.problem import PlanTable, Problem, Workload
from grainwise.policies.regranulate import Ask, AskView, Switch, VerdictView

MIN_REQUESTS_FOR_MEANS = 20
POLICY = "the regranulation policy"


class Replanner:
    """Asks for plans and judges them."""

    def __init__(self, core: Core, scaler: Scaler, regranulation: Regranulation) -> None:
        self._core = core
        self._scaler = scaler
        self._regranulation = regranulation

    def review(self, app: AppState) -> None:
        """Ask for a plan when it is time."""
        core = self._core
        if not app.deployed.config.replan_us or not self._scaler.is_lively(app):
            return
        view = AskView(
            app.last_asked,
            app.last_rate_per_s,
            app.rate.per_second(core.now, RATE_WINDOW_S),
            app.deployed.config.replan_us,
            app.transition is None and not app.problem,
            bool(app.vote),
        )
        decision = core.policies[app.deployed.app.name].ask(view, core.now)
        if isinstance(decision, Ask):
            self.compute(app, None, POLICY, decision.because)

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
            tuple(node.node for node in state.nodes.values() if node.is_present),
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
            return Workload(
                rate, known.items, known.item_size, known.output_bytes, known.input_bytes, known.arrival_scv, known.variants
            )
        items = tuple(count / means.requests for count in means.items)
        sizes = tuple(
            total / count if count else old
            for total, count, old in zip(means.size_sums, means.items, known.item_size, strict=True)
        )
        return Workload(rate, items, sizes, known.output_bytes, known.input_bytes, known.arrival_scv, known.variants)

    def answered(self, app: AppState, table: PlanTable) -> None:
        """The planner has answered the problem that is open."""
        was_asked = app.problem_grain is not None or app.problem_by != POLICY
        app.problem = 0
        app.last_table = table
        if not table.options:
            app.vote = ""
            app.last_refusal = f"no plan is possible: {table.because}" + (f"; {table.nearest}" if table.nearest else "")
            return
        if was_asked:
            because = Because("on command", (("by", app.problem_by),))
            self._regranulation.begin(app, table.winner.plan, because)
            return
        config = app.deployed.config
        view = VerdictView(table, app.plan, app.deployed.app.slo.target, config.replan_gain_fraction, app.vote)
        decision = self._core.policies[app.deployed.app.name].verdict(view, self._core.now)
        app.last_verdict = decision.because.render()
        if isinstance(decision, Switch):
            app.vote = ""
            self._regranulation.begin(app, decision.plan, decision.because)
        else:
            app.vote = decision.vote

    def failed(self, app: AppState, reason: str) -> None:
        """The planner could not answer."""
        app.problem = 0
        app.vote = ""
        app.last_refusal = f"planning failed: {reason}"
