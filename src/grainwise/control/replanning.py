"""When to plan again, under which load, and what to make of the answer."""

import msgspec

from grainwise.control.actions import ComputePlan
from grainwise.control.core import Core
from grainwise.control.rates import dispersion
from grainwise.control.scaling import Scaler
from grainwise.control.state import AppState, LiveMeans
from grainwise.control.transition import Regranulation
from grainwise.domain.because import Because
from grainwise.domain.machine import Node
from grainwise.domain.plan import Grain
from grainwise.domain.time import SECOND
from grainwise.planning.problem import PlanTable, Problem, Workload
from grainwise.policies import forecast as forecasts
from grainwise.policies.regranulate import RATE_CHANGE, Ask, AskView, Switch, VerdictView

MIN_REQUESTS_FOR_MEANS = 20
LEAST_RATE_PER_S = 0.1
"""A plan for an idle app is one for a request in ten seconds."""

DISPERSION_S = 32
MIN_DISPERSION_S = 10
MOST_DISPERSION = 16.0
"""Seconds over which the variability of arrivals is measured, the fewest that say anything, and the most that is believed."""

MAX_SNAPSHOT_BYTES = 4 * 1024 * 1024
MAX_DOUBLINGS = 4
POLICY = "the regranulation policy"


class Replanner:
    """Asks for plans and judges them."""

    def __init__(self, core: Core, scaler: Scaler, regranulation: Regranulation) -> None:
        self._core = core
        self._scaler = scaler
        self._regranulation = regranulation

    # When

    def review(self, app: AppState) -> None:
        """Count on, and ask for a plan when it is time."""
        core = self._core
        self._observe(app)
        config = app.deployed.config
        if not config.replan_us or app.arrivals.seconds < forecasts.PANIC_S or not self._scaler.is_lively(app):
            return
        expected = self.forecast(app)
        slack = RATE_CHANGE * max(app.last_rate_per_s, LEAST_RATE_PER_S)
        view = AskView(
            last_asked=app.last_asked,
            planning_us=app.planning_us,
            trusted_us=expected.trusted_us,
            rate_per_s=self._rate(app, expected),
            lowest_per_s=app.last_rate_per_s - slack,
            highest_per_s=app.last_rate_per_s + slack,
            replan_us=config.replan_us,
            dwell_us=config.dwell_us,
            is_settled=app.transition is None and not app.problem,
            has_candidate=bool(app.vote),
            vote_due=app.vote_due,
            changed=app.changed_at,
            blocked_until=app.planning.until,
            is_panic=expected.is_panic,
            is_missing=app.is_missing,
            has_failed=app.planning.failures > 0,
            is_other_machine=bool(app.asked_nodes) and app.asked_nodes != self._nodes(),
        )
        decision = core.policies[app.deployed.app.name].ask(view, core.now)
        app.last_ask = decision.because
        if isinstance(decision, Ask):
            self.compute(app, None, POLICY, decision.because)

    def _observe(self, app: AppState) -> None:
        """Take in the seconds that are over; the one in which the first request came was not a whole one."""
        since, last = app.rate.since, self._core.now // SECOND
        if since < 0:
            return
        first = max(app.arrivals.through, since // SECOND) + 1
        if last - first > forecasts.FORGOTTEN_S:
            first = last - forecasts.STABLE_S
        if first < last:
            app.arrivals = forecasts.observe(app.arrivals, first, app.rate.whole_seconds(first, last))

    def forecast(self, app: AppState) -> forecasts.Forecast:
        """What is expected while the slowest function of the plan starts."""
        groups = self._core.routing(app, app.plan_id).groups
        ahead_us = max((app.deployed.model.cold_start_us(group.mask) for group in groups), default=0.0)
        return forecasts.forecast(app.arrivals, ahead_us)

    def _rate(self, app: AppState, expected: forecasts.Forecast) -> float:
        """The rate to plan for: that of the deployment until something was counted, and never that of a trough."""
        if not expected.has_data:
            known = app.deployed.workload.rate_per_s
            return max(known if app.rate.since < 0 else app.rate.per_second(self._core.now, 1), LEAST_RATE_PER_S)
        config = app.deployed.config
        # A lasting step down is to be answered within three dwell times, and two answers take a while.
        settled_us = max(config.dwell_us, min(2 * config.dwell_us, 3 * config.dwell_us - 4 * config.replan_us))
        return max(expected.planning_rate_per_s(settled_us), LEAST_RATE_PER_S)

    def _nodes(self) -> tuple[Node, ...]:
        return tuple(node.node for node in self._core.state.nodes.values() if node.is_present)

    # Asking

    def compute(self, app: AppState, grain: Grain | None, by: str, because: Because) -> None:
        """Ask the planner, under the load that is expected now."""
        core = self._core
        state = core.state
        number = state.next_problem
        state.next_problem = number + 1
        self._observe(app)
        expected = self.forecast(app)
        rate = self._rate(app, expected)
        deployed = app.deployed
        workload = self._workload(app, rate, expected)
        app.problem, app.problem_grain, app.problem_by = number, grain, by
        app.last_asked, app.last_rate_per_s = core.now, rate
        app.asked_nodes = self._nodes()
        app.means = LiveMeans()
        snapshot = b""
        facts = (*because.facts, ("planned_rate_per_s", rate), ("forecast", expected.because.render()))
        if deployed.config.evaluator == "rollout":
            snapshot = msgspec.msgpack.encode(state)
            if len(snapshot) > MAX_SNAPSHOT_BYTES:
                facts = (*facts, ("snapshot", f"of {len(snapshot)} bytes is left out, plans are judged when they are up"))
                snapshot = b""
        problem = Problem(
            number,
            deployed.app,
            deployed.model,
            deployed.hop,
            workload,
            app.asked_nodes,
            deployed.capabilities,
            deployed.prices,
            app.plan.objective,
            grain=grain,
            current=app.plan,
            evaluator=deployed.config.evaluator,
            now=core.now,
            snapshot=snapshot,
            policies=deployed.config.policies,
            is_stagewise=core.is_stagewise(app),
        )
        core.emit(ComputePlan(problem, Because(because.rule, facts)))

    def _workload(self, app: AppState, rate: float, expected: forecasts.Forecast) -> Workload:
        known, means = app.deployed.workload, app.means
        workload = msgspec.structs.replace(known, rate_per_s=rate, arrival_scv=self._arrival_scv(app, expected))
        if means.requests < MIN_REQUESTS_FOR_MEANS or not means.items:
            return workload
        items = tuple(count / means.requests for count in means.items)
        sizes = tuple(
            total / count if count else old
            for total, count, old in zip(means.size_sums, means.items, known.item_size, strict=True)
        )
        return msgspec.structs.replace(workload, items=items, item_size=sizes)

    def _arrival_scv(self, app: AppState, expected: forecasts.Forecast) -> float:
        """The variability within the present regime, drawn towards what is known by as many seconds as a stable window has."""
        known = app.deployed.workload.arrival_scv
        window = min(DISPERSION_S, expected.trusted_us // SECOND, app.arrivals.seconds)
        if window < MIN_DISPERSION_S:
            return known
        last = app.arrivals.through + 1
        found = min(dispersion(app.rate.whole_seconds(last - window, last)), MOST_DISPERSION)
        return (known * forecasts.STABLE_S + found * window) / (forecasts.STABLE_S + window)

    # Answers

    def answered(self, app: AppState, table: PlanTable) -> None:
        """The planner has answered the problem that is open."""
        was_asked = app.problem_grain is not None or app.problem_by != POLICY
        app.problem = 0
        app.planning_us = self._core.now - app.last_asked
        app.planning.failures = app.planning.until = 0
        app.last_table = table
        if not table.options:
            app.vote = ""
            app.last_refusal = f"no plan is possible: {table.because}" + (f"; {table.nearest}" if table.nearest else "")
            return
        self._note_missing(app, table)
        if was_asked:
            because = Because("on command", (("by", app.problem_by),))
            self._regranulation.begin(app, table.winner.plan, because)
            return
        config = app.deployed.config
        view = VerdictView(
            table,
            app.plan,
            app.deployed.app.slo.target,
            config.replan_gain_fraction,
            app.vote,
            changes=tuple(self._regranulation.change_to(app, option.plan) for option in table.options),
            trusted_us=self.forecast(app).trusted_us,
            dwell_us=config.dwell_us,
            changed=app.changed_at,
            tuned=app.tuned_at,
            refused=tuple(name for name, refusal in app.refusals.items() if self._core.now < refusal.until),
        )
        decision = self._core.policies[app.deployed.app.name].verdict(view, self._core.now)
        app.last_verdict = decision.because.render()
        if isinstance(decision, Switch):
            app.vote = ""
            self._regranulation.begin(app, decision.plan, decision.because)
        else:
            app.vote, app.vote_due = decision.vote, decision.until

    def _note_missing(self, app: AppState, table: PlanTable) -> None:
        judged = table.current_judged
        met = judged.attainment.value if judged is not None else table.current.attainment if table.current is not None else 1.0
        app.is_missing = met < app.deployed.app.slo.target

    def failed(self, app: AppState, reason: str) -> None:
        """The planner could not answer: it is asked again, later each time."""
        app.problem = 0
        app.vote = ""
        app.last_refusal = f"planning failed: {reason}"
        wait_us = max(SECOND, app.deployed.config.replan_us)
        app.planning.until = self._core.now + (wait_us << min(app.planning.failures, MAX_DOUBLINGS))
        app.planning.failures += 1
