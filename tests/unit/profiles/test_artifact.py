"""The profile artifact: bytes out, the same bytes in, and a refusal that names the field."""

import json
from typing import Any

import msgspec
import pytest

from grainwise.domain.errors import ArtifactError
from grainwise.domain.machine import HopModel
from grainwise.profiles.artifact import (
    SCHEMA,
    ColdParts,
    MachineFacts,
    Point,
    Profile,
    StageProfile,
    check,
    digest,
    read,
    write,
)
from worlds.problems import chain_graph, spec_of

SPEC = spec_of(chain_graph(2))


def profile() -> Profile:
    points = (
        Point(1, 10.0, 10.0, 1.0, (100, 110, 105)),
        Point(4, 40.0, 10.0, 0.5, (), "out of memory", "MemoryError"),
    )
    return Profile(
        schema=SCHEMA,
        app=SPEC.name,
        app_digest=SPEC.digest,
        source_digest=SPEC.source_digest,
        device_class="cpu:made:2",
        machine=MachineFacts("made", 2.0, 4096.0, "Linux", "3.11"),
        share_mechanism="signals",
        libraries={"zeta": "2", "alpha": "1"},
        date="2026-01-01T00:00:00Z",
        budget_s=60.0,
        entry_bytes=(1000.0,),
        process_mib=30.0,
        cold=ColdParts(10_000.0, 200_000.0),
        hop=HopModel(150.0, 20.0, 60.0, 5.0, 30.0),
        stages=tuple(
            StageProfile(node.name, node.declared, 1e5, 2e4, 40.0, 1.0, 10.0, 50.0, points) for node in SPEC.graph.stages
        ),
    )


def test_what_is_written_is_read_back() -> None:
    assert read(write(profile())) == msgspec.structs.replace(profile(), libraries={"alpha": "1", "zeta": "2"})


def test_writing_does_not_depend_on_the_order_in_which_libraries_were_found() -> None:
    turned = msgspec.structs.replace(profile(), libraries={"alpha": "1", "zeta": "2"})
    assert write(turned) == write(profile())
    assert digest(turned) == digest(profile())


def test_every_point_is_one_line_so_that_a_diff_can_be_read() -> None:
    lines = write(profile()).decode().splitlines()
    assert sum('"latencies_us"' in line for line in lines) == 4
    assert all(json.loads(line.strip().rstrip(",")) for line in lines if '"latencies_us"' in line)


def test_the_digest_changes_with_the_content() -> None:
    assert digest(msgspec.structs.replace(profile(), budget_s=61.0)) != digest(profile())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("app", "another"),
        ("app_digest", "another"),
        ("source_digest", "another"),
        ("entry_bytes", (1.0, 2.0)),
        ("device_class", "cpu:another:64"),
    ],
)
def test_a_profile_of_something_else_is_refused_with_the_field_and_both_values(field: str, value: Any) -> None:
    other = msgspec.structs.replace(profile(), **{field: value})
    with pytest.raises(ArtifactError, match=f"`{field}`") as error:
        check(other, spec=SPEC, device_class="cpu:made:2")
    assert "grainwise profile" in str(error.value)
    assert ("--accept-profile" in str(error.value)) == (field == "device_class")


def test_a_profile_with_other_stages_is_refused() -> None:
    other = msgspec.structs.replace(profile(), stages=profile().stages[::-1])
    with pytest.raises(ArtifactError, match=r"`stages`.*'s1\+s0'.*'s0\+s1'"):
        check(other, spec=SPEC, device_class=None)


def test_any_device_will_do_where_none_is_named() -> None:
    check(msgspec.structs.replace(profile(), device_class="cpu:another:64"), spec=SPEC, device_class=None)
    check(profile(), spec=SPEC, device_class="cpu:made:2")


@pytest.mark.parametrize("data", [b"", b"not json", b"[]", b"{}", b'{"schema": "1"}', b"\xff\xfe"])
def test_bytes_that_are_no_profile_are_refused_with_what_to_do(data: bytes) -> None:
    with pytest.raises(ArtifactError, match="grainwise profile"):
        read(data)


def test_another_schema_is_refused_before_anything_else_is_looked_at() -> None:
    with pytest.raises(ArtifactError, match="`schema` of the profile is 99"):
        read(b'{"schema": 99, "whatever": true}')


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda plain: plain.pop("hop"), "hop"),
        (lambda plain: plain.update(colour="red"), "colour"),
        (lambda plain: plain["stages"][0]["points"][0].update(items="many"), "items"),
        (lambda plain: plain["stages"][0]["points"][0].update(items=0), "items"),
        (lambda plain: plain["stages"][0]["points"][0].update(latencies_us=[]), "latencies_us"),
        (lambda plain: plain["stages"][0]["points"][0].update(latencies_us=[-1]), "latencies_us"),
        (lambda plain: plain["stages"][1].update(memory_mib=-1.0), "memory_mib"),
        (lambda plain: plain.update(stages=[]), "stages"),
    ],
)
def test_a_malformed_field_is_named(change: Any, named: str) -> None:
    plain = json.loads(write(profile()))
    change(plain)
    with pytest.raises(ArtifactError, match=named):
        read(json.dumps(plain).encode())


def test_a_point_summarises_its_repeats() -> None:
    point = profile().stages[0].points[0]
    assert (point.count, point.mean_us, point.quantile_us(0.5)) == (3, 105.0, 105.0)
    assert profile().stages[0].points[1].mean_us == 0.0
