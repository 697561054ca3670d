"""Settings side by side: means over seeds with 95 % intervals, and differences over common seeds.

Runs of two settings with the same seed see the same arrivals and sizes (common random numbers), so their difference per seed
varies less than either does: such differences are paired.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from statistics import NormalDist, fmean, variance
from typing import Literal

from msgspec import Struct

from grainwise.domain.errors import ConfigurationError
from grainwise.telemetry.result import AppResult, RunResult

LEVEL = 0.95
_Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
_T = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip
"""97.5 % quantiles of Student's t for 1 to 30 degrees of freedom (as in NIST/SEMATECH e-Handbook, section 1.3.6.7.2)."""

ROUNDING = 1e-9
"""Sums of money over many events agree no better than this, relative to the larger; less of a difference is none."""

Better = Literal["higher", "lower", "neither"]


class Metric(Struct, frozen=True):
    """A figure of an app that is compared. ``read`` gives None where a run says nothing about it."""

    name: str
    unit: str
    better: Better
    read: Callable[[AppResult], float | None]


def _latency(read: Callable[[AppResult], float]) -> Callable[[AppResult], float | None]:
    return lambda app: read(app) if app.latency.count else None


METRICS: tuple[Metric, ...] = (
    Metric("attainment", "", "higher", lambda app: app.attainment if app.offered else None),
    Metric("p50", "ms", "lower", _latency(lambda app: app.latency.p50_ms)),
    Metric("p95", "ms", "lower", _latency(lambda app: app.latency.p95_ms)),
    Metric("p99", "ms", "lower", _latency(lambda app: app.latency.p99_ms)),
    Metric("mean", "ms", "lower", _latency(lambda app: app.latency.mean_ms)),
    Metric("goodput", "/s", "higher", lambda app: app.goodput_per_s),
    Metric("billed", "USD", "lower", lambda app: app.cost.billed_usd),
    Metric("provisioned", "USD", "lower", lambda app: app.cost.provisioned_usd),
    Metric("billed per 1000", "USD", "lower", _latency(lambda app: app.cost.billed_usd_per_1000)),
    Metric("provisioned per 1000", "USD", "lower", _latency(lambda app: app.cost.provisioned_usd_per_1000)),
    Metric("cold starts", "", "neither", lambda app: float(app.cold_starts.count)),
    Metric("re-granulations", "", "neither", lambda app: float(len(app.regranulations))),
)


class Replicated(Struct, frozen=True):
    """The results of one setting, one for each seed."""

    name: str
    results: tuple[RunResult, ...]


class Interval(Struct, frozen=True):
    """A mean over ``count`` seeds and the half-width of its 95 % t-interval; None with fewer than two seeds."""

    mean: float
    half_width: float | None
    count: int

    @property
    def low(self) -> float:
        """The lower end; the mean where there is no interval."""
        return self.mean - (self.half_width or 0.0)

    @property
    def high(self) -> float:
        """The upper end; the mean where there is no interval."""
        return self.mean + (self.half_width or 0.0)


class Cell(Struct, frozen=True):
    """A metric of an app under one setting."""

    app: str
    metric: str
    unit: str
    better: Better
    setting: str
    value: Interval


class Difference(Struct, frozen=True):
    """How much ``setting`` exceeds ``against``. Resolved: the interval leaves 0 out, and it is more than rounding."""

    app: str
    metric: str
    unit: str
    better: Better
    setting: str
    against: str
    value: Interval
    is_paired: bool
    is_resolved: bool

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``differs`` where it is resolved, else ``not resolved``."""
        if not self.is_resolved:
            return "not resolved"
        if self.better == "neither":
            return "differs"
        return "better" if (self.value.mean > 0) == (self.better == "higher") else "worse"


class Comparison(Struct, frozen=True):
    """Settings side by side; ``headline`` says of what kind their runs are and on what. Differences are against the first.

    Each interval holds with 95 % by itself: of many metrics, one in twenty may be called resolved by chance.
    """

    headline: str
    settings: tuple[str, ...]
    seeds: dict[str, tuple[int, ...]]
    cells: tuple[Cell, ...]
    differences: tuple[Difference, ...]


def t_quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t; beyond 30 degrees of freedom by Cornish and Fisher's expansion (within 1e-4)."""
    whole = int(freedom)
    if whole <= len(_T):
        return _T[max(whole, 1) - 1]
    z = _Z
    return z + (z**3 + z) / (4 * whole) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * whole * whole)


def interval(values: Sequence[float]) -> Interval:
    """Mean and half-width of independent values.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("an interval needs at least one value")
    count = len(values)
    mean = fmean(values)
    if count < 2:
        return Interval(mean, None, count)
    return Interval(mean, t_quantile(count - 1) * sqrt(variance(values, mean) / count), count)


def compare(settings: Sequence[Replicated], metrics: Sequence[Metric] = METRICS) -> Comparison:
    """Compare every app that all settings ran; the first setting is what the others are held against.

    Raises:
        ConfigurationError: a setting has no result or a seed twice, two settings have one name, or no app is common to all.
    """
    names = [each.name for each in settings]
    if not names or len(set(names)) < len(names):
        raise ConfigurationError(f"settings to compare need names of their own, these are {names}; rename one")
    for each in settings:
        if not each.results:
            raise ConfigurationError(f"setting {each.name!r} has no result; run it with one seed at least")
        seeds = [result.provenance.seed for result in each.results if result.provenance.seed is not None]
        if len(set(seeds)) < len(seeds):
            raise ConfigurationError(f"setting {each.name!r} has a seed twice ({seeds}), which tells nothing new; drop one")
    runs = [result for each in settings for result in each.results]
    apps = [app.name for app in runs[0].apps if all(app.name in {own.name for own in run.apps} for run in runs)]
    if not apps:
        raise ConfigurationError(f"no app is common to the runs of {', '.join(names)}; compare runs of the same apps")
    cells: list[Cell] = []
    differences: list[Difference] = []
    for app in apps:
        for metric in metrics:
            values = [_values(each, app, metric) for each in settings]
            for each, own in zip(settings, values, strict=True):
                if own:
                    spread = interval([value for _, value in own])
                    cells.append(Cell(app, metric.name, metric.unit, metric.better, each.name, spread))
            for each, own in zip(settings[1:], values[1:], strict=True):
                if own and values[0]:
                    differences.append(_difference(app, metric, each.name, names[0], own, values[0]))
    return Comparison(
        headline="; ".join(dict.fromkeys(run.headline for run in runs)),
        settings=tuple(names),
        seeds={
            each.name: tuple(run.provenance.seed for run in each.results if run.provenance.seed is not None)
            for each in settings
        },
        cells=tuple(cells),
        differences=tuple(differences),
    )


Values = list[tuple[int | None, float]]


def _values(setting: Replicated, app: str, metric: Metric) -> Values:
    found: Values = []
    for result in setting.results:
        value = metric.read(result.app(app))
        if value is not None:
            found.append((result.provenance.seed, value))
    return found


def _difference(app: str, metric: Metric, setting: str, against: str, own: Values, other: Values) -> Difference:
    by_seed = {seed: value for seed, value in other if seed is not None}
    paired = [value - by_seed[seed] for seed, value in own if seed in by_seed]
    is_paired = len(paired) >= 2 or (len(paired) == 1 and len(own) == len(other) == 1)
    value = interval(paired) if is_paired else _welch([v for _, v in own], [v for _, v in other])
    noise = ROUNDING * max(abs(each) for _, each in (*own, *other))
    is_resolved = value.half_width is not None and abs(value.mean) > max(value.half_width, noise)
    return Difference(app, metric.name, metric.unit, metric.better, setting, against, value, is_paired, is_resolved)


def _welch(own: list[float], other: list[float]) -> Interval:
    """The difference of the means of independent samples, by Welch and Satterthwaite."""
    mean = fmean(own) - fmean(other)
    count = min(len(own), len(other))
    if count < 2:
        return Interval(mean, None, count)
    one, two = variance(own) / len(own), variance(other) / len(other)
    if not one + two:
        return Interval(mean, 0.0, count)
    freedom = (one + two) ** 2 / (one**2 / (len(own) - 1) + two**2 / (len(other) - 1))
    return Interval(mean, t_quantile(freedom) * sqrt(one + two), count)
