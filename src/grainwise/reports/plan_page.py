"""The page about one plan table: frontier, capacities, staircases of dispatch, and every granularity with its reason."""

from collections.abc import Mapping, Sequence
from html import escape

from grainwise.predictors.evaluator import Judgement
from grainwise.reports.document import Figures, document
from grainwise.reports.figures import load_plotly
from grainwise.reports.frontier import CAPACITY_TARGET, Frontier, Point
from grainwise.reports.page_tables import html_table
from grainwise.reports.plan_figures import capacity_figure, frontier_figure, stairs_figure
from grainwise.reports.stairs import Stairs


def plan_page(found: Frontier, stairs: Sequence[Stairs], slo_ms: float, said: Sequence[str], letters: Mapping[str, str]) -> str:
    """The page.

    Args:
        found: the frontier of the table.
        stairs: those of the chosen plan.
        slo_ms: the latency of the SLO.
        said: lines about the table, such as what was chosen and why.
        letters: by which figures name stages; empty where there are too many for that.

    Raises:
        PlatformError: plotly is not installed.
    """
    go, offline = load_plotly()
    figures = Figures()
    title = f"Plans of {found.app}"
    parts = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(line)}</p>" for line in said)]
    if letters:
        parts.append(f"<p>{escape(', '.join(f'{letter} {name}' for name, letter in letters.items()))}</p>")
    parts.append('<div class="cards">')
    parts.append(figures.card("Cost and attainment of each granularity", frontier_figure(go, found, letters), "card wide"))
    name = f"Capacity at {CAPACITY_TARGET:.0%} attainment (predicted; first the chosen granularity)"
    parts.append(figures.card(name, capacity_figure(go, found, letters), "card wide"))
    for stair in stairs:
        name = f"What dispatch runs first of the chosen plan, from {escape(stair.head)} on, by the time that a request has left"
        parts.append(figures.card(name, stairs_figure(go, stair, slo_ms, letters), "card wide"))
    parts.append(_every(found) + "</div>")
    return document(title, parts, offline.get_plotlyjs())


def _every(found: Frontier) -> str:
    head = ["#", "granularity", "USD/h", "attainment", f"max/s at {CAPACITY_TARGET:.0%}", "frontier"]
    if found.is_judged:
        head += [f"USD/h by {escape(found.evaluator)}", f"attainment by {escape(found.evaluator)}"]
    return html_table([*head, "what it lacks"], [_row(found, point) for point in found.points], "Every granularity")


def _row(found: Frontier, point: Point) -> list[str]:
    cells = [
        str(point.number),
        f'<span class="free">{escape(point.name)}</span>',
        f"{point.usd_per_hour:.4f}",
        f"{point.attainment:.2%}",
        "-" if point.capacity_per_s is None else f"{point.capacity_per_s:.2f}",
        "●" if point.is_on_frontier else "",
    ]
    if found.is_judged:
        cells += ["-", "-"] if point.judged is None else _judged(point.judged)
    return [*cells, f'<span class="free">{escape(point.lacks or "chosen")}</span>']


def _judged(judged: Judgement) -> list[str]:
    cost, attainment = judged.usd_per_hour, judged.attainment
    return [
        f"{cost.value:.4f}<br><small>{cost.low:.4f} to {cost.high:.4f}</small>",
        f"{attainment.value:.2%}<br><small>{attainment.low:.2%} to {attainment.high:.2%}</small>",
    ]
