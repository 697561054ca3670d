"""The arithmetic of the benchmarks: what counts as zero, which rounds count, which answers are right."""

import json

import pytest
from benchmarks.http_client import calls, number
from benchmarks.measuring import Check, ForeignLoad, Machine, Result, Table, quantile
from benchmarks.report import markdown
from benchmarks.soak import Slope

SERVED = [float(at * 2000) for at in range(1, 51)]


def noise(at: int) -> float:
    return (at * 7919 % 13 - 6) / 6


def test_memory_that_only_jitters_has_no_slope():
    slope = Slope(SERVED, [80 + noise(at) for at in range(50)])
    assert slope.is_zero
    assert abs(slope.per_100k) < 2 * slope.half_width


def test_memory_that_grows_has_a_slope():
    slope = Slope(SERVED, [80 + 0.1 * at + noise(at) for at in range(50)])
    assert not slope.is_zero
    assert slope.per_100k == pytest.approx(5, abs=1)


def test_constant_memory_is_no_error():
    assert Slope(SERVED, [80.0] * 50).is_zero


def test_rounds_on_an_idle_machine_count_alone():
    load = ForeignLoad()
    load.rounds = [0.5, 0.02, 0.9, 0.05, 0.0]
    assert load.kept() == [1, 3, 4]
    assert load.median == 0.02
    assert load.quiet == 3


def test_without_idle_rounds_the_quieter_half_counts():
    load = ForeignLoad()
    load.rounds = [0.9, 0.5, 0.8, 0.4, 0.7, 0.6, 1.0]
    assert load.kept() == [1, 3, 4, 5]


def test_every_form_of_a_right_answer_is_read():
    call = calls("raw", "/x", 16)[0]
    body = json.dumps({"outputs": [call.expected]}).encode()
    assert number("raw", b"HTTP/1.1 200 OK", body) == call.expected
    assert number("raw", b"HTTP/1.1 200 OK", str(call.expected).encode()) == call.expected
    assert number("oip", b"HTTP/1.1 200 OK", b"{}" + call.expected.to_bytes(8, "little")) == call.expected
    assert number("raw", b"HTTP/1.1 500 Oops", body) is None
    assert number("raw", b"HTTP/1.1 200 OK", b"not a number") is None


def test_the_same_request_is_built_every_time():
    assert calls("oip", "/x", 16) == calls("oip", "/x", 16)
    assert len({call.expected for call in calls("raw", "/x", 16)}) == 8


def test_a_quantile_is_a_value_that_was_seen():
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([3.0, 1.0, 2.0], 0.99) == 3.0


def test_the_document_says_on_what_it_was_measured_and_what_was_missed():
    machine = Machine("a CPU", 2, 8.0, "6.1", "3.11", "2.0", "0.21")
    table = Table("Times", ("what", "us"), (("a|b", "1"),), "medians")
    missed = Check("speed", "2 us", "<= 1 us", False)
    text = markdown([Result("hop", "2026-01-01", machine, False, 0.5, (table,), (missed,), {}, ("Peer: no wheel",))])
    assert "2 cores of a CPU" in text
    assert "NOT an idle machine" in text
    assert r"| a\|b | 1 |" in text
    assert "| speed | 2 us | <= 1 us | **no** |" in text
    assert "Skipped: Peer: no wheel." in text
