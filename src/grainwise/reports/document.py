"""An HTML file that is complete in itself: style, plotly, titled figures; it asks no network for anything."""

from collections.abc import Sequence
from html import escape
from typing import Any

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


def document(title: str, parts: Sequence[str], plotly_script: str) -> str:
    """A page of ``parts``, which are HTML already; ``title`` is text."""
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>\n"
        f"<script>{plotly_script}</script></head>\n<body>{body}\n<script>{_COLOURS}</script></body></html>\n"
    )


class Figures:
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
