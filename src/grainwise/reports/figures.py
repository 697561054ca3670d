"""Figures of runs: what is drawn, by plotly. Several runs are overlaid, each in its colour.

Every name that a user gave is escaped, since plotly reads a little HTML in its texts.
"""

import importlib
from collections.abc import Sequence
from html import escape
from typing import Any

from grainwise.domain.errors import PlatformError
from grainwise.telemetry.result import AppResult, InstanceSpan, RunResult

COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#8c6bb1",
    "#7f7f7f",
    "#a6761d",
    "#66c2a5",
    "#e7298a",
    "#666aff",
)
"""First Okabe and Ito's colours, which people with colour blindness tell apart."""
PART_COLOURS = {"queue": "#e69f00", "cold start": "#56b4e9", "service": "#009e73", "hop": "#cc79a7"}
SLO_COLOUR = "#d62728"
MAX_CHANGES = 40
MAX_NAME = 40


class Run:
    """A run under the name that it has on the page."""

    __slots__ = ("colour", "name", "result")

    def __init__(self, name: str, result: RunResult, at: int) -> None:
        self.name = escape(shorten(name))
        self.result = result
        self.colour = COLOURS[at % len(COLOURS)]

    def app(self, name: str) -> AppResult | None:
        """An app of the run, if it had it."""
        return next((app for app in self.result.apps if app.name == name), None)


def load_plotly() -> tuple[Any, Any]:
    """``plotly.graph_objects`` and ``plotly.offline``.

    Raises:
        PlatformError: plotly is not installed.
    """
    try:
        return importlib.import_module("plotly.graph_objects"), importlib.import_module("plotly.offline")
    except ImportError as error:
        raise PlatformError('a page draws with plotly, which is not installed; pip install "grainwise[report]"') from error


def shorten(name: str) -> str:
    """A name that fits a label."""
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def latency_figure(go: Any, runs: Sequence[Run], app: str) -> Any:
    """Distribution of latency against the SLO."""
    figure = go.Figure()
    slo_ms, target = 0.0, 0.0
    is_wide = False
    for run in runs:
        own = run.app(app)
        if own is None:
            continue
        slo_ms, target = own.slo_ms, own.target
        widest = max(own.latency.max_ms, own.slo_ms)
        is_wide = is_wide or (own.latency.count > 0 and widest > 8 * max(own.latency.p50_ms, 0.001))
        figure.add_scatter(
            x=[value for value, _ in own.cdf_ms], y=[fraction for _, fraction in own.cdf_ms], mode="lines", name=run.name,
            line={"color": run.colour, "width": 2, "shape": "hv"}, hovertemplate="%{x:.4g} ms: %{y:.2%}",
        )  # fmt: skip
    figure.add_scatter(
        x=[slo_ms, slo_ms], y=[0, 1], mode="lines", name=f"SLO: {100 * target:.4g} % within {slo_ms:g} ms",
        line={"color": SLO_COLOUR, "dash": "dash", "width": 1.5}, hoverinfo="skip",
    )  # fmt: skip
    lay_out(figure, "latency of answered requests (ms)", "fraction at or below")
    figure.update_layout(yaxis_range=[0, 1.02], yaxis_tickformat=".0%", xaxis_type="log" if is_wide else "linear")
    if not is_wide:
        figure.update_layout(xaxis_rangemode="tozero")
    return figure


def rate_figure(go: Any, runs: Sequence[Run], app: str) -> Any:
    """Offered rate and goodput over time, with each change of the granularity."""
    figure = go.Figure()
    for run in runs:
        own = run.app(app)
        if own is None:
            continue
        ends, widths = own.timeline.end_s, _widths(own)
        suffix = "" if len(runs) == 1 else f" · {run.name}"
        figure.add_scatter(
            x=ends, y=_per(own.timeline.offered, widths), mode="lines", name=f"offered{suffix}",
            line={"color": run.colour, "width": 1.2, "dash": "dot", "shape": "vh"}, hovertemplate="%{y:.4g}/s",
        )  # fmt: skip
        figure.add_scatter(
            x=ends, y=_per(own.timeline.met, widths), mode="lines", name=f"goodput{suffix}",
            line={"color": run.colour, "width": 2, "shape": "vh"}, hovertemplate="%{y:.4g}/s",
        )  # fmt: skip
        for number, change in enumerate(own.regranulations[:MAX_CHANGES], start=1):
            figure.add_vline(
                x=change.at_s, line={"color": run.colour, "dash": "dashdot", "width": 1},
                annotation_text=str(number), annotation_position="top left", annotation_font_color=run.colour,
                annotation_hovertext=escape(f"{change.previous} → {change.grain}"),
            )  # fmt: skip
    lay_out(figure, "time (s)", "requests per second")
    figure.update_layout(yaxis_rangemode="tozero", hovermode="x unified")
    return figure


def instances_figure(go: Any, runs: Sequence[Run], app: str) -> Any:
    """Ready instances over time: by function for one run, in all for several."""
    figure = go.Figure()
    for run in runs:
        own = run.app(app)
        if own is None:
            continue
        timeline = own.timeline
        if len(runs) == 1:
            for at, (name, counts) in enumerate(timeline.instances.items()):
                figure.add_scatter(
                    x=timeline.end_s, y=counts, mode="lines", name=escape(shorten(name)), stackgroup="instances",
                    line={"color": COLOURS[at % len(COLOURS)], "width": 0.5, "shape": "vh"}, hovertemplate="%{y}",
                )  # fmt: skip
        else:
            totals = [sum(counts) for counts in zip(*timeline.instances.values(), strict=True)]
            figure.add_scatter(
                x=timeline.end_s, y=totals, mode="lines", name=run.name,
                line={"color": run.colour, "width": 2, "shape": "vh"}, hovertemplate="%{y}",
            )  # fmt: skip
    lay_out(figure, "time (s)", "ready instances")
    figure.update_layout(yaxis_rangemode="tozero", hovermode="x unified")
    return figure


def cost_figure(go: Any, runs: Sequence[Run], app: str) -> Any:
    """Billed and provisioned cost over time."""
    figure = go.Figure()
    for run in runs:
        own = run.app(app)
        if own is None:
            continue
        suffix = "" if len(runs) == 1 else f" · {run.name}"
        for name, costs, dash in (
            ("billed", own.timeline.billed_usd_per_hour, "dot"),
            ("provisioned", own.timeline.provisioned_usd_per_hour, "solid"),
        ):
            figure.add_scatter(
                x=own.timeline.end_s, y=costs, mode="lines", name=f"{name}{suffix}",
                line={"color": run.colour, "width": 2 if dash == "solid" else 1.2, "dash": dash, "shape": "vh"},
                hovertemplate="%{y:.4g} USD/h",
            )  # fmt: skip
    lay_out(figure, "time (s)", "USD per hour")
    figure.update_layout(yaxis_rangemode="tozero", hovermode="x unified")
    return figure


def shares_figure(go: Any, runs: Sequence[Run], app: str) -> Any:
    """Parts of the latency: of a whole request, and of a visit to each function."""
    figure = go.Figure()
    rows: list[tuple[str, str, Any]] = []
    for run in runs:
        own = run.app(app)
        if own is None:
            continue
        rows.append((run.name, "request", own.shares))
        rows.extend((run.name, escape(shorten(each.name)), each.shares) for each in own.functions if each.visits)
    names: Any = [name for _, name, _ in rows]
    labels = names if len(runs) == 1 else [[run for run, _, _ in rows], names]
    for part, colour in PART_COLOURS.items():
        field = "cold_ms" if part == "cold start" else f"{part}_ms"
        figure.add_bar(
            x=labels, y=[getattr(shares, field) for _, _, shares in rows], name=part, marker_color=colour,
            hovertemplate="%{y:.4g} ms",
        )  # fmt: skip
    lay_out(figure, "", "mean ms")
    figure.update_layout(barmode="stack", bargap=0.35)
    return figure


def gantt_figure(go: Any, run: Run) -> Any:
    """The instances of one run from start to end, coloured by function; the cold start is pale."""
    figure = go.Figure()
    spans = run.result.instances
    end_s = run.result.duration_s
    several = len(run.result.apps) > 1
    by_function: dict[str, list[InstanceSpan]] = {}
    for span in spans:
        by_function.setdefault(f"{span.app}: {span.function}" if several else span.function, []).append(span)
    for at, (name, own) in enumerate(by_function.items()):
        label = escape(shorten(name))
        cold: list[tuple[float, float, InstanceSpan]] = []
        warm: list[tuple[float, float, InstanceSpan]] = []
        for span in own:
            until = end_s if span.ended_s is None else span.ended_s
            cold.append((span.started_s, until if span.ready_s is None else span.ready_s, span))
            if span.ready_s is not None:
                warm.append((span.ready_s, until, span))
        for bars, opacity in ((warm, 1.0), (cold, 0.35)):
            figure.add_bar(
                y=[span.instance for _, _, span in bars], base=[begin for begin, _, _ in bars],
                x=[max(until - begin, 0.0) for begin, until, _ in bars], orientation="h", width=0.8, name=label,
                legendgroup=label,
                showlegend=bars is warm, marker_color=COLOURS[at % len(COLOURS)], marker_line_width=0, opacity=opacity,
                hovertext=[_hover(span, until) for _, until, span in bars], hoverinfo="text",
            )  # fmt: skip
    lay_out(figure, "time (s)", "instance")
    numbers = sorted({span.instance for span in spans})
    figure.update_layout(barmode="overlay", height=min(1200, max(240, 140 + 18 * len(numbers))))
    if numbers:
        figure.update_layout(yaxis_range=[numbers[-1] + 0.6, numbers[0] - 0.6])
    if len(numbers) <= MAX_CHANGES:
        figure.update_layout(yaxis_dtick=1)
    return figure


def _hover(span: InstanceSpan, until: float) -> str:
    said = f"instance {span.instance} of {span.app}: {span.function} on {span.node}, {span.started_s:.4g} to {until:.4g} s"
    ready = "never ready" if span.ready_s is None else f"ready after {span.ready_s - span.started_s:.4g} s"
    return escape(f"{said}, {ready}, busy {span.busy_fraction:.1%}{f', {span.end}' if span.end else ''}")


def _widths(app: AppResult) -> list[float]:
    ends = app.timeline.end_s
    return [max(end - before, 1e-9) for before, end in zip((0.0, *ends), ends, strict=False)]


def _per(counts: Sequence[int], widths: Sequence[float]) -> list[float]:
    return [count / width for count, width in zip(counts, widths, strict=True)]


def lay_out(figure: Any, x_title: str, y_title: str) -> None:
    """Give a figure the looks that all have, and titles to its axes."""
    # Colours that are legible on light and on dark; the page sets its own once it is drawn.
    figure.update_layout(
        template="none", height=320, margin={"l": 60, "r": 16, "t": 40, "b": 46}, paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)", font={"color": "#808080", "family": "system-ui, sans-serif", "size": 12},
        xaxis={"title": {"text": x_title}, "gridcolor": "rgba(128,128,128,0.25)", "zeroline": False},
        yaxis={"title": {"text": y_title}, "gridcolor": "rgba(128,128,128,0.25)", "zeroline": False},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}, showlegend=True,
    )  # fmt: skip
