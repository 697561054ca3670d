"""The product's controller and the simulated world against queues with a known answer.

Each case is run ``RUNS`` times from the fixed seeds 1, 2, 3, ... A run gives the mean sojourn of its requests after a warm-up
and controls whose means are known: the sample means of gaps and services, and the sojourn in the same kind of queue under the
same draws with all services a little shorter, computed by a textbook recursion that shares no code with the product, whose mean
the same theory knows (an external control variate: Law, Simulation Modeling and Analysis, section 11.4). Regression over the
runs gives the estimate and its interval. Since controls would forgive wrong draws, the plain mean over the runs is tested too:
its interval contains the theory; that one is wide.

All intervals together hold with 99 %: each has the level that Bonferroni gives, by Student's t, and the bound on half-widths is
for these. Seeds are not chosen: they count from 1, and none was left out.
The theory is that of the tables that services are drawn from: their second moment, which mid-point quantiles cut short by less
than 0.1 %, where it enters the formula. Gaps come from a table too, whose squared coefficient of variation is 0.9985.
"""

from collections.abc import Sequence
from itertools import islice
from math import sqrt

import numpy as np
from scipy.stats import t as student

from validation import models
from validation.measuring import Check, Part, run_jobs
from validation.queues import CASES, MEAN_US, Case, Run
from validation.worlds import poisson, run_through

RUNS = 40
JOINT_LEVEL = 0.99
SHORTER = 0.95
HALF_WIDTH = 0.02
UTILISATIONS = (0.5, 0.8)


def observe(case: Case, rate: float, requests: int, seed: int, *, is_per_item: bool = False) -> tuple[Run, int]:
    """One run of so many requests at ``rate`` per µs; and how many were refused."""
    app = case.app()
    arrivals = list(islice(poisson(app.spec.name, rate * 1e6, requests, seed), requests))
    ledger = run_through(app, arrivals, seed, keeps_ends=is_per_item)
    stages = len(app.spec.graph.stages)
    draws: list[list[float]] = [[] for _ in range(stages)]
    for calls in ledger.services:
        for stage, took in calls:
            draws[stage].append(took)
    items = [
        sum(end - came for end in ends) / len(ends) for came, ends in zip(ledger.arrived, ledger.ends, strict=True)
    ] if is_per_item else []  # fmt: skip
    return Run(ledger.arrived, ledger.sojourns(), draws, items), ledger.rejected


def sample(job: tuple[tuple[int, ...], float, int]) -> tuple[list[tuple[float, list[float]]], int]:
    """One run of (cases, utilisation, seed): per case its estimate and relative controls; and how many were refused."""
    numbers, utilisation, seed = job
    at = UTILISATIONS.index(utilisation)
    case = CASES[numbers[0]]
    warm = case.warm_up[at]
    rate = utilisation * case.load / MEAN_US
    is_per_item = any(CASES[number].is_per_item for number in numbers)
    run, rejected = observe(case, rate, warm + case.requests[at], seed, is_per_item=is_per_item)
    return [_estimate(CASES[number], run, rate, warm) for number in numbers], rejected


def _estimate(case: Case, run: Run, rate: float, warm: int) -> tuple[float, list[float]]:
    first, second = models.moments(case.table)

    def summary(values: Sequence[float]) -> float:
        kept = values[warm:]
        return float(np.quantile(kept, case.quantile)) if case.quantile else sum(kept) / len(kept)

    shorter = summary(case.control(run, SHORTER))
    controls = [shorter / case.known(rate, MEAN_US * SHORTER, first, second) - 1]
    gaps = (run.arrived[-1] - run.arrived[warm]) / (len(run.arrived) - 1 - warm)
    controls.append(gaps * rate - 1)
    if len(set(case.table)) > 1:
        drawn = [took for row in run.draws for took in row[warm * (len(row) // len(run.arrived)) :]]
        controls.append(sum(drawn) / len(drawn) / MEAN_US - 1)
    return summary(run.item_sojourns if case.is_per_item else run.sojourns), controls


def interval(ys: Sequence[float], controls: Sequence[Sequence[float]] | None, level: float) -> tuple[float, float]:
    """Estimate and half-width at ``level`` from independent runs, regressed on the controls where there are any.

    Raises:
        ValueError: there are too few runs.
    """
    y = np.array(ys)
    design = np.ones((len(ys), 1)) if controls is None else np.column_stack([np.ones(len(ys)), np.array(controls)])
    solved, *_ = np.linalg.lstsq(design, y, rcond=None)
    freedom = len(ys) - design.shape[1]
    if freedom < 1:
        raise ValueError(f"{len(ys)} runs say nothing about an interval with {design.shape[1] - 1} controls; take more")
    rest = y - design @ solved
    variance = float(rest @ rest) / freedom * float(np.linalg.inv(design.T @ design)[0, 0])
    return float(solved[0]), float(student.ppf((1 + level) / 2, freedom)) * sqrt(variance)


def validate(runs: int = RUNS) -> Part:
    """All cases at all utilisations."""
    level = 1 - (1 - JOINT_LEVEL) / (2 * len(CASES) * len(UTILISATIONS))
    part = Part(
        "theory",
        f"{runs} runs each, {level:.3%} intervals, {JOINT_LEVEL:.0%} jointly; sojourns in ms, means unless said otherwise",
        ("queue", "utilisation", "theory", "simulated", "half-width", "plain mean", "half-width", "source"),
    )
    shared: dict[str, tuple[int, ...]] = {}
    for number, case in enumerate(CASES):
        key = case.shared or case.name
        shared[key] = (*shared.get(key, ()), number)
    jobs = [
        (numbers, utilisation, seed)
        for utilisation in reversed(UTILISATIONS)
        for numbers in shared.values()
        for seed in range(1, runs + 1)
    ]
    found, part.cpu_s = run_jobs(sample, jobs)
    by_case: dict[tuple[int, float], list[tuple[float, list[float]]]] = {}
    for (numbers, utilisation, _), (estimates, _) in zip(jobs, found, strict=True):
        for number, one in zip(numbers, estimates, strict=True):
            by_case.setdefault((number, utilisation), []).append(one)
    refused = sum(rejected for _, rejected in found)
    for number, case in enumerate(CASES):
        for utilisation in UTILISATIONS:
            seen = by_case[number, utilisation]
            known = case.known(utilisation * case.load / MEAN_US, MEAN_US, *models.moments(case.table))
            estimate, half = interval([y for y, _ in seen], [controls for _, controls in seen], level)
            plain, wide = interval([y for y, _ in seen], None, level)
            part.rows.append((
                case.name, f"{utilisation:g}", f"{known / 1000:.3f}", f"{estimate / 1000:.3f}", f"{half / estimate:.2%}",
                f"{plain / 1000:.3f}", f"{wide / plain:.2%}", case.source,
            ))  # fmt: skip
            name = f"{case.name} at {utilisation:g}"
            part.checks += [
                Check(f"{name}: half-width", f"{half / estimate:.2%}", f"<= {HALF_WIDTH:.0%}", half <= HALF_WIDTH * estimate),
                Check(
                    f"{name}: theory inside", f"{estimate / known - 1:+.2%} of theory", f"+- {half / known:.2%}",
                    bool(abs(estimate - known) <= half),
                ),
                Check(
                    f"{name}: theory inside, plain", f"{plain / known - 1:+.2%} of theory", f"+- {wide / known:.2%}",
                    bool(abs(plain - known) <= wide),
                ),
            ]  # fmt: skip
    part.checks.append(Check("nobody refused or given up", str(refused), "0", refused == 0))
    return part
