"""The winner map: for every SLO factor and load the granularity that wins, a panel for every hop and billing."""

from collections.abc import Sequence
from html import escape
from typing import Any

from msgspec import Struct

from grainwise.reports.figures import lay_out
from reproduce.granularity.records import Cell

UNUSABLE = -0.6
"""Where a cell that is not usable stands on the scale of colours, of which 0 to 1 are how much a winner is cut."""
_SCALE = ((0.0, "#9aa0a6"), (0.3, "#9aa0a6"), (0.3, "#fde725"), (0.55, "#35b779"), (0.75, "#31688e"), (1.0, "#440154"))
"""Grey, then viridis from its light end: in the order of lightness, so that it is read without hues too."""
_PANEL = 250


class Square(Struct, frozen=True):
    """One cell on the map. ``cut`` is how much its winner is cut, ``text`` what stands in it, ``hover`` what it tells."""

    cell: Cell
    cut: float
    is_usable: bool
    text: str
    hover: str


def other_axes(cell: Cell) -> str:
    """The axes that are neither on the map nor its panels, in words."""
    nodes = f"{cell.nodes} node{'' if cell.nodes == 1 else 's'}"
    return f"{cell.profiles}, models x{cell.weights:g}, {cell.burstiness}, {nodes}"


def winner_map(go: Any, subplots: Any, squares: Sequence[Square]) -> Any:
    """Panels of squares, hops from left to right and billings from top to bottom; what other axes hold is chosen in a menu."""
    hops = list(dict.fromkeys(square.cell.hop for square in squares))
    billings = list(dict.fromkeys(square.cell.billing for square in squares))
    others = list(dict.fromkeys(other_axes(square.cell) for square in squares))
    loads = _loads([square.cell for square in squares])
    factors = [f"{factor:g}" for factor in sorted({square.cell.slo_factor for square in squares})]
    figure = subplots.make_subplots(
        rows=len(billings), cols=len(hops), shared_xaxes=True, shared_yaxes=True, horizontal_spacing=0.02, vertical_spacing=0.1,
        subplot_titles=[escape(f"hop {hop}, {billing}") for billing in billings for hop in hops],
        x_title="load (level of the rate; each square tells it as a fraction of what saturates split)",
        y_title="SLO (fraction of the base latency L)",
    )  # fmt: skip
    owners: list[str] = []
    for other in others:
        for row, billing in enumerate(billings, start=1):
            for column, hop in enumerate(hops, start=1):
                own = [
                    square
                    for square in squares
                    if (square.cell.hop, square.cell.billing, other_axes(square.cell)) == (hop, billing, other)
                ]
                figure.add_trace(_panel(go, own, loads, factors, other == others[0], not owners), row=row, col=column)
                owners.append(other)
    lay_out(figure, "", "")
    figure.update_xaxes(title_text="", type="category", categoryorder="array", categoryarray=loads, showgrid=False)
    figure.update_yaxes(title_text="", type="category", categoryorder="array", categoryarray=factors, showgrid=False)
    figure.update_layout(showlegend=False, margin={"l": 70, "t": 80, "b": 70}, height=140 + _PANEL * len(billings))
    if len(others) > 1:
        buttons = [
            {"label": escape(other), "method": "restyle", "args": [{"visible": [owner == other for owner in owners]}]}
            for other in others
        ]
        figure.update_layout(updatemenus=[{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom",
                                           "pad": {"b": 34}, "bgcolor": "#ffffff", "font": {"color": "#1c2330"}}],
                             margin_t=110)  # fmt: skip
    return figure


def _panel(
    go: Any, squares: Sequence[Square], loads: Sequence[str], factors: Sequence[str], is_seen: bool, has_scale: bool
) -> Any:
    by_place = {(f"{square.cell.slo_factor:g}", square.cell.load): square for square in squares}
    grid = [[by_place.get((factor, load)) for load in loads] for factor in factors]
    return go.Heatmap(
        x=loads, y=factors, z=[[_height(square) for square in row] for row in grid],
        text=[[escape(square.text) if square else "" for square in row] for row in grid],
        hovertext=[[square.hover if square else "" for square in row] for row in grid],
        texttemplate="%{text}", hoverinfo="text", hoverongaps=False, xgap=2, ygap=2, zmin=UNUSABLE, zmax=1.0,
        colorscale=[list(stop) for stop in _SCALE], showscale=has_scale, visible=is_seen,
        colorbar={"tickvals": [-0.36, 0, 0.5, 1], "ticktext": ["not usable", "one function", "half cut", "split"],
                  "thickness": 12, "outlinewidth": 0},
    )  # fmt: skip


def _height(square: Square | None) -> float | None:
    if square is None:
        return None
    return square.cut if square.is_usable else UNUSABLE


def _loads(cells: Sequence[Cell]) -> list[str]:
    """The levels of the load, the lowest rate first; a level is not the same rate in all cells, since cliffs are not."""
    fractions: dict[str, list[float]] = {}
    for cell in cells:
        fractions.setdefault(cell.load, []).append(cell.load_fraction)
    return sorted(fractions, key=lambda load: sum(fractions[load]) / len(fractions[load]))
