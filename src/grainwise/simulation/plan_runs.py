"""One run of one plan: from the moment at which it is up, or from the present state on."""

from collections.abc import Callable, Mapping
from math import sqrt

import msgspec
from msgspec import Struct

from grainwise.domain.errors import CapacityError
from grainwise.domain.machine import Prices
from grainwise.domain.plan import Plan
from grainwise.domain.time import SECOND, Micros, from_ms
from grainwise.predictors.evaluator import Band
from grainwise.predictors.groups import Scenario
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.capacity import ATTAINMENT, bisect_rate
from grainwise.simulation.cluster import Cluster
from grainwise.simulation.imagined import imagined_cluster
from grainwise.simulation.resumed import Present
from grainwise.simulation.run import Scenario as Run
from grainwise.simulation.run import Simulation, stream_seed
from grainwise.simulation.tally import Tally
from grainwise.workloads.processes import Constant, Gamma, Poisson
from grainwise.workloads.traffic import Stream, Traffic, open_arrivals

REQUESTS = 300
"""A run is to see so many requests of the app, within the bounds that follow."""

LONGEST: Micros = 120 * SECOND
LEAST: Micros = 2 * SECOND
"""No run is shorter than this, however many events a second has."""

RATE_WINDOW_S = 5
"""Other apps go on at the rate of so many seconds past."""

CAPACITY_RUNS = 3


class Outcome(Struct, frozen=True):
    """One run of one plan: by part of the run how many requests came and were answered in time, and what the app cost.

    ``refusal`` says why the plan was never served.
    """

    offered: tuple[int, ...]
    met: tuple[int, ...]
    usd_per_hour: float
    events: int
    refusal: str = ""


Play = Callable[[Plan, int, Micros, int], Outcome]
"""Runs a plan: the seed, the length of the run, and the events after which it is cut off."""


class FreshRuns:
    """Runs plans from the moment at which they are up."""

    def __init__(self, scenario: Scenario, app: SimulatedApp, known: Cluster | None) -> None:
        self._app = app
        self._cluster = imagined_cluster(scenario.nodes, scenario.capabilities, scenario.prices, known)

    def play(self, plan: Plan, seed: int, length: Micros, limit: int) -> Outcome:
        """Deploy a plan, wait until it is up, let the traffic come."""
        return self._play(self._app, plan, seed, length, limit)

    def _play(self, app: SimulatedApp, plan: Plan, seed: int, length: Micros, limit: int) -> Outcome:
        app = app.with_plan(plan)
        tally = Tally(app, self._cluster.prices, plan.objective, length)
        traffic = _traffic({app.spec.name: app}, {app.spec.name: app.workload.rate_per_s}, length)
        simulation = Simulation(
            Run(self._cluster, (app,), length, seed), open_arrivals(traffic, seed), observers=(tally.observe,)
        )
        try:
            simulation.deploy()
        except CapacityError as error:
            return Outcome((), (), 0.0, simulation.loop.events, str(error))
        tally.begin(simulation.loop.now)
        simulation.begin()
        return _finish(simulation, tally, app, length, limit)

    def capacity(self, plan: Plan, seed: int) -> Band:
        """The rate up to which enough requests are in time: the mean of some bisections, and the least and the most of them."""
        first = max(self._app.workload.rate_per_s, 0.1)
        found: list[float] = []
        for run in range(CAPACITY_RUNS):
            run_seed = stream_seed(seed, run)

            def attains(rate: float, run_seed: int = run_seed) -> bool:
                workload = msgspec.structs.replace(self._app.workload, rate_per_s=rate)
                app = msgspec.structs.replace(self._app, workload=workload)
                length = min(LONGEST, max(LEAST, int(REQUESTS * SECOND / rate)))
                outcome = self._play(app, plan, run_seed, length, 1 << 62)
                offered = sum(outcome.offered)
                return not outcome.refusal and sum(outcome.met) >= ATTAINMENT * offered

            found.append(bisect_rate(attains, first, resolution=0.05))
        return Band(sum(found) / len(found), min(found), max(found))


class GoingRuns:
    """Runs plans from the present state on, with everything that a change to them costs."""

    def __init__(self, present: Present, prices: Prices, app: SimulatedApp, rates: Mapping[str, float]) -> None:
        self._present = present
        self._prices = prices
        self._app = app
        self.rates = {**present.rates_per_s(RATE_WINDOW_S), **rates}

    def play(self, plan: Plan, seed: int, length: Micros, limit: int) -> Outcome:
        """Go on, change to the plan, let the traffic come."""
        app, present = self._app, self._present
        tally = Tally(app, self._prices, plan.objective, length)
        simulation = present.resume(_traffic(present.apps, self.rates, length), length, seed, (tally.observe,))
        state = simulation.controller.state
        tally.go_on_from(state, present.now)
        present.go_on(simulation, plan)
        outcome = _finish(simulation, tally, app, length, limit)
        served = state.apps[app.spec.name]
        aim = served.transition.plan_id if served.transition is not None else served.plan_id
        if aim != plan.id:
            return msgspec.structs.replace(outcome, refusal=served.last_refusal or "the change was given up")
        return outcome


def _finish(simulation: Simulation, tally: Tally, app: SimulatedApp, length: Micros, limit: int) -> Outcome:
    """Let the traffic come, and the answers as long as they can be in time."""
    loop = simulation.loop
    end = loop.now + length
    limit += loop.events
    loop.run_until(end, lambda: loop.events > limit)
    usd_per_hour = tally.close(min(loop.now, end))
    if tally.open:
        loop.run_until(end + from_ms(app.spec.slo.latency_ms), lambda: not tally.open or loop.events > limit)
    return Outcome(tuple(tally.offered), tuple(tally.met), usd_per_hour, loop.events)


def _traffic(apps: Mapping[str, SimulatedApp], rates: Mapping[str, float], length: Micros) -> Traffic:
    """Arrivals of every app as forecast; an app at 0 has a stream without arrivals."""
    streams: list[Stream] = []
    for name, app in apps.items():
        rate, scv = rates.get(name, 0.0), app.workload.arrival_scv
        process: Poisson | Gamma | Constant = Poisson(rate)
        if scv <= 1e-4:
            process = Constant(rate)
        elif abs(scv - 1) > 1e-3:
            # Tables are made per coefficient of variation; two digits keep them few.
            process = Gamma(rate, min(30.0, max(0.01, round(sqrt(scv), 2))))
        streams.append(Stream(name, process))
    return Traffic("forecast", tuple(streams), length / SECOND)
