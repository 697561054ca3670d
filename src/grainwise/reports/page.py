"""One HTML file about one or several runs: tables and figures, complete in itself, without a request to any network."""

from collections.abc import Sequence
from html import escape

from grainwise.reports.document import Figures, document
from grainwise.reports.figures import (
    Run,
    cost_figure,
    gantt_figure,
    instances_figure,
    latency_figure,
    load_plotly,
    rate_figure,
    shares_figure,
)
from grainwise.reports.page_tables import (
    apps_named,
    comparison_section,
    function_table,
    node_table,
    provenance_section,
    regranulation_table,
    summary_table,
    tenant_table,
)
from grainwise.reports.text import measured, percent
from grainwise.telemetry.compare import Comparison
from grainwise.telemetry.result import RunResult


def page(results: Sequence[RunResult], comparison: Comparison | None = None, title: str = "Grainwise") -> str:
    """The page about ``results``, overlaid where there are several, with the table of ``comparison``.

    Raises:
        PlatformError: plotly is not installed.
    """
    go, offline = load_plotly()
    runs = [Run(name, result, at) for at, (name, result) in enumerate(zip(_names(results), results, strict=True))]
    figures = Figures()
    parts = [f"<h1>{escape(title)}</h1>", *_headlines(runs)]
    if comparison is not None:
        parts.append(comparison_section(comparison))
    for app in dict.fromkeys(app.name for run in runs for app in run.result.apps):
        slos = dict.fromkeys(f"{own.slo_ms:g} ms for {percent(own.target)}" for _, own in apps_named(runs, app))
        parts.append(f"<h2>{escape(app)} <small>SLO: {escape(', '.join(slos))}</small></h2>")
        parts.append('<div class="cards">' + summary_table(runs, app))
        for name, make in (
            ("Latency against the SLO", latency_figure),
            ("Offered rate and goodput", rate_figure),
            ("Instances", instances_figure),
            ("Cost", cost_figure),
        ):
            parts.append(figures.card(name, make(go, runs, app)))
        name = "Where the time goes: of a request along its critical path, and of a visit to each function"
        parts.append(figures.card(name, shares_figure(go, runs, app), "card wide"))
        parts.append(function_table(runs, app) + tenant_table(runs, app) + regranulation_table(runs, app) + "</div>")
    parts.append('<h2>Instances</h2><div class="cards">')
    for run in runs:
        left = run.result.instances_left_out
        more = f" (the first {len(run.result.instances)}; {left} more are left out)" if left else ""
        parts.append(
            figures.card(f"{run.name if len(runs) > 1 else 'From start to end'}{more}", gantt_figure(go, run), "card wide")
        )
    parts.append(node_table(runs) + "</div>")
    parts.append(provenance_section(runs))
    return document(title, parts, offline.get_plotlyjs())


def _names(results: Sequence[RunResult]) -> list[str]:
    """A name for each run: policy and seed where they tell runs apart, else its number."""
    if len(results) == 1:
        return [results[0].kind]
    for parts in (("policy",), ("policy", "seed"), ("cluster", "policy"), ("workload", "policy", "seed"), ("kind",)):
        names = [_name(result, parts) for result in results]
        if len(set(names)) == len(names) and all(names):
            return names
    return [f"{at} {_name(result, ('kind', 'policy', 'seed'))}".strip() for at, result in enumerate(results, start=1)]


def _name(result: RunResult, parts: Sequence[str]) -> str:
    found = []
    for part in parts:
        value = result.kind if part == "kind" else getattr(result.provenance, part)
        if value not in ("", None):
            found.append(f"seed {value}" if part == "seed" else str(value))
    return ", ".join(found)


def _headlines(runs: Sequence[Run]) -> list[str]:
    lines = []
    for run in runs:
        own = run.result
        name = "" if len(runs) == 1 else f"<b style='color:{run.colour}'>{run.name}</b>: "
        lines.append(f"<p>{name}{escape(own.headline)}; {measured(own)}</p>")
        lines.extend(f"<p>{escape(note)}</p>" for note in own.provenance.notes)
    return lines
