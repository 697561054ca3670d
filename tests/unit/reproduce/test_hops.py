"""Hops: what was measured is read, the fit finds what it was made of, and files that are none are refused."""

from pathlib import Path

import msgspec
import pytest
from reproduce.granularity import hop_kinds, hops

from grainwise.domain.errors import ArtifactError

MIB = 1_048_576


def sized(nbytes: int, latencies: tuple[float, ...], cpu: tuple[float, ...]) -> hops.Size:
    return hops.Size(nbytes, 10, latencies, latencies, cpu)


def test_the_fit_finds_the_line_of_the_quiet_rounds() -> None:
    sizes = [
        sized(nbytes, (9e9, 200 + 1000 * nbytes / MIB, 200 + 1000 * nbytes / MIB, 8e9), (1.0, 50.0, 50.0, 1.0))
        for nbytes in (1000, MIB // 2, 4 * MIB)
    ]
    found = hops.fitted(sizes, (1.9, 0.1, 0.2, 1.5))
    assert found.fixed_us == pytest.approx(200, abs=0.1)
    assert found.us_per_mib == pytest.approx(1000, abs=0.1)
    assert (found.cpu_fixed_us, found.cpu_us_per_mib) == (50.0, 0.0)


def test_every_level_says_how_it_was_come_by() -> None:
    levels = hops.levels()
    assert [level.name for level in levels] == [hops.SHARED_MEMORY, *hop_kinds.KINDS]
    for level in levels:
        assert level.provenance == "measured"
        assert level.how
        assert level.hop.fixed_us > 0


def test_models_agree_with_what_was_measured() -> None:
    for level in hops.read().levels:
        assert level.hop == hops.fitted(level.sizes, level.foreign_cores)
        assert {len(size.median_us) for size in level.sizes} == {len(level.foreign_cores)}


def test_a_store_costs_more_than_a_message_and_shared_memory_least_for_images() -> None:
    cost = {name: hop.latency_us(2_500_000) for name, hop in hops.load().items()}
    assert cost["shared_memory"] < min(cost["broker"], cost["http"])
    assert cost["object_store"] > max(cost["broker"], cost["http"])


def test_what_is_no_file_of_hops_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hops.json"
    with pytest.raises(ArtifactError, match="measure_hops"):
        hops.read(path)
    path.write_bytes(b"{}")
    with pytest.raises(ArtifactError, match="no file of hops"):
        hops.read(path)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(hops.read(), schema=99)))
    with pytest.raises(ArtifactError, match="schema 99"):
        hops.read(path)
