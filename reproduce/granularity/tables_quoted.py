"""The figures that documents may quote: each has a name and is said as the tables of the study say it."""

import re
from pathlib import Path

from reproduce.granularity.grid import Study, read_grid
from reproduce.granularity.records import Results, read_results
from reproduce.granularity.statistics import Summary
from reproduce.granularity.tables import shown
from reproduce.granularity.tables_axes import axis_results
from reproduce.granularity.tables_capacity import places, ratio
from reproduce.granularity.tables_findings import Findings, place
from reproduce.granularity.tables_head import fraction


def quoted(path: Path) -> dict[str, str]:
    """Every figure of a results file by its name, under the committed rules.

    Raises:
        ArtifactError: the file is no results file.
    """
    return figures(read_results(path), read_grid().study)


def figures(results: Results, rule: Study) -> dict[str, str]:
    """Every figure by its name."""
    findings = Findings(results, rule)
    header = results.header
    found = {
        "grid_sha256": header.grid_sha256[:12],
        "cells": f"{header.cells:,}",
        "cells_of_paper": f"{header.cells_of_paper:,}",
        "fraction": f"{fraction(header):.2%}",
        "usable": f"{len(findings.usable):,}",
        "runs": f"{len(results.runs):,}",
        "core_seconds": f"{header.core_s:,.0f}",
        "machine": f"{header.cores} cores of {header.machine}",
        "evaluation_seeds": str(len(header.evaluation_seeds)),
        "selection_seeds": str(len(header.selection_seeds)),
        "verdicts_met": f"{sum(each.is_met is True for each in findings.verdicts)} of {len(findings.verdicts)}",
    }
    for each in findings.verdicts:
        name = f"verdict.{slug(each.name)}"
        found[name] = "not told" if each.is_met is None else shown(each.is_met, "verdict")
        found[f"{name}.found"] = each.found
    for theirs, summary in findings.summaries.items():
        found.update(_summary(findings, slug(theirs), summary))
    ratios = [
        value
        for each in places(results.capacities)
        if (value := ratio(each.of("adaptive"), each.split)) is not None
    ]  # fmt: skip
    if ratios:
        found["capacity_over_split.mean"] = shown(sum(ratios) / len(ratios), "ratio")
        found["capacity_over_split.most"] = shown(max(ratios), "ratio")
        found["capacity_over_split.least"] = shown(min(ratios), "ratio")
    for axis in axis_results(findings):
        found[f"axis.{slug(axis.axis)}.pairs"] = f"{axis.pairs:,}"
        found[f"axis.{slug(axis.axis)}.differs"] = f"{axis.differs:,}"
        found[f"axis.{slug(axis.axis)}.matters"] = f"{axis.matters:,}"
    return found


def _summary(findings: Findings, name: str, summary: Summary) -> dict[str, str]:
    """Adaptive beside one way; where extremes occur is a cell in words."""
    cells = findings.cells
    return {
        f"beside.{name}.cells": f"{summary.cells:,}",
        f"beside.{name}.points": shown(summary.points, "points"),
        f"beside.{name}.points.most": shown(summary.most_points, "points"),
        f"beside.{name}.points.most.where": place(cells[summary.most_points_at]),
        f"beside.{name}.points.least": shown(summary.least_points, "points"),
        f"beside.{name}.points.least.where": place(cells[summary.least_points_at]),
        f"beside.{name}.cost": shown(summary.cost, "change"),
        f"beside.{name}.cost.most": shown(summary.most_cost, "change"),
        f"beside.{name}.cost.most.where": place(cells[summary.most_cost_at]),
        f"beside.{name}.cost.least": shown(summary.least_cost, "change"),
        f"beside.{name}.cost.least.where": place(cells[summary.least_cost_at]),
        f"beside.{name}.within": shown(summary.within, "percent"),
    }


def slug(name: str) -> str:
    """A name without spaces."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
