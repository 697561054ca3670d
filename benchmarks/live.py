"""Adaptive beside fixed granularities, live on this machine: two apps under bursts, the same for every way. Measured.

The ways are all stages fused, all split, the granularity that the planner ranks first for the mean rate, the one that is best
in simulations of every granularity under the same arrivals, and the adaptive policies with two evaluators. A round has arrivals
of its own, the same for all its ways, which run one after the other in an order of its own. The load generator shares the
server's process; attainment is what it saw, cost is what the controller's log says.
"""

import random
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import msgspec
import uvloop
from msgspec import Struct

from benchmarks.live_cases import Case, calls_of, exchanges_of, simulate
from benchmarks.live_tables import FIXED, Outcome, Setting, checks, simulated_table, table
from benchmarks.measuring import ForeignLoad, Result, now_text, this_machine
from grainwise.cli.calibrate_twin import Twin
from grainwise.cli.load_generator import run_load, summarise
from grainwise.cli.log_results import result_of_log
from grainwise.cli.serving import ServeOptions, Serving
from grainwise.domain.config import AppConfig
from grainwise.domain.errors import ArtifactError
from grainwise.domain.plan import render_grain
from grainwise.domain.time import SECOND
from grainwise.runtimes.local.machine import this_node
from grainwise.runtimes.log_writer import read_log
from grainwise.simulation.planners import plan as make_plan

EXAMPLES = Path(__file__).parent.parent / "examples"
APPS = ("ocr/app", "vision/expanded_classification")
EVALUATORS = ("analytic", "rollout")
PHASES = ((0.15, 8.0), (0.85, 5.0), (0.15, 13.0), (0.85, 4.0))
"""Loads and their seconds. A load is a part of what all cores carry with all stages in one function, by the profile."""
QUICK_PHASES = ((0.15, 1.5), (0.85, 1.5))
BUDGET_S, OVERHEAD_S, MOST_ROUNDS = 850.0, 5.0, 4
"""The time for all runs, what a run takes beside its load, and the most rounds."""
TIMES = AppConfig()
"""Of every way, as by default: bursts of this trace are shorter than a change binds, so they are the fast loop's to meet."""
FIXED_CONFIG = msgspec.structs.replace(TIMES, policies="fixed")


class Way(Struct, frozen=True):
    """How an app is served. ``grain`` forces a granularity; ``roles`` is what it stands for."""

    name: str
    config: AppConfig
    roles: tuple[str, ...] = ()
    grain: str | None = None


def measure(is_quick: bool) -> Result:
    """The whole benchmark; with ``is_quick`` one round of a few seconds."""
    foreign = ForeignLoad()
    cases = [uvloop.run(_case(app, QUICK_PHASES if is_quick else PHASES)) for app in APPS]
    seeds = (1,) if is_quick else (1, 2)
    ways, simulated = {}, {}
    for case in cases:
        simulated[case.name] = {render_grain(plan.grain): simulate(case, plan, FIXED_CONFIG, seeds) for plan in case.plans}
        ways[case.name] = _ways(case, simulated[case.name])
    if is_quick:
        ways = {name: _few(found) for name, found in ways.items()}
    count = sum(map(len, ways.values()))
    seconds = sum(seconds for _, seconds in cases[0].phases) + OVERHEAD_S
    rounds = 1 if is_quick else max(2, min(MOST_ROUNDS, int(BUDGET_S / (count * seconds))))
    outcomes = []
    for seed in range(1, rounds + 1):
        turns = [(case, way) for case in cases for way in ways[case.name]]
        random.Random(seed).shuffle(turns)
        for case, way in turns:
            foreign.begin()
            outcome = uvloop.run(_run(case, way, seed))
            outcomes.append(msgspec.structs.replace(outcome, foreign_cores=round(foreign.end(), 3)))
            print(f"   {case.name} {way.name}: {outcome.met} of {outcome.offered} in time", file=sys.stderr, flush=True)
    settings = [
        Setting(
            case.name,
            case.problem.app.slo.latency_ms,
            round(case.rate_per_s, 3),
            round(case.capacity_per_s, 3),
            {way.name: way.roles for way in ways[case.name]},
            tuple(each for each in outcomes if each.app == case.name),
        )
        for case in cases
    ]
    calm, burst = min(load for load, _ in PHASES), max(load for load, _ in PHASES)
    note = (
        f"{rounds} round{'s' if rounds > 1 else ''} of {seconds - OVERHEAD_S:g} s, Poisson arrivals at {calm:.0%} of what all "
        f"cores carry, in bursts {burst:.0%}; client: over all offered requests, as the load generator saw them; planned again "
        f"at most every {TIMES.replan_us / SECOND:g} s, a granularity kept for {TIMES.dwell_us / SECOND:g} s; costs at list "
        "prices; changes and starts per run"
    )
    return Result(
        "live",
        now_text(),
        this_machine(),
        is_quick,
        round(foreign.median, 3),
        (
            *(table(setting, note) for setting in settings),
            *(simulated_table(case.name, simulated[case.name], len(seeds)) for case in cases),
        ),
        tuple(check for setting in settings for check in checks(setting)),
        {"settings": msgspec.to_builtins(settings), "simulated": simulated, "phases": cases[0].phases},
    )


async def _case(app: str, phases: tuple[tuple[float, float], ...]) -> Case:
    """Everything about an app; it is served once, so that all answers have been right before anything is measured."""
    path = EXAMPLES / f"{app}.py"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        exchanges = pool.submit(exchanges_of, path).result()
    with tempfile.TemporaryDirectory() as folder:
        serving = await Serving.open(_options(path, Path(folder), FIXED_CONFIG, 1.0))
        try:
            await serving.ready()
            calls = calls_of(exchanges, serving.addresses.url, serving.spec.name)
            first = summarise(await run_load(calls, [0] * len(calls)))
            if first.right < len(calls):
                raise ArtifactError(
                    f"{app} answers {len(calls) - first.right} of {len(calls)} requests wrong: {first.first_error}"
                )
            node = this_node()
            alone = serving.problem(node, 1.0, None)
            workload, model = alone.workload, alone.model
            sizes = enumerate(zip(workload.items, workload.item_size, strict=True))
            lone_us = sum(count * model.stage(at, 1, size, 1.0).mean_us for at, (count, size) in sizes)
            capacity = node.usable_cores * SECOND / lone_us
            mean = sum(load * seconds for load, seconds in phases) / sum(seconds for _, seconds in phases)
            problem = serving.problem(node, mean * capacity, None)
            plans = tuple(option.plan for option in make_plan(problem).options)
            twin = Twin.of(serving.measured, serving.spec, plans[0], mean * capacity, node, problem.capabilities)
        finally:
            await serving.close()
    return Case(path, exchanges, problem, plans, twin, mean * capacity, capacity, phases)


def _options(path: Path, log: Path, config: AppConfig, rate_per_s: float, grain: str | None = None) -> ServeOptions:
    """With the profile that the example ships, whose machine the data name."""
    profile = path.with_suffix(".profile.json")
    return ServeOptions(
        path, port=0, profile=profile, accept_profile=True, log=log, config=config, rate_per_s=rate_per_s, grain=grain
    )  # fmt: skip


def _ways(case: Case, simulated: dict[str, tuple[float, float]]) -> list[Way]:
    """Each granularity once, with all that it stands for, then the adaptive ways."""
    grains = [render_grain(plan.grain) for plan in case.plans]
    most = max(attainment for attainment, _ in simulated.values())
    by_simulator = min((name for name in grains if simulated[name][0] >= most - 0.01), key=lambda name: simulated[name][1])
    roles: dict[str, list[str]] = {}
    for grain, role in (
        (min(grains, key=lambda name: name.count(" | ")), "fused"),
        (max(grains, key=lambda name: name.count(" | ")), "split"),
        (grains[0], "best by the planner"),
        (by_simulator, "best by simulation"),
    ):
        roles.setdefault(grain, []).append(role)
    fixed = [Way(f"{FIXED}{grain}", FIXED_CONFIG, tuple(found), grain) for grain, found in roles.items()]
    adaptive = [
        Way(f"adaptive, {name}", msgspec.structs.replace(TIMES, policies="adaptive", evaluator=name)) for name in EVALUATORS
    ]
    return fixed + adaptive


def _few(ways: Sequence[Way]) -> list[Way]:
    """Enough of them to see whether it runs."""
    return [next(way for way in ways if "best by the planner" in way.roles), ways[-1]]


async def _run(case: Case, way: Way, seed: int) -> Outcome:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        serving = await Serving.open(_options(case.path, folder, way.config, case.rate_per_s, way.grain))
        try:
            await serving.ready()
            began = serving.driver.now()
            samples = await run_load(calls_of(case.exchanges, serving.addresses.url, case.name), case.arrivals(seed))
            status = serving.controller.status(case.name)
        finally:
            await serving.close()
        first = next(entry for entry in read_log(folder) if hasattr(entry, "now"))
        result = result_of_log(folder, warmup_s=(began - first.now) / SECOND)
    report = summarise(samples, case.problem.app.slo.latency_ms)
    of = result.app(case.name)
    return Outcome(
        app=case.name,
        way=way.name,
        round=seed,
        offered=report.offered,
        right=report.right,
        met=round((report.attainment or 0.0) * report.offered),
        p50_ms=report.p50_ms,
        p95_ms=report.p95_ms,
        send_delay_ms=report.max_send_delay_ms,
        first_error=report.first_error,
        controller_offered=of.offered,
        controller_met=of.met,
        controller_p95_ms=of.latency.p95_ms,
        provisioned_usd_per_hour=round(of.cost.provisioned_usd / result.duration_s * 3600, 6),
        billed_usd_per_hour=round(of.cost.billed_usd / result.duration_s * 3600, 6),
        changes=status.regranulations,
        cold_starts=of.cold_starts.count,
        grain=status.grain,
        verdict=status.last_verdict or status.last_ask,
        extents={each.name: each.invocations for each in of.functions if each.invocations},
        latencies_ms=tuple(each.latency_us / 1000 if each.is_right else None for each in samples),
    )
