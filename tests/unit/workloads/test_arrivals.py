"""Arrivals: rates and determinism; the generator against its reference values."""

import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import SECOND
from grainwise.workloads.arrivals import Phase, arrivals, parse_steps
from grainwise.workloads.integers import SplitMix64, exponential

phases = st.lists(
    st.builds(Phase, st.floats(0, 500), st.integers(1, 3 * SECOND)), min_size=1, max_size=4
).map(tuple)  # fmt: skip


def test_the_generator_gives_the_reference_values():
    """The sequence of the published algorithm for the seeds 0 and 1234567."""
    zero = SplitMix64(0)
    assert [zero.below(1 << 64) for _ in range(3)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    other = SplitMix64(1234567)
    assert [other.below(1 << 64) for _ in range(5)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@given(st.integers(), st.integers(1, 1 << 70))
def test_a_draw_lies_below_its_bound(seed, bound):
    if bound > 1 << 64:
        with pytest.raises(ValueError, match="bound"):
            SplitMix64(seed).below(bound)
        return
    assert 0 <= SplitMix64(seed).below(bound) < bound


@pytest.mark.parametrize("bound", [0, -1])
def test_a_bound_is_positive(bound):
    with pytest.raises(ValueError, match="bound"):
        SplitMix64(1).below(bound)


def test_draws_are_even():
    rng = SplitMix64(7)
    counts = [0] * 6
    for _ in range(60_000):
        counts[rng.below(6)] += 1
    assert all(abs(count - 10_000) < 500 for count in counts)


def test_exponential_durations_have_their_mean_and_their_spread():
    rng = SplitMix64(3)
    drawn = [exponential(rng, 10_000) for _ in range(100_000)]
    assert statistics.fmean(drawn) == pytest.approx(10_000, rel=0.02)
    assert statistics.pstdev(drawn) == pytest.approx(10_000, rel=0.03)
    assert statistics.median(drawn) == pytest.approx(6_931, rel=0.03)


@given(phases, st.sampled_from(["poisson", "constant"]), st.integers(0, 1 << 64))
def test_arrivals_are_in_order_within_their_phases_and_the_same_again(drawn, process, seed):
    found = list(arrivals(drawn, process, seed))
    assert found == list(arrivals(drawn, process, seed))
    assert found == sorted(found)
    assert all(isinstance(instant, int) for instant in found)
    assert not found or 0 <= found[0] <= found[-1] < sum(phase.duration_us for phase in drawn)


@given(phases, st.sampled_from(["poisson", "constant"]), st.integers(0, 1 << 64))
def test_nothing_arrives_while_the_rate_is_nought(drawn, process, seed):
    silent = (*drawn, Phase(0.0, SECOND), *drawn)
    end = sum(phase.duration_us for phase in drawn)
    assert not [instant for instant in arrivals(silent, process, seed) if end <= instant < end + SECOND]


@given(st.floats(0.1, 2000), st.integers(SECOND // 10, 5 * SECOND))
def test_constant_arrivals_keep_their_rate(rate, duration):
    found = list(arrivals((Phase(rate, duration),), "constant", 1))
    assert abs(len(found) - rate * duration / SECOND) <= 0.5
    gaps = {later - earlier for earlier, later in pairwise(found)}
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("rate", [3.0, 40.0, 700.0])
def test_poisson_arrivals_have_the_rate_and_the_variance_of_their_process(rate):
    seconds = round(60_000 / rate)
    found = list(arrivals((Phase(rate, seconds * SECOND),), "poisson", 5))
    assert len(found) == pytest.approx(rate * seconds, rel=0.02)
    gaps = [later - earlier for earlier, later in pairwise(found)]
    assert statistics.pstdev(gaps) == pytest.approx(statistics.fmean(gaps), rel=0.03)


def test_seeds_give_different_arrivals():
    phase = (Phase(100.0, SECOND),)
    assert list(arrivals(phase, "poisson", 1)) != list(arrivals(phase, "poisson", 2))


def test_very_high_rates_end():
    found = list(arrivals((Phase(900_000.0, SECOND // 100),), "poisson", 1))
    assert len(found) == pytest.approx(9000, rel=0.1)


def test_steps_are_rates_with_their_seconds():
    assert parse_steps("5:10,40.5:0.5,0:1") == (Phase(5, 10 * SECOND), Phase(40.5, SECOND // 2), Phase(0, SECOND))


@pytest.mark.parametrize(
    "text", ["", "5", "5:", ":5", "5:0", "5:-1", "-1:5", "a:b", "5:1,", "nan:1", "5:nan", "5:inf", "inf:1"]
)
def test_what_is_no_step_is_shown(text):
    with pytest.raises(ConfigurationError, match="is not RATE:SECONDS"):
        parse_steps(text)
