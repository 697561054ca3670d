"""A live run beside its simulated twin, metric by metric: medians over runs, their interval, what the gate allows.

Twins have the same arrivals, so the difference is taken run by run, and the gate judges the median of the differences: the
luck of the arrivals, which moves the medians of both, is not in it.
"""

from collections.abc import Sequence
from statistics import median
from typing import Literal

from msgspec import Struct

from grainwise.domain.time import Instant, Micros
from grainwise.simulation.calibration import Trail
from grainwise.telemetry.result import Kind, RunResult
from grainwise.telemetry.run_recorder import RunRecorder

Unit = Literal["ms", "fraction", "usd"]


class Bound(Struct, frozen=True):
    """How far a simulated run may be from its live twin, on the median: relative to it, or in points of a fraction."""

    metric: str
    unit: Unit
    limit: float
    is_relative: bool = True


GATE = (
    Bound("p50", "ms", 0.15),
    Bound("p95", "ms", 0.15),
    Bound("attainment", "fraction", 0.03, is_relative=False),
    Bound("billed cost", "usd", 0.10),
)
"""What a level is judged by."""

PARTS = ("queue", "service", "hop", "cold", "door")
"""What a mean latency is made of; the door is outside the latency that the controller sees."""


class Figures(Struct, frozen=True):
    """One run: the metrics of ``GATE`` in order, and the mean of each of ``PARTS`` in milliseconds."""

    offered: int
    metrics: tuple[float, ...]
    parts: tuple[float, ...]


class Row(Struct, frozen=True):
    """One metric or part of one level. The interval spans all live runs: for five, the median lies in it with 94 %.

    ``live`` and ``simulated`` are medians. ``difference`` is the median of the runs' differences, simulated less live, relative
    to live where ``is_relative``. ``is_met`` is None where nothing is judged.
    """

    level: str
    metric: str
    unit: Unit
    live: float
    live_low: float
    live_high: float
    simulated: float
    difference: float
    is_relative: bool
    limit: float | None = None
    is_met: bool | None = None


def result_of(
    trail: Trail, kind: Kind, origin: Instant, warmup_us: Micros, end: Instant, hardware: str, workload: str, seed: int
) -> RunResult:
    """The result of a trail; what happens before ``origin + warmup_us`` is not counted."""
    recorder = RunRecorder(kind, start=origin, warmup_us=warmup_us)
    for event, actions, now in trail:
        if now > end:
            break
        recorder.observe(event, actions, now)
    return recorder.result(end=end, hardware=hardware, seed=seed, workload=workload)


def figures(result: RunResult, app: str, door_us: float) -> Figures:
    """The figures of one run, with the mean time that its requests spent in the door."""
    found = result.app(app)
    shares = found.shares
    return Figures(
        found.offered,
        (found.latency.p50_ms, found.latency.p95_ms, found.attainment, found.cost.billed_usd),
        (shares.queue_ms, shares.service_ms, shares.hop_ms, shares.cold_ms, door_us / 1000),
    )


def compare(level: str, live: Sequence[Figures], simulated: Sequence[Figures], *, is_gated: bool) -> list[Row]:
    """The rows of one level: metrics first, then parts. Both sequences have the same runs."""
    rows: list[Row] = []
    for at, bound in enumerate(GATE):
        rows.append(_row(level, bound, [each.metrics[at] for each in live], [each.metrics[at] for each in simulated], is_gated))
    for at, part in enumerate(PARTS):
        measured = [each.parts[at] for each in live]
        modelled = [each.parts[at] for each in simulated]
        rows.append(_row(level, Bound(part, "ms", 0.0, is_relative=False), measured, modelled, is_gated=False))
    return rows


def _row(level: str, bound: Bound, live: Sequence[float], simulated: Sequence[float], is_gated: bool) -> Row:
    difference = median(_difference(bound, here, there) for here, there in zip(live, simulated, strict=True))
    return Row(
        level,
        bound.metric,
        bound.unit,
        median(live),
        min(live),
        max(live),
        median(simulated),
        difference,
        bound.is_relative,
        bound.limit or None,
        abs(difference) <= bound.limit if is_gated else None,
    )


def _difference(bound: Bound, live: float, simulated: float) -> float:
    if not bound.is_relative:
        return simulated - live
    return (simulated - live) / live if live else (0.0 if not simulated else 1.0)
