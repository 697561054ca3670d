"""Figures of a plan table: cost against attainment, capacities, and the staircase by which dispatch decides."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from grainwise.predictors.samples import SAMPLES
from grainwise.reports.figures import COLOURS, SLO_COLOUR, lay_out, shorten
from grainwise.reports.frontier import CAPACITY_TARGET, Frontier, Point
from grainwise.reports.plan_text import listed, short
from grainwise.reports.stairs import Stairs

LEAST_MISSED = 1 / SAMPLES
"""The least fraction of missed requests that a prediction tells from none: what is drawn for none."""

_TICKS = (1.0, 0.5, 0.1, 0.01)
MAX_EXTENTS = 24


def frontier_figure(go: Any, found: Frontier, letters: Mapping[str, str]) -> Any:
    """Attainment over cost, the frontier drawn through those that nothing beats."""
    figure = go.Figure()
    predicted = [(each, each.usd_per_hour, each.attainment) for each in found.points]
    _frontier(figure, "predicted", COLOURS[0], predicted, letters, lambda each: each.is_on_frontier)
    if found.is_judged:
        judged = [(each, each.judged.usd_per_hour.value, each.judged.attainment.value) for each in found.points if each.judged]
        _frontier(figure, f"by {found.evaluator}", COLOURS[1], judged, letters, lambda each: each.is_on_judged_frontier)
        _bands(figure, found)
    chosen = found.chosen
    judged_chosen = chosen.judged if found.is_judged else None
    figure.add_scatter(
        x=[judged_chosen.usd_per_hour.value if judged_chosen else chosen.usd_per_hour],
        y=[_missed(judged_chosen.attainment.value if judged_chosen else chosen.attainment)], mode="markers", name="chosen",
        marker={"size": 18, "symbol": "circle-open", "color": COLOURS[2], "line": {"width": 3}}, hoverinfo="skip",
    )  # fmt: skip
    lay_out(figure, f"{found.objective} cost (USD per hour)", "attainment")
    missed = [_missed(each) for _, _, each in predicted]
    if found.target < 1:
        figure.add_hline(y=_missed(found.target), line={"color": SLO_COLOUR, "dash": "dash", "width": 1})
    if found.bound_usd_per_hour > 0:
        figure.add_vline(
            x=found.bound_usd_per_hour, line={"color": "#7f7f7f", "dash": "dot", "width": 1.5}, annotation_text="bound",
            annotation_position="bottom right",
        )  # fmt: skip
    shown = [tick for tick in _TICKS if tick <= 10 * max(missed)]
    figure.update_layout(
        yaxis_type="log", yaxis_autorange="reversed", yaxis_tickvals=[*shown, LEAST_MISSED],
        yaxis_ticktext=[*(f"{100 * (1 - tick):g} %" for tick in shown), "all"], height=460,
    )  # fmt: skip
    return figure


def _frontier(
    figure: Any,
    name: str,
    colour: str,
    figures: Sequence[tuple[Point, float, float]],
    letters: Mapping[str, str],
    is_on: Callable[[Point], bool],
) -> None:
    for wanted, opacity in ((False, 0.45), (True, 1.0)):
        own = [each for each in figures if is_on(each[0]) == wanted]
        own.sort(key=lambda each: each[1])
        figure.add_scatter(
            x=[cost for _, cost, _ in own], y=[_missed(attainment) for _, _, attainment in own],
            mode="lines+markers+text" if wanted else "markers+text",
            name=f"{name}, on the frontier" if wanted else name,
            line={"color": colour, "width": 2, "shape": "hv"}, marker={"color": colour, "size": 9 if wanted else 7},
            opacity=opacity, text=[_label(point, wanted, letters) for point, _, _ in own],
            textposition="top right", textfont={"size": 10},
            hovertext=[
                f"{escape(point.name)}<br>{cost:.4f} USD/h, {attainment:.2%}<br>{escape(point.lacks)}"
                for point, cost, attainment in own
            ],
            hoverinfo="text",
        )  # fmt: skip


def _label(point: Point, is_on: bool, letters: Mapping[str, str]) -> str:
    """A granularity on the frontier, or the chosen one, by its stages; another by its number in the table, so that it fits."""
    return escape(shorten(short(point.grain, letters))) if is_on or point.number == 1 else str(point.number)


def _bands(figure: Any, found: Frontier) -> None:
    """The ranges of what was judged."""
    judged = [each.judged for each in found.points if each.judged]
    figure.add_scatter(
        x=[each.usd_per_hour.value for each in judged], y=[_missed(each.attainment.value) for each in judged],
        mode="markers", marker={"size": 1, "color": COLOURS[1]}, showlegend=False, hoverinfo="skip",
        error_x={
            "type": "data", "symmetric": False, "width": 2, "color": COLOURS[1], "thickness": 1,
            "array": [each.usd_per_hour.high - each.usd_per_hour.value for each in judged],
            "arrayminus": [each.usd_per_hour.value - each.usd_per_hour.low for each in judged],
        },
        error_y={
            "type": "data", "symmetric": False, "width": 2, "color": COLOURS[1], "thickness": 1,
            "array": [_missed(each.attainment.low) - _missed(each.attainment.value) for each in judged],
            "arrayminus": [_missed(each.attainment.value) - _missed(each.attainment.high) for each in judged],
        },
    )  # fmt: skip


def _missed(attainment: float) -> float:
    return max(1.0 - attainment, LEAST_MISSED)


def capacity_figure(go: Any, found: Frontier, letters: Mapping[str, str]) -> Any:
    """A bar for each granularity: the rate up to which enough requests are in time; those on the frontier in full colour."""
    figure = go.Figure()
    points = [each for each in listed(found) if each.capacity_per_s is not None]
    names = [escape(shorten(short(each.grain, letters))) for each in points]
    figure.add_bar(
        y=names, x=[each.capacity_per_s for each in points], orientation="h",
        marker_color=[COLOURS[2] if each.number == 1 else COLOURS[0] for each in points],
        marker_opacity=[1.0 if each.is_on_frontier or each.number == 1 else 0.45 for each in points],
        hovertext=[escape(each.name) for each in points], hovertemplate="%{hovertext}: %{x:.2f}/s<extra></extra>",
    )  # fmt: skip
    lay_out(figure, f"requests/s at {CAPACITY_TARGET:.0%} attainment", "")
    figure.update_layout(
        showlegend=False, bargap=0.35, yaxis_type="category", yaxis_autorange="reversed", yaxis_automargin=True,
        yaxis_dtick=1, height=140 + 20 * len(points),
    )  # fmt: skip
    return figure


def stairs_figure(go: Any, stair: Stairs, slo_ms: float, letters: Mapping[str, str]) -> Any:
    """Cost of the rest over the time that a request has left, a line for each first extent, the cheapest of all below them."""
    figure = go.Figure()
    used = dict.fromkeys(tread.first for tread in stair.treads)
    others = [number for number in range(len(stair.extents)) if number not in used]
    last = max((first.times_ms[-1] for first in stair.extents if first.times_ms), default=slo_ms)
    until = 1.05 * max(last, slo_ms)
    for at, number in enumerate([*used, *others][:MAX_EXTENTS]):
        first = stair.extents[number]
        figure.add_scatter(
            x=[*first.times_ms, until], y=[*first.usd_per_million, first.usd_per_million[-1]], mode="lines",
            name=escape(f"{short((first.stages,), letters)}, {first.cpu_cores:g} cores, batch {first.batch}"),
            line={"color": COLOURS[at % len(COLOURS)], "width": 1.5, "shape": "hv"},
            hovertemplate="%{x:.1f} ms: %{y:.3f} USD",
        )  # fmt: skip
    if stair.treads:
        figure.add_scatter(
            x=[*(each.from_ms for each in stair.treads), until],
            y=[*(each.usd_per_million for each in stair.treads), stair.treads[-1].usd_per_million], mode="lines",
            name="the cheapest", line={"color": "#808080", "width": 4, "dash": "dot", "shape": "hv"}, hoverinfo="skip",
        )  # fmt: skip
    lay_out(figure, "time left (ms)", "what is left costs, USD per million requests")
    figure.add_vline(x=slo_ms, line={"color": SLO_COLOUR, "dash": "dash", "width": 1.5}, annotation_text="SLO")
    figure.update_layout(height=420, legend={"orientation": "v", "x": 1.01, "y": 1, "yanchor": "top"})
    return figure
