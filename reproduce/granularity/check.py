"""Says what a results file claims and whether it does, target by target."""

import sys

from reproduce.granularity.grid import Grid
from reproduce.granularity.records import ADAPTIVE, Results
from reproduce.granularity.selection import Table, choices
from reproduce.granularity.statistics import Verdict, summaries, switching, usable, verdicts

SMALL = "smoke"
"""Its two seeds and handful of cells carry no claim on the targets of the study, only that everything ran and fits together."""


def check(results: Results, grid: Grid, *, is_strict: bool) -> int:
    """Print summaries and verdicts; 1 where it is strict and something that the size can carry does not hold."""
    rule = grid.study
    cells = usable(results, rule)
    header = results.header
    print(
        f"{header.size}: {header.cells} cells of {header.cells_of_paper} of the whole study, {len(cells)} usable; "
        f"{len(results.runs)} runs, {header.core_s:.0f} core-seconds"
    )
    for each in summaries(results, rule):
        print(
            f"  adaptive against {each.theirs}: {each.points:+.2f} points [{each.least_points:+.2f}, {each.most_points:+.2f}], "
            f"{100 * each.cost:+.2f} % cost [{100 * each.least_cost:+.1f}, {100 * each.most_cost:+.1f}] in {each.cells} cells"
        )
    for each in switching(results, rule):
        print(f"  {each.ours} against {each.theirs}: {each.points:+.2f} points, {100 * each.cost:+.2f} % cost")
    found = verdicts(results, rule)
    for verdict in found:
        print(f"{_word(verdict)}: {verdict.name}: {verdict.found} (target: {verdict.target})")
    problems = sound(results, grid)
    if header.size != SMALL:
        problems += [f"missed: {verdict.name}: {verdict.found}" for verdict in found if verdict.is_met is False]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if is_strict and problems else 0


def sound(results: Results, grid: Grid) -> list[str]:
    """What is wrong with a results file, whatever it found: nothing may be missing, and nothing may contradict itself."""
    problems: list[str] = []
    header, table = results.header, Table(results)
    if header.grid_sha256 != grid.figures_sha256:
        problems.append(f"the results are of another grid, {header.grid_sha256[:12]}: run the study again")
    if len(results.cells) != header.cells:
        problems.append(f"the header tells of {header.cells} cells and there are {len(results.cells)}")
    for number in table.numbers():
        ways = table.ways(number)
        if ADAPTIVE not in ways:
            problems.append(f"cell {number} has no run of adaptive")
        short = [way for way, runs in ways.items() if tuple(run.seed for run in runs) != header.evaluation_seeds]
        if short:
            problems.append(f"cell {number} has not every evaluation seed of {', '.join(short)}")
    if not usable(results, grid.study):
        problems.append("no cell is usable")
    offered: dict[tuple[int, int], int] = {}
    problems += [
        f"cell {run.cell}, seed {run.seed}: {run.way} met other arrivals than the ways before it"
        for run in results.runs
        if not run.failed and offered.setdefault((run.cell, run.seed), run.offered) != run.offered
    ]
    chosen = choices(results, grid.study)
    if any(run.purpose != "evaluation" for runs in chosen.values() for own in runs.values() for run in own):
        problems.append("a derived way holds a run of a selection seed")
    return problems


def _word(verdict: Verdict) -> str:
    return "not told" if verdict.is_met is None else "met" if verdict.is_met else "missed"
