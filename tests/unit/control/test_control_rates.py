"""Rates over a short window."""

from hypothesis import given
from hypothesis import strategies as st

from grainwise.control.rates import RateMeter
from grainwise.domain.time import SECOND


def test_a_steady_rate_is_measured_as_it_is():
    meter = RateMeter()
    for at in range(0, 20 * SECOND, SECOND // 10):
        meter.add(at)
    assert abs(meter.per_second(20 * SECOND - 1, 5) - 10.0) < 0.2


def test_what_began_a_moment_ago_is_not_diluted_over_the_window():
    meter = RateMeter()
    for at in range(0, 2 * SECOND, SECOND // 10):
        meter.add(7 * SECOND + SECOND // 2 + at)
    assert abs(meter.per_second(9 * SECOND + SECOND // 2, 5) - 10.0) < 0.6


def test_a_burst_is_counted_over_a_second_at_least():
    meter = RateMeter()
    meter.add(SECOND, 30)
    assert meter.per_second(SECOND + 1, 5) == 30.0


def test_silence_brings_the_rate_down_to_nothing():
    meter = RateMeter()
    assert meter.per_second(9 * SECOND, 5) == 0.0
    meter.add(SECOND, 60)
    assert 9 < meter.per_second(6 * SECOND, 5) <= 12
    assert meter.per_second(8 * SECOND, 5) == 0.0


@given(st.lists(st.integers(0, 3 * SECOND), max_size=200), st.integers(1, 30))
def test_memory_is_bounded_and_the_rate_is_that_of_the_window(gaps, window):
    meter, arrivals, now = RateMeter(), [], 0
    for gap in gaps:
        now += gap
        arrivals.append(now)
        meter.add(now)
    assert len(meter.seconds) <= 64
    inside = [at for at in arrivals if at // SECOND >= now // SECOND - window]
    rate = meter.per_second(now, window)
    if not inside:
        assert rate == 0.0
    else:
        elapsed = min(window * SECOND + now % SECOND, max(SECOND, now - arrivals[0]))
        assert rate == len(inside) * SECOND / elapsed


def test_an_hour_of_arrivals_takes_no_more_memory_than_a_minute():
    meter = RateMeter()
    for at in range(0, 3600 * SECOND, SECOND // 2):
        meter.add(at)
    assert len(meter.seconds) == len(meter.counts) <= 64
    assert abs(meter.per_second(3600 * SECOND - 1, 30) - 2.0) < 0.1
