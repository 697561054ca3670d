"""The page of the study: one HTML file, complete in itself, drawn from a results file."""

import importlib
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.measuring import Result

from grainwise.domain.errors import PlatformError
from grainwise.reports.document import Figures, document
from grainwise.reports.figures import load_plotly
from reproduce.granularity.grid import Study
from reproduce.granularity.page_map import winner_map
from reproduce.granularity.page_scatter import capacity_figure, difference_figure, frontier_figure
from reproduce.granularity.page_views import choices_of_frontier, dots, legends, map_groups, squares
from reproduce.granularity.records import Results
from reproduce.granularity.statistics import MOST_COST, MOST_POINTS
from reproduce.granularity.tables import StudyTable, as_html
from reproduce.granularity.tables_all import tables_of
from reproduce.granularity.tables_capacity import places
from reproduce.granularity.tables_cells import shortened
from reproduce.granularity.tables_findings import Findings
from reproduce.granularity.tables_head import PAPER, TITLE, claim
from reproduce.granularity.tables_live import live_sentence

SECTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("What was run", ("grid", "changes", "hops")),
    ("What it must reach", ("verdicts", "misses", "claims")),
    ("Which granularity wins where", ()),
    ("Adaptive beside the best fixed granularity", ("selections", "fixed", "chosen")),
    ("Cost and attainment of every way", ()),
    ("Published schedulers, reconstructed", ("configuration", "reconstructed", "decisions")),
    ("Capacity", ("capacity", "capacity_by_way")),
    ("Ablations", ("ablations",)),
    ("Null results", ("axes", "levels")),
    ("Live counterpart: measured", ("live",)),
    ("Every cell", ("cells",)),
)
"""The headings in their order, with the keys of the tables under each."""


def page(results: Results, rule: Study, live: Result | None) -> str:
    """The page about results, by the rules of the grid, with what the live benchmark measured.

    Raises:
        PlatformError: plotly is not installed.
        ArtifactError: the file of hops is missing or malformed.
    """
    go, offline = load_plotly()
    findings, figures = Findings(results, rule), Figures()
    tables = tables_of(findings, live)
    drawn: dict[str, Callable[[], list[str]]] = {
        "Which granularity wins where": lambda: _maps(go, findings, figures),
        "Adaptive beside the best fixed granularity": lambda: _scatter(go, findings, figures),
        "Cost and attainment of every way": lambda: _frontier(go, findings, figures),
        "Capacity": lambda: _capacities(go, results, figures),
        "Live counterpart: measured": lambda: [f"<p>{escape(live_sentence(live))}</p>"],
    }
    parts = [f"<h1>{escape(TITLE)}</h1>", f"<p>{escape(claim(results))}</p>", f"<p><small>{escape(PAPER)}</small></p>"]
    for heading, keys in SECTIONS:
        parts.append(f'<h2>{escape(heading)}</h2><div class="cards">')
        parts.extend(drawn[heading]() if heading in drawn else [])
        parts.extend(as_html(shortened(table)) for table in tables if _is_under(table, keys))
        parts.append("</div>")
    return document(TITLE, parts, offline.get_plotlyjs())


def write_page(path: Path, results: Results, rule: Study, live: Result | None) -> Path:
    """Write the page to a file.

    Raises:
        PlatformError: plotly is not installed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(results, rule, live), "utf-8")
    return path


def _is_under(table: StudyTable, keys: tuple[str, ...]) -> bool:
    return table.key in keys or ("live" in keys and table.key.startswith("live_"))


def _maps(go: Any, findings: Findings, figures: Figures) -> list[str]:
    said = [f"<p>{escape(line)}</p>" for line in legends(findings)]
    note = (
        "A square is a cell: the granularity that wins in it, the cheapest of those within a point of the best attainment, and "
        "how many tie with it. Darker is cut more."
    )
    maps = [
        figures.card(
            f"Winner map: {escape(app)}, {escape(sharing)} ({escape(profiles)}; simulated)",
            winner_map(go, _subplots(), squares(findings, profiles, app, sharing)),
            "card wide",
        )
        for profiles, app, sharing in map_groups(findings)
    ]
    empty = [] if maps else ["<p>No two cells of the results differ in SLO and load alone; all are in the table of cells.</p>"]
    return [f'<div class="wide"><p>{note}</p>', *said, *empty, "</div>", *maps]


def _scatter(go: Any, findings: Findings, figures: Figures) -> list[str]:
    found = dots(findings)
    if not found:
        return []
    title = "Adaptive minus the fixed granularity that the selection seeds chose, a dot for each usable cell (simulated)"
    return [figures.card(title, difference_figure(go, found, -MOST_POINTS, 100 * MOST_COST), "card wide")]


def _frontier(go: Any, findings: Findings, figures: Figures) -> list[str]:
    found = choices_of_frontier(findings)
    if not found:
        return ["<p>No usable cell of the results is at the headline hop and billing.</p>"]
    return [
        figures.card("Every way of a cell at the headline hop and billing (simulated)", frontier_figure(go, found), "card wide")
    ]


def _capacities(go: Any, results: Results, figures: Figures) -> list[str]:
    by_app: dict[tuple[str, str, str, str], list[tuple[str, str, float, str]]] = {}
    for each in places(results.capacities):
        rows = by_app.setdefault((each.app, each.profiles, each.hop, each.billing), [])
        rows.extend((f"{each.slo_factor:g}", way.way, way.per_s, way.group) for way in each.ways)
    return [
        figures.card(
            f"Capacity at 99 % attainment: {escape(app)} ({escape(profiles)}, hop {escape(hop)}, {escape(billing)}; simulated)",
            capacity_figure(go, rows),
        )
        for (app, profiles, hop, billing), rows in by_app.items()
    ]


def _subplots() -> Any:
    try:
        return importlib.import_module("plotly.subplots")
    except ImportError as error:
        raise PlatformError('a page draws with plotly, which is not installed; pip install "grainwise[report]"') from error
