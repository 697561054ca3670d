from pathlib import Path

import msgspec
import pytest
from reproduce.granularity.cells import points
from reproduce.granularity.grid import GRID_FILE, read_grid

from grainwise.domain.errors import ConfigurationError

GRID = read_grid()


def test_every_change_is_listed() -> None:
    assert not GRID.changed, GRID.changed


def test_one_changed_number_changes_the_digest_and_is_told(tmp_path: Path) -> None:
    text = GRID_FILE.read_text()
    changed = tmp_path / "grid.toml"
    changed.write_text(text.replace("tie_cost = 0.01", "tie_cost = 0.02"))
    other = read_grid(changed)
    assert other.figures_sha256 != GRID.figures_sha256
    assert other.figures_sha256[:12] in other.changed


def test_a_listed_reason_does_not_change_the_digest() -> None:
    longer = msgspec.structs.replace(GRID, changes=GRID.changes * 2)
    assert longer.figures_sha256 == GRID.figures_sha256


def test_a_field_that_is_unknown_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "grid.toml"
    wrong.write_text(GRID_FILE.read_text().replace("tie_cost", "tie_costs"))
    with pytest.raises(ConfigurationError, match="tie_cost"):
        read_grid(wrong)


def test_bursts_keep_the_mean_rate(tmp_path: Path) -> None:
    wrong = tmp_path / "grid.toml"
    wrong.write_text(GRID_FILE.read_text().replace("high = 2.5", "high = 3.5"))
    with pytest.raises(ConfigurationError, match="mean rate"):
        read_grid(wrong)


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="huge"):
        GRID.size("huge")


def test_points_are_the_same_every_time_and_none_comes_twice() -> None:
    size = GRID.size("paper")
    found = points(GRID, size)
    assert found == points(GRID, size)
    assert len({msgspec.structs.astuple(point)[:9] for point in found}) == len(found)


def test_a_smaller_sample_is_the_beginning_of_a_larger_one() -> None:
    empty = msgspec.structs.replace(GRID.size("laptop").map, app=())
    size = msgspec.structs.replace(GRID.size("laptop"), map=empty, published=0, ablations=0, rollout=0, sample=60)
    smaller = msgspec.structs.replace(size, sample=20)
    assert points(GRID, size)[:20] == points(GRID, smaller)


def test_every_level_comes_equally_often() -> None:
    empty = msgspec.structs.replace(GRID.size("laptop").map, app=())
    found = points(GRID, msgspec.structs.replace(GRID.size("laptop"), map=empty, sample=60))
    for axis, times in (("hop", 15), ("billing", 30), ("nodes", 20), ("load", 10)):
        levels = getattr(GRID.axes, axis)
        assert [sum(getattr(point, axis) == level for point in found) for level in levels] == [times] * len(levels)
