"""The queues with a known answer: the app that is one, the theory of it, and the recursion that serves as its control."""

from collections.abc import Callable, Sequence
from math import log, sqrt

from msgspec import Struct

from grainwise import App, Batch, each
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.service import RESIDUALS
from validation import models, recursions
from validation.worlds import app_with, queueing_app

MEAN_US = 10_000.0
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


def chain(length: int, max_batch: int = BATCH) -> Callable[[App], None]:
    """Declares a flow of so many stages in a row."""

    def declare(app: App) -> None:
        stages = [app.stage(serve, name=f"s{at}", max_batch=max_batch) for at in range(length)]

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
