"""Choices among fixed granularities, made on the selection seeds or in hindsight, and what no way could do: window and oracle.

A choice is applied to the evaluation seeds, so that every derived way has a run per cell and evaluation seed like any other.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct

from reproduce.granularity.grid import Study
from reproduce.granularity.records import ADAPTIVE, Billing, Cell, Purpose, Results, Run, Window

BEST_PER_CELL = "best fixed per cell"
BEST_PER_APP = "best fixed per app"
BEST_PER_APP_SLO = "best fixed per (app, SLO)"
TABLE = "stationary table"
HINDSIGHT = "best fixed in hindsight"
WINDOWS = "best fixed in hindsight per window"
ORACLE = "oracle"
FREE, CHARGED = "adaptive, switches free", "adaptive, switches charged"
DERIVED = {
    BEST_PER_APP: "one granularity for all cells of an app, chosen on the selection seeds",
    BEST_PER_APP_SLO: "one for all cells of an app and SLO factor, chosen on the selection seeds",
    TABLE: "one for every app, SLO factor and level of load, chosen on the selection seeds",
    BEST_PER_CELL: "one for each cell, chosen on the selection seeds",
    HINDSIGHT: "one for each cell, chosen on the evaluation seeds themselves",
    WINDOWS: "for each stretch of a bursty run the best one in it, free of any switch; no scheduler can know it",
    ORACLE: "for each run the best of all ways under the same arrivals and service times",
    FREE: "adaptive without what instances took to start that were started for a change of granularity",
    CHARGED: "adaptive with it, under either billing: a bill of busy time leaves starts out otherwise",
}
"""Every derived way and what it is."""

Chosen = Mapping[str, Mapping[int, tuple[Run, ...]]]
"""By derived way and number of the cell the runs on the evaluation seeds, in the order of the seeds."""


class Mean(Struct, frozen=True):
    """Means over seeds."""

    attainment: float
    cost: float


def mean_of(runs: Sequence[Run], billing: Billing) -> Mean:
    """Of runs of one way in one cell."""
    count = len(runs)
    return Mean(sum(run.attainment for run in runs) / count, sum(run.cost(billing) for run in runs) / count)


class Table:
    """Runs by cell, purpose and way, in the order of the results."""

    def __init__(self, results: Results) -> None:
        self.cells = {cell.number: cell for cell in results.cells}
        self._runs: dict[tuple[int, Purpose], dict[str, list[Run]]] = {}
        for run in results.runs:
            self._runs.setdefault((run.cell, run.purpose), {}).setdefault(run.way, []).append(run)

    def ways(self, cell: int, purpose: Purpose = "evaluation", groups: Iterable[str] = ()) -> dict[str, tuple[Run, ...]]:
        """Runs of each way in a cell; of some groups of ways alone where these are named."""
        wanted = tuple(groups)
        return {
            way: tuple(runs)
            for way, runs in self._runs.get((cell, purpose), {}).items()
            if not wanted or runs[0].group in wanted
        }

    def numbers(self) -> list[int]:
        """Cells in which something ran."""
        return [number for number in self.cells if (number, "evaluation") in self._runs]


def best(means: Mapping[str, Mean], same_attainment: float) -> str:
    """The cheapest of those that attain about as much as any; the first by name of equals."""
    most = max(mean.attainment for mean in means.values())
    near = [name for name, mean in means.items() if mean.attainment >= most - same_attainment - 1e-12]
    return min(near, key=lambda name: (means[name].cost, -means[name].attainment, name))


def choices(results: Results, rule: Study) -> Chosen:
    """All derived ways; a cell is missing from one that does not apply to it."""
    table = Table(results)
    numbers = table.numbers()
    keys: dict[str, Callable[[Cell], tuple[object, ...]]] = {
        BEST_PER_APP: lambda cell: (cell.profiles, cell.apps),
        BEST_PER_APP_SLO: lambda cell: (cell.profiles, cell.apps, cell.slo_factor),
        TABLE: lambda cell: (cell.profiles, cell.apps, cell.slo_factor, cell.load),
        BEST_PER_CELL: lambda cell: (cell.number,),
    }
    found: dict[str, dict[int, tuple[Run, ...]]] = {
        name: _keyed(table, numbers, key, rule, "selection") for name, key in keys.items()
    }
    found[HINDSIGHT] = _keyed(table, numbers, keys[BEST_PER_CELL], rule, "evaluation")
    found[WINDOWS] = {
        number: runs
        for number in numbers
        if table.cells[number].burstiness != "steady" and (runs := _windowed(table, number, rule))
    }
    found[ORACLE] = {number: _oracle(table, number, rule) for number in numbers}
    for name, is_charged in ((FREE, False), (CHARGED, True)):
        found[name] = {
            number: tuple(_switching(run, name, is_charged) for run in own)
            for number in numbers
            if (own := table.ways(number).get(ADAPTIVE))
        }
    return found


def _switching(run: Run, name: str, is_charged: bool) -> Run:
    """Provisioned cost has what switches took, billed cost has not."""
    switch = run.switch_usd_per_1000
    return msgspec.structs.replace(
        run,
        way=name,
        billed_usd_per_1000=run.billed_usd_per_1000 + (switch if is_charged else 0.0),
        provisioned_usd_per_1000=run.provisioned_usd_per_1000 - (0.0 if is_charged else switch),
    )


def _keyed(
    table: Table, numbers: Sequence[int], key: Callable[[Cell], tuple[object, ...]], rule: Study, purpose: Purpose
) -> dict[int, tuple[Run, ...]]:
    """For the cells of each key the fixed way with the highest mean score among those that all of them have."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for number in numbers:
        groups.setdefault(key(table.cells[number]), []).append(number)
    found: dict[int, tuple[Run, ...]] = {}
    for own in groups.values():
        way = _single(table, own, rule, purpose)
        for number in own:
            runs = table.ways(number).get(way)
            if runs is not None:
                found[number] = runs
    return dict(sorted(found.items()))


def _single(table: Table, numbers: Sequence[int], rule: Study, purpose: Purpose) -> str:
    means: list[dict[str, Mean]] = []
    for number in numbers:
        billing = table.cells[number].billing
        means.append({way: mean_of(runs, billing) for way, runs in table.ways(number, purpose, ("fixed",)).items()})
    means = [each for each in means if each]
    if not means:
        return ""
    if len(means) == 1:
        return best(means[0], rule.same_attainment)
    common = [way for way in means[0] if all(way in each for each in means)]
    return max(common, key=lambda way: (sum(_score(each, way) for each in means), -len(way), way)) if common else ""


def _score(means: Mapping[str, Mean], way: str) -> float:
    """Points of attainment below the best one and per cent of cost above the cell's winner, both as losses."""
    most = max(mean.attainment for mean in means.values())
    least = means[best(means, 0.01)].cost
    dearer = means[way].cost / least - 1 if least > 0 else 0.0
    return 100 * (means[way].attainment - most) - 100 * max(-1.0, dearer)


def _oracle(table: Table, number: int, rule: Study) -> tuple[Run, ...]:
    """Seed by seed the best run of all, whoever made it: it knows what comes and how long everything takes."""
    billing = table.cells[number].billing
    by_seed: dict[int, dict[str, Run]] = {}
    for way, runs in table.ways(number).items():
        for run in runs:
            by_seed.setdefault(run.seed, {})[way] = run
    chosen = []
    for runs_of in by_seed.values():
        means = {way: Mean(run.attainment, run.cost(billing)) for way, run in runs_of.items() if not run.failed}
        if means:
            chosen.append(runs_of[best(means, rule.same_attainment)])
    return tuple(chosen)


def _windowed(table: Table, number: int, rule: Study) -> tuple[Run, ...]:
    """Seed by seed a run put together from the windows of the fixed ways."""
    billing = table.cells[number].billing
    by_seed: dict[int, list[Run]] = {}
    for runs in table.ways(number, groups=("fixed",)).values():
        for run in runs:
            if run.windows and not run.failed:
                by_seed.setdefault(run.seed, []).append(run)
    return tuple(_put_together(runs, billing, rule) for runs in by_seed.values())


def _put_together(runs: Sequence[Run], billing: Billing, rule: Study) -> Run:
    chosen: list[Window] = []
    for at in range(len(runs[0].windows)):
        means = {run.way: _window_mean(run.windows[at], billing) for run in runs}
        way = best(means, rule.same_attainment)
        chosen.append(next(run.windows[at] for run in runs if run.way == way))
    offered, met = sum(each.offered for each in chosen), sum(each.met for each in chosen)
    answered = max(1, offered)
    return msgspec.structs.replace(
        runs[0],
        way=WINDOWS,
        offered=offered,
        answered=offered,
        met=met,
        attainment=met / answered,
        billed_usd_per_1000=1000 * sum(each.billed_usd for each in chosen) / answered,
        provisioned_usd_per_1000=1000 * sum(each.provisioned_usd for each in chosen) / answered,
        windows=tuple(chosen),
        is_fused=False,
        is_split=False,
        grains=(),
    )


def _window_mean(window: Window, billing: Billing) -> Mean:
    usd = window.billed_usd if billing == "billed" else window.provisioned_usd
    return Mean(window.met / window.offered if window.offered else 1.0, usd)
