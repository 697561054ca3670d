"""What tables and figures of the page have in common: the results with everything that is derived from them, once."""

from collections.abc import Iterable, Sequence
from functools import cached_property

from reproduce.granularity.grid import Study
from reproduce.granularity.records import ADAPTIVE, Cell, Results, Run
from reproduce.granularity.selection import BEST_PER_CELL, Chosen, Mean, Table, choices, mean_of
from reproduce.granularity.statistics import (
    Comparison,
    Summary,
    Verdict,
    Winner,
    comparisons,
    summaries,
    usable,
    verdicts,
    winners,
)


class Findings:
    """Results, and what follows from them by the rules of a grid."""

    def __init__(self, results: Results, rule: Study) -> None:
        self.results = results
        self.rule = rule
        self.table = Table(results)
        self.cells = self.table.cells

    @cached_property
    def usable(self) -> tuple[int, ...]:
        """Numbers of the usable cells."""
        return usable(self.results, self.rule)

    @cached_property
    def winners(self) -> dict[int, Winner]:
        """The winner of every cell among the fixed granularities."""
        return winners(self.results, self.rule)

    @cached_property
    def chosen(self) -> Chosen:
        """The derived ways."""
        return choices(self.results, self.rule)

    @cached_property
    def summaries(self) -> dict[str, Summary]:
        """Adaptive beside every other way over the usable cells, by the other's name."""
        return {each.theirs: each for each in summaries(self.results, self.rule)}

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every target."""
        return verdicts(self.results, self.rule)

    @cached_property
    def against_best(self) -> dict[int, Comparison]:
        """Adaptive beside the fixed granularity that the selection seeds chose for each cell, in usable cells."""
        return {each.cell: each for each in comparisons(self.results, self.rule, BEST_PER_CELL)}

    def groups(self) -> dict[str, str]:
        """The group of every way that ran and is no fixed granularity, in the order of the results."""
        return {run.way: run.group for run in self.results.runs if run.group != "fixed" and run.purpose == "evaluation"}

    def groups_in(self, number: int) -> dict[str, str]:
        """The group of every way that ran in a cell."""
        return {way: runs[0].group for way, runs in self.table.ways(number).items()}

    def means(self, number: int, groups: Iterable[str] = ()) -> dict[str, Mean]:
        """Means of the ways of a cell over the evaluation seeds; ways without a figure are left out."""
        billing = self.cells[number].billing
        found = self.table.ways(number, groups=groups)
        return {way: mean_of(runs, billing) for way, runs in found.items() if not any(run.failed for run in runs)}

    def split(self, number: int) -> Mean | None:
        """The mean of a function for every stage, where it ran."""
        runs = next((runs for runs in self.table.ways(number, groups=("fixed",)).values() if runs[0].is_split), ())
        return mean_of(runs, self.cells[number].billing) if runs else None

    def apps(self) -> list[tuple[str, str]]:
        """Profile set and app of the cells, in the order of the grid; ``mixed`` for several apps."""
        return list(dict.fromkeys((cell.profiles, cell.app) for cell in self.cells.values()))


def usd(runs: Sequence[Run], cell: Cell, *, is_switch_free: bool = False) -> float:
    """The mean cost per 1,000 offered requests; without what changes of granularity cost, where these are free.

    That is a part of the provisioned cost; nobody is billed for starts where busy time is.
    """
    less = [run.switch_usd_per_1000 if is_switch_free and cell.billing == "provisioned" else 0.0 for run in runs]
    return sum(run.cost(cell.billing) - free for run, free in zip(runs, less, strict=True)) / len(runs)


def place(cell: Cell) -> str:
    """A cell in words."""
    nodes = f"{cell.nodes} node{'' if cell.nodes == 1 else 's'}"
    return (
        f"{cell.app}, {cell.slo_factor:g} L, load {load(cell)}, {cell.burstiness}, hop {cell.hop}, {cell.billing}, "
        f"models x{cell.weights:g}, {nodes}, {cell.sharing}"
    )


def load(cell: Cell) -> str:
    """The level of the load with the rate over split's saturation."""
    return f"{cell.load} ({cell.load_fraction:.0%})"


__all__ = ["ADAPTIVE", "Findings", "load", "place", "usd"]
