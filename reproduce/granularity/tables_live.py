"""The live counterpart: what ``python -m benchmarks live`` measured last, as tables of the study. Measured, not simulated."""

from pathlib import Path

import msgspec
from benchmarks.measuring import Result
from benchmarks.report import FOLDER, provenance

from grainwise.domain.errors import ArtifactError
from reproduce.granularity.tables import Column, StudyTable

LIVE = FOLDER / "live.json"
COMMAND = "python -m benchmarks live"


def read_live(path: Path = LIVE) -> Result | None:
    """The benchmark's result; None where it has not been run.

    Raises:
        ArtifactError: the file is no result of a benchmark.
    """
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Result)
    except msgspec.MsgspecError as error:
        raise ArtifactError(f"{path} is no result of a benchmark: {error}; write it anew with: {COMMAND}") from error


def live_sentence(live: Result | None) -> str:
    """When, on what and beside how much foreign load it was measured."""
    if live is None:
        return f"Nothing has been measured live here: {COMMAND} does it."
    return provenance(live)


def live_tables(live: Result | None) -> list[StudyTable]:
    """The benchmark's own tables and targets; one without rows where it has not been run."""
    if live is None:
        return [StudyTable("live", "Live counterpart (measured)", (Column("way"),), (), live_sentence(None))]
    found = [
        StudyTable(
            f"live_{at}",
            table.title,
            tuple(Column(column, "text" if place < 2 else "said") for place, column in enumerate(table.columns)),
            table.rows,
            table.note,
        )
        for at, table in enumerate(live.tables)
    ]
    checks = tuple((check.what, check.measured, check.bound, check.is_met) for check in live.checks)
    columns = (Column("target"), Column("measured", "said"), Column("bound", "said"), Column("", "verdict"))
    return [*found, StudyTable("live_targets", "Live targets (measured)", columns, checks, provenance(live))]
