"""The forecast: what it says of no data, silence, a steady rate, a burst, a step, a ramp, and how far ahead it looks."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grainwise.domain.time import SECOND
from grainwise.policies.forecast import FORGOTTEN_S, MAX_HORIZON_S, PANIC_S, Forecast, Memory, forecast, observe


def after(*counts: int) -> Forecast:
    return forecast(observe(Memory(), 0, counts), SECOND)


def poisson(rate: float, seconds: int, seed: int = 1) -> list[int]:
    random = Random(seed)
    counts = []
    for _ in range(seconds):
        count, at = 0, random.expovariate(rate)
        while at < 1:
            count, at = count + 1, at + random.expovariate(rate)
        counts.append(count)
    return counts


def test_without_data_it_says_so():
    found = forecast(Memory(), SECOND)
    assert not found.has_data
    assert (found.rate_per_s, found.peak_rate_per_s, found.long_run_rate_per_s) == (0.0, 0.0, 0.0)
    assert found.because.rule == "no whole second has been counted"


def test_silence_is_a_rate_of_nothing_and_not_an_error():
    found = after(*[0] * 100)
    assert found.has_data
    assert found.rate_per_s == found.peak_rate_per_s == found.planning_rate_per_s(30 * SECOND) == 0.0
    assert found.because.rule == "nothing comes"


def test_a_steady_rate_is_forecast_as_it_is_from_the_first_second_on():
    for seconds in (1, 5, 50, 500):
        found = after(*[7] * seconds)
        assert found.rate_per_s == pytest.approx(7.0)
        assert found.peak_rate_per_s == pytest.approx(7.0)
        assert found.long_run_rate_per_s == pytest.approx(7.0)
        assert found.trusted_us == seconds * SECOND


@pytest.mark.parametrize("rate", [1.0, 5.0, 40.0])
def test_noise_is_neither_a_burst_nor_a_trend(rate):
    wrong = 0
    memory = Memory()
    for second, count in enumerate(poisson(rate, 600)):
        memory = observe(memory, second, [count])
        found = forecast(memory, SECOND)
        wrong += second > 60 and abs(found.planning_rate_per_s(30 * SECOND) / rate - 1) > 0.5
    assert wrong <= 6


def test_a_burst_is_seen_within_seconds_and_its_end_too():
    calm, burst = poisson(3.0, 200), poisson(20.0, 15)
    memory = observe(Memory(), 0, calm)
    memory = observe(memory, 200, burst[:3])
    found = forecast(memory, SECOND)
    assert found.is_panic
    assert found.peak_rate_per_s > 12
    assert found.trusted_us < 10 * SECOND
    memory = observe(memory, 203, burst[3:])
    memory = observe(memory, 215, calm[:10])
    found = forecast(memory, SECOND)
    assert not found.is_panic
    assert found.rate_per_s < 8


def test_a_young_trough_is_planned_for_at_the_long_run_rate_and_an_old_one_as_it_is():
    counts = [20] * 200
    young, old = after(*counts, *[2] * 15), after(*counts, *[2] * 60)
    assert young.rate_per_s < 4
    assert young.planning_rate_per_s(30 * SECOND) == young.long_run_rate_per_s > 15
    assert old.planning_rate_per_s(30 * SECOND) == pytest.approx(2.0, abs=0.5)
    assert old.long_run_rate_per_s > 10


def test_a_ramp_is_extrapolated_as_far_as_an_instance_takes_to_start():
    memory = observe(Memory(), 0, [40] * 100)
    memory = observe(memory, 100, [40 + 2 * at for at in range(12)])
    near, far = forecast(memory, 0.0), forecast(memory, 60.0 * SECOND)
    assert near.because.rule == "the rate is rising"
    assert (near.horizon_s, far.horizon_s) == (PANIC_S, 61)
    assert memory.stable < near.rate_per_s < near.peak_rate_per_s < far.peak_rate_per_s < 100


def test_it_looks_ahead_no_further_than_two_minutes_whatever_a_start_takes():
    assert forecast(Memory(), float("inf")).horizon_s == MAX_HORIZON_S
    assert forecast(Memory(), 1e30).horizon_s == MAX_HORIZON_S


def test_a_hole_in_the_counts_is_not_bridged():
    memory = observe(observe(Memory(), 0, [50] * 100), 100 + FORGOTTEN_S, [2])
    assert memory.seconds == 1
    assert forecast(memory, SECOND).rate_per_s == 2.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=120), st.floats(0, 1e9))
def test_it_is_never_negative_and_the_peak_is_no_less_than_the_mean(counts, ahead_us):
    found = forecast(observe(Memory(), 5, counts), ahead_us)
    assert 0 <= found.rate_per_s <= found.peak_rate_per_s < 1e6
    assert 0 <= found.long_run_rate_per_s <= max(counts) + 1e-6


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 100), min_size=2, max_size=60), st.data())
def test_counts_may_come_one_by_one_or_many_at_once(counts, data):
    cut = data.draw(st.integers(1, len(counts) - 1))
    once = observe(Memory(), 0, counts)
    assert observe(observe(Memory(), 0, counts[:cut]), cut, counts[cut:]) == once
