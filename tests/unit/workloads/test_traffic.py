"""Traffic: streams merged in time, independent of each other, the same again for a seed; users of closed loops."""

import tracemalloc
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import SECOND
from grainwise.workloads.processes import Constant, Diurnal, Gamma, Poisson, StepPhase, Steps, Users
from grainwise.workloads.recorded import Recorded
from grainwise.workloads.replaying import Counts, Replay
from grainwise.workloads.sizes import ConstantSize, LognormalSize, TraceSize
from grainwise.workloads.traffic import Arrival, Stream, Traffic, mean_rate_per_s, open_arrivals, span_us
from grainwise.workloads.users import UserPool

TRACE = Recorded("t", [0, SECOND, 4 * SECOND], [10.0, 20.0, 30.0], 6 * SECOND)
TEXT, OCR = Stream("text", Poisson(30), LognormalSize(1.0)), Stream("ocr", Gamma(10, 2))


GOLDEN = [
    (0, "text", 0.5, 2),
    (10924, "text", 0.419999191, 0),
    (31636, "text", 1.932461383, 0),
    (128293, "text", 0.543903689, 0),
    (140974, "ocr", 0.0, 1),
    (191829, "ocr", 0.0, 1),
    (321377, "text", 2.878012926, 0),
    (348136, "text", 0.971384748, 0),
]


def traces(name, only):
    return TRACE


def all_of(traffic, seed=1):
    return list(open_arrivals(traffic, seed, traces))


streams = st.lists(
    st.builds(
        Stream,
        st.sampled_from(["a", "b"]),
        st.sampled_from([Poisson(40), Constant(20), Gamma(20, 3), Replay("t"), Counts((3, 4)), Users(3), Diurnal(9, 1, 2)]),
        st.sampled_from([None, ConstantSize(2), LognormalSize(2)]),
        start_s=st.floats(0, 3),
        duration_s=st.none() | st.floats(0.1, 3),
    ),
    min_size=1,
    max_size=4,
).map(tuple)


@settings(max_examples=60)
@given(streams, st.integers(0, 1 << 64))
def test_arrivals_are_in_order_within_their_streams_times_and_the_same_again(drawn, seed):
    traffic = Traffic("t", drawn, 2.5)
    found = all_of(traffic, seed)
    assert found == all_of(traffic, seed)
    assert [(arrival.at, arrival.stream) for arrival in found] == sorted((arrival.at, arrival.stream) for arrival in found)
    for arrival in found:
        stream = drawn[arrival.stream]
        start = round(stream.start_s * SECOND)
        assert start <= arrival.at < min(2.5 * SECOND, start + (stream.duration_s or 9) * SECOND + 1)
        assert (arrival.app, arrival.user) == (stream.app, -1)
        assert (arrival.size > 0) == (stream.sizes is not None)


def test_the_first_arrivals_of_a_seed():
    """Golden: a change here changes every simulated log and every load run."""
    mixed = Traffic("golden", (TEXT, OCR, Stream("text", Replay("t"), TraceSize())), 5)
    assert [(arrival.at, arrival.app, round(arrival.size, 9), arrival.stream) for arrival in all_of(mixed)[:8]] == GOLDEN


def test_streams_do_not_disturb_each_other():
    alone = all_of(Traffic("t", (TEXT,), 5))
    together = all_of(Traffic("t", (TEXT, OCR), 5))
    assert [arrival for arrival in together if arrival.stream == 0] == alone
    resized = all_of(Traffic("t", (Stream("text", Poisson(30), ConstantSize(3.0)),), 5))
    assert [arrival.at for arrival in resized] == [arrival.at for arrival in alone]
    assert {arrival.size for arrival in resized} == {3.0}


def test_streams_of_the_same_process_differ_and_so_do_seeds():
    both = all_of(Traffic("t", (TEXT, TEXT), 5))
    assert [a.at for a in both if a.stream == 0] != [a.at for a in both if a.stream == 1]
    assert all_of(Traffic("t", (TEXT,), 5), 1) != all_of(Traffic("t", (TEXT,), 5), 2)


def test_sizes_that_were_recorded_come_with_their_arrivals():
    found = all_of(Traffic("t", (Stream("a", Replay("t"), TraceSize()),)))
    assert [(arrival.at, arrival.size) for arrival in found] == [(0, 0.5), (SECOND, 1.0), (4 * SECOND, 1.5)]


def test_equal_times_go_by_stream():
    found = all_of(Traffic("t", (Stream("b", Constant(2)), Stream("a", Constant(2))), 1))
    assert [arrival.app for arrival in found] == ["b", "a", "b", "a"]


def test_a_traffic_without_an_end_of_its_own_ends_with_its_last_stream():
    steps = Stream("a", Steps((StepPhase(1, 2), StepPhase(2, 3))), start_s=4)
    assert span_us(Traffic("t", (steps, Stream("b", Replay("t")))), traces) == 9 * SECOND
    assert span_us(Traffic("t", (steps, Stream("b", Poisson(1), duration_s=20)))) == 20 * SECOND


@pytest.mark.parametrize("arrivals", [Poisson(1), Users(1), Replay("t", repeat=True), Steps((StepPhase(1, 2),), repeat=True)])
def test_a_traffic_that_never_ends_is_refused(arrivals):
    with pytest.raises(ConfigurationError, match=r"stream 0 \(a\) of 't' has no end"):
        open_arrivals(Traffic("t", (Stream("a", arrivals),)), 1, traces)


def test_a_trace_without_sizes_gives_none():
    traffic = Traffic("t", (Stream("a", Replay("bare"), TraceSize()),))
    with pytest.raises(ConfigurationError, match="stream 0 of 't' takes sizes from its trace, but bare has none"):
        open_arrivals(traffic, 1, lambda name, only: Recorded(name, [0], [], 1))


def test_sizes_of_a_trace_need_one():
    with pytest.raises(ValueError, match="need arrivals of a trace"):
        Stream("a", Poisson(1), TraceSize())


def test_the_mean_rate_is_over_the_whole_traffic_and_all_streams_of_the_app():
    mixed = Traffic(
        "t",
        (
            TEXT,
            Stream("text", Constant(10), start_s=5),
            Stream("text", Replay("t")),
            Stream("users", Users(10, 1.5)),
            Stream("late", Poisson(8), start_s=2, duration_s=5),
            Stream("after", Poisson(8), start_s=20),
        ),
        10,
    )
    assert mean_rate_per_s(mixed, "text", traces) == pytest.approx(30 + 5 + 0.3)
    assert mean_rate_per_s(mixed, "users", traces, answer_s=0.5) == pytest.approx(5)
    assert mean_rate_per_s(mixed, "late", traces) == pytest.approx(4)
    assert mean_rate_per_s(mixed, "after", traces) == 0
    assert mean_rate_per_s(mixed, "nobody", traces) == 0
    assert mixed.apps == ("text", "users", "late", "after")


def test_memory_stays_flat():
    endless = open_arrivals(Traffic("t", (Stream("a", Poisson(1000)), Stream("b", Gamma(1000, 2))), 1e6), 1)
    next(endless)
    tracemalloc.start()
    try:
        assert sum(1 for _ in islice(endless, 20_000)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def simulated(pool, seed, answer_us):
    """A closed loop whose answers take a fixed time."""
    due = pool.first(seed)
    found = []
    while due:
        arrival = due.pop(0)
        found.append(arrival)
        following = pool.next(arrival.user, arrival.at + answer_us)
        if following is not None:
            due = sorted([*due, following], key=lambda other: (other.at, other.user))
    return found


def test_users_ask_think_and_ask_again():
    pool = UserPool(Traffic("t", (TEXT, Stream("ocr", Users(20, 1.0), LognormalSize(1.0))), 60))
    found = simulated(pool, 1, SECOND)
    assert len(found) == pytest.approx(20 * 60 / 2, rel=0.1)
    assert found == simulated(pool, 1, SECOND) != simulated(pool, 2, SECOND)
    assert {(arrival.app, arrival.stream) for arrival in found} == {("ocr", 1)}
    assert {arrival.user for arrival in found} == set(range(20))
    assert all(0 <= arrival.at < 60 * SECOND and arrival.size > 0 for arrival in found)


def test_users_who_think_for_a_fixed_time_do_not_move_in_step():
    pool = UserPool(Traffic("t", (Stream("a", Users(50, 2.0, "constant")),), 60))
    first = pool.first(1)
    assert [arrival.at for arrival in first] == sorted(arrival.at for arrival in first)
    assert all(0 <= arrival.at < 2 * SECOND for arrival in first)
    assert len({arrival.at for arrival in first}) > 45
    assert pool.next(7, 10 * SECOND) == Arrival(12 * SECOND, "a", 0.0, 0, 7)


def test_users_who_do_not_think_ask_at_once_until_the_stream_is_over():
    pool = UserPool(Traffic("t", (Stream("a", Users(2), start_s=1, duration_s=3),), 60))
    assert [arrival.at for arrival in pool.first(1)] == [SECOND, SECOND]
    assert pool.next(0, 4 * SECOND - 1) == Arrival(4 * SECOND - 1, "a", 0.0, 0, 0)
    assert pool.next(0, 4 * SECOND) is None


def test_what_a_user_does_depends_on_no_other():
    pool = UserPool(Traffic("t", (Stream("a", Users(2, 1.0), LognormalSize(1.0)),), 60))
    pool.first(1)
    forward = [pool.next(0, 0), pool.next(1, 0)]
    pool.first(1)
    assert [pool.next(1, 0), pool.next(0, 0)] == forward[::-1]


def test_an_open_stream_has_no_users():
    pool = UserPool(Traffic("t", (TEXT,), 5))
    assert pool.first(1) == []
    with pytest.raises(IndexError, match="open stream"):
        pool.next(-1, 0)
