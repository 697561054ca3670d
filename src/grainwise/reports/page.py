"""One HTML file about one or several runs: tables and figures, complete in itself, without a request to any network."""

from collections.abc import Sequence
from html import escape
from typing import Any

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

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --dim: #5b6472; --ground: #f6f7f9; --card: #fff; --line: #dfe3e8;
  --good: #1a7f37; --bad: #c62828; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --dim: #9aa4b2; --ground: #12161c; --card: #1b2129;
  --line: #313a46; --good: #56c271; --bad: #ff7b72; } }
body { margin: 0 auto; padding: 24px; max-width: 1400px; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 4px; font-size: 26px; } h2 { margin: 36px 0 12px; font-size: 20px; }
h3 { margin: 0 0 4px; font-size: 14px; font-weight: 600; color: var(--dim); } p { margin: 4px 0; color: var(--dim); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(560px, 100%), 1fr)); gap: 14px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; min-width: 0;
  overflow-x: auto; } .wide { grid-column: 1 / -1; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 6px; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--dim); font-weight: 600; } td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.free { display: inline-block; min-width: 5em; white-space: normal; } small { color: var(--dim); font-weight: 400; }
tr:last-child td { border-bottom: 0; } .good { color: var(--good); } .bad { color: var(--bad); }
"""
_COLOURS = """
(function () {
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  function paint() {
    var ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
    document.querySelectorAll(".js-plotly-plot").forEach(function (figure) {
      Plotly.relayout(figure, { "font.color": ink });
    });
  }
  dark.addEventListener("change", paint);
  window.addEventListener("load", paint);
})();
"""
_CONFIG = {"responsive": True, "displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}


def page(results: Sequence[RunResult], comparison: Comparison | None = None, title: str = "Grainwise") -> str:
    """The page about ``results``, overlaid where there are several, with the table of ``comparison``.

    Raises:
        PlatformError: plotly is not installed.
    """
    go, offline = load_plotly()
    runs = [Run(name, result, at) for at, (name, result) in enumerate(zip(_names(results), results, strict=True))]
    figures = _Figures()
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
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>\n"
        f"<script>{offline.get_plotlyjs()}</script></head>\n<body>{body}\n<script>{_COLOURS}</script></body></html>\n"
    )


class _Figures:
    """Numbers the figures, so that each has an id of its own and a page is the same bytes every time."""

    def __init__(self) -> None:
        self._count = 0

    def card(self, title: str, figure: Any, kind: str = "card") -> str:
        """A figure under its title, which is escaped already."""
        self._count += 1
        drawn = figure.to_html(
            full_html=False, include_plotlyjs=False, include_mathjax=False, div_id=f"figure-{self._count}", config=_CONFIG
        )
        return f'<div class="{kind}"><h3>{title}</h3><div class="figure">{drawn}</div></div>'


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
