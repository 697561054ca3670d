"""Recorded arrivals, played again: windows, scales, counts; nothing lost, nothing out of order."""

import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import SECOND
from grainwise.workloads.recorded import Recorded
from grainwise.workloads.replaying import Counts, Replay, expected_replays, load_tape, play

INSTANTS = [0, SECOND, SECOND, 3 * SECOND, 10 * SECOND]
TRACE = Recorded("t", INSTANTS, [1.0, 2.0, 3.0, 4.0, 5.0], 12 * SECOND)
COUNTED = Recorded("c", [], [], 4 * SECOND, "", [5, 0, 7, 2], SECOND)


def tape_of(recorded=TRACE, **options):
    return load_tape(Replay("t", **options), lambda name, only: recorded)


def played(tape, end_us=1000 * SECOND, seed=1):
    return list(play(tape, seed, end_us))


recordings = st.builds(
    lambda gaps, rest: Recorded("r", [sum(gaps[: n + 1]) for n in range(len(gaps))], [], sum(gaps) + rest),
    st.lists(st.integers(0, SECOND), max_size=30),
    st.integers(0, SECOND),
) | st.builds(
    lambda counts: Recorded("c", [], [], len(counts) * 1000, "", counts, 1000),
    st.lists(st.integers(0, 9), min_size=1, max_size=9),
)
options = st.fixed_dictionaries(
    {"rate_scale": st.floats(0.1, 3), "time_scale": st.floats(0.1, 9), "repeat": st.booleans(), "from_s": st.just(0.0)}
)


@settings(max_examples=80)
@given(recordings, options, st.integers(0, 1 << 64), st.integers(1, SECOND))
def test_what_is_played_is_in_order_within_the_run_and_the_same_again(recorded, options, seed, end_us):
    tape = tape_of(recorded, **options)
    found = played(tape, end_us, seed)
    instants = [at for at, _ in found]
    assert found == played(tape, end_us, seed)
    assert instants == sorted(instants)
    assert not instants or 0 <= instants[0] <= instants[-1] < end_us


def test_a_trace_is_played_as_it_was_recorded():
    assert played(tape_of()) == list(zip(INSTANTS, TRACE.sizes, strict=True))


def test_a_window_is_cut_in_the_traces_own_time_and_then_scaled():
    tape = tape_of(from_s=1, until_s=10, time_scale=2)
    assert played(tape) == [(0, 2.0), (0, 3.0), (SECOND, 4.0)]
    assert tape.span_us == 4.5 * SECOND


def test_it_starts_again_at_its_end():
    found = played(tape_of(until_s=2, repeat=True), 5 * SECOND)
    assert [at for at, _ in found] == [0, SECOND, SECOND, 2 * SECOND, 3 * SECOND, 3 * SECOND, 4 * SECOND]


def test_twice_the_rate_keeps_the_duration_and_the_sizes():
    found = played(tape_of(rate_scale=2))
    assert sorted(size for _, size in found) == sorted([*TRACE.sizes, *TRACE.sizes])
    assert found[-1][0] < 12 * SECOND


def test_a_scaled_rate_keeps_a_burst_one():
    burst = Recorded("b", [n * 1000 for n in range(100)] + [100 * SECOND], [], 101 * SECOND)
    found = played(tape_of(burst, rate_scale=3))
    assert sum(at < 2 * SECOND for at, _ in found) == 300


@pytest.mark.parametrize("scale", [0.25, 1.5, 2.75])
def test_a_scaled_rate_has_the_mean_that_is_expected(scale):
    dense = Recorded("d", [n * 500 for n in range(4000)], [], 2 * SECOND)
    tape = tape_of(dense, rate_scale=scale)
    assert expected_replays(tape, 9 * SECOND) == 4000 * scale
    assert len(played(tape)) == pytest.approx(4000 * scale, rel=0.05)


def test_counts_are_kept_per_interval():
    found = [at // SECOND for at, _ in played(tape_of(COUNTED))]
    assert [found.count(second) for second in range(4)] == [5, 0, 7, 2]


def test_counts_in_a_workload_are_played_like_those_of_a_trace():
    tape = load_tape(Counts((3, 0, 2), 0.5, repeat=True), None)
    found = played(tape, 3 * SECOND)
    assert len(found) == 10 == expected_replays(tape, 3 * SECOND)
    assert all((at % 1_500_000) // 500_000 != 1 for at, _ in found)


def test_arrivals_within_an_interval_are_spread_evenly():
    found = [at for at, _ in played(load_tape(Counts((5000,)), None))]
    assert statistics.fmean(found) == pytest.approx(SECOND / 2, rel=0.03)
    assert statistics.pstdev(found) == pytest.approx(SECOND * 0.2887, rel=0.03)


@pytest.mark.parametrize(
    ("seconds", "count"), [(0.5, 1), (2, 3), (12, 5), (24, 5), (100, 5)]
)  # fmt: skip
def test_what_is_expected_is_what_comes(seconds, count):
    assert expected_replays(tape_of(), round(seconds * SECOND)) == count == len(played(tape_of(), round(seconds * SECOND)))


def test_what_is_expected_of_a_repeated_trace_is_what_comes():
    tape = tape_of(repeat=True)
    assert expected_replays(tape, 26 * SECOND) == 13 == len(played(tape, 26 * SECOND))


def test_half_an_interval_has_half_its_count():
    assert expected_replays(tape_of(COUNTED), SECOND // 2) == 2.5


def test_a_window_without_anything_in_it_is_refused():
    with pytest.raises(ConfigurationError, match=r"covers 12 s, so a window from 20 s on holds nothing"):
        tape_of(from_s=20)
    with pytest.raises(ValueError, match="until_s must lie after from_s"):
        Replay("t", from_s=3, until_s=3)


def test_without_a_source_of_traces_there_is_no_replay():
    with pytest.raises(ConfigurationError, match="no traces are at hand"):
        load_tape(Replay("t"), None)


def test_an_empty_trace_is_silence():
    assert played(tape_of(Recorded("e", [], [], 0))) == []
