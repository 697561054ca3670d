"""The third model of what a plan is worth: the product's own controller, run in virtual time over arrivals as forecast.

Each plan is run in a world that is made of nothing but the planning problem: from the present state where there is a snapshot,
so that a change pays for its cold starts and for memory held twice, else from the moment at which the plan is up. All plans
see the same arrivals, the same requests and the same luck (common random numbers: Heikes, Montgomery and Rardin, Simulation 27,
1976), and plans that are far behind are not run again, which leaves the budget to those that may win, see ``halving``.

The budget is a number of handled events, so that an answer does not depend on how fast a machine is.

Left out: failures; the slow loop itself, which rests while a plan is judged; and, unless somebody knows them, slowdown by
neighbours on one machine and the time that bytes take between machines, of which a problem says nothing.
"""

from collections.abc import Mapping, Sequence

import msgspec

from grainwise.domain.config import AppConfig
from grainwise.domain.errors import ConfigurationError
from grainwise.domain.plan import Plan
from grainwise.domain.time import SECOND, Micros
from grainwise.predictors.cost import provisioned_usd_per_hour
from grainwise.predictors.evaluator import Band, EvaluatorName, Judgement
from grainwise.predictors.groups import Scenario, scope_items
from grainwise.simulation.bands import fraction_band, mean_band
from grainwise.simulation.cluster import Cluster
from grainwise.simulation.halving import as_if_run_as_often, next_round
from grainwise.simulation.imagined import imagined
from grainwise.simulation.plan_runs import LEAST, FreshRuns, GoingRuns, Outcome, Play
from grainwise.simulation.resumed import Present
from grainwise.simulation.run import stream_seed

EVENTS = 60_000
"""Events that one question may handle in all; 40 to 60 us each on one core of the machine that the benchmarks name."""

REQUESTS = 800
SHORTEST: Micros = 60 * SECOND
LONGEST: Micros = 300 * SECOND
"""A run is to see so many requests of the app within these bounds, and is shorter only where the budget is too small for it.

Instances that a plan begins with stay until the autoscaler has found that they are idle, so a short run says too little of
what a plan costs in the long run: long runs tell more than many.
"""

REPLICATIONS = 8
SURE_FRACTION = 0.005
"""Ranges of attainment that reach no further than this to either side are narrow enough."""

_FIRST_PART = 0.6
"""The part of the budget that the first run of every plan may use."""

_RUNAWAY = 4
"""A run that handles so many times the events that were expected of it is cut off."""


class Rollout:
    """Implements ``predictors.evaluator.PlanEvaluator``.

    Args:
        with_capacity: also bisect the capacity of each plan once it is up; takes many runs, outside the budget.
        config: how an app is controlled where no snapshot says so.
        cluster: what is known of the machines beyond the problem: speeds, the network, how neighbours slow each other.
        events: the budget of one question. A plan is run at least once, whatever that takes.

    A plan that finds no room is no error: its attainment is 0, and ``Judgement.handed_on`` says what was lacking.
    """

    def __init__(
        self,
        *,
        with_capacity: bool = False,
        config: AppConfig | None = None,
        cluster: Cluster | None = None,
        events: int = EVENTS,
    ) -> None:
        self._with_capacity = with_capacity
        self._config = msgspec.structs.replace(config or AppConfig(), replan_us=0)
        self._cluster = cluster
        self._events = events

    @property
    def name(self) -> EvaluatorName:
        """Which of the models it is."""
        return "rollout"

    def judge(self, scenario: Scenario, plans: Sequence[Plan], snapshot: bytes = b"") -> tuple[Judgement, ...]:
        """A judgement for each plan, in their order.

        Args:
            scenario: app, model, forecast, machines; of a planning problem also the number, which is the seed, and the instant.
            plans: legal plans of that app.
            snapshot: the controller's memory to go on from; empty: every plan is judged when it is up.

        Raises:
            ConfigurationError: the forecast rate is no finite number of 0 or more, there are no machines, or the snapshot does
                not know the app.
            ArtifactError: the snapshot cannot be read.
        """
        if not 0 <= scenario.workload.rate_per_s <= 1e6:
            raise ConfigurationError(
                f"the forecast for {scenario.app.name} is {scenario.workload.rate_per_s} requests/s; give one from 0 to 1e6"
            )
        if not scenario.nodes:
            raise ConfigurationError(f"there is no machine to run {scenario.app.name} on; give at least one node")
        if not plans:
            return ()
        seed = int(getattr(scenario, "number", 0))
        app = imagined(scenario.app, scenario.model, scenario.hop, scenario.workload, plans[0], self._config)
        fresh = FreshRuns(scenario, app, self._cluster)
        rates = {scenario.app.name: scenario.workload.rate_per_s}
        play: Play = fresh.play
        keep, shortest = "", SHORTEST
        if snapshot:
            present = Present(snapshot, int(getattr(scenario, "now", 0)), app, scenario.nodes, self._cluster)
            going = GoingRuns(present, scenario.prices, app, rates)
            rates, play, keep = going.rates, going.play, present.plan.id
            # A change is followed by no other for so long; what it costs at once is spread over no less.
            shortest = min(LONGEST, max(SHORTEST, present.dwell_us))
        length = self._length_us(scenario, plans, rates, shortest)
        outcomes = self._outcomes(scenario, plans, play, seed, length, keep)
        most = max(len(found) for found in outcomes)
        last = [found for found in outcomes if len(found) == most and not found[0].refusal]
        judged = [self._judgement(scenario, plan, found, last) for plan, found in zip(plans, outcomes, strict=True)]
        if self._with_capacity:
            judged = [
                each if each.handed_on else msgspec.structs.replace(each, capacity_per_s=fresh.capacity(plan, seed))
                for plan, each in zip(plans, judged, strict=True)
            ]
        return tuple(judged)

    def _length_us(self, scenario: Scenario, plans: Sequence[Plan], rates: Mapping[str, float], shortest: Micros) -> Micros:
        """How long a run is: the same for every plan, as many requests as are wanted where the budget allows."""
        rate = scenario.workload.rate_per_s
        length = min(LONGEST, max(shortest, int(REQUESTS * SECOND / max(rate, 1e-3))))
        others = sum(rates.values()) - rate
        per_second = sum(rate * _events_per_request(scenario, plan) + others * 4 for plan in plans)
        if per_second * length > _FIRST_PART * self._events * SECOND:
            length = max(LEAST, int(_FIRST_PART * self._events * SECOND / per_second))
        return length

    def _outcomes(
        self, scenario: Scenario, plans: Sequence[Plan], play: Play, seed: int, length: Micros, keep: str
    ) -> list[list[Outcome]]:
        """Run every plan once, then again and again those that may be the best, until that is sure or the budget is used."""
        found: list[list[Outcome]] = [[] for _ in plans]
        left = self._events
        running = list(range(len(plans)))
        kept = next((at for at, plan in enumerate(plans) if plan.id == keep), None)
        for replication in range(REPLICATIONS):
            for at in running:
                limit = _RUNAWAY * (found[at][0].events if replication else self._events)
                outcome = play(plans[at], stream_seed(seed, replication), length, limit)
                found[at].append(outcome)
                left -= outcome.events
            running = next_round(found, running, scenario.app.slo.target, left, kept)
            if not running or (replication and len(running) == 1 and _is_narrow(_bands(found[running[0]])[0])):
                break
        return found

    def _judgement(
        self, scenario: Scenario, plan: Plan, outcomes: Sequence[Outcome], last: Sequence[Sequence[Outcome]]
    ) -> Judgement:
        refusal = outcomes[0].refusal
        if refusal:
            usd = _nominal_usd_per_hour(scenario, plan)
            return Judgement(Band(0.0, 0.0, 0.0), Band(usd, usd, usd), "rollout", handed_on=refusal)
        attainment, usd_per_hour = as_if_run_as_often(*_bands(outcomes), len(outcomes), last)
        return Judgement(attainment, usd_per_hour, "rollout")


def _events_per_request(scenario: Scenario, plan: Plan) -> float:
    """About how many events a request makes: its arrival, an invocation for every item of every function, some wakes."""
    graph = scenario.app.graph
    total = 1.5
    for function in plan.functions:
        mask = graph.mask(function.stages)
        depths = [graph.stages[index].scope for index in range(len(graph.stages)) if mask >> index & 1]
        scope = min(depths, key=len)
        total += max(1.0, scope_items(graph, scenario.workload, scope) / max(1, function.max_batch))
    return total


def _bands(outcomes: Sequence[Outcome]) -> tuple[Band, Band]:
    """Attainment and cost of one plan over its runs, of which none was refused."""
    offered = [count for outcome in outcomes for count in outcome.offered]
    met = [count for outcome in outcomes for count in outcome.met]
    cost = mean_band([outcome.usd_per_hour for outcome in outcomes], sum(offered))
    return fraction_band(met, offered, len(outcomes)), cost


def _is_narrow(band: Band) -> bool:
    return band.high - band.value <= SURE_FRACTION and band.value - band.low <= SURE_FRACTION


def _nominal_usd_per_hour(scenario: Scenario, plan: Plan) -> float:
    """What the instances of a plan would cost if they found room."""
    graph = scenario.app.graph
    return sum(
        provisioned_usd_per_hour(
            scenario.prices,
            instances=function.instances,
            cpu_cores=function.cpu_cores,
            memory_mib=scenario.model.memory_mib(graph.mask(function.stages), scenario.hop.process_mib),
            gpu=function.device_fraction,
        )
        for function in plan.functions
    )
