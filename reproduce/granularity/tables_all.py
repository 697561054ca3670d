"""Every table of the study, in the order of the page: for the terminal, as JSON, and for the page itself."""

from collections.abc import Sequence
from typing import Any

import msgspec
from benchmarks.measuring import Result
from rich.console import Console

from reproduce.granularity.grid import Study
from reproduce.granularity.records import Results
from reproduce.granularity.tables import StudyTable, as_builtins, render
from reproduce.granularity.tables_axes import axes_table, levels_table
from reproduce.granularity.tables_beside import (
    ablations_table,
    claims_table,
    configuration_table,
    reconstructed_table,
    selections_table,
)
from reproduce.granularity.tables_capacity import capacity_by_way, capacity_table
from reproduce.granularity.tables_cells import (
    cells_table,
    chosen_table,
    decisions_table,
    fixed_table,
    misses_table,
    shortened,
    verdicts_table,
)
from reproduce.granularity.tables_findings import Findings
from reproduce.granularity.tables_head import TITLE, changes_table, claim, grid_table, hops_table
from reproduce.granularity.tables_live import live_tables, read_live

_LONG = 30
"""So many rows of a table a terminal shows."""


def study_tables(results: Results, rule: Study, live: Result | None) -> list[StudyTable]:
    """All of them."""
    return tables_of(Findings(results, rule), live)


def tables_of(findings: Findings, live: Result | None) -> list[StudyTable]:
    """All of them, from what was derived already.

    Raises:
        ArtifactError: the file of hops is missing or malformed.
    """
    results = findings.results
    return [
        grid_table(results),
        changes_table(results),
        hops_table(),
        verdicts_table(findings),
        misses_table(findings),
        claims_table(findings),
        configuration_table(findings),
        reconstructed_table(findings),
        selections_table(findings),
        fixed_table(findings),
        chosen_table(findings),
        capacity_table(results.capacities),
        capacity_by_way(results.capacities),
        decisions_table(findings),
        ablations_table(findings),
        axes_table(findings),
        levels_table(findings),
        cells_table(findings),
        *live_tables(live),
    ]


def show(results: Results, rule: Study, *, as_json: bool, console: Console | None = None) -> None:
    """Print every table, for people or as one JSON object.

    Raises:
        ArtifactError: the live benchmark's file is malformed.
    """
    tables = study_tables(results, rule, read_live())
    console = console or Console(width=None if Console().is_terminal else 180)
    if as_json:
        console.file.write(msgspec.json.encode(report(results, tables)).decode() + "\n")
        return
    console.print(TITLE, style="bold", markup=False)
    console.print(claim(results), markup=False)
    console.print(render(shortened(table, _LONG) for table in tables))


def report(results: Results, tables: Sequence[StudyTable]) -> dict[str, Any]:
    """The tables with the header of the results, for JSON."""
    return {"header": msgspec.to_builtins(results.header), "tables": as_builtins(tables)}
