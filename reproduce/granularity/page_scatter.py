"""Adaptive beside the best fixed granularity, a dot for every cell, and every way of a cell by cost and attainment."""

from collections.abc import Sequence
from html import escape
from typing import Any

from msgspec import Struct

from grainwise.reports.figures import COLOURS, SLO_COLOUR, lay_out, shorten
from grainwise.reports.frontier import undominated

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down")
GROUP_MARKS = {
    "fixed": ("circle", COLOURS[0]),
    "adaptive": ("star", COLOURS[1]),
    "configuration": ("triangle-up", COLOURS[2]),
    "reconstructed": ("square", COLOURS[3]),
    "ablation": ("x", COLOURS[7]),
}
"""A sign and a colour for each group, so that neither alone has to tell them apart."""


class Dot(Struct, frozen=True):
    """One cell: points by which adaptive attains more, and the fraction by which it costs more, than the best fixed one."""

    kind: str
    points: float
    dearer: float
    is_within: bool
    hover: str


class Way(Struct, frozen=True):
    """One way in one cell: what it attained of 1, and USD per 1,000 requests."""

    name: str
    group: str
    usd: float
    attained: float


class Choice(Struct, frozen=True):
    """A cell whose ways are drawn, under the name that the menu has for it."""

    name: str
    ways: tuple[Way, ...]


def difference_figure(go: Any, dots: Sequence[Dot], least: float, most: float) -> Any:
    """Points of attainment over percent of cost; the tolerances as lines, ``least`` points and ``most`` percent."""
    figure = go.Figure()
    for at, kind in enumerate(dict.fromkeys(dot.kind for dot in dots)):
        for is_within in (True, False):
            own = [dot for dot in dots if dot.kind == kind and dot.is_within == is_within]
            if not own:
                continue
            symbol = SYMBOLS[at % len(SYMBOLS)]
            figure.add_scatter(
                x=[100 * dot.dearer for dot in own], y=[dot.points for dot in own], mode="markers",
                name=escape(shorten(kind if is_within else f"not within: {kind}")),
                marker={"symbol": symbol if is_within else f"{symbol}-open", "color": COLOURS[at % len(COLOURS)], "size": 8},
                opacity=0.8,
                hovertext=[dot.hover for dot in own], hoverinfo="text",
            )  # fmt: skip
    lay_out(
        figure,
        "cost of adaptive over that of the best fixed granularity (%)",
        "attainment of adaptive minus that of it (points)",
    )
    dashed = {"color": SLO_COLOUR, "dash": "dash", "width": 1}
    figure.add_hline(y=least, line=dashed)
    figure.add_vline(x=most, line=dashed)
    figure.add_hline(y=0, line={"color": "#808080", "width": 1})
    figure.add_vline(x=0, line={"color": "#808080", "width": 1})
    figure.update_layout(height=520)
    return figure


def frontier_figure(go: Any, choices: Sequence[Choice]) -> Any:
    """Attainment over cost of every way of one cell, with the line of those that no other beats; a menu chooses the cell."""
    figure = go.Figure()
    owners: list[int] = []
    for number, choice in enumerate(choices):
        best = sorted((choice.ways[place] for place in undominated([(way.usd, way.attained) for way in choice.ways])),
                      key=lambda way: way.usd)  # fmt: skip
        figure.add_scatter(
            x=[way.usd for way in best], y=[100 * way.attained for way in best], mode="lines", name="frontier",
            line={"color": "#808080", "width": 1.5, "dash": "dot", "shape": "hv"}, hoverinfo="skip", visible=number == 0,
        )  # fmt: skip
        owners.append(number)
        for group, (symbol, colour) in GROUP_MARKS.items():
            own = [way for way in choice.ways if way.group == group]
            if not own:
                continue
            figure.add_scatter(
                x=[way.usd for way in own], y=[100 * way.attained for way in own], mode="markers+text", name=group,
                text=[escape(shorten(way.name)) for way in own], textposition="top center", textfont={"size": 10},
                marker={"symbol": symbol, "color": colour, "size": 14 if group == "adaptive" else 9},
                hovertext=[_told(way) for way in own],
                hoverinfo="text", visible=number == 0,
            )  # fmt: skip
            owners.append(number)
    lay_out(figure, "cost (USD per 1,000 offered requests)", "attainment (%)")
    figure.update_layout(height=520)
    if len(choices) > 1:
        buttons = [
            {"label": escape(choice.name), "method": "restyle", "args": [{"visible": [owner == number for owner in owners]}]}
            for number, choice in enumerate(choices)
        ]
        figure.update_layout(
            updatemenus=[{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.12, "yanchor": "bottom", "bgcolor": "#ffffff",
                          "font": {"color": "#1c2330"}}], margin_t=110,
        )  # fmt: skip
    return figure


def _told(way: Way) -> str:
    return f"{escape(way.name)}<br>{100 * way.attained:.2f} % in time<br>{way.usd:.4g} USD per 1,000"


def capacity_figure(go: Any, rows: Sequence[tuple[str, str, float, str]]) -> Any:
    """Bars of (SLO factor, way, requests per second, group), side by side for each SLO factor."""
    figure = go.Figure()
    ways = list(dict.fromkeys((way, group) for _, way, _, group in rows))
    patterns = {"fixed": "", "adaptive": "x", "configuration": "/", "reconstructed": "\\", "ablation": "."}
    for at, (way, group) in enumerate(ways):
        own = [(factor, rate) for factor, other, rate, _ in rows if other == way]
        figure.add_bar(
            x=[factor for factor, _ in own], y=[rate for _, rate in own], name=escape(shorten(way)),
            marker={"color": COLOURS[at % len(COLOURS)], "pattern": {"shape": patterns.get(group, ""), "size": 6}},
            hovertemplate="%{y:.3g}/s",
        )  # fmt: skip
    lay_out(figure, "SLO (fraction of the base latency L)", "requests/s at 99 % attainment")
    figure.update_layout(barmode="group", xaxis_type="category", height=380)
    return figure
