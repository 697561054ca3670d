"""One calibration from the first run to the last: fit, seek the capacity, validate.

Fit runs come first and correct the profile; validation runs follow, with other arrivals, and are what the gate judges.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from grainwise.cli.calibrate_client import Client
from grainwise.cli.calibrate_live import LiveRun, bodies_of, reserve_cores, run_live, serve_options
from grainwise.cli.calibrate_options import CalibrateOptions
from grainwise.cli.calibrate_render import Outcome, Tell, Try
from grainwise.cli.calibrate_twin import Twin, door_of, door_us, simulate
from grainwise.cli.options import read_grain
from grainwise.cli.problems import Machines, problem_of
from grainwise.cli.profiles import save_profile
from grainwise.domain.app import AppSpec
from grainwise.domain.errors import ConfigurationError, GrainwiseError
from grainwise.domain.plan import Grain, Plan, render_grain
from grainwise.domain.time import SECOND, Instant, Micros
from grainwise.planning.problem import PlanTable
from grainwise.predictors.fit import latency_model
from grainwise.profiler.facts import today
from grainwise.profiler.inputs import MOST_SAMPLES
from grainwise.profiles.artifact import Profile
from grainwise.profiles.calibration import Calibration
from grainwise.runtimes.loading import load_app
from grainwise.runtimes.local.machine import this_node
from grainwise.runtimes.local.runtime import ARENA_MIB
from grainwise.runtimes.local.shares import Mechanism, capabilities
from grainwise.simulation.calibration import Provenance, Trail, calibrate, observe
from grainwise.simulation.capacity import ATTAINMENT, bisect_rate
from grainwise.simulation.comparison import Figures, Row, compare, figures, result_of
from grainwise.simulation.planners import plan as make_plan
from grainwise.telemetry.result import Kind
from grainwise.workloads.processes import Poisson
from grainwise.workloads.traffic import Stream, Traffic, open_arrivals

WARMUP_US: Micros = 3 * SECOND
"""Offered before what is counted, live and simulated alike."""

FIT_FRACTION = 0.45
PLANNING_FRACTION = 0.6
RUN_REQUESTS = 30
FIT_REQUESTS = 60
LONGEST_S = 120
"""A run is made longer than it is told to be until it has so many requests, up to so many seconds."""
MOST_CAPACITY_RUNS = 5
CAPACITY_STEP = 0.08
CAPACITY_RESOLUTION = 0.04

CEILING_PER_S = 300.0
"""No higher rate is planned for or offered: beyond it the client and the server are what is measured, not the plan."""

_FIT_SEED, _CAPACITY_SEED, _VALIDATION_SEED = 1_000_000, 2_000_000, 3_000_000


class Session:
    """A client, a profile that gets better, and the plan that follows from it.

    Args:
        options: what to run.
        spec: the app, under the SLO that is asked for.
        known: its profile; a calibration that it has is left out.
        path: where the server of a live run finds the profile as it is by then.
        tell: hears what is running.
    """

    def __init__(self, options: CalibrateOptions, spec: AppSpec, known: Profile, path: Path, tell: Tell) -> None:
        self._options = options
        self._spec = spec
        self._profile = msgspec.structs.replace(known, calibration=None)
        self._path = path
        self._tell = tell
        self._grain: Grain | None = read_grain(spec, options.grain)
        self._rate = options.rate_per_s or 0.0
        self._client: Client
        self._plan: Plan
        self._twin: Twin
        self._send_delays: list[float] = []
        self._foreign: dict[str, float] = {}

    async def run(self) -> Outcome:
        """Fit, find the capacity, validate."""
        options = self._options
        samples = load_app(options.app).sample_values()
        if len(samples) > MOST_SAMPLES:
            samples = [samples[index * len(samples) // MOST_SAMPLES] for index in range(MOST_SAMPLES)]
        self._replan(None)
        kinds = len(self._twin.app.kinds)
        if kinds != len(samples):
            raise ConfigurationError(
                f"the profile describes {kinds} of the {len(samples)} samples of app {self._spec.name!r}; "
                "profile it again, with samples that run to the end"
            )
        self._client = await Client.open(bodies_of(self._spec, samples))
        try:
            calibration = await self._fit()
            self._replan(calibration)
            capacity, tries = await self._capacity()
            rows = await self._validate(capacity)
        finally:
            await self._client.close()
        return Outcome(
            app=self._spec.name,
            hardware=f"{self._profile.device_class}, instances on at most {options.cores:g} of {this_node().cpu_cores:g} cores",
            slo=self._spec.slo,
            plan=self._plan,
            grain=render_grain(self._plan.grain),
            planned_for_per_s=self._rate,
            capacity_per_s=round(capacity, 3),
            tries=tuple(tries),
            runs=options.runs,
            seconds=options.seconds,
            gated=options.gate,
            rows=tuple(rows),
            foreign_cores={name: round(cores, 3) for name, cores in self._foreign.items()},
            most_send_delay_ms=round(max(self._send_delays), 3),
            calibration=calibration,
        )

    # The plan

    def _replan(self, calibration: Calibration | None) -> None:
        """Take up a profile: what is served from now on, and its twin."""
        options = self._options
        self._profile = msgspec.structs.replace(self._profile, calibration=calibration)
        save_profile(self._profile, self._path)
        if not self._rate:
            best = max(option.predicted.capacity_per_s for option in self._table(0.5).options)
            if best <= 0:
                raise ConfigurationError(
                    f"no granularity of {self._spec.name!r} meets its SLO on {options.cores:g} cores; give another --slo-ms"
                )
            self._rate = min(CEILING_PER_S, round(best * PLANNING_FRACTION, 2))
        plan = self._table(self._rate).winner.plan
        if self._grain is None:
            self._grain = plan.grain
        self._plan = plan
        node = this_node(reserve_cores=reserve_cores(options.cores))
        mechanism = msgspec.convert(self._profile.share_mechanism, Mechanism)
        self._twin = Twin.of(self._profile, self._spec, plan, self._rate, node, capabilities(mechanism, ARENA_MIB << 20))

    def _table(self, rate: float) -> PlanTable:
        mechanism = msgspec.convert(self._profile.share_mechanism, Mechanism)
        node = this_node(reserve_cores=reserve_cores(self._options.cores))
        machines = Machines((node,), capabilities(mechanism, ARENA_MIB << 20))
        return make_plan(problem_of(self._spec, self._profile, machines, rate_per_s=rate, grain=self._grain))

    # Runs

    async def _live(self, what: str, arrivals: Sequence[Instant]) -> LiveRun:
        options = self._options
        if not arrivals or arrivals[-1] < WARMUP_US:
            raise ConfigurationError(f"no request that counts falls into the run ({what}); make it longer, or its rate higher")
        grain = None if self._grain is None else render_grain(self._grain)
        serve = serve_options(options.app, self._path, self._rate, grain, options.slo_ms, options.cores)
        seconds = arrivals[-1] / SECOND
        async with self._tell.running(what, seconds):
            run = await run_live(serve, self._client, arrivals, self._plan)
        self._foreign[what] = run.foreign_cores
        self._send_delays.append(max(each.sent - each.due for each in run.seen) / 1000)
        return run

    async def _fit(self) -> Calibration:
        """One run whose log corrects the profile."""
        options = self._options
        assumed = options.capacity_per_s or self._simulated_capacity()
        rate = assumed * FIT_FRACTION
        seed = options.seed + _FIT_SEED
        seconds = _long_enough(options.fit_seconds, rate, FIT_REQUESTS)
        what = f"fit: {rate:.4g}/s for {seconds:g} s, seed {seed}"
        run = await self._live(what, self._arrivals(rate, seconds, seed))
        base = latency_model(self._profile, self._spec)
        samples = len(self._twin.app.kinds)
        seen = observe(run.trail, run.origin + WARMUP_US, samples)
        source = Provenance(today(), self._profile.app_digest, (f"{what}, plan {run.plan.id}",), run.foreign_cores)
        door = door_of(run.seen, observe(run.trail, run.origin))
        return calibrate(seen, self._spec, samples, base, self._profile.hop, door, source)

    def _simulated_capacity(self) -> float:
        """The capacity of the twin, by bisection of runs in virtual time."""
        seconds, seed = self._options.capacity_seconds, self._options.seed + _CAPACITY_SEED

        def attains(rate: float) -> bool:
            if rate > CEILING_PER_S:
                return False
            arrivals = self._arrivals(rate, seconds, seed)
            return len(arrivals) < 2 or self._simulated_attainment(arrivals, seconds, seed) >= ATTAINMENT

        self._tell.say("capacity in simulation")
        found = bisect_rate(attains, self._rate)
        if found <= 0:
            raise GrainwiseError(
                f"the simulated {self._spec.name!r} attains {ATTAINMENT:.0%} at no rate: give another --slo-ms or --grain"
            )
        return found

    def _simulated_attainment(self, arrivals: Sequence[Instant], seconds: float, seed: int) -> float:
        trail, origin = simulate(self._twin, arrivals, seed)
        end = origin + WARMUP_US + round(seconds * SECOND)
        result = result_of(trail, "simulated", origin, WARMUP_US, max(end, trail[-1][2]), "", "", seed)
        return result.app(self._spec.name).attainment

    async def _capacity(self) -> tuple[float, list[Try]]:
        """The highest rate at which a live run attains enough, sought around the simulated one."""
        options = self._options
        if options.capacity_per_s is not None:
            return options.capacity_per_s, []
        simulated = self._simulated_capacity()
        tries = [Try(round(simulated, 3), "simulated", ATTAINMENT)]
        good, bad, rate = 0.0, math.inf, simulated
        for _ in range(MOST_CAPACITY_RUNS):
            seed = options.seed + _CAPACITY_SEED
            what = f"capacity: {rate:.4g}/s for {options.capacity_seconds:g} s"
            run = await self._live(what, self._arrivals(rate, options.capacity_seconds, seed))
            end = run.origin + WARMUP_US + round(options.capacity_seconds * SECOND)
            result = result_of(run.trail, "measured", run.origin, WARMUP_US, max(end, _last(run)), "", "", seed)
            attained = result.app(self._spec.name).attainment
            tries.append(Try(round(rate, 3), "measured", round(attained, 4)))
            self._tell.say(f"  attainment {attained:.2%}")
            if attained >= ATTAINMENT:
                good = rate
            else:
                bad = rate
            if math.isfinite(bad) and bad - good <= CAPACITY_RESOLUTION * bad:
                break
            rate = _next_rate(good, bad)
            if rate > CEILING_PER_S:
                break
        return good or bad * (1 - CAPACITY_STEP), tries

    async def _validate(self, capacity: float) -> list[Row]:
        """Live runs beside their twins, level after level, then again with the next seed."""
        options = self._options
        live: dict[float, list[Figures]] = {level: [] for level in options.levels}
        simulated: dict[float, list[Figures]] = {level: [] for level in options.levels}
        for number in range(options.runs):
            for level in options.levels:
                seed = options.seed + _VALIDATION_SEED + number
                rate = capacity * level / 100
                seconds = _long_enough(options.seconds, rate, RUN_REQUESTS)
                arrivals = self._arrivals(rate, seconds, seed)
                run = await self._live(f"{level:g} %, run {number + 1} of {options.runs}", arrivals)
                there = observe(run.trail, run.origin)
                door = door_us(run.seen, there)
                live[level].append(self._figures(run.trail, run.origin, seconds, door, "measured", seed))
                trail, origin = simulate(self._twin, arrivals, seed)
                simulated[level].append(self._figures(trail, origin, seconds, self._twin.door_us, "simulated", seed))
        rows: list[Row] = []
        for level in options.levels:
            rows.extend(compare(f"{level:g} %", live[level], simulated[level], is_gated=level in options.gate))
        return rows

    def _figures(self, trail: Trail, origin: Instant, seconds: float, door: float, kind: Kind, seed: int) -> Figures:
        end = max(origin + WARMUP_US + round(seconds * SECOND), trail[-1][2])
        hardware = self._profile.device_class
        return figures(result_of(trail, kind, origin, WARMUP_US, end, hardware, "", seed), self._spec.name, door)

    def _arrivals(self, rate: float, seconds: float, seed: int) -> list[Instant]:
        """Instants of a traffic with its warm-up; the same for a live run and its twin."""
        length_s = seconds + WARMUP_US / SECOND
        traffic = Traffic("calibration", (Stream(self._spec.name, Poisson(rate)),), length_s)
        return [each.at for each in open_arrivals(traffic, seed)]


def _long_enough(seconds: float, rate: float, requests: int) -> float:
    """At least ``seconds``, longer where so few requests come that one of them would move a quantile or the attainment much."""
    return max(seconds, float(min(math.ceil(requests / rate), LONGEST_S)))


def _next_rate(good: float, bad: float) -> float:
    """Where to try next between the highest rate that was good, 0 for none, and the lowest that was not, infinite for none."""
    if math.isinf(bad):
        return good * (1 + CAPACITY_STEP)
    return (good + bad) / 2 if good else bad * (1 - CAPACITY_STEP)


def _last(run: LiveRun) -> Instant:
    return run.trail[-1][2]
