"""Which axes move the winner and which do not: neighbouring cells that differ in one axis, and every level by itself."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from msgspec import Struct

from reproduce.granularity.page_grains import grains_of
from reproduce.granularity.records import Cell
from reproduce.granularity.selection import Mean
from reproduce.granularity.tables import Column, StudyTable, Value
from reproduce.granularity.tables_findings import Findings

AXES: dict[str, Callable[[Cell], Any]] = {
    "hop": lambda cell: cell.hop,
    "SLO / L": lambda cell: cell.slo_factor,
    "model size": lambda cell: cell.weights,
    "billing": lambda cell: cell.billing,
    "load": lambda cell: cell.load,
    "burstiness": lambda cell: cell.burstiness,
    "app": lambda cell: (cell.profiles, cell.app),
    "nodes": lambda cell: cell.nodes,
    "sharing": lambda cell: (cell.profiles, cell.sharing),
}
MATTERS = 2.0
"""Keeping the neighbour's winner costs more than so many U: points of attainment, or percent of split's cost."""
LEAST_PAIRS = 5
"""With fewer neighbours an axis says nothing either way."""


class AxisResult(Struct, frozen=True):
    """What moving one step along an axis does: neighbours, those whose winners differ, and those where that matters."""

    axis: str
    pairs: int
    differs: int
    matters: int
    most_u: float

    @property
    def is_null(self) -> bool | None:
        """Whether nothing changes along the axis; None where there are too few neighbours to tell."""
        return None if self.pairs < LEAST_PAIRS else self.matters == 0


def utility(mean: Mean, split: Mean) -> float:
    """Points of attainment less the percent by which the cost is above split's."""
    return 100 * mean.attainment - (100 * (mean.cost / split.cost - 1) if split.cost > 0 else 0.0)


def axis_results(findings: Findings) -> list[AxisResult]:
    """Every axis along which apps stay the same; two apps have no granularity in common."""
    return [_along(findings, axis) for axis in AXES if axis != "app"]


def _along(findings: Findings, axis: str) -> AxisResult:
    lines: dict[tuple[Any, ...], list[Cell]] = {}
    # The rate follows the level of the load, which is an axis; what else has to be equal is every other axis.
    others = [name for name in AXES if name != axis]
    for number in findings.usable:
        if number in findings.winners:
            cell = findings.cells[number]
            lines.setdefault(tuple(AXES[name](cell) for name in others), []).append(cell)
    pairs = [pair for own in lines.values() for pair in _neighbours(own, axis)]
    differs = [pair for pair in pairs if _sets_differ(findings, *pair)]
    regrets = [max(_regret(findings, first, second), _regret(findings, second, first)) for first, second in differs]
    return AxisResult(
        axis, len(pairs), len(differs), sum(1 for each in regrets if each > MATTERS), max(regrets, default=0.0)
    )  # fmt: skip


def _neighbours(cells: list[Cell], axis: str) -> list[tuple[Cell, Cell]]:
    ordered = sorted(cells, key=lambda cell: cell.load_fraction if axis == "load" else AXES[axis](cell))
    return list(pairwise(ordered))


def _sets_differ(findings: Findings, first: Cell, second: Cell) -> bool:
    ours, theirs = findings.winners[first.number], findings.winners[second.number]
    return ours.way not in (theirs.way, *theirs.ties) or theirs.way not in (ours.way, *ours.ties)


def _regret(findings: Findings, old: Cell, new: Cell) -> float:
    """What keeping the winner of one cell loses in the other, in U."""
    means, split = findings.means(new.number, ("fixed",)), findings.split(new.number)
    kept = means.get(findings.winners[old.number].way)
    if kept is None or split is None:
        return 0.0
    return utility(findings.winners[new.number].mean, split) - utility(kept, split)


def axes_table(findings: Findings) -> StudyTable:
    """A row for each axis with its verdict; the null results are said as such."""
    rows = []
    for each in axis_results(findings):
        said = {None: "too few neighbours to tell", True: "null result: nothing changes along it", False: "moves the winner"}
        rows.append((each.axis, each.pairs, each.differs, each.matters, each.most_u, said[each.is_null]))
    columns = (
        Column("axis"), Column("neighbouring cells", "count"), Column("winner differs", "count"),
        Column("and it matters", "count"), Column("most lost by keeping it, U", "number"), Column("result"),
    )  # fmt: skip
    note = (
        "Usable cells that are next to each other along one axis and equal in all others. U is a point of attainment or a "
        f"percent of split's cost; it matters where keeping the neighbour's winner loses more than {MATTERS:g} U. Simulated."
    )
    return StudyTable("axes", "Which axes move the winner, and null results", columns, tuple(rows), note)


def levels_table(findings: Findings) -> StudyTable:
    """A row for each level of each axis: who wins there, and how adaptive stands beside the best fixed granularity."""
    rows: list[tuple[Value, ...]] = []
    cells = list(findings.cells.values())
    cuts = {app: grains_of(*app, cells, findings.results.runs) for app in findings.apps()}
    usable = set(findings.usable)
    for axis, level_of in AXES.items():
        for level in sorted({level_of(cell): None for cell in cells}, key=_order):
            own = [cell for cell in cells if level_of(cell) == level]
            good = [cell for cell in own if cell.number in usable and cell.number in findings.winners]
            cut = [cuts[cell.profiles, cell.app].cut(findings.winners[cell.number].way) for cell in good]
            beside = [findings.against_best[cell.number] for cell in good if cell.number in findings.against_best]
            rows.append(
                (
                    axis, _said(level), len(own), len(good),
                    sum(each == 1 for each in cut), sum(each == 0 for each in cut),
                    sum(0 < each < 1 for each in cut), sum(not each.is_within for each in beside),
                    _mean([each.points for each in beside]), _mean([each.cost for each in beside]),
                )
            )  # fmt: skip
    columns = (
        Column("axis"), Column("level"), Column("cells", "count"), Column("usable", "count"), Column("split wins", "count"),
        Column("fused wins", "count"), Column("a part wins", "count"), Column("adaptive not within tolerance", "count"),
        Column("adaptive minus best fixed", "points"), Column("cost", "change"),
    )  # fmt: skip
    note = "The best fixed granularity of each cell is chosen on the selection seeds; means over usable cells. Simulated."
    return StudyTable("levels", "Every level of every axis", columns, tuple(rows), note)


def _order(level: Any) -> tuple[bool, Any, str]:
    return (isinstance(level, str | tuple), 0 if isinstance(level, str | tuple) else level, str(level))


def _said(level: Any) -> str:
    if isinstance(level, tuple):
        return f"{level[1]} ({level[0]})"
    return level if isinstance(level, str) else f"{level:g}"


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
