"""Profiles with anything wrong in them: an ``ArtifactError``, or the same profile; never another exception."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from grainwise.domain.errors import ArtifactError
from grainwise.domain.machine import HopModel
from grainwise.predictors.fit import latency_model
from grainwise.profiles.artifact import ColdParts, MachineFacts, Point, Profile, StageProfile, read, write

POINTS = (Point(1, 1.0, 1.0, 1.0, (100, 110)), Point(4, 4.0, 1.0, 0.5, (), "out of memory", "killed"))
PROFILE = Profile(
    schema=1,
    app="made",
    app_digest="a",
    source_digest="b",
    device_class="cpu:made:2",
    machine=MachineFacts("made", 2.0, 1000.0, "linux", "3.11"),
    share_mechanism="cgroup2",
    libraries={"numpy": "2"},
    date="2026-01-01",
    budget_s=1.0,
    entry_bytes=(10.0,),
    process_mib=20.0,
    cold=ColdParts(1.0, 2.0),
    hop=HopModel(1.0, 2.0, 3.0, 4.0, 5.0),
    stages=tuple(StageProfile(name, name, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, POINTS) for name in ("first", "second")),
)
PLAIN = json.loads(write(PROFILE))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    return [path, *(place for key, each in inside for place in places(each, (*path, key)))]


def with_value(plain: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copied = dict(plain) if isinstance(plain, dict) else list(plain)
    copied[path[0]] = with_value(plain[path[0]], path[1:], value)
    return copied


def read_or_refused(data: bytes) -> Profile | None:
    """The profile, which then also reads back and fits or is refused; ``None`` where it was refused."""
    try:
        profile = read(data)
    except ArtifactError as error:
        assert "grainwise profile" in str(error)
        return None
    assert read(write(profile)) == profile
    try:
        latency_model(profile)
    except ArtifactError:
        return None
    return profile


@given(st.binary(max_size=200))
@example(b"[" * 100_000)
@example(b'{"schema": 1, "app": ' + b"[" * 100_000)
@example(b'{"schema": 1, "app": "\xff"}')
@example(b'{"schema": 1e999}')
def test_any_bytes_are_refused_in_words(data: bytes) -> None:
    assert read_or_refused(data) is None


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(places(PLAIN)), json_values)
def test_a_value_of_any_kind_at_any_place_is_refused_or_read_back(path: tuple[Any, ...], value: Any) -> None:
    read_or_refused(json.dumps(with_value(PLAIN, path, value)).encode())


@settings(max_examples=200)
@given(st.data())
def test_a_profile_that_is_cut_or_spliced_is_refused_or_read_back(data: st.DataObject) -> None:
    whole = write(PROFILE)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    read_or_refused(whole[:start] + data.draw(st.binary(max_size=4)) + whole[end:])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"budget_s": -1.0}, "budget_s"),
        ({"process_mib": -1.0}, "process_mib"),
        ({"entry_bytes": (-1.0,)}, r"entry_bytes\[0\]"),
        ({"cold": ColdParts(-1.0, 0.0)}, "cold.process_us"),
        ({"hop": HopModel(1.0, -2.0, 3.0, 4.0, 5.0)}, "hop.us_per_mib"),
        ({"machine": MachineFacts("made", -2.0, 1.0, "linux", "3.11")}, "machine.cpu_cores"),
        ({"stages": PROFILE.stages * 2}, "'first' twice"),
    ],
)
def test_an_impossible_value_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ArtifactError, match=named):
        read(write(msgspec.structs.replace(PROFILE, **change)))


def test_an_unknown_mechanism_of_shares_is_refused_with_those_there_are() -> None:
    data = write(PROFILE).replace(b"cgroup2", b"magic")
    with pytest.raises(ArtifactError, match="share_mechanism"):
        read(data)
