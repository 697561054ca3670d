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

from collections.abc import Callable, Sequence
from itertools import islice
from math import log, sqrt

import numpy as np
from msgspec import Struct
from scipy.stats import t as student

from grainwise import App, Batch, each
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.service import RESIDUALS
from validation import models, recursions
from validation.measuring import Check, Part, run_jobs
from validation.worlds import app_with, poisson, queueing_app, run_through

RUNS = 40
JOINT_LEVEL = 0.99
MEAN_US = 10_000.0
SHORTER = 0.95
HALF_WIDTH = 0.02
UTILISATIONS = (0.5, 0.8)
BATCH = 4
SERVERS = 3


def _unit(values: Sequence[float]) -> tuple[float, ...]:
    mean = sum(values) / len(values)
    return tuple(value / mean for value in values)


EXPONENTIAL = _unit([-log(1 - (at + 0.5) / RESIDUALS) for at in range(RESIDUALS)])
CONSTANT = (1.0,)
_LONG = RESIDUALS // 16
_GAP = 2 / sqrt(15 / 256)
TWO_POINT = (1 - _GAP / 16,) * (RESIDUALS - _LONG) + (1 + _GAP * 15 / 16,) * _LONG
"""A squared coefficient of variation of 4, exactly."""


def serve(values: Batch[int]) -> Batch[int]:
    return values


def chain(length: int) -> Callable[[App], None]:
    """Declares a flow of so many stages in a row."""

    def declare(app: App) -> None:
        stages = [app.stage(serve, name=f"s{at}", max_batch=BATCH) for at in range(length)]

        @app.flow
        def flow(value: int) -> int:
            for stage in stages:
                value = stage(value)
            return value

    return declare


def _fork(app: App) -> None:
    left, right = (app.stage(serve, name=name) for name in ("left", "right"))

    @app.flow
    def flow(value: int) -> tuple[int, int]:
        return left(value), right(value)


def _listed(app: App) -> None:
    item = app.stage(serve, name="item")

    @app.flow
    def flow(values: list[int]) -> list[int]:
        return each(item, values)


class Run(Struct):
    """What one run showed. ``draws`` are services in order of requests, one row per stage, or all of one stage in a row."""

    arrived: list[float]
    sojourns: list[float]
    draws: list[list[float]]
    item_sojourns: list[float]


class Case(Struct):
    """A queue.

    ``known`` takes (arrivals per µs, mean service, first and second moment of the table) to the mean sojourn; ``control`` takes
    (run, factor on services) to sojourns. ``quantile`` is 0 for the mean. Cases of the same ``shared`` name share their runs.
    """

    name: str
    app: Callable[[], SimulatedApp]
    table: tuple[float, ...]
    load: float
    known: Callable[[float, float, float, float], float]
    control: Callable[[Run, float], list[float]]
    requests: tuple[int, int]
    warm_up: tuple[int, int]
    quantile: float = 0.0
    is_per_item: bool = False
    source: str = ""
    shared: str = ""


def _single(name: str, table: Sequence[float], servers: int = 1, max_batch: int = 1) -> Callable[[], SimulatedApp]:
    return lambda: queueing_app(app_with(name, chain(1)), [MEAN_US], [table], instances=[servers], max_batch=max_batch)


def _scaled(row: Sequence[float], factor: float) -> list[float]:
    return [value * factor for value in row]


def _lindley(run: Run, factor: float) -> list[float]:
    return recursions.one_server(run.arrived, _scaled(run.draws[0], factor))


def _join(run: Run, factor: float) -> list[float]:
    rows = [recursions.one_server(run.arrived, _scaled(row, factor)) for row in run.draws]
    return [max(pair) for pair in zip(*rows, strict=True)]


def _batches(run: Run, factor: float) -> list[float]:
    row = run.draws[0]
    sums = [sum(row[at : at + BATCH]) * factor for at in range(0, len(row), BATCH)]
    return recursions.one_server(run.arrived, sums)


def _items(run: Run, factor: float) -> list[float]:
    row, found = run.draws[0], []
    for at, last in enumerate(_batches(run, factor)):
        own = row[at * BATCH : (at + 1) * BATCH]
        found.append(last - sum(own[index] * index for index in range(1, BATCH)) * factor / BATCH)
    return found


_MM1 = {
    "app": _single("mm1", EXPONENTIAL),
    "table": EXPONENTIAL,
    "load": 1.0,
    "control": _lindley,
    "requests": (3000, 22_000),
    "warm_up": (300, 1500),
    "shared": "mm1",
}
_LISTED = {
    "app": lambda: queueing_app(app_with("listed", _listed), [MEAN_US], [EXPONENTIAL], instances=[1], counts=[BATCH]),
    "table": EXPONENTIAL,
    "load": 1.0 / BATCH,
    "requests": (800, 3000),
    "warm_up": (100, 600),
    "shared": "listed",
}

CASES = (
    Case(
        name="M/M/1",
        known=lambda rate, mean, m1, m2: models.mg1(rate, mean, m2 * mean * mean),
        source="FQT 2.2",
        **_MM1,
    ),
    Case(
        name="M/M/1, p95",
        known=lambda rate, mean, m1, m2: models.mm1_quantile(rate, mean, 0.95),
        quantile=0.95,
        source="FQT 2.2",
        **_MM1,
    ),
    Case(
        name=f"M/M/{SERVERS}",
        app=_single("mmc", EXPONENTIAL, SERVERS),
        table=EXPONENTIAL,
        load=float(SERVERS),
        known=lambda rate, mean, m1, m2: models.mmc(rate, mean, SERVERS),
        control=lambda run, factor: recursions.several_servers(run.arrived, _scaled(run.draws[0], factor), SERVERS),
        requests=(2000, 5000),
        warm_up=(300, 1500),
        source="FQT 2.3",
    ),
    Case(
        name="M/D/1",
        app=_single("md1", CONSTANT),
        table=CONSTANT,
        load=1.0,
        known=lambda rate, mean, m1, m2: models.mg1(rate, mean, mean * mean),
        control=_lindley,
        requests=(2000, 4000),
        warm_up=(300, 1000),
        source="FQT 5.1",
    ),
    Case(
        name="M/G/1, scv 4",
        app=_single("mg1", TWO_POINT),
        table=TWO_POINT,
        load=1.0,
        known=lambda rate, mean, m1, m2: models.mg1(rate, mean, m2 * mean * mean),
        control=_lindley,
        requests=(3000, 8000),
        warm_up=(500, 3000),
        source="Pollaczek, Khinchine: FQT 5.1",
    ),
    Case(
        name="M/M/1 in tandem",
        app=lambda: queueing_app(
            app_with("tandem", chain(2)), [MEAN_US, MEAN_US], [EXPONENTIAL, EXPONENTIAL], instances=[1, 1]
        ),
        table=EXPONENTIAL,
        load=1.0,
        known=lambda rate, mean, m1, m2: models.tandem(rate, (mean, mean)),
        control=lambda run, factor: recursions.in_series(run.arrived, [_scaled(row, factor) for row in run.draws]),
        requests=(1500, 4500),
        warm_up=(300, 1500),
        source="Jackson 1957",
    ),
    Case(
        name=f"M/D^[1,{BATCH}]/1, batch service",
        app=_single("bulk", CONSTANT, 1, BATCH),
        table=CONSTANT,
        load=float(BATCH),
        known=lambda rate, mean, m1, m2: models.bulk_service(rate, mean, BATCH),
        control=lambda run, factor: recursions.bulk(run.arrived, MEAN_US * factor, BATCH),
        requests=(3000, 8000),
        warm_up=(300, 2000),
        source="Bailey 1954, Neuts 1967",
    ),
    Case(
        name="fork-join of two M/M/1",
        app=lambda: queueing_app(app_with("fork", _fork), [MEAN_US, MEAN_US], [EXPONENTIAL, EXPONENTIAL], instances=[1, 1]),
        table=EXPONENTIAL,
        load=1.0,
        known=lambda rate, mean, m1, m2: models.fork_join(rate, mean),
        control=_join,
        requests=(1500, 4500),
        warm_up=(300, 1500),
        source="Flatto, Hahn 1984",
    ),
    Case(
        name=f"M^[{BATCH}]/M/1, last item",
        known=lambda rate, mean, m1, m2: models.batch_arrivals_last(rate, BATCH, mean, m2 * mean * mean),
        control=_batches,
        source="FQT 3.1, 5.1",
        **_LISTED,
    ),
    Case(
        name=f"M^[{BATCH}]/M/1, mean item",
        known=lambda rate, mean, m1, m2: models.batch_arrivals_mean(rate, BATCH, mean, m2 * mean * mean),
        control=_items,
        is_per_item=True,
        source="FQT 3.1, 5.1",
        **_LISTED,
    ),
)


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
    """Estimate and half-width at ``level`` from independent runs, regressed on the controls where there are any."""
    y = np.array(ys)
    design = np.ones((len(ys), 1)) if controls is None else np.column_stack([np.ones(len(ys)), np.array(controls)])
    solved, *_ = np.linalg.lstsq(design, y, rcond=None)
    freedom = len(ys) - design.shape[1]
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
