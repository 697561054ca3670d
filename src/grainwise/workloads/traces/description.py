"""What a trace is like: how many, how fast, how bursty at which scale, how large."""

from typing import Any

import numpy as np
from msgspec import Struct

from grainwise.domain.time import SECOND, Micros
from grainwise.workloads.recorded import Recorded

SCALES_S = (1, 10, 60, 600, 3600)
FEWEST_WINDOWS = 10
PLOT_POINTS = 64
_MOST_WINDOWS = 20_000_000


class AtScale(Struct, frozen=True):
    """The counts in windows of one length, laid end to end from 0; a rest at the end is left out.

    ``peak_per_s`` is the fullest window's count over its length; ``dispersion`` the counts' variance over their mean: 1 for
    Poisson, above it for bursts.
    """

    scale_s: float
    windows: int
    peak_per_s: float
    dispersion: float


class Sizes(Struct, frozen=True):
    """The sizes of a trace, in its own unit. ``correlation`` is that of a size with the one before it."""

    mean: float
    p50: float
    p95: float
    p99: float
    largest: float
    cv: float
    correlation: float


class Description(Struct, frozen=True):
    """A trace in figures. ``rates_per_s`` is its course in equal parts; ``gap_cv`` is ``None`` where instants are unknown."""

    name: str
    note: str
    arrivals: int
    span_s: float
    mean_per_s: float
    gap_cv: float | None
    scales: tuple[AtScale, ...]
    sizes: Sizes | None
    rates_per_s: tuple[float, ...]


def describe(recorded: Recorded) -> Description:
    """The figures of a trace; scales that it is too short for, or that are finer than its counts, are left out."""
    span_s = recorded.span_us / SECOND
    finest = _fine_counts(recorded, recorded.interval_us or SECOND)
    scales = [at for scale in SCALES_S if (at := _at_scale(recorded, finest, scale * SECOND)) is not None]
    return Description(
        name=recorded.name,
        note=recorded.note,
        arrivals=recorded.arrival_count,
        span_s=span_s,
        mean_per_s=recorded.arrival_count / span_s if span_s else 0.0,
        gap_cv=_gap_cv(recorded),
        scales=tuple(scales),
        sizes=_sizes(recorded.sizes) if recorded.sizes else None,
        rates_per_s=_course(recorded),
    )


def _fine_counts(recorded: Recorded, interval_us: Micros) -> Any:
    if recorded.interval_us:
        return np.asarray(recorded.counts, dtype=np.int64)
    windows = -(-recorded.span_us // interval_us)
    if windows > _MOST_WINDOWS:
        return np.zeros(0, dtype=np.int64)
    return np.bincount(np.asarray(recorded.instants, dtype=np.int64) // interval_us, minlength=windows)


def _at_scale(recorded: Recorded, finest: Any, scale_us: Micros) -> AtScale | None:
    interval = recorded.interval_us or SECOND
    windows = recorded.span_us // scale_us
    if scale_us % interval or windows < FEWEST_WINDOWS or not len(finest):
        return None
    each = scale_us // interval
    counts = finest[: windows * each].reshape(windows, each).sum(axis=1)
    mean = float(counts.mean())
    dispersion = float(counts.var(ddof=1)) / mean if mean else 0.0
    return AtScale(scale_us / SECOND, windows, float(counts.max()) * SECOND / scale_us, dispersion)


def _gap_cv(recorded: Recorded) -> float | None:
    if len(recorded.instants) < 3:
        return None
    gaps = np.diff(np.asarray(recorded.instants, dtype=np.int64))
    mean = float(gaps.mean())
    return float(gaps.std()) / mean if mean else None


def _sizes(sizes: list[float]) -> Sizes:
    values = np.asarray(sizes)
    p50, p95, p99 = (float(value) for value in np.quantile(values, (0.5, 0.95, 0.99)))
    mean, deviation = float(values.mean()), float(values.std())
    before, after = values[:-1] - mean, values[1:] - mean
    correlation = float((before * after).mean()) / deviation**2 if deviation and len(values) > 2 else 0.0
    return Sizes(mean, p50, p95, p99, float(values.max()), deviation / mean if mean else 0.0, correlation)


def _course(recorded: Recorded) -> tuple[float, ...]:
    """The rate in equal parts of the span; a count's arrivals fall at the middle of its interval."""
    if recorded.interval_us:
        points = min(PLOT_POINTS, len(recorded.counts))
        middles = (np.arange(len(recorded.counts), dtype=np.int64) * 2 + 1) * points // (2 * len(recorded.counts))
        sums = np.bincount(middles, weights=np.asarray(recorded.counts, dtype=float), minlength=points)
        spans = np.bincount(middles, minlength=points) * recorded.interval_us
        return tuple(float(rate) for rate in sums * SECOND / spans)
    part = np.asarray(recorded.instants, dtype=np.int64) * PLOT_POINTS // max(recorded.span_us, 1)
    totals = np.bincount(np.minimum(part, PLOT_POINTS - 1), minlength=PLOT_POINTS)
    return tuple(float(total) * PLOT_POINTS * SECOND / recorded.span_us for total in totals)
