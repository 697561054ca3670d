"""What the runs say: usable cells, winners with their ties, paired comparisons with one-sided intervals, and the verdicts."""

import math
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from scipy.stats import t as student  # type: ignore[import-untyped]

from reproduce.granularity.grid import Study
from reproduce.granularity.records import ADAPTIVE, Capacity, Cell, Results, Run
from reproduce.granularity.selection import (
    BEST_PER_APP,
    BEST_PER_APP_SLO,
    BEST_PER_CELL,
    CHARGED,
    FREE,
    HINDSIGHT,
    ORACLE,
    TABLE,
    WINDOWS,
    Mean,
    Table,
    best,
    choices,
    mean_of,
)

LEVEL = 0.95
"""Of the one-sided intervals."""
MOST_POINTS, MOST_COST = 1.0, 0.02
"""Adaptive may be below by so many points of attainment, and above by so much of cost."""
CELLS_WITHIN = 0.95
"""In so many of the usable cells it has to be within both."""
POINTS_OVER_SPLIT = 5.0
CAPACITY_OVER_SPLIT = 1.2
ESG = "esg"
"""The published scheduler at split granularity that the target names."""


class Comparison(Struct, frozen=True):
    """One way beside another in one cell, paired by seed: ``points`` of attainment more, ``cost`` more as a fraction of theirs.

    ``points_low`` and ``cost_high`` are the ends of the one-sided intervals, the mean itself where there is one seed alone.
    """

    cell: int
    ours: str
    theirs: str
    points: float
    points_low: float
    cost: float
    cost_high: float

    @property
    def is_within(self) -> bool:
        """Whether ours is not worse by more than what is allowed, by both intervals."""
        return self.points_low >= -MOST_POINTS - 1e-9 and self.cost_high <= MOST_COST + 1e-9

    @property
    def is_mean_within(self) -> bool:
        """The same by the means alone."""
        return self.points >= -MOST_POINTS - 1e-9 and self.cost <= MOST_COST + 1e-9

    @property
    def is_equal(self) -> bool:
        """Whether nothing at all differs."""
        return self.points == 0 and self.cost == 0


class Winner(Struct, frozen=True):
    """Who wins a cell, and who ties with it: as good within the tolerances of attainment and cost."""

    cell: int
    way: str
    mean: Mean
    ties: tuple[str, ...]


class Summary(Struct, frozen=True):
    """A way beside another over usable cells: means, the extremes and the cells where these are."""

    ours: str
    theirs: str
    cells: int
    points: float
    cost: float
    within: float
    """Part of the cells in which ours is within the tolerances by the intervals."""
    mean_within: float
    most_points: float
    most_points_at: int
    least_points: float
    least_points_at: int
    most_cost: float
    most_cost_at: int
    least_cost: float
    least_cost_at: int


class Verdict(Struct, frozen=True):
    """One target of the study, what was found and whether that is enough; None where it could not be told."""

    name: str
    target: str
    found: str
    is_met: bool | None


def usable(results: Results, rule: Study) -> tuple[int, ...]:
    """Cells in which the best way attains enough on the evaluation seeds. No other cell is left out and none is picked."""
    table = Table(results)
    found: list[int] = []
    for number in table.numbers():
        means = [mean_of(runs, table.cells[number].billing) for runs in table.ways(number).values()]
        if max(mean.attainment for mean in means) >= rule.usable_attainment:
            found.append(number)
    return tuple(found)


def winners(results: Results, rule: Study, groups: Iterable[str] = ("fixed",)) -> dict[int, Winner]:
    """The winner of every cell among some groups of ways, on the evaluation seeds."""
    table, wanted = Table(results), tuple(groups)
    found: dict[int, Winner] = {}
    for number in table.numbers():
        means = {way: mean_of(runs, table.cells[number].billing) for way, runs in table.ways(number, groups=wanted).items()}
        if not means:
            continue
        way = best(means, rule.same_attainment)
        winner = means[way]
        ties = tuple(
            name
            for name, mean in means.items()
            if name != way
            and mean.attainment >= winner.attainment - rule.same_attainment
            and mean.cost <= winner.cost * (1 + rule.tie_cost)
        )
        found[number] = Winner(number, way, winner, ties)
    return found


def compare(cell: Cell, ours: Sequence[Run], theirs: Sequence[Run], theirs_name: str = "") -> Comparison:
    """Two ways in one cell, seed by seed."""
    by_seed = {run.seed: run for run in theirs}
    pairs = [(run, by_seed[run.seed]) for run in ours if run.seed in by_seed]
    points = [100 * (mine.attainment - other.attainment) for mine, other in pairs]
    costs = [
        mine.cost(cell.billing) / other.cost(cell.billing) - 1 if other.cost(cell.billing) > 0 else 0.0 for mine, other in pairs
    ]
    return Comparison(
        cell.number,
        ours[0].way,
        theirs_name or theirs[0].way,
        _mean(points),
        _mean(points) - _half(points),
        _mean(costs),
        _mean(costs) + _half(costs),
    )


def comparisons(results: Results, rule: Study, theirs: str, ours: str = ADAPTIVE) -> list[Comparison]:
    """Ours beside a way, or a derived way, in every usable cell that has both."""
    return _compared(Table(results), choices(results, rule), usable(results, rule), ours, theirs)


def _compared(
    table: Table,
    chosen: Mapping[str, Mapping[int, tuple[Run, ...]]],
    cells: Sequence[int],
    ours: str,
    theirs: str,
) -> list[Comparison]:
    found: list[Comparison] = []
    for number in cells:
        ways = table.ways(number)
        other = _runs_of(ways, chosen, number, theirs)
        mine = _runs_of(ways, chosen, number, ours)
        if mine and other:
            found.append(compare(table.cells[number], mine, other, theirs))
    return found


def _runs_of(
    ways: Mapping[str, tuple[Run, ...]], chosen: Mapping[str, Mapping[int, tuple[Run, ...]]], number: int, name: str
) -> tuple[Run, ...]:
    """Of a way, of a derived one, or of ``split`` and ``fused``, which each app names by its own stages."""
    if name in chosen:
        return chosen[name].get(number, ())
    if name in ("split", "fused"):
        return next((runs for runs in ways.values() if (runs[0].is_split if name == "split" else runs[0].is_fused)), ())
    return ways.get(name, ())


def summarise(found: Sequence[Comparison]) -> Summary | None:
    """Means and extremes of comparisons of the same two ways; None where there are none."""
    if not found:
        return None
    most_points, least_points = max(found, key=lambda each: each.points), min(found, key=lambda each: each.points)
    most_cost, least_cost = max(found, key=lambda each: each.cost), min(found, key=lambda each: each.cost)
    return Summary(
        found[0].ours, found[0].theirs, len(found),
        _mean([each.points for each in found]), _mean([each.cost for each in found]),
        _mean([float(each.is_within) for each in found]), _mean([float(each.is_mean_within) for each in found]),
        most_points.points, most_points.cell, least_points.points, least_points.cell,
        most_cost.cost, most_cost.cell, least_cost.cost, least_cost.cell,
    )  # fmt: skip


def summaries(results: Results, rule: Study, ours: str = ADAPTIVE) -> tuple[Summary, ...]:
    """Ours beside every derived way, split, fused and every other way that ran, over the usable cells."""
    table, chosen, cells = Table(results), choices(results, rule), usable(results, rule)
    others = list(dict.fromkeys(run.way for run in results.runs if run.group != "fixed" and run.way != ours))
    found = [
        summarise(_compared(table, chosen, cells, ours, name))
        for name in (
            BEST_PER_CELL, BEST_PER_APP, BEST_PER_APP_SLO, TABLE, HINDSIGHT, WINDOWS, ORACLE, "split", "fused", *others
        )
    ]  # fmt: skip
    return tuple(each for each in found if each is not None)


def switching(results: Results, rule: Study) -> tuple[Summary, ...]:
    """Adaptive with its switches free, and with them charged, beside the best fixed granularity of each cell."""
    table, chosen, cells = Table(results), choices(results, rule), usable(results, rule)
    found = [summarise(_compared(table, chosen, cells, ours, BEST_PER_CELL)) for ours in (FREE, CHARGED)]
    return tuple(each for each in found if each is not None)


def verdicts(results: Results, rule: Study) -> tuple[Verdict, ...]:
    """Every target of the study that its runs can tell."""
    table, chosen, cells = Table(results), choices(results, rule), usable(results, rule)
    selected = summarise(_compared(table, chosen, cells, ADAPTIVE, BEST_PER_CELL))
    hindsight = summarise(_compared(table, chosen, cells, ADAPTIVE, HINDSIGHT))
    headline = [number for number in cells if table.cells[number].hop == results.header.headline_hop]
    return (
        *_against_best(selected, hindsight),
        _against_split(summarise(_compared(table, chosen, headline, ADAPTIVE, ESG)), f"split + {ESG}"),
        _against_split(summarise(_compared(table, chosen, headline, ADAPTIVE, "split")), "split with our parts"),
        *_capacity(results.capacities),
        _no_single_winner(winners(results, rule), table, cells),
    )


def _against_best(selected: Summary | None, hindsight: Summary | None) -> tuple[Verdict, ...]:
    target = (
        f"in >= {CELLS_WITHIN:.0%} of the usable cells >= -{MOST_POINTS:g} point and <= +{MOST_COST:.0%} cost, 95 % one-sided"
    )
    within = Verdict("adaptive against the best fixed granularity, cell by cell", target, "no usable cell", None)
    better = Verdict(
        "adaptive against the best fixed granularity, on the mean", "more attainment and less cost", "no usable cell", None
    )
    if selected is not None:
        beside = "" if hindsight is None else f"; in hindsight {hindsight.within:.1%}"
        within = Verdict(
            within.name,
            target,
            f"{selected.within:.1%} of {selected.cells} cells ({selected.mean_within:.1%} by the means alone){beside}",
            selected.within >= CELLS_WITHIN,
        )
        beside = "" if hindsight is None else f"; in hindsight {_difference(hindsight)}"
        better = Verdict(better.name, better.target, _difference(selected) + beside, selected.points > 0 > selected.cost)
    return within, better


def _against_split(summary: Summary | None, name: str) -> Verdict:
    target = f">= +{POINTS_OVER_SPLIT:g} points at no more cost, or as much attainment at 5 % less cost, on the mean"
    title = f"adaptive against {name} at the headline hop"
    if summary is None:
        return Verdict(title, target, "it did not run in a usable cell", None)
    is_met = (summary.points >= POINTS_OVER_SPLIT and summary.cost <= 0) or (summary.points >= 0 and summary.cost <= -0.05)
    return Verdict(title, target, f"{_difference(summary)} over {summary.cells} cells", is_met)


def _capacity(capacities: Sequence[Capacity]) -> tuple[Verdict, ...]:
    places: dict[tuple[str, str, float], dict[str, Capacity]] = {}
    for each in capacities:
        places.setdefault((each.profiles, each.app, each.slo_factor), {})[each.way] = each
    ours = {place: ways[ADAPTIVE].per_s for place, ways in places.items() if ADAPTIVE in ways}
    able = {place: rate for place, rate in ours.items() if max(way.per_s for way in places[place].values()) > 0}
    if not able:
        unknown = "no capacity was found for any way"
        return (Verdict("capacity at 99 % attainment", ">= that of every baseline per (app, SLO)", unknown, None),)
    behind = [
        (place, max(places[place].values(), key=lambda way: way.per_s))
        for place, rate in able.items()
        if max(way.per_s for way in places[place].values()) > rate
    ]
    said = f"{len(able) - len(behind)} of {len(able)} places"
    if behind:
        place, way = min(behind, key=lambda each: able[each[0]] / each[1].per_s)
        said += f"; furthest behind {way.way} in {place[1]} at {place[2]:g} L: {able[place]:.4g} against {way.per_s:.4g} per s"
    ratios = [
        rate / split
        for place, rate in able.items()
        if (split := next((way.per_s for way in places[place].values() if way.is_split), 0.0)) > 0
    ]
    ratio = _mean(ratios) if ratios else math.nan
    return (
        Verdict("capacity at 99 % attainment", ">= that of every baseline per (app, SLO)", said, not behind),
        Verdict(
            "capacity at 99 % attainment over split's",
            f">= {CAPACITY_OVER_SPLIT:g} on the mean",
            f"{ratio:.2f} over {len(ratios)} places where split has any" if ratios else "split has none anywhere",
            ratio >= CAPACITY_OVER_SPLIT if ratios else None,
        ),
    )


def _no_single_winner(found: Mapping[int, Winner], table: Table, cells: Sequence[int]) -> Verdict:
    """Whether there is an app of which no granularity wins, or ties, in all usable cells."""
    apps: dict[tuple[str, str], list[Winner]] = {}
    for number in cells:
        cell = table.cells[number]
        if number in found:
            apps.setdefault((cell.profiles, cell.app), []).append(found[number])
    several = {app: own for app, own in apps.items() if len(own) > 1}
    varied = [app for app, own in several.items() if not set.intersection(*({each.way, *each.ties} for each in own))]
    return Verdict(
        "no single granularity wins in every cell",
        "of at least one app none wins or ties everywhere",
        f"of {len(varied)} of {len(several)} apps",
        bool(varied) if several else None,
    )


def _difference(summary: Summary) -> str:
    return f"{summary.points:+.2f} points, {100 * summary.cost:+.2f} % cost"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _half(values: Sequence[float]) -> float:
    """Half the width of the one-sided interval of a mean; 0 for one value."""
    count = len(values)
    if count < 2:
        return 0.0
    mean = _mean(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return float(student.ppf(LEVEL, count - 1)) * math.sqrt(variance / count)
