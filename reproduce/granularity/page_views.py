"""From findings to what the figures of the page draw: squares of the map, dots of the scatter, cells of the frontier."""

from collections.abc import Sequence
from html import escape

from reproduce.granularity.page_grains import Grains, grains_of
from reproduce.granularity.page_map import Square, other_axes
from reproduce.granularity.page_scatter import Choice, Dot, Way
from reproduce.granularity.records import Cell
from reproduce.granularity.tables_findings import Findings, place

MOST_CHOICES = 24
"""So many cells the frontier offers."""
_LEAST_MAP = 2
"""Fewer cells that differ in nothing but SLO and load are no map; they are in the table of cells."""


def squares(findings: Findings, profiles: str, app: str, sharing: str) -> list[Square]:
    """The cells of an app under one kind of sharing, without those that stand alone."""
    own = [
        cell
        for cell in findings.cells.values()
        if (cell.profiles, cell.app, cell.sharing) == (profiles, app, sharing) and cell.number in findings.winners
    ]
    panels: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in own:
        panels.setdefault((cell.hop, cell.billing, other_axes(cell)), []).append(cell)
    grains = grains_of(profiles, app, findings.cells.values(), findings.results.runs)
    return [_square(findings, grains, cell) for cells in panels.values() if len(cells) >= _LEAST_MAP for cell in cells]


def _square(findings: Findings, grains: Grains, cell: Cell) -> Square:
    winner = findings.winners[cell.number]
    name = grains.short(winner.way)
    beside = findings.against_best.get(cell.number)
    lines = [
        place(cell),
        f"winner {winner.way.removeprefix('fixed:')}",
        f"{100 * winner.mean.attainment:.1f} % in time, {winner.mean.cost:.4g} USD per 1,000",
        f"ties: {', '.join(way.removeprefix('fixed:') for way in winner.ties) or 'none'}",
    ]
    if beside is not None:
        lines.append(f"adaptive minus the chosen one: {beside.points:+.1f} points, {100 * beside.cost:+.1f} % cost")
    is_usable = cell.number in findings.usable
    lines.extend([] if is_usable else ["not usable: too few requests are in time under any way"])
    text = f"{name} +{len(winner.ties)}" if winner.ties else name
    return Square(cell, grains.cut(winner.way), is_usable, text, "<br>".join(escape(line) for line in lines))


def map_groups(findings: Findings) -> list[tuple[str, str, str]]:
    """Profile set, app and kind of sharing of every map that there is."""
    found = dict.fromkeys((cell.profiles, cell.app, cell.sharing) for cell in findings.cells.values())
    return [group for group in found if squares(findings, *group)]


def dots(findings: Findings) -> list[Dot]:
    """A dot for every usable cell that adaptive and the chosen fixed granularity both ran in."""
    found = []
    for number, beside in findings.against_best.items():
        cell = findings.cells[number]
        hover = (
            f"{escape(place(cell))}<br>{beside.points:+.2f} points (at least {beside.points_low:+.2f}), "
            f"{100 * beside.cost:+.2f} % cost (at most {100 * beside.cost_high:+.2f} %)"
        )
        found.append(Dot(f"{cell.app}, {cell.profiles}", beside.points, beside.cost, beside.is_within, hover))
    return found


def choices_of_frontier(findings: Findings) -> list[Choice]:
    """Cells at the headline hop and billing, those first in which the most ways ran; their number is limited."""
    header = findings.results.header
    wanted = [
        (number, cell)
        for number, cell in findings.cells.items()
        if (cell.hop, cell.billing) == (header.headline_hop, header.headline_billing) and number in findings.usable
    ]
    by_ways = sorted(wanted, key=lambda each: -len(findings.groups_in(each[0])))[:MOST_CHOICES]
    return [Choice(place(cell), _ways(findings, number, cell)) for number, cell in sorted(by_ways, key=lambda each: each[0])]


def _ways(findings: Findings, number: int, cell: Cell) -> tuple[Way, ...]:
    grains = grains_of(cell.profiles, cell.app, findings.cells.values(), findings.results.runs)
    groups = findings.groups_in(number)
    return tuple(
        Way(grains.short(way), groups[way], mean.cost, mean.attainment) for way, mean in findings.means(number).items()
    )


def legends(findings: Findings) -> Sequence[str]:
    """Which digit is which stage of each app."""
    found = []
    for profiles, app in findings.apps():
        legend = grains_of(profiles, app, findings.cells.values(), findings.results.runs).legend
        if legend:
            found.append(f"{app} ({profiles}): {legend}")
    return found
