"""The tables of a page, as HTML; whatever a user named is escaped."""

from collections.abc import Iterable, Sequence
from html import escape

from grainwise.reports.figures import Run
from grainwise.reports.text import difference, metric_label, number, percent, rejections, spread
from grainwise.telemetry.compare import Comparison
from grainwise.telemetry.result import AppResult

Cells = Iterable[str]


def html_table(head: Cells, rows: Iterable[Cells], title: str = "", kind: str = "card wide") -> str:
    """A table of cells that are escaped already."""
    names = list(head)
    shown = "<tr>" + "".join(f"<th>{cell}</th>" for cell in names) + "</tr>" if any(names) else ""
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    heading = f"<h3>{title}</h3>" if title else ""
    return f'<div class="{kind}">{heading}<table><thead>{shown}</thead><tbody>{body}</tbody></table></div>'


def _run_column(runs: Sequence[Run], cell: str) -> tuple[str, ...]:
    """A cell of the column that tells runs apart; a single run needs none."""
    return (cell,) if len(runs) > 1 else ()


def apps_named(runs: Sequence[Run], name: str) -> list[tuple[Run, AppResult]]:
    """The runs that had the app, each with its result."""
    return [(run, app) for run in runs if (app := run.app(name)) is not None]


def summary_table(runs: Sequence[Run], name: str) -> str:
    """What each run came to for an app."""
    head = (
        *_run_column(runs, "run"),
        *("attainment", "offered", "not answered", "goodput", "p50 ms", "p95 ms", "p99 ms"),
        *("max ms", "billed USD", "provisioned USD", "per 1000", "cold starts", "granularity"),
    )
    rows = []
    for run, app in apps_named(runs, name):
        own, cost = app.latency, app.cost
        state = "good" if app.meets_slo else "bad"
        quantiles = [number(each) if own.count else "–" for each in (own.p50_ms, own.p95_ms, own.p99_ms, own.max_ms)]
        rows.append(
            (
                *_run_column(runs, run.name),
                f'<span class="{state}">{percent(app.attainment)}</span>',
                f"{app.offered:,} ({number(app.offered_per_s)}/s)",
                escape(rejections(app)),
                f"{number(app.goodput_per_s)}/s",
                *quantiles,
                number(cost.billed_usd),
                number(cost.provisioned_usd),
                f"{number(cost.billed_usd_per_1000)} / {number(cost.provisioned_usd_per_1000)}",
                str(app.cold_starts.count),
                f'<span class="free">{escape(app.grain)}</span>',
            )
        )
    return html_table(head, rows)


def function_table(runs: Sequence[Run], name: str) -> str:
    """The functions of an app: where the time of a visit goes, cost and instances."""
    head = (
        *("function", *_run_column(runs, "run"), "invocations", "mean batch", "queue ms", "cold ms", "service ms", "hop ms"),
        *("billed USD", "provisioned USD", "utilisation", "most instances", "cold starts"),
    )
    rows = []
    for run, app in apps_named(runs, name):
        for each in app.functions:
            own = each.shares
            rows.append(
                (
                    escape(each.name),
                    *_run_column(runs, run.name),
                    f"{each.invocations:,}",
                    number(each.mean_batch),
                    *map(number, (own.queue_ms, own.cold_ms, own.service_ms, own.hop_ms)),
                    number(each.billed_usd),
                    number(each.provisioned_usd),
                    percent(each.utilisation),
                    str(each.max_instances),
                    str(each.cold_starts),
                )
            )
    return html_table(head, rows, "Functions")


def tenant_table(runs: Sequence[Run], name: str) -> str:
    """The tenants of an app; nothing where none is named."""
    rows = [
        (
            escape(tenant.name) or "(none)",
            *_run_column(runs, run.name),
            percent(tenant.attainment),
            f"{tenant.offered:,}",
            f"{tenant.answered:,}",
            *(number(each) if own.count else "–" for each in (own.p50_ms, own.p95_ms, own.p99_ms)),
        )
        for run, app in apps_named(runs, name)
        for tenant in app.tenants
        for own in (tenant.latency,)
    ]
    head = ("tenant", *_run_column(runs, "run"), "attainment", "offered", "answered", "p50 ms", "p95 ms", "p99 ms")
    return html_table(head, rows, "Tenants") if rows else ""


def regranulation_table(runs: Sequence[Run], name: str) -> str:
    """When the granularity of an app changed; nothing where it did not."""
    rows = [
        (str(number), *_run_column(runs, run.name), f"{change.at_s:.6g}", escape(change.previous), escape(change.grain))
        for run, app in apps_named(runs, name)
        for number, change in enumerate(app.regranulations, start=1)
    ]
    return html_table(("", *_run_column(runs, "run"), "at s", "from", "to"), rows, "Re-granulations") if rows else ""


def node_table(runs: Sequence[Run]) -> str:
    """The nodes, how much of them was held and how much of that worked."""
    rows = [
        (
            escape(node.name),
            *_run_column(runs, run.name),
            number(node.usable_cores),
            percent(node.allocated_fraction),
            percent(node.utilisation),
        )
        for run in runs
        for node in run.result.nodes
    ]
    return (
        html_table(("node", *_run_column(runs, "run"), "cores", "allocated", "busy of what was allocated"), rows, "Nodes")
        if rows
        else ""
    )


def comparison_section(comparison: Comparison) -> str:
    """The settings side by side, with what their intervals mean."""
    first, *others = comparison.settings
    cells = {(cell.app, cell.metric, cell.setting): cell for cell in comparison.cells}
    changes = {(each.app, each.metric, each.setting): each for each in comparison.differences}
    head = ["app", "metric", escape(first)]
    for name in others:
        head.extend((escape(name), f"{escape(name)} − {escape(first)}"))
    rows = []
    for app, metric, unit in dict.fromkeys((cell.app, cell.metric, cell.unit) for cell in comparison.cells):
        row = [escape(app), escape(metric_label(metric, unit))]
        for name in comparison.settings:
            cell = cells.get((app, metric, name))
            row.append(escape(spread(cell.value)) if cell else "–")
            change = changes.get((app, metric, name))
            if change is not None:
                state = {"better": "good", "worse": "bad"}.get(change.verdict, "")
                row.append(f'<span class="{state}">{escape(difference(change))}</span>')
            elif name != first:
                row.append("–")
        rows.append(row)
    note = (
        "± is the half-width of the 95 % interval over seeds; differences are paired where seeds are common. "
        "Of twenty differences, one may look resolved by chance."
    )
    table = html_table(head, rows)
    return f'<h2>Side by side</h2><p>{escape(comparison.headline)}. {note}</p><div class="cards">{table}</div>'


def provenance_section(runs: Sequence[Run]) -> str:
    """What the runs were made of: seeds, workload, policy, cluster, versions and digests."""
    rows: list[Cells] = []
    for run in runs:
        own = run.result.provenance
        facts = {
            "seed": "" if own.seed is None else str(own.seed),
            "seeds": ", ".join(f"{name} {seed}" for name, seed in own.seeds.items()),
            "workload": own.workload,
            "policy": own.policy,
            "cluster": own.cluster,
            "versions": ", ".join(f"{name} {version}" for name, version in own.versions.items()),
            "digests": ", ".join(f"{name} {digest}" for name, digest in own.digests.items()),
        }
        rows.extend((name, *_run_column(runs, run.name), escape(value)) for name, value in facts.items() if value)
    if not rows:
        return ""
    return '<h2>Made of</h2><div class="cards">' + html_table(("", *_run_column(runs, "run"), ""), rows) + "</div>"
