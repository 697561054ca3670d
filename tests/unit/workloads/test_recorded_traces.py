"""Recorded arrivals of a real service, where a folder of traces is at hand (``GRAINWISE_TRACES``)."""

import csv
import os
from pathlib import Path

import pytest

from grainwise.domain.time import SECOND
from grainwise.workloads.arrivals import read_arrivals

# The schema of the Azure Functions data set: when an invocation ended and how long it took, in seconds.
COLUMNS = {"end_timestamp", "duration"}


def invocations() -> tuple[Path, list[dict[str, str]]]:
    """A trace of that schema and its rows; skips, or fails where ``GRAINWISE_REQUIRE`` names ``traces``."""
    folder = os.environ.get("GRAINWISE_TRACES", "")
    for path in sorted(Path(folder).glob("*.csv")) if folder else []:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        if rows and rows[0].keys() >= COLUMNS:
            return path, rows
    missing = f"GRAINWISE_TRACES ({folder or 'not set'}) names no folder with a CSV of {', '.join(sorted(COLUMNS))}"
    if "traces" in os.environ.get("GRAINWISE_REQUIRE", ""):
        pytest.fail(missing)
    pytest.skip(missing)


def test_recorded_invocations_become_arrivals_in_order_and_at_any_speed() -> None:
    path, rows = invocations()
    began = [float(row["end_timestamp"]) - float(row["duration"]) for row in rows]
    first = min(began)
    text = "func,t_s\n" + "".join(f"{at},{time - first!r}\n" for at, time in enumerate(began))
    found = read_arrivals(text.encode(), path.name)
    assert len(found) == len(rows)
    assert found == sorted(found)
    assert found[0] == 0
    assert abs(found[-1] - (max(began) - first) * SECOND) <= 1
    fast = read_arrivals(text.encode(), path.name, time_scale=10)
    assert all(abs(slow - 10 * quick) <= 10 for slow, quick in zip(found, fast, strict=True))
