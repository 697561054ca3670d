"""Cell by cell: the verdicts and where they are missed, the fixed granularities of each app, and every cell of the study."""

from reproduce.granularity.page_grains import Grains, grains_of
from reproduce.granularity.records import ADAPTIVE
from reproduce.granularity.selection import BEST_PER_APP, BEST_PER_APP_SLO, HINDSIGHT, TABLE
from reproduce.granularity.statistics import MOST_COST, MOST_POINTS, Comparison
from reproduce.granularity.tables import Column, StudyTable, Value
from reproduce.granularity.tables_axes import utility
from reproduce.granularity.tables_findings import Findings, load, place

_MOST = 60
"""So many rows of a list of cells that the page shows; JSON has all."""


def verdicts_table(findings: Findings) -> StudyTable:
    """What the study must reach, what it found, and whether that is enough."""
    rows = tuple((each.name, each.target, each.found, each.is_met) for each in findings.verdicts)
    columns = (Column("what it must reach"), Column("target"), Column("found"), Column("", "verdict"))
    return StudyTable("verdicts", "Verdicts", columns, rows, f"Usable cells: {len(findings.usable)} of {len(findings.cells)}.")


def misses_table(findings: Findings) -> StudyTable:
    """The usable cells in which adaptive is not within the tolerances, the worst first, and by what it is not."""
    missed = [each for each in findings.against_best.values() if not each.is_within]
    missed.sort(key=lambda each: each.points - 100 * each.cost)
    rows = tuple(
        (place(findings.cells[each.cell]), each.points, each.points_low, each.cost, each.cost_high, why(each))
        for each in missed
    )
    columns = (
        Column("cell"), Column("attainment", "points"), Column("at least, 95 %", "points"), Column("cost", "change"),
        Column("at most, 95 %", "change"), Column("not within tolerance by"),
    )  # fmt: skip
    note = (
        f"{len(missed)} of {len(findings.against_best)} usable cells{_counted([why(each) for each in missed])}. "
        "Adaptive minus the fixed granularity that the selection seeds "
        f"chose for the cell; tolerated are -{MOST_POINTS:g} point and {MOST_COST:+.0%} of cost, by one-sided intervals over "
        f"{len(findings.results.header.evaluation_seeds)} seeds."
    )
    return StudyTable("misses", "Where adaptive is not within the tolerances", columns, rows, note)


def _counted(reasons: list[str]) -> str:
    return "".join(f", {reasons.count(reason)} by {reason}" for reason in dict.fromkeys(sorted(reasons)))


def why(found: Comparison) -> str:
    """By what a comparison is outside the tolerances: by the means themselves, or only by how wide the intervals are."""
    parts = [
        (found.points < -MOST_POINTS, "attainment"),
        (found.cost > MOST_COST, "cost"),
    ]
    by = " and ".join(name for is_outside, name in parts if is_outside)
    if by:
        return by
    wide = [
        (found.points_low < -MOST_POINTS, "attainment"),
        (found.cost_high > MOST_COST, "cost"),
    ]
    names = " and ".join(name for is_outside, name in wide if is_outside)
    return f"the interval of {names} alone; its mean is within" if names else ""


def fixed_table(findings: Findings) -> StudyTable:
    """Every fixed granularity of each app over its usable cells: wins, ties, and what it loses against the winner."""
    rows: list[tuple[Value, ...]] = []
    for app in findings.apps():
        grains = _grains(findings, app)
        own = [number for number in findings.usable if _app(findings, number) == app and number in findings.winners]
        for way in dict.fromkeys(way for number in own for way in findings.means(number, ("fixed",))):
            regrets = []
            for number in own:
                mean, split = findings.means(number, ("fixed",)).get(way), findings.split(number)
                if mean is not None and split is not None:
                    regrets.append(utility(findings.winners[number].mean, split) - utility(mean, split))
            wins = sum(findings.winners[number].way == way for number in own)
            ties = sum(way in findings.winners[number].ties for number in own)
            rows.append(
                (app[1], app[0], grains.short(way), len(regrets), wins, ties, _mean(regrets), max(regrets, default=None))
            )
    columns = (
        Column("app"), Column("profiles"), Column("granularity"), Column("usable cells", "count"), Column("wins", "count"),
        Column("ties", "count"), Column("mean loss, U", "number"), Column("most, U", "number"),
    )  # fmt: skip
    note = (
        "A win is the least cost among those within one point of the best attainment. U: points of attainment and percent of "
        "split's cost."
    )
    return StudyTable("fixed", "Fixed granularities", columns, tuple(rows), f"{note} Simulated.")


def chosen_table(findings: Findings) -> StudyTable:
    """What each rule chose: a row for each app and SLO factor."""
    rows: list[tuple[Value, ...]] = []
    for app in findings.apps():
        grains = _grains(findings, app)
        own = [number for number in findings.cells if _app(findings, number) == app]
        for factor in sorted({findings.cells[number].slo_factor for number in own}):
            here = [number for number in own if findings.cells[number].slo_factor == factor]
            rows.append(
                (app[1], app[0], factor, *(_chosen(findings, grains, name, here) for name in
                                           (BEST_PER_APP, BEST_PER_APP_SLO, TABLE, HINDSIGHT)))
            )  # fmt: skip
    columns = (
        Column("app"), Column("profiles"), Column("SLO / L", "number"), Column(BEST_PER_APP), Column(BEST_PER_APP_SLO),
        Column(TABLE), Column(HINDSIGHT),
    )  # fmt: skip
    note = "Several where cells of the row have different choices. Hindsight looks at the evaluation seeds; the others do not."
    return StudyTable("chosen", "What was chosen", columns, tuple(rows), note)


def _chosen(findings: Findings, grains: Grains, name: str, numbers: list[int]) -> str:
    found = findings.chosen.get(name, {})
    return ", ".join(dict.fromkeys(grains.short(found[number][0].way) for number in numbers if found.get(number)))


def cells_table(findings: Findings) -> StudyTable:
    """Every cell: its winner among the fixed granularities, adaptive beside the chosen one, and what else was counted."""
    usable = set(findings.usable)
    rows: list[tuple[Value, ...]] = []
    names = {app: _grains(findings, app) for app in findings.apps()}
    for number, cell in findings.cells.items():
        winner, beside = findings.winners.get(number), findings.against_best.get(number)
        runs = findings.table.ways(number).get(ADAPTIVE, ())
        grains = names[cell.profiles, cell.app]
        local = [run.local_fraction for run in runs if run.local_fraction is not None]
        rows.append(
            (
                cell.app, cell.profiles, cell.hop, cell.slo_factor, load(cell), cell.burstiness, cell.billing, cell.weights,
                cell.nodes, cell.sharing, "usable" if number in usable else "not usable" if runs else "not run",
                grains.short(winner.way) if winner else None,
                ", ".join(map(grains.short, winner.ties)) if winner else None,
                winner.mean.attainment if winner else None,
                _mean([run.attainment for run in runs]), beside.points if beside else None, beside.cost if beside else None,
                _mean(local), _mean([run.slice_s for run in runs]), _mean([run.utilisation for run in runs]),
                _mean([float(run.regranulations) for run in runs]),
            )
        )  # fmt: skip
    columns = (
        Column("app"), Column("profiles"), Column("hop"), Column("SLO / L", "number"), Column("load"), Column("burstiness"),
        Column("billing"), Column("models x", "number"), Column("nodes", "count"), Column("sharing"), Column("state"),
        Column("winner"), Column("ties"), Column("its attainment", "percent"), Column("adaptive's", "percent"),
        Column("adaptive minus chosen", "points"), Column("cost", "change"), Column("local hops", "percent"),
        Column("slice-seconds", "number"), Column("utilisation", "percent"), Column("re-granulations", "number"),
    )  # fmt: skip
    note = (
        "Winner and ties among fixed granularities. Locality, slice-seconds, utilisation and re-granulations are adaptive's. "
        "Simulated."
    )
    return StudyTable("cells", "Every cell", columns, tuple(rows), note)


def decisions_table(findings: Findings) -> StudyTable:
    """The joint search beside the published configurations: time for a decision, and the quality of its plan."""
    ours = {(each.cell, each.app): each for each in findings.results.decisions if each.way == ADAPTIVE}
    rows: list[tuple[Value, ...]] = []
    for way in dict.fromkeys(each.way for each in findings.results.decisions):
        own = [each for each in findings.results.decisions if each.way == way]
        pairs = [(each, ours[each.cell, each.app]) for each in own if (each.cell, each.app) in ours]
        points = [100 * (theirs.attainment - mine.attainment) for theirs, mine in pairs]
        cost = [theirs.usd_per_hour / mine.usd_per_hour - 1 for theirs, mine in pairs if mine.usd_per_hour > 0]
        times = sorted(each.ms for each in own)
        name = "joint search (adaptive)" if way == ADAPTIVE else way
        rows.append((name, len(own), times[len(times) // 2], times[-1], _mean(points), _mean(cost)))
    columns = (
        Column("planner"), Column("problems", "count"), Column("ms, median", "number"), Column("ms, most", "number"),
        Column("predicted attainment against the joint search", "points"), Column("predicted cost", "change"),
    )  # fmt: skip
    note = (
        "On the same problems and with the same predictions. Times are measured, in the processes that ran the study, on "
        f"{findings.results.header.machine}; the quality is predicted."
    )
    return StudyTable("decisions", "The joint search beside the published configurations", columns, tuple(rows), note)


def shortened(table: StudyTable, most: int = _MOST) -> StudyTable:
    """The first rows of a long table, with a line about the rest."""
    if len(table.rows) <= most:
        return table
    more = f"{table.note} The first {most} of {len(table.rows):,} rows; --json prints all."
    return StudyTable(table.key, table.title, table.columns, table.rows[:most], more)


def _grains(findings: Findings, app: tuple[str, str]) -> Grains:
    return grains_of(*app, findings.cells.values(), findings.results.runs)


def _app(findings: Findings, number: int) -> tuple[str, str]:
    cell = findings.cells[number]
    return (cell.profiles, cell.app)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
