"""Adaptive beside every fixed granularity: two apps, three SLOs, three loads, five seeds each. Simulated.

Fixed means: the best plan of one granularity, found for the true mean rate, scaled but never changed. The best fixed one is
chosen in hindsight, from the same runs. Adaptive begins with the plan that its evaluator picks and decides on from there.
"""

import os
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.measuring import Check, ForeignLoad, Result, Table, now_text, this_machine
from grainwise.cli.commands import read_spec
from grainwise.domain.app import AppSpec, Slo
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import Node
from grainwise.domain.plan import Plan, render_grain
from grainwise.domain.time import SECOND
from grainwise.planning.problem import Problem
from grainwise.planning.table import compute
from grainwise.predictors.fit import hop_model, latency_model, workload_of
from grainwise.profiles.artifact import Profile, read
from grainwise.simulation.app import simulated_app
from grainwise.simulation.cluster import Cluster, ClusterNode, Network
from grainwise.simulation.planners import plan
from grainwise.simulation.run import Scenario
from grainwise.simulation.trial import Trial, run_trial
from grainwise.workloads.processes import Poisson
from grainwise.workloads.traces.finding import trace_source
from grainwise.workloads.traffic import Stream, Traffic

EXAMPLES = Path(__file__).parent.parent / "examples"
APPS = ("ocr/app", "vision/expanded_classification")
SLO_FACTORS = (1.5, 2.0, 3.0)
"""Of the mean time of a lone request with all stages in one function on one core."""
LOADS = (0.3, 0.6, 0.8)
"""Of the cores that mean requests keep busy with all stages in one function."""
SEEDS = (1, 2, 3, 4, 5)
REQUESTS = 600
NODE = Node("box", 4.0, 16_384.0)
CLUSTER = Cluster("box", (ClusterNode(NODE),), Network("box"))
ADAPTIVE = ("analytic", "rollout")
MOST_POINTS, MOST_COST = 1.0, 2.0


class Case(Struct, frozen=True):
    """One cell of the study."""

    app: str
    slo_factor: float
    load: float


class Run(Struct, frozen=True):
    """One run: the attainment, USD per hour provisioned, and changes of granularity."""

    attainment: float
    usd_per_hour: float
    changes: int


class Cell(Struct, frozen=True):
    """One case with the runs of every granularity and of every adaptive policy, seed by seed."""

    case: Case
    fixed: dict[str, list[Run]]
    adaptive: dict[str, list[Run]]


def measure(is_quick: bool) -> Result:
    """The whole study."""
    foreign = ForeignLoad()
    cases = [Case(app, slo, load) for app in APPS for slo in SLO_FACTORS for load in LOADS]
    seeds = SEEDS
    if is_quick:
        cases, seeds = cases[:1], SEEDS[:1]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        cells = list(pool.map(_cell, cases, [seeds] * len(cases)))
    rows, worst = [], {name: [0.0, 0.0] for name in ADAPTIVE}
    for cell in cells:
        best = _best(cell.fixed)
        rows.append(_row(cell, best))
        for name in ADAPTIVE:
            points, cost = _difference(cell.adaptive[name], cell.fixed[best])
            worst[name] = [min(worst[name][0], points), max(worst[name][1], cost)]
    checks = [
        Check(
            f"adaptive ({name}) against the best fixed granularity, worst case",
            f"{worst[name][0]:+.2f} points, {worst[name][1]:+.1f} % cost",
            f">= -{MOST_POINTS:g} points, <= +{MOST_COST:g} % cost",
            worst[name][0] >= -MOST_POINTS and worst[name][1] <= MOST_COST,
        )
        for name in ADAPTIVE
    ]
    columns = (
        "app",
        "SLO",
        "load",
        "fused",
        "split",
        "best fixed",
        "in hindsight",
        *(f"adaptive, {name}" for name in ADAPTIVE),
    )
    note = (
        f"means over {len(seeds)} seeds of {REQUESTS} requests or so: attainment / thousandths of a dollar provisioned hourly, "
        f"for adaptive (changes of granularity per run); simulated on {NODE.cpu_cores:g} cores"
    )
    foreign.end()
    table = Table("Adaptive beside fixed granularities (simulated)", columns, tuple(rows), note)
    data: dict[str, object] = {"cells": msgspec.to_builtins(cells)}
    return Result(
        "adaptive", now_text(), this_machine(), is_quick, round(foreign.median, 3), (table,), tuple(checks), data
    )  # fmt: skip


def _cell(case: Case, seeds: Sequence[int]) -> Cell:
    path = EXAMPLES / f"{case.app}.py"
    profile = read(path.with_suffix(".profile.json").read_bytes())
    spec = read_spec(path)
    model, hop = latency_model(profile, spec), hop_model(profile)
    workload = workload_of(profile, 1.0)
    alone_us = sum(
        count * model.stage(at, 1, size, 1.0).mean_us
        for at, (count, size) in enumerate(zip(workload.items, workload.item_size, strict=True))
    )
    rate = case.load * NODE.cpu_cores / (alone_us / 1e6)
    spec = msgspec.structs.replace(spec, slo=Slo(round(alone_us / 1000 * case.slo_factor, 3), spec.slo.target))
    problem = Problem(0, spec, model, hop, workload_of(profile, rate), (NODE,), CLUSTER.capabilities, CLUSTER.prices)
    table = compute(problem)
    fixed = {
        render_grain(option.plan.grain): [_run(profile, spec, option.plan, rate, seed, "fixed", "analytic") for seed in seeds]
        for option in table.options
    }
    adaptive = {}
    for name in ADAPTIVE:
        asked = msgspec.structs.replace(problem, evaluator=name, policies="adaptive", is_stagewise=True)
        first = plan(asked).winner.plan
        adaptive[name] = [_run(profile, spec, first, rate, seed, "adaptive", name) for seed in seeds]
    return Cell(case, fixed, adaptive)


def _run(profile: Profile, spec: AppSpec, first: Plan, rate: float, seed: int, policies: str, evaluator: str) -> Run:
    config = AppConfig(policies=policies, evaluator=evaluator)  # type: ignore[arg-type]
    app = simulated_app(profile, spec, first, rate_per_s=rate, config=config)
    duration_s = REQUESTS / rate
    traffic = Traffic("adaptive", (Stream(spec.name, Poisson(rate)),), duration_s)
    trial = Trial(Scenario(CLUSTER, (app,), round(duration_s * SECOND), seed), traffic, policies, "simulated")
    found = run_trial(trial, trace_source(), compute=plan)
    of = found.app(spec.name)
    return Run(of.attainment, of.cost.provisioned_usd / found.duration_s * 3600, len(of.regranulations))


def _mean(runs: Sequence[Run]) -> tuple[float, float]:
    return statistics.fmean(run.attainment for run in runs), statistics.fmean(run.usd_per_hour for run in runs)


def _best(fixed: dict[str, list[Run]]) -> str:
    """The cheapest granularity within a point of the best attainment."""
    means = {grain: _mean(runs) for grain, runs in fixed.items()}
    most = max(attainment for attainment, _ in means.values())
    return min((grain for grain in means if means[grain][0] >= most - 0.01), key=lambda grain: (means[grain][1], grain))


def _difference(ours: Sequence[Run], theirs: Sequence[Run]) -> tuple[float, float]:
    """Points of attainment and per cent of cost by which one is above the other."""
    (attainment, cost), (their_attainment, their_cost) = _mean(ours), _mean(theirs)
    return 100 * (attainment - their_attainment), 100 * (cost / their_cost - 1)


def _row(cell: Cell, best: str) -> tuple[str, ...]:
    grains = list(cell.fixed)
    fused = next(grain for grain in grains if " | " not in grain)
    split = max(grains, key=lambda grain: grain.count(" | "))
    case = cell.case
    return (
        case.app.partition("/")[0],
        f"{case.slo_factor:g}",
        f"{case.load:.0%}",
        *(_shown(cell.fixed[grain]) for grain in (fused, split, best)),
        best,
        *(f"{_shown(runs)} ({statistics.fmean(run.changes for run in runs):.1f})" for runs in cell.adaptive.values()),
    )


def _shown(runs: Sequence[Run]) -> str:
    attainment, cost = _mean(runs)
    return f"{attainment:.1%} / {cost * 1000:.1f}"
