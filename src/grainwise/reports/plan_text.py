"""What ``grainwise plan`` prints below its table: the frontier, a picture of it, capacities, and what dispatch will do."""

from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.table import Table

from grainwise.domain.plan import Grain, render_grain
from grainwise.predictors.evaluator import Band
from grainwise.reports.frontier import CAPACITY_TARGET, Frontier, Point
from grainwise.reports.marks import Mark, bar, scatter
from grainwise.reports.stairs import Stairs

MAX_ROWS = 32
"""Granularities that are listed; the page and the JSON hold them all."""

MAX_TREADS = 8


def frontier_table(found: Frontier, letters: Mapping[str, str]) -> Table:
    """Every granularity: cost, attainment, capacity, and what the evaluator made of it beside it where it decided."""
    shown = Table(
        title=f"frontier of {found.objective} cost and attainment, each granularity at its best plan (● on it)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    shown.add_column("#", justify="right", no_wrap=True)
    shown.add_column("", no_wrap=True)
    shown.add_column("granularity", no_wrap=bool(letters))
    names = ["$/h", "attain", f"max/s at {CAPACITY_TARGET:.0%}"]
    if found.is_judged:
        names += [f"$/h by {found.evaluator}", f"attain by {found.evaluator}"]
    for name in names:
        shown.add_column(name, justify="right", no_wrap=True)
    points = listed(found)
    for point in points:
        cells = [f"{point.usd_per_hour:.4f}", f"{point.attainment:.2%}", _capacity(point)]
        if found.is_judged:
            cells += _judged(point)
        is_chosen = point.number == 1
        shown.add_row(
            str(point.number),
            (_sign(point) if is_chosen else " ") + mark_of(found, point),
            short(point.grain, letters),
            *cells,
            style="bold" if is_chosen else None,
        )
    left = len(found.points) - len(points)
    if left:
        shown.caption = f"{left} more granularities in --json and on the page of --html"
        shown.caption_justify = "left"
    return shown


def listed(found: Frontier) -> tuple[Point, ...]:
    """At most ``MAX_ROWS`` points in the order of the table: the chosen one and the frontier, then the first of the others."""
    chosen = sorted(found.points, key=lambda each: (not (each.number == 1 or _is_on(found, each)), each.number))[:MAX_ROWS]
    return tuple(sorted(chosen, key=lambda each: each.number))


def mark_of(found: Frontier, point: Point) -> str:
    """How a point is marked: on the frontier of what decides, or off it."""
    return "●" if _is_on(found, point) else "○" if not found.is_judged or point.judged is not None else " "


def _is_on(found: Frontier, point: Point) -> bool:
    return point.is_on_judged_frontier if found.is_judged else point.is_on_frontier


def short(grain: Grain, letters: Mapping[str, str]) -> str:
    """A granularity in letters where there are some."""
    return " | ".join("".join(letters[stage] for stage in group) for group in grain) if letters else render_grain(grain)


def _sign(chosen: Point) -> str:
    return "✔" if chosen.meets_slo else "≈"


def _capacity(point: Point) -> str:
    return "-" if point.capacity_per_s is None else f"{point.capacity_per_s:.2f}"


def _judged(point: Point) -> list[str]:
    judged = point.judged
    if judged is None:
        return ["-", "-"]
    star = "*" if judged.by == "analytic" else ""
    return [_band(judged.usd_per_hour, "{:.4f}"), _band(judged.attainment, "{:.2%}") + star]


def _band(band: Band, form: str) -> str:
    low, high = form.format(band.low), form.format(band.high)
    return form.format(band.value) + (f" ({low} to {high})" if low != high else "")


def handed_on(found: Frontier) -> str:
    """What the evaluator could not answer itself, and why; empty where it answered all that it was asked."""
    reasons = [f"#{each.number}: {each.judged.handed_on}" for each in found.points if each.judged and each.judged.handed_on]
    return "; ".join(reasons[:3]) + (f"; and {len(reasons) - 3} more" if len(reasons) > 3 else "")


def picture(found: Frontier) -> list[str]:
    """Attainment over cost: a number is a granularity of the table on the frontier or the chosen one, ○ any other."""
    marks: list[Mark] = []
    for point in found.points:
        judged = point.judged
        if found.is_judged and judged is None:
            continue
        cost = judged.usd_per_hour.value if found.is_judged and judged is not None else point.usd_per_hour
        attainment = judged.attainment.value if found.is_judged and judged is not None else point.attainment
        is_chosen = point.number == 1
        is_named = is_chosen or _is_on(found, point)
        marks.append(Mark(cost, attainment, f"●{point.number}" if is_named else "○", 2 if is_chosen else 1 if is_named else 0))
    return scatter(marks, f"{found.objective} cost, USD per hour", found.bound_usd_per_hour)


def capacities(found: Frontier, letters: Mapping[str, str]) -> list[str]:
    """A bar for each granularity: the rate up to which attainment is 99 %."""
    rows = [(point, point.capacity_per_s) for point in listed(found) if point.capacity_per_s is not None]
    most = max((value for _, value in rows), default=0.0)
    names = [f"{point.number:>3} {short(point.grain, letters)}" for point, _ in rows]
    width = max(map(len, names), default=0)
    return [f"{name:<{width}} {bar(value, most)} {value:.2f}" for name, (_, value) in zip(names, rows, strict=True)]


def stair_lines(stairs: Iterable[Stairs], letters: Mapping[str, str]) -> list[str]:
    """What a lone request begins with, by the time that it has left."""
    return [line for each in stairs for line in _stair_lines(each, letters)]


def _stair_lines(stair: Stairs, letters: Mapping[str, str]) -> list[str]:
    runs: list[tuple[float, int, float]] = []
    for tread in stair.treads:
        # The same first extent with less to pay behind it is one line, with what it comes to in the end.
        if runs and runs[-1][1] == tread.first:
            runs[-1] = (runs[-1][0], tread.first, tread.usd_per_million)
        else:
            runs.append((tread.from_ms, tread.first, tread.usd_per_million))
    if not runs:
        return []
    lines = [f"  with less than {runs[0][0]:.1f} ms left a request is late"]
    for from_ms, first, usd in _sample(runs):
        extent = stair.extents[first]
        name = short((extent.stages,), letters)
        plural = "" if extent.cpu_cores == 1 else "s"
        lines.append(
            f"  from {from_ms:.1f} ms on {name} on {extent.cpu_cores:g} core{plural}; what is left costs ${usd:.3f} per million"
        )
    if len(runs) > MAX_TREADS:
        lines.append(f"  ({len(runs) - MAX_TREADS} treads between them in --json and on the page of --html)")
    return lines


def _sample(runs: Sequence[tuple[float, int, float]]) -> Sequence[tuple[float, int, float]]:
    if len(runs) <= MAX_TREADS:
        return runs
    return [runs[at * (len(runs) - 1) // (MAX_TREADS - 1)] for at in range(MAX_TREADS)]
