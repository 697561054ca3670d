"""Workload files and lines: what they mean, and errors that name file, key, value and range."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import SECOND
from grainwise.workloads.processes import Constant, Diurnal, Gamma, Modulated, OnOff, Poisson, StepPhase, Steps, Users
from grainwise.workloads.recorded import Recorded
from grainwise.workloads.replaying import Counts, Replay
from grainwise.workloads.sizes import ConstantSize, LognormalSize, MixtureSize, TraceSize
from grainwise.workloads.traces.finding import trace_source
from grainwise.workloads.traffic import Stream, Traffic, mean_rate_per_s, open_arrivals, span_us
from grainwise.workloads.traffic_file import is_shorthand, parse_traffic, read_traffic

EXAMPLES = Path(__file__).parents[3] / "examples" / "workloads"


def one(arrivals, sizes=None, duration_s=60.0, name=None):
    return Traffic(name, (Stream("a", arrivals, sizes),), duration_s)


@pytest.mark.parametrize(
    ("text", "arrivals", "sizes", "duration_s"),
    [
        ("constant:20:60s", Constant(20), None, 60),
        ("poisson:0.5:10m", Poisson(0.5), None, 600),
        ("poisson:50:500ms:size-cv=1", Poisson(50), LognormalSize(1), 0.5),
        ("poisson:50:size=2:1h", Poisson(50), ConstantSize(2), 3600),
        ("gamma:50:cv=3:600s", Gamma(50, 3), None, 600),
        ("gamma:50:600s:cv=3:size-cv=0.5:size=2", Gamma(50, 3), LognormalSize(0.5, 2), 600),
        ("on_off:100:on=5s:off=1.5m:1d", OnOff(100, 5, 90), None, 86_400),
        ("diurnal:20:amplitude=0.8:period=1h:2h", Diurnal(20, 0.8, 3600), None, 7200),
        ("steps:5:10,40:20", Steps((StepPhase(5, 10), StepPhase(40, 20))), None, None),
        ("steps:5:10:spacing=constant", Steps((StepPhase(5, 10),), "constant"), None, None),
        ("users:20:think=1s:300s", Users(20, 1), None, 300),
        ("users:20:thinking=constant:think=100ms:5s", Users(20, 0.1, "constant"), None, 5),
        ("trace:code", Replay("code"), None, None),
        ("trace:fitted:code:30s", Replay("fitted:code"), None, 30),
        (
            "trace:a/b.csv:rate-scale=2:time-scale=4:window=1s..10m:sizes=trace",
            Replay("a/b.csv", 2, 4, 1, 600),
            TraceSize(),
            None,
        ),
        ("trace:c:window=..5s", Replay("c", until_s=5), None, None),
        ("trace:c:window=5s..", Replay("c", from_s=5), None, None),
    ],
)
def test_a_line_means(text, arrivals, sizes, duration_s):
    assert is_shorthand(text)
    assert parse_traffic(text, "a") == one(arrivals, sizes, duration_s, text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("poisson", "its first value is '', not a number"),
        ("poisson:fast:5s", "its first value is 'fast', not a number"),
        ("poisson:-1:5s", "rate_per_s: Expected `float` >= 0.0, found -1.0"),
        ("poisson:nan:5s", "rate_per_s: Expected `float` >= 0.0, found nan"),
        ("poisson:1e9:5s", "rate_per_s: Expected `float` <= 1000000.0"),
        ("poisson:5", "has no end; add how long, as in poisson:5:60s"),
        ("poisson:5:0s", "duration_s: Expected `float` > 0.0, found 0.0"),
        ("poisson:5:cv=1:5s", "unknown option cv"),
        ("poisson:5:5s:sizes=large", "sizes=large is not sizes=trace"),
        ("poisson:5:5s:sizes=trace", "sizes of a trace need arrivals of a trace"),
        ("gamma:5:5s", "cv is missing; add :cv=…"),
        ("bursts:5:5s", "has no known form; give a file or one of constant:RATE"),
        ("steps:5", "'5' is not RATE:SECONDS"),
        ("users:0:5s", "count: Expected `int` >= 1, found 0"),
        ("users:inf:5s", "'inf', not a whole number"),
        ("users:1:think=1:5s", "think is '1', not a duration such as 500ms, 30s, 10m or 1h"),
        ("trace:", "trace: Expected `str` of length >= 1"),
        ("trace:c:window=5s", "window is '5s', not START..STOP"),
        ("trace:c:window=5s..2s", "window is '5s..2s', not START..STOP with START before STOP"),
        ("trace:c:rate-scale=0", "rate_scale: Expected `float` > 0.0, found 0.0"),
    ],
)
def test_a_line_that_means_nothing_says_why(text, says):
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        parse_traffic(text, "a")


@settings(max_examples=150)
@given(
    st.text(alphabet="abcdeginoprstu_:=.,-0159smh", max_size=40),
    st.sampled_from(["", "poisson:", "steps:", "trace:", "users:"]),
)
def test_any_line_is_traffic_or_an_error_for_people(text, start):
    try:
        parse_traffic(start + text, "a")
    except ConfigurationError:
        return


FULL = b"""
name: everything
description: all kinds
duration_s: 10
streams:
  - {app: a, tenant: t, start_s: 1, duration_s: 5, arrivals: {process: mmpp, states: [{rate_per_s: 1, dwell_s: 2}, {rate_per_s: 9, dwell_s: 1}]}}
  - {app: b, arrivals: {process: counts, counts: [1, 2], interval_s: 60, repeat: true}}
  - app: c
    arrivals: {process: trace, trace: code, rate_scale: 2}
    sizes: {kind: mixture, parts: [{weight: 1, sizes: {kind: constant, mean: 2}}, {weight: 3, sizes: {kind: empirical, values: [1, 2]}}]}
"""  # noqa: E501


def test_a_file_means():
    traffic = read_traffic(FULL, "w.yaml")
    assert (traffic.name, traffic.description, traffic.duration_s, traffic.apps) == (
        "everything",
        "all kinds",
        10,
        ("a", "b", "c"),
    )
    first, second, third = traffic.streams
    assert (first.tenant, first.start_s, first.duration_s) == ("t", 1, 5)
    assert isinstance(first.arrivals, Modulated)
    assert second.arrivals == Counts((1, 2), 60, repeat=True)
    assert third.arrivals == Replay("code", 2)
    assert isinstance(third.sizes, MixtureSize)


def stream(text):
    return f"name: x\nstreams: [{{app: a, {text}}}]".encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"[", "w.yaml line 1, column 2: "),
        (b"\xff\xfe\x00", "write it as YAML"),
        (b"!!python/object:os.system {}", "w.yaml line 1, column 1: could not determine a constructor"),
        (b"[" * 5000, "w.yaml: it is nested too deeply; write it as YAML"),
        (b"name: x\nname: y\nstreams: []", "w.yaml line 2, column 1: the key 'name' is given twice; write it as YAML"),
        (b"", "w.yaml describes no traffic: expected the keys name and streams, found None"),
        (b"name: x", "w.yaml: the file: Object missing required field `streams`"),
        (b"name: x\nstreams: []", "w.yaml: streams: Expected `array` of length >= 1, found []"),
        (b"name: x\nrate: 5\nstreams: []", "unknown field `rate`"),
        (
            stream("arrivals: {process: poisson, rate_per_s: -5}"),
            "streams[0].arrivals.rate_per_s: Expected `float` >= 0.0, found -5",
        ),
        (stream("arrivals: {process: poisson, rate: 5}"), "w.yaml: streams[0].arrivals: Object contains unknown field `rate`"),
        (stream("arrivals: {process: storm}"), "process: expected one of constant, poisson, gamma, mmpp, on_off"),
        (stream("arrivals: {process: gamma, rate_per_s: 5, cv: 0}"), "arrivals.cv: Expected `float` >= 0.01, found 0"),
        (stream("arrivals: 5"), "streams[0].arrivals: Expected `object`, got `int`, found 5"),
        (stream("arrivals: {process: counts, counts: [1, -2]}"), "arrivals.counts[1]: Expected `int` >= 0, found -2"),
        (
            stream("arrivals: {process: constant, rate_per_s: 5}, sizes: {kind: huge}"),
            "sizes.kind: expected one of constant, lognormal",
        ),
        (stream("arrivals: {process: constant, rate_per_s: 5}, sizes: {kind: lognormal}"), "missing required field `cv`"),
        (stream("arrivals: {process: constant, rate_per_s: .nan}"), "found nan"),
        (stream("arrivals: {process: trace, trace: x, from_s: 5, until_s: 3}"), "until_s must lie after from_s"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_key_value_and_range(data, says):
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        read_traffic(data, "w.yaml")


def test_one_app_of_a_trace(tmp_path):
    trace = tmp_path / "two.csv"
    trace.write_text("t_s,app\n0,a\n1,b\n2,a\n9,b\n")
    traffic = parse_traffic(f"trace:{trace}:only=a", "text")
    assert [arrival.at for arrival in open_arrivals(traffic, 1, trace_source())] == [0, 2 * SECOND]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_traffic(path):
    def traces(name, only):
        return Recorded(name, [number * SECOND for number in range(1500)], [1.0] * 1500, 1500 * SECOND)

    traffic = read_traffic(path.read_bytes(), path.name)
    assert traffic.name == path.stem
    assert traffic.description
    assert span_us(traffic, traces) > 0
    assert all(mean_rate_per_s(traffic, app, traces) > 0 for app in traffic.apps)
    assert next(open_arrivals(traffic, 1, traces)).at >= 0
