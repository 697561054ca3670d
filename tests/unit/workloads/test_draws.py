"""Draws without a C library: against scipy, by their moments, and the seeds of independent streams."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from grainwise.workloads.elementary import exp, ln, ln_gamma, sine
from grainwise.workloads.integers import SplitMix64, Weights, derive_seed, happens, uniform
from grainwise.workloads.quantiles import gamma, lognormal

PROBABILITIES = (0.3, 0.5, 0.9, 0.99, 0.999, 1 - 1e-5, 1 - 1e-8)


GOLDEN = {
    "uniform": [0.3181059528314095, 0.3610388740120357],
    "gamma": [0.00018384773337278855, 0.0005745213151380906, 0.06846203309193666],
    "smooth": [0.9653001598331653, 0.97342551211292],
    "lognormal": [0.3319226676397115, 0.37700938598356043, 0.7589828832139907],
}


def draws(draw, count=20_000, seed=3):
    rng = SplitMix64(seed)
    return [draw(rng) for _ in range(count)]


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_the_logarithm_is_that_of_the_c_library_to_its_last_bits(value):
    assert ln(value) == pytest.approx(math.log(value), rel=1e-14, abs=1e-15)


@given(st.floats(-700, 700))
def test_the_exponential_too(value):
    assert exp(value) == pytest.approx(math.exp(value), rel=1e-14)


@given(st.floats(1e-3, 1e6))
def test_the_gamma_function_too(shape):
    assert ln_gamma(shape) == pytest.approx(math.lgamma(shape), rel=1e-12, abs=1e-11)


@given(st.floats(-100, 100))
def test_the_sine_too(turns):
    assert sine(turns) == pytest.approx(math.sin(2 * math.pi * turns), abs=2e-13)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_there_is_no_logarithm_of_what_is_not_above_nought(value):
    with pytest.raises(ValueError, match="no logarithm"):
        ln(value)


def test_far_below_the_exponential_is_nought():
    assert exp(-1e9) == 0.0


@pytest.mark.parametrize("shape", [1 / 9, 0.5, 1, 4, 99, 400, 1e6])
def test_a_gamma_has_the_quantiles_of_a_gamma(shape):
    table, exact = gamma(shape), stats.gamma(shape, scale=1 / shape)
    assert [table.at(p) for p in PROBABILITIES] == pytest.approx(list(exact.ppf(PROBABILITIES)), rel=5e-4)


@pytest.mark.parametrize("cv", [0.1, 1, 3])
def test_a_lognormal_has_the_quantiles_of_a_lognormal(cv):
    sigma = math.sqrt(math.log(1 + cv * cv))
    exact = stats.lognorm(sigma, scale=math.exp(-sigma * sigma / 2))
    assert [lognormal(cv).at(p) for p in PROBABILITIES] == pytest.approx(list(exact.ppf(PROBABILITIES)), rel=1e-4)


@pytest.mark.parametrize("table", [gamma(0.25), gamma(1), gamma(25), lognormal(0.5), lognormal(2)])
def test_the_mean_over_even_probabilities_is_one(table):
    """No error of sampling is in it: midpoints of 2**16 cells, and the tail above them finer."""
    cells = 1 << 16
    body = sum(table.at((index + 0.5) / cells) for index in range(cells - 1)) / cells
    tail = sum(table.at(1 - (index + 0.5) / cells / 1000) for index in range(1000)) / cells / 1000
    assert body + tail == pytest.approx(1, rel=5e-4)


def test_a_lognormal_without_spread_is_a_constant():
    assert set(draws(lognormal(0).draw, 100)) == {1.0}


@given(st.sampled_from([0.01, 1 / 9, 1, 7, 1e4]), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_quantiles_rise(shape, one, other):
    low, high = sorted((one, other))
    assert 0 <= gamma(shape).at(low) <= gamma(shape).at(high)


@pytest.mark.parametrize(("table", "value"), [(gamma, 0), (gamma, math.nan), (lognormal, -1), (lognormal, 31)])
def test_what_has_no_table_is_refused(table, value):
    with pytest.raises(ValueError, match="must lie between"):
        table(value)


def test_uniform_floats_are_even_and_below_one():
    found = draws(uniform)
    assert all(0 <= value < 1 for value in found)
    assert statistics.fmean(found) == pytest.approx(0.5, abs=0.01)
    assert statistics.pvariance(found) == pytest.approx(1 / 12, rel=0.03)


@pytest.mark.parametrize(("probability", "share"), [(-1, 0), (0, 0), (0.3, 0.3), (1, 1), (2, 1)])
def test_what_happens_with_a_probability(probability, share):
    assert statistics.fmean(draws(lambda rng: happens(rng, probability))) == pytest.approx(share, abs=0.01)


def test_indices_are_chosen_by_weight():
    found = draws(Weights([1, 0, 3, 0]).choose)
    assert set(found) == {0, 2}
    assert found.count(2) / len(found) == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("weights", [[], [0, 0], [-1, 2], [math.nan], [math.inf]])
def test_weights_that_choose_nothing_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        Weights(weights)


def test_streams_of_one_seed_are_independent():
    names = [(), ("arrivals",), ("sizes",), ("arrivals", 0), ("arrivals", 1), (1,), (-1,), ("1",), ("a" * 9,), ("a" * 8, "a")]
    seeds = [derive_seed(seed, *name) for seed in (0, 1, 2) for name in names]
    assert len(set(seeds)) == len(seeds)
    first = draws(uniform, 5_000, derive_seed(1, "arrivals"))
    second = draws(uniform, 5_000, derive_seed(1, "sizes"))
    assert abs(statistics.correlation(first, second)) < 0.05


def test_golden_draws():
    """The same on every interpreter and machine; a change here changes every simulated log."""
    assert derive_seed(1, "arrivals", 0) == 4679822031171155182
    assert draws(uniform, 2, 1) == GOLDEN["uniform"]
    assert draws(gamma(1 / 9).draw, 3, 1) == GOLDEN["gamma"]
    assert draws(gamma(200.0).draw, 2, 1) == GOLDEN["smooth"]
    assert draws(lognormal(1.5).draw, 3, 1) == GOLDEN["lognormal"]
