"""The analytic plan evaluator: attainment, cost and capacity of a plan under a forecast.

Waits come from each function as a station of its own and from the cores that functions with soft shares contend for; their
distributions are put together along the paths of a request by ``predictors.paths``.

Cold starts, hops between nodes and slowdown by neighbours count where ``predictors.effects`` are given; by themselves they are
left out, as a plan is judged when it is up. Left out besides: the variation of requests around the mean request beyond what the
residuals of the profile hold, the bounded wait by which the controller may let a batch grow, the overlap of functions inside a
fan-out, and instances that hold more stages than their function (adopted ones), which serve several functions in turn.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec import Struct

from grainwise.domain.machine import HopModel
from grainwise.domain.plan import FunctionPlan, Objective, Plan, Prediction
from grainwise.predictors.contention import waits_for_cores
from grainwise.predictors.cost import billed_usd_per_hour, provisioned_usd_per_hour
from grainwise.predictors.effects import (
    NO_EFFECTS,
    Effects,
    cold_waits_us,
    crossing_fraction,
    hop_across,
    interference_factors,
    setting,
    slowed,
)
from grainwise.predictors.groups import GroupFacts, Scenario, group_facts, source_bytes
from grainwise.predictors.memo import FunctionKey, Memo
from grainwise.predictors.paths import Paths
from grainwise.predictors.queueing import Waiting
from grainwise.predictors.samples import SAMPLES, Samples
from grainwise.predictors.station import Station, held_cores, make_station, usable_cores

CAPACITY_ATTAINMENT = 0.98
"""The attainment that defines a plan's capacity."""

_CAPACITY_PART = 1 / 4096
_CAPACITY_DOUBLINGS = 10


class Breakdown(Struct, frozen=True):
    """Where the mean time of a request and the resources of a plan go. Milliseconds on the longest path.

    ``billed_core_s`` are the core-seconds of the invocations of a mean request.
    """

    hop_ms: float
    wait_ms: float
    service_ms: float
    provisioned_cores: float
    provisioned_mib: float
    billed_core_s: float
    demand_cores: float


class Evaluation:
    """One plan in one scenario; answers for any rate.

    Args:
        scenario: app, model, workload, machines.
        plan: a legal plan of that app: every stage in exactly one function, an acyclic quotient.
        facts_by_mask: facts already derived for this scenario; new ones are added.
        memo: what other plans of this scenario derived, with the same effects; new things are added. Its facts are used where
            none are given.
        effects: what the scenario does not say.
        charged: the plan that is paid for where ``plan`` only says how its instances are used; ``plan`` without it.
    """

    def __init__(
        self,
        scenario: Scenario,
        plan: Plan,
        facts_by_mask: dict[int, GroupFacts] | None = None,
        memo: Memo | None = None,
        effects: Effects = NO_EFFECTS,
        charged: Plan | None = None,
    ) -> None:
        self._scenario = scenario
        self._plan = plan
        self._charged = charged or plan
        self._memo = Memo() if memo is None else memo
        known = self._memo.facts if facts_by_mask is None else facts_by_mask
        graph = scenario.app.graph
        self._facts: list[GroupFacts] = []
        for function in plan.functions:
            mask = graph.mask(function.stages)
            if mask not in known:
                known[mask] = group_facts(scenario, mask)
            self._facts.append(known[mask])
        self._charged_mib = [
            scenario.model.memory_mib(graph.mask(function.stages), scenario.hop.process_mib)
            for function in self._charged.functions
        ]
        self._paths = Paths(scenario, self._facts, self._memo)
        self._shares = [held_cores(scenario, function.cpu_cores) for function in plan.functions]
        self._keys: list[FunctionKey] = [
            (facts.mask, function.cpu_cores, function.max_batch, function.instances, function.device_fraction)
            for function, facts in zip(plan.functions, self._facts, strict=True)
        ]
        self._limit_us = scenario.app.slo.latency_ms * 1000
        self._effects = effects
        self._hops = [self._hop(crossing_fraction(len(scenario.nodes), each.instances)) for each in plan.functions]
        self._exit_us = self._hop(crossing_fraction(len(scenario.nodes), 1)).latency_us(
            sum(source_bytes(graph, scenario.workload, source) for source in graph.outputs)
        )

    def predict(self) -> Prediction:
        """The prediction at the forecast rate."""
        stations = self._stations(self._scenario.workload.rate_per_s)
        latency = np.sort(self._latency_us(self._scenario.workload.rate_per_s, stations))
        return Prediction(
            p50_ms=_quantile(latency, 0.5) / 1000,
            p95_ms=_quantile(latency, 0.95) / 1000,
            p99_ms=_quantile(latency, 0.99) / 1000,
            attainment=float(np.searchsorted(latency, self._limit_us, side="right")) / SAMPLES,
            capacity_per_s=self.capacity_per_s(CAPACITY_ATTAINMENT),
            billed_usd_per_hour=self._billed_usd_per_hour(stations),
            provisioned_usd_per_hour=self._provisioned_usd_per_hour(),
            error_fraction=self._error_fraction(stations),
            utilisation=self._utilisation(stations),
        )

    def attainment(self, rate_per_s: float) -> float:
        """The fraction of requests of a run at ``rate_per_s`` that is answered within the SLO."""
        stations = self._stations(rate_per_s)
        within = np.count_nonzero(self._latency_us(rate_per_s, stations) <= self._limit_us)
        return float(within) / SAMPLES

    def attainment_at_forecast(self) -> float:
        """The same at the forecast rate."""
        return self.attainment(self._scenario.workload.rate_per_s)

    def usd_per_hour(self, objective: Objective) -> float:
        """The cost at the forecast rate."""
        if objective == "provisioned":
            return self._provisioned_usd_per_hour()
        return self._billed_usd_per_hour(self._stations(self._scenario.workload.rate_per_s))

    def overload(self) -> float:
        """By what factor the forecast rate is above what the plan can carry at all; 1 where it is not."""
        return max(1.0, self._utilisation(self._stations(self._scenario.workload.rate_per_s)))

    def latency_ms(self, level: float) -> float:
        """The latency at the forecast rate that a fraction ``level`` of requests does not exceed."""
        rate_per_s = self._scenario.workload.rate_per_s
        return _quantile(np.sort(self._latency_us(rate_per_s, self._stations(rate_per_s))), level) / 1000

    def capacity_per_s(self, attainment: float) -> float:
        """The highest rate at which the predicted attainment is at least ``attainment``, to a part in 4,096 of a bracket of it.

        Instances are the plan's ``instances``: what autoscaling could add is not counted. The bracket is narrowed by the
        Illinois variant of false position (M. Dowell and P. Jarratt, 1971), with a bisection wherever that hardly helps.
        """
        unit = self._stations(1.0)
        # With one request per second a utilisation is the reciprocal of the rate that saturates.
        load = max(self._utilisation(unit), 1e-9)
        low, high = 0.0, 1 / load
        excess_low = self._excess(high * 1e-6, attainment)
        if excess_low > 0:
            return 0.0
        excess_high = self._excess(high, attainment)
        for _ in range(_CAPACITY_DOUBLINGS):
            if excess_high > 0:
                break
            low, high, excess_low = high, 2 * high, excess_high
            excess_high = self._excess(high, attainment)
        width = (high - low) * _CAPACITY_PART
        is_low_stale = is_high_stale = is_halving = False
        while high - low > width:
            before = high - low
            part = 0.5 if is_halving else excess_low / (excess_low - excess_high)
            # Half of what is wanted away from either end: where the guess is good, the next step closes the bracket.
            guess = min(max(low + before * part, low + width / 2), high - width / 2)
            excess = self._excess(guess, attainment)
            if excess <= 0:
                low, excess_low = guess, excess
                excess_high *= 0.5 if is_high_stale else 1.0
                is_low_stale, is_high_stale = False, True
            else:
                high, excess_high = guess, excess
                excess_low *= 0.5 if is_low_stale else 1.0
                is_low_stale, is_high_stale = True, False
            is_halving = not is_halving and high - low > before / 2
        return low

    def _excess(self, rate_per_s: float, attainment: float) -> float:
        """Above 0 where the attainment at a rate is below ``attainment``; about linear in the rate below saturation."""
        within = max(0, math.ceil(attainment * SAMPLES - 1e-9) - 1)
        stations = self._stations(rate_per_s)
        longest = np.partition(self._latency_us(rate_per_s, stations), within)[within]
        return 1.0 - self._limit_us / float(longest) if longest > 0 else -1.0

    def breakdown(self) -> Breakdown:
        """Where time and resources go at the forecast rate, by means."""
        stations = self._stations(self._scenario.workload.rate_per_s)
        held = self._waits_for_cores(stations)
        finish: list[tuple[float, float, float, float]] = [(0.0, 0.0, 0.0, 0.0)] * len(stations)
        for group in self._paths.order:
            before = max((finish[other] for other in self._paths.before[group]), default=(0.0, 0.0, 0.0, 0.0))
            station = stations[group]
            wait = station.wait.mean_us + held[group].mean_us
            hop = station.rounds * station.hop_us
            service = station.rounds * sum(station.stage_us)
            finish[group] = (before[0] + wait + hop + service, before[1] + hop, before[2] + wait, before[3] + service)
        last = max(finish)
        charged = list(zip(self._charged.functions, self._charged_mib, strict=True))
        return Breakdown(
            hop_ms=(last[1] + self._exit_us) / 1000,
            wait_ms=last[2] / 1000,
            service_ms=last[3] / 1000,
            provisioned_cores=sum(function.instances * function.cpu_cores for function, _ in charged),
            provisioned_mib=sum(function.instances * memory_mib for function, memory_mib in charged),
            billed_core_s=sum(
                station.invocations * station.occupancy_us / 1e6 * function.cpu_cores
                for station, function in zip(stations, self._plan.functions, strict=True)
            ),
            demand_cores=sum(station.demand_cores for station in stations),
        )

    def _billed_usd_per_hour(self, stations: list[Station]) -> float:
        scenario = self._scenario
        return sum(
            billed_usd_per_hour(
                scenario.prices,
                invocations_per_s=scenario.workload.rate_per_s * station.invocations,
                busy_us=station.occupancy_us,
                cpu_cores=function.cpu_cores,
                memory_mib=self._memory_held_by(function),
                gpu=function.device_fraction,
            )
            for function, station in zip(self._plan.functions, stations, strict=True)
        )

    def _memory_held_by(self, function: FunctionPlan) -> float:
        """What an instance holds that serves a function, whatever else it serves."""
        return max(
            memory_mib
            for charged, memory_mib in zip(self._charged.functions, self._charged_mib, strict=True)
            if function.stages[0] in charged.stages
        )

    def _provisioned_usd_per_hour(self) -> float:
        return sum(
            provisioned_usd_per_hour(
                self._scenario.prices,
                instances=function.instances,
                cpu_cores=function.cpu_cores,
                memory_mib=memory_mib,
                gpu=function.device_fraction,
            )
            for function, memory_mib in zip(self._charged.functions, self._charged_mib, strict=True)
        )

    def _stations(self, rate_per_s: float) -> list[Station]:
        if rate_per_s != self._scenario.workload.rate_per_s:
            return self._derived(rate_per_s, range(len(self._facts)))
        known = self._memo.stations
        missing = [at for at, key in enumerate(self._keys) if key not in known]
        for at, station in zip(missing, self._derived(rate_per_s, missing), strict=True):
            known[self._keys[at]] = station
        return [known[key] for key in self._keys]

    def _hop(self, fraction: float) -> HopModel:
        """A hop, where ``fraction`` of them cross to another node."""
        hop, remote = self._scenario.hop, self._effects.remote
        return hop if remote is None or not fraction else hop_across(hop, remote, fraction)

    def _derived(self, rate_per_s: float, places: Sequence[int]) -> list[Station]:
        scenario, hops = self._scenario, self._hops
        if self._effects == NO_EFFECTS:
            return self._made(rate_per_s, places, [scenario] * len(hops))
        made = [msgspec.structs.replace(setting(scenario), hop=hop) for hop in hops]
        if self._effects.interference_fraction > 0:
            demand = [station.demand_cores for station in self._made(rate_per_s, range(len(hops)), made)]
            fraction, usable = self._effects.interference_fraction, usable_cores(scenario.nodes)
            for at, factor in enumerate(interference_factors(fraction, demand, usable)):
                stages = tuple(slowed(stage, factor, is_device_too=False) for stage in scenario.model.stages)
                model = msgspec.structs.replace(scenario.model, stages=stages)
                made[at] = msgspec.structs.replace(made[at], model=model)
        return self._made(rate_per_s, places, made)

    def _made(self, rate_per_s: float, places: Sequence[int], scenarios: Sequence[Scenario]) -> list[Station]:
        return [
            make_station(
                scenarios[at],
                self._facts[at],
                cpu_cores=self._shares[at],
                max_batch=self._plan.functions[at].max_batch,
                instances=self._plan.functions[at].instances,
                rate_per_s=rate_per_s,
                gpu_share=self._plan.functions[at].device_fraction,
            )
            for at in places
        ]

    def _utilisation(self, stations: list[Station]) -> float:
        return max(self._node_utilisation(stations), *(station.utilisation for station in stations))

    def _node_utilisation(self, stations: list[Station]) -> float:
        """The least demand on the cores of all nodes, that with full batches, relative to what there is."""
        usable = usable_cores(self._scenario.nodes)
        return sum(station.least_cores for station in stations) / usable if usable > 0 else math.inf

    def _waits_for_cores(self, stations: list[Station]) -> list[Waiting]:
        return waits_for_cores(self._scenario, self._shares, [each.instances for each in self._plan.functions], stations)

    def _latency_us(self, rate_per_s: float, stations: list[Station]) -> Samples:
        """Samples of the latency, in no order."""
        known = self._memo.own_us if rate_per_s == self._scenario.workload.rate_per_s else {}
        for group, (key, station) in enumerate(zip(self._keys, stations, strict=True)):
            if key not in known:
                known[key] = self._paths.own_us(group, station)
        own_us = [known[key] for key in self._keys]
        if self._effects.starts_per_hour > 0:
            own_us = [own + self._cold_us(at, rate_per_s) for at, own in enumerate(own_us)]
        latency: Samples = self._paths.latency_us(own_us, self._waits_for_cores(stations)) + self._exit_us
        return latency

    def _cold_us(self, at: int, rate_per_s: float) -> Samples | float:
        facts, scenario = self._facts[at], self._scenario
        return cold_waits_us(
            self._effects.starts_per_hour,
            rate_per_s,
            scenario.model.cold_start_us(facts.mask),
            self._plan.functions[at].instances,
            6 * len(scenario.app.graph.stages) + facts.extent.stages[0],
        )

    def _error_fraction(self, stations: list[Station]) -> float:
        """Held-out errors of the stages, weighted by their part of the run time."""
        total = error = 0.0
        for facts, station in zip(self._facts, stations, strict=True):
            for index, time in zip(facts.extent.stages, station.stage_us, strict=True):
                spent = station.invocations * time
                total += spent
                error += spent * self._scenario.model.stages[index].held_out_error_fraction
        return error / total if total > 0 else 0.0


def evaluate(scenario: Scenario, plan: Plan) -> Prediction:
    """Predict latency, attainment, capacity and both costs of a plan."""
    return Evaluation(scenario, plan).predict()


def _quantile(ordered: Samples, level: float) -> float:
    return float(ordered[min(SAMPLES - 1, int(level * SAMPLES))])
