"""Adaptive beside every other way, over the usable cells: published schedulers, choices among fixed ones, ablations."""

from collections.abc import Iterable, Sequence

from reproduce.granularity.records import ADAPTIVE, Group, Run
from reproduce.granularity.selection import BEST_PER_APP, DERIVED, HINDSIGHT
from reproduce.granularity.tables import Column, StudyTable, Value
from reproduce.granularity.tables_findings import Findings, place, usd

DIFFERENCE = "Adaptive minus the other way, over the usable cells that both ran in, by the cost of each cell. Simulated."
PUBLISHED_CLAIMS = (
    ("authors' claim, not reproduced: attainment (SLO hit rate), at most", "+29.2 %, relative or points is not said"),
    ("authors' claim, not reproduced: resource cost, at most", "-24.6 %"),
)
"""Of the paper that the page names: abstract; the settings behind them are not known."""
_EXTREMES = (
    Column("cells", "count"), Column("attainment, mean", "points"), Column("least", "points"), Column("most", "points"),
    Column("cost, mean", "change"), Column("least", "change"), Column("most", "change"),
    Column("cells within tolerance", "percent"),
)  # fmt: skip


def configuration_table(findings: Findings) -> StudyTable:
    """Published configurations among our parts."""
    return _group(findings, "configuration", "Baselines, configuration only: dispatch, placement and pre-warming are ours")


def reconstructed_table(findings: Findings) -> StudyTable:
    """Published schedulers with their own parts."""
    return _group(findings, "reconstructed", "Baselines as reconstructed: with the parts that their papers have")


def _group(findings: Findings, group: Group, title: str) -> StudyTable:
    names = [way for way, own in findings.groups().items() if own == group]
    rows = [(f"{name} (after its paper, reconstructed)", *_row(findings, name)) for name in names]
    return StudyTable(group, title, (Column("adaptive beside"), *_EXTREMES), tuple(rows), DIFFERENCE)


def selections_table(findings: Findings) -> StudyTable:
    """Split, fused, and every way of choosing among the fixed granularities."""
    said = {"split": "a function for every stage", "fused": "one function", **DERIVED}
    rows = [(name, *_row(findings, name), meaning) for name, meaning in said.items() if name in findings.summaries]
    columns = (Column("adaptive beside"), *_EXTREMES, Column("what it is"))
    return StudyTable("selections", "Fixed granularities and choices among them", columns, tuple(rows), DIFFERENCE)


def _row(findings: Findings, name: str) -> tuple[Value, ...]:
    found = findings.summaries.get(name)
    if found is None:
        return (0, *(None for _ in _EXTREMES[1:]))
    return (
        found.cells, found.points, found.least_points, found.most_points, found.cost, found.least_cost, found.most_cost,
        found.within,
    )  # fmt: skip


def claims_table(findings: Findings) -> StudyTable:
    """The published maxima as their authors' claims beside our means and maxima, and where these occur."""
    rows: list[tuple[Value, ...]] = [(name, claimed, *(None for _ in range(6))) for name, claimed in PUBLISHED_CLAIMS]
    published = [way for way, group in findings.groups().items() if group == "reconstructed"]
    for name in ("split", "fused", BEST_PER_APP, HINDSIGHT, *published):
        found = findings.summaries.get(name)
        if found is not None:
            cells = findings.cells
            rows.append(
                (
                    f"ours beside {name}", None, found.points, found.most_points, place(cells[found.most_points_at]),
                    found.cost, found.least_cost, place(cells[found.least_cost_at]),
                )
            )  # fmt: skip
    columns = (
        Column("figure"), Column("claimed"), Column("attainment gained, mean", "points"), Column("most", "points"),
        Column("where"), Column("cost, mean", "change"), Column("most saved", "change"), Column("where"),
    )  # fmt: skip
    note = (
        "The claims are maxima over settings that are not known to us, against baselines that are not ours; only their "
        "direction can be set beside these figures. Usable cells, simulated."
    )
    return StudyTable("claims", "Published figures beside ours", columns, tuple(rows), note)


def ablations_table(findings: Findings) -> StudyTable:
    """Adaptive without one of its parts, with changes of granularity charged and free."""
    groups = findings.groups()
    names = [way for way, group in groups.items() if group == "ablation" or (group == "adaptive" and way != ADAPTIVE)]
    rows = [row for name in names if (row := _ablation(findings, name)) is not None]
    own = _own_switches(findings)
    columns = (
        Column("way"), Column("cells", "count"), Column("attainment against adaptive", "points"),
        Column("cost, switches charged", "change"), Column("cost, switches free", "change"),
        Column("changes per run", "number"), Column("changes of adaptive", "number"),
    )  # fmt: skip
    note = (
        "The ablation minus adaptive over the usable cells that both ran in: what is lost without the part. A switch is what "
        "instances cost that start for a change of granularity until they are ready; it is part of the provisioned cost, and "
        "is billed to nobody where busy time is."
    )
    return StudyTable("ablations", "Ablations", columns, (*own, *rows), note)


def _own_switches(findings: Findings) -> list[tuple[Value, ...]]:
    """What its own changes cost adaptive."""
    cells = [number for number in findings.usable if _figures(findings.table.ways(number).get(ADAPTIVE, ()))]
    if not cells:
        return []
    runs = {number: findings.table.ways(number)[ADAPTIVE] for number in cells}
    free = [_ratio(usd(own, findings.cells[number], is_switch_free=True), usd(own, findings.cells[number]))
            for number, own in runs.items()]  # fmt: skip
    changes = _mean(_changes(own) for own in runs.values())
    return [("adaptive itself", len(cells), 0.0, 0.0, _mean(free), changes, changes)]


def _ablation(findings: Findings, name: str) -> tuple[Value, ...] | None:
    points, charged, free, changes, ours = [], [], [], [], []
    for number in findings.usable:
        ways, cell = findings.table.ways(number), findings.cells[number]
        without, whole = ways.get(name, ()), ways.get(ADAPTIVE, ())
        if not (_figures(without) and _figures(whole)):
            continue
        points.append(100 * (_mean(run.attainment for run in without) - _mean(run.attainment for run in whole)))
        charged.append(_ratio(usd(without, cell), usd(whole, cell)))
        free.append(_ratio(usd(without, cell, is_switch_free=True), usd(whole, cell, is_switch_free=True)))
        changes.append(_changes(without))
        ours.append(_changes(whole))
    if not points:
        return None
    return (name, len(points), _mean(points), _mean(charged), _mean(free), _mean(changes), _mean(ours))


def _figures(runs: Sequence[Run]) -> bool:
    return bool(runs) and not any(run.failed for run in runs)


def _changes(runs: Sequence[Run]) -> float:
    return _mean(run.regranulations for run in runs)


def _ratio(first: float, second: float) -> float:
    return first / second - 1 if second > 0 else 0.0


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
