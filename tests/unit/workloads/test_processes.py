"""Arrival processes: their rates, their burstiness, their order, and the same again for a seed."""

import statistics
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grainwise.domain.time import SECOND
from grainwise.workloads.processes import (
    Constant,
    Diurnal,
    Gamma,
    Modulated,
    OnOff,
    Poisson,
    State,
    StepPhase,
    Steps,
    draw_instants,
    expected_count,
)

rates = st.floats(0, 200)
spans = st.floats(0.05, 3)
processes = st.one_of(
    st.builds(Constant, rates),
    st.builds(Poisson, rates),
    st.builds(Gamma, rates, st.sampled_from([0.1, 0.5, 1, 3])),
    st.builds(Modulated, st.lists(st.builds(State, rates, spans), min_size=2, max_size=4).map(tuple)),
    st.builds(OnOff, rates, spans, spans, st.sampled_from(["exponential", "constant"])),
    st.builds(Diurnal, rates, st.floats(0, 1), spans, st.none() | st.floats(0, 5)),
    st.builds(
        Steps,
        st.lists(st.builds(StepPhase, rates, spans), min_size=1, max_size=3).map(tuple),
        st.sampled_from(["poisson", "constant"]),
        st.booleans(),
    ),
)
drawn = processes.filter(lambda process: not isinstance(process, Constant))
"""Constant arrivals are as many as fit the run, rounded."""

ON_OFF = OnOff(100, 0.5, 1.5)
BURSTS = Modulated((State(10, 1), State(100, 0.25)))
ALL = [
    Constant(40),
    Poisson(40),
    Gamma(40, 0.3),
    Gamma(40, 3),
    BURSTS,
    ON_OFF,
    OnOff(100, 2, 3, "constant"),
    Diurnal(40, 0.9, 60),
    Diurnal(40, 1.0, 1000, 250),
    Steps((StepPhase(10, 3), StepPhase(100, 1)), repeat=True),
    Steps((StepPhase(10, 100), StepPhase(100, 50))),
]


def dispersion(instants, window_us=SECOND):
    """Variance over mean of the counts per window: 1 for a Poisson process."""
    counts = [0] * (instants[-1] // window_us)
    for instant in instants:
        if instant // window_us < len(counts):
            counts[instant // window_us] += 1
    return statistics.pvariance(counts) / statistics.fmean(counts)


@settings(max_examples=60)
@given(processes, st.integers(0, 1 << 64), st.integers(1, 4 * SECOND))
def test_instants_are_whole_in_order_within_the_run_and_the_same_again(process, seed, end_us):
    found = list(draw_instants(process, seed, end_us))
    assert found == sorted(found) == list(draw_instants(process, seed, end_us))
    assert all(type(instant) is int for instant in found)
    assert not found or 0 <= found[0] <= found[-1] < end_us


@settings(max_examples=40)
@given(drawn, st.integers(0, 1 << 64), st.integers(1, SECOND), st.integers(1, SECOND))
def test_a_longer_run_begins_as_a_shorter_one(process, seed, end_us, more_us):
    long = list(draw_instants(process, seed, end_us + more_us))
    assert list(draw_instants(process, seed, end_us)) == [instant for instant in long if instant < end_us]


@settings(max_examples=40)
@given(processes, st.floats(0, 100), st.floats(0, 100))
def test_the_expected_count_only_grows(process, seconds, more):
    assert -1e-9 <= expected_count(process, seconds) <= expected_count(process, seconds + more) + 1e-6


@pytest.mark.parametrize("process", ALL, ids=lambda process: type(process).__name__)
def test_a_process_keeps_its_mean_rate(process):
    runs = [len(list(draw_instants(process, seed, 200 * SECOND))) for seed in range(4)]
    assert statistics.fmean(runs) == pytest.approx(expected_count(process, 200), rel=0.1)


def test_silence_is_silence():
    for process in (Poisson(0), Gamma(0, 2), OnOff(0, 1, 1), Diurnal(0), Steps((StepPhase(0, 1),), repeat=True)):
        assert list(draw_instants(process, 1, 100 * SECOND)) == []


@pytest.mark.parametrize(("cv", "tolerance"), [(0.3, 0.03), (1, 0.03), (3, 0.1)])
def test_gamma_gaps_have_their_spread(cv, tolerance):
    found = list(draw_instants(Gamma(50, cv), 2, 400 * SECOND))
    gaps = [later - earlier for earlier, later in pairwise(found)]
    assert statistics.fmean(gaps) == pytest.approx(SECOND / 50, rel=0.06)
    assert statistics.pstdev(gaps) / statistics.fmean(gaps) == pytest.approx(cv, rel=tolerance)


def test_bursty_processes_are_more_dispersed_than_poisson_and_smooth_ones_less():
    def of(process):
        return dispersion(list(draw_instants(process, 5, 600 * SECOND)))

    assert of(Poisson(40)) == pytest.approx(1, abs=0.2)
    assert of(Constant(40)) == 0
    assert of(Gamma(40, 0.3)) < 0.3
    assert of(Gamma(40, 3)) == pytest.approx(9, rel=0.3)
    assert of(BURSTS) > 5
    assert of(ON_OFF) > 5


def test_what_is_off_is_silent():
    found = list(draw_instants(OnOff(100, 2, 3, "constant"), 1, 50 * SECOND))
    assert found
    assert all(instant % (5 * SECOND) < 2 * SECOND for instant in found)


def test_a_day_has_its_peak_where_it_is_said_to_be():
    def share_of_second_quarter(process):
        found = list(draw_instants(process, 1, 400 * SECOND))
        return sum(100 * SECOND <= instant < 200 * SECOND for instant in found) / len(found)

    assert share_of_second_quarter(Diurnal(30, 1, 400, 150)) > 0.4
    assert share_of_second_quarter(Diurnal(30, 1, 400, 350)) < 0.1
    assert share_of_second_quarter(Diurnal(30, 0, 400)) == pytest.approx(0.25, abs=0.02)
    from_the_trough = list(draw_instants(Diurnal(30, 1, 400), 1, 400 * SECOND))
    assert sum(instant < 40 * SECOND for instant in from_the_trough) < len(from_the_trough) / 50


def test_steps_begin_again_with_other_arrivals():
    found = list(draw_instants(Steps((StepPhase(50, 1), StepPhase(0, 1)), repeat=True), 1, 4 * SECOND))
    assert all(instant % (2 * SECOND) < SECOND for instant in found)
    first = [instant for instant in found if instant < SECOND]
    second = [instant - 2 * SECOND for instant in found if instant >= 2 * SECOND]
    assert len(first) > 30 < len(second)
    assert first != second
