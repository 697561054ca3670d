from math import sqrt
from random import Random
from statistics import fmean, stdev

import msgspec
import pytest
from scipy import stats

from grainwise.domain.errors import ConfigurationError
from grainwise.telemetry.compare import METRICS, Metric, Replicated, compare, interval, t_quantile
from grainwise.telemetry.result import RunResult
from worlds.apps import chain
from worlds.runs import lively

GOODPUT = tuple(metric for metric in METRICS if metric.name == "goodput")


@pytest.fixture(scope="module")
def run() -> RunResult:
    app = chain()
    return lively(app, grains=((("plus_one",), ("double",), ("negate",), ("plus_one#2",)),), requests=20)


def setting(name: str, run: RunResult, figures: dict[int | None, float]) -> Replicated:
    made = []
    for seed, figure in figures.items():
        apps = tuple(msgspec.structs.replace(app, goodput_per_s=figure) for app in run.apps)
        origin = msgspec.structs.replace(run.provenance, seed=seed)
        made.append(msgspec.structs.replace(run, apps=apps, provenance=origin))
    return Replicated(name, tuple(made))


@pytest.mark.parametrize("freedom", [*range(1, 31), 31, 40, 100, 1000])
def test_the_quantiles_are_those_of_student(freedom: int) -> None:
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=2e-4)


def test_an_interval_is_that_of_scipy() -> None:
    draws = Random(1)
    values = [draws.gauss(5, 2) for _ in range(7)]
    low, high = stats.t.interval(0.95, 6, fmean(values), stdev(values) / sqrt(7))
    found = interval(values)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-4)
    assert interval([3.0]).half_width is None
    with pytest.raises(ValueError, match="at least one"):
        interval([])


def test_common_seeds_resolve_what_independent_runs_do_not(run: RunResult) -> None:
    base = {seed: 10.0 + 3 * seed for seed in range(5)}
    better = {seed: value + 1 + 0.01 * seed for seed, value in base.items()}
    paired = compare([setting("a", run, dict(base)), setting("b", run, dict(better))], GOODPUT).differences[0]
    assert paired.is_paired
    assert paired.is_resolved
    assert paired.verdict == "better"
    assert paired.value.mean == pytest.approx(1.02)
    apart = {seed + 100: value for seed, value in better.items()}
    independent = compare([setting("a", run, dict(base)), setting("b", run, dict(apart))], GOODPUT).differences[0]
    assert not independent.is_paired
    assert independent.verdict == "not resolved"
    test = stats.ttest_ind(list(better.values()), list(base.values()), equal_var=False)
    low, high = test.confidence_interval()
    # Degrees of freedom are rounded down, so the interval is a little wider.
    assert (high - low) / 2 <= (independent.value.half_width or 0) <= 1.1 * (high - low) / 2


def test_one_seed_shows_a_difference_and_resolves_nothing(run: RunResult) -> None:
    found = compare([setting("a", run, {1: 1.0}), setting("b", run, {1: 2.0})], GOODPUT)
    assert found.differences[0].value.mean == 1.0
    assert found.differences[0].value.half_width is None
    assert not found.differences[0].is_resolved
    assert found.headline == "simulated on the virtual world"


def test_a_metric_of_which_runs_say_nothing_is_left_out(run: RunResult) -> None:
    silent = Metric("silent", "", "neither", lambda app: None)
    assert not compare([setting("a", run, {1: 1.0})], (silent,)).cells
    found = compare([setting("a", run, {1: 1.0, 2: 1.0}), setting("b", run, {3: 2.0, 4: 2.0})])
    assert {cell.metric for cell in found.cells} == {metric.name for metric in METRICS}
    assert next(each for each in found.differences if each.metric == "goodput").is_resolved
    assert not next(each for each in found.differences if each.metric == "p95").is_resolved


def test_what_cannot_be_compared_is_refused(run: RunResult) -> None:
    own = setting("a", run, {1: 1.0})
    with pytest.raises(ConfigurationError, match="names of their own"):
        compare([own, own])
    with pytest.raises(ConfigurationError, match="no result"):
        compare([own, Replicated("b", ())])
    with pytest.raises(ConfigurationError, match="a seed twice"):
        compare([Replicated("b", own.results * 2)])
    other = msgspec.structs.replace(run, apps=(msgspec.structs.replace(run.apps[0], name="other"),))
    with pytest.raises(ConfigurationError, match="no app is common"):
        compare([own, Replicated("b", (other,))])


def test_a_difference_of_rounding_is_none(run: RunResult) -> None:
    figures: dict[int | None, float] = {seed: 0.1 + seed for seed in range(3)}
    for more, is_resolved in ((1e-15, False), (1e-6, True)):
        moved = {seed: figure + more for seed, figure in figures.items()}
        found = compare([setting("one", run, figures), setting("two", run, moved)], GOODPUT)
        assert found.differences[0].is_resolved is is_resolved
