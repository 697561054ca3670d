"""A result or a comparison as tables in a terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from grainwise.telemetry.compare import Cell, Comparison, Difference, Interval
from grainwise.telemetry.result import AppResult, NodeResult, RunResult

MAX_REGRANULATIONS = 10


def render_result(result: RunResult) -> RenderableType:
    """One run; the first line says what kind it is and on what hardware."""
    parts: list[RenderableType] = [
        Text(result.headline, "bold"),
        Text(measured(result)),
        *_provenance(result),
        _apps(result.apps),
        _shares(result.apps),
    ]
    for app in result.apps:
        parts.extend((_function_times(app), _function_costs(app)))
    if result.nodes:
        parts.append(_nodes(result.nodes))
    for app in result.apps:
        parts.extend(_regranulations(app))
    return Group(*parts)


def render_comparison(comparison: Comparison) -> RenderableType:
    """Settings side by side; the first line says what kind of runs they are and on what hardware."""
    parts: list[RenderableType] = [Text(comparison.headline, "bold")]
    apps = list(dict.fromkeys(cell.app for cell in comparison.cells))
    parts.extend(_comparison(app, comparison) for app in apps)
    parts.append(
        Text(
            "± is the half-width of the 95 % interval over seeds. Differences are against "
            f"{comparison.settings[0]}, paired where seeds are common; of twenty, one may look resolved by chance.",
            "dim",
        )
    )
    return Group(*parts)


def measured(result: RunResult) -> str:
    """How long was measured, and for how much of it requests came where that was less."""
    waited = result.duration_s - result.offered_s
    rest = f" (requests came for {result.offered_s:.6g} s)" if waited > 0.01 * result.duration_s else ""
    return f"{result.duration_s:.6g} s measured{rest} after {result.warmup_s:.6g} s of warm-up, {result.events:,} events"


def number(value: float) -> str:
    """Four digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def spread(value: Interval) -> str:
    """A mean and its half-width, of which two digits matter."""
    if value.half_width is None:
        return number(value.mean)
    return f"{number(value.mean)} ± {value.half_width:.2g}"


def difference(value: Difference) -> str:
    """How much more or less, and whether that is resolved; ``same`` where every seed gives the same."""
    own = value.value
    if own.mean == 0 and not own.half_width:
        return "same"
    return f"{'+' if own.mean > 0 else ''}{spread(own)} ({value.verdict})"


def metric_label(metric: str, unit: str) -> str:
    """What the row of a metric is called."""
    return f"{metric} ({unit})" if unit else metric


def percent(fraction: float) -> str:
    """A fraction, in percent."""
    return f"{100 * fraction:.2f} %"


def rejections(app: AppResult) -> str:
    """What was not answered, by reason."""
    found = [f"{count} {code}" for code, count in sorted(app.rejected.items())]
    if app.unfinished:
        found.append(f"{app.unfinished} unfinished")
    return ", ".join(found) or "none"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=Text(title, "bold"), title_justify="left")
    for at, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if at else "left", overflow="fold")
    return table


def _row(table: Table, *cells: str) -> None:
    # As Text: a name in brackets is no markup.
    table.add_row(*map(Text, cells))


def _provenance(result: RunResult) -> list[Text]:
    origin = result.provenance
    facts = [("workload", origin.workload), ("policy", origin.policy), ("cluster", origin.cluster)]
    if origin.seed is not None:
        facts.append(("seed", str(origin.seed)))
    line = ", ".join(f"{name} {value}" for name, value in facts if value)
    found = [Text(line)] if line else []
    found.extend(Text(note, "dim") for note in origin.notes)
    if result.unknown_app:
        found.append(Text(f"{result.unknown_app} requests were for an app that is not served"))
    return found


def _apps(apps: tuple[AppResult, ...]) -> Table:
    table = _table("Apps", "", *(app.name for app in apps))
    lines: list[tuple[str, list[str]]] = [
        ("SLO", [f"{app.slo_ms:g} ms for {percent(app.target)}" for app in apps]),
        ("attainment", [f"{percent(app.attainment)} {'met' if app.meets_slo else 'MISSED'}" for app in apps]),
        ("offered", [f"{app.offered:,} ({number(app.offered_per_s)}/s)" for app in apps]),
        ("answered", [f"{app.answered:,}" for app in apps]),
        ("goodput", [f"{number(app.goodput_per_s)}/s" for app in apps]),
        ("not answered", [rejections(app) for app in apps]),
        ("p50 / p95 / p99", [_quantiles(app) for app in apps]),
        ("mean / max", [_extremes(app) for app in apps]),
        ("billed", [f"{number(app.cost.billed_usd)} USD" for app in apps]),
        ("  per 1000 answered", [f"{number(app.cost.billed_usd_per_1000)} USD" for app in apps]),
        ("provisioned", [f"{number(app.cost.provisioned_usd)} USD" for app in apps]),
        ("  per 1000 answered", [f"{number(app.cost.provisioned_usd_per_1000)} USD" for app in apps]),
        ("cold starts", [_cold_starts(app) for app in apps]),
        ("failures", [", ".join(f"{count} {cause}" for cause, count in app.failures.items()) or "none" for app in apps]),
        ("granularity", [app.grain for app in apps]),
        ("re-granulations", [str(len(app.regranulations)) for app in apps]),
    ]
    for name, cells in lines:
        _row(table, name, *cells)
    for name in sorted({tenant.name for app in apps for tenant in app.tenants}):
        _row(table, f"tenant {name or '(none)'}", *(_tenant(app, name) for app in apps))
    return table


def _tenant(app: AppResult, name: str) -> str:
    for own in app.tenants:
        if own.name == name:
            return f"{percent(own.attainment)} of {own.offered:,}, p95 {number(own.latency.p95_ms)} ms"
    return ""


def _quantiles(app: AppResult) -> str:
    own = app.latency
    return f"{number(own.p50_ms)} / {number(own.p95_ms)} / {number(own.p99_ms)} ms" if own.count else "–"


def _extremes(app: AppResult) -> str:
    return f"{number(app.latency.mean_ms)} / {number(app.latency.max_ms)} ms" if app.latency.count else "–"


def _cold_starts(app: AppResult) -> str:
    own = app.cold_starts
    if not own.count:
        return f"0, {own.stage_loads} loads of stages" if own.stage_loads else "0"
    parts = f"process {number(own.process_ms)} + import {number(own.import_ms)} + load {number(own.load_ms)}"
    loads = f"; {own.stage_loads} loads of stages" if own.stage_loads else ""
    return f"{own.count} ({parts} + first call {number(own.first_call_ms)} ms){loads}"


def _shares(apps: tuple[AppResult, ...]) -> Table:
    table = _table("Where the time of a request goes (mean, ms)", "", "queue", "cold start", "service", "hop", "sum")
    for app in apps:
        own = app.shares
        _row(table, app.name, *map(number, (own.queue_ms, own.cold_ms, own.service_ms, own.hop_ms, own.total_ms)))
    return table


def _function_times(app: AppResult) -> Table:
    title = f"Functions of {app.name}: where the time of a visit goes (mean, ms)"
    table = _table(title, "", "runs", "batch", "queue", "cold start", "service", "hop")
    for each in app.functions:
        own = each.shares
        times = map(number, (own.queue_ms, own.cold_ms, own.service_ms, own.hop_ms))
        _row(table, each.name, f"{each.invocations:,}", number(each.mean_batch), *times)
    return table


def _function_costs(app: AppResult) -> Table:
    table = _table(
        f"Functions of {app.name}: instances and cost (USD)", "", "most", "cold starts", "utilisation", "billed", "provisioned"
    )
    for each in app.functions:
        costs = map(number, (each.billed_usd, each.provisioned_usd))
        _row(table, each.name, str(each.max_instances), str(each.cold_starts), percent(each.utilisation), *costs)
    return table


def _nodes(nodes: tuple[NodeResult, ...]) -> Table:
    table = _table("Nodes", "node", "cores", "allocated", "busy of what was allocated")
    for node in nodes:
        _row(table, node.name, number(node.usable_cores), percent(node.allocated_fraction), percent(node.utilisation))
    return table


def _regranulations(app: AppResult) -> list[Text]:
    shown = app.regranulations[:MAX_REGRANULATIONS]
    lines = [Text(f"{app.name} re-granulated at {each.at_s:.6g} s: {each.previous} → {each.grain}") for each in shown]
    if len(app.regranulations) > len(shown):
        lines.append(Text(f"and {len(app.regranulations) - len(shown)} more re-granulations of {app.name}"))
    return lines


def _comparison(app: str, comparison: Comparison) -> Table:
    cells: dict[tuple[str, str], Cell] = {(cell.metric, cell.setting): cell for cell in comparison.cells if cell.app == app}
    found = {(each.metric, each.setting): each for each in comparison.differences if each.app == app}
    first, *others = comparison.settings
    columns = [first]
    for name in others:
        columns.extend((name, f"{name} − {first}"))
    table = _table(f"{app}", "", *columns)
    for metric, unit in dict.fromkeys((cell.metric, cell.unit) for cell in comparison.cells if cell.app == app):
        row = [_cell(cells.get((metric, first)))]
        for name in others:
            change = found.get((metric, name))
            row.extend((_cell(cells.get((metric, name))), difference(change) if change else "–"))
        _row(table, metric_label(metric, unit), *row)
    return table


def _cell(cell: Cell | None) -> str:
    return spread(cell.value) if cell else "–"
