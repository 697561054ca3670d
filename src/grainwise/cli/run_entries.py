"""The entries of the commands about runs, simulated or recorded: simulate, compare, report, observe."""

from pathlib import Path
from typing import Annotated

import typer

from grainwise.cli.entry_options import CostKind, Dwell, Evaluator, Html, Json, Late, SloMs
from grainwise.cli.errors import reported

Requests = Annotated[Path | None, typer.Option(help="Write every request here, .parquet or .csv; several runs: a file each.")]


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command(
        epilog="Example: grainwise simulate examples/text/app.py --workload poisson:50:10m --policy adaptive --policy fixed"
    )(simulate)
    cli.command(epilog="Example: grainwise compare monday-two-nodes.json monday-four-nodes.json --html compared.html")(compare)
    cli.command(epilog="Example: grainwise report examples/text/.grainwise/logs/20260102-030405 --html report.html")(report)
    cli.command(epilog="Example: grainwise observe http://127.0.0.1:8001 --seconds 600 --out morning.parquet")(observe)


def simulate(
    apps: Annotated[list[Path], typer.Argument(metavar="APP...", help="App files, each with a profile.")],
    cluster: Annotated[Path | None, typer.Option(help="A cluster file; default: this machine.")] = None,
    workload: Annotated[
        str, typer.Option(help="A workload file, or a line such as poisson:50:10m or trace:NAME.")
    ] = "poisson:5:60s",
    policies: Annotated[
        list[str] | None,
        typer.Option("--policy", metavar="NAME[:GRAIN]", help="A policy set, maybe with a granularity; several are compared."),
    ] = None,
    grain: Annotated[str | None, typer.Option(help='Begin with this: "fused", "split", or groups "a+b | c".')] = None,
    slo_ms: SloMs = None,
    objective: CostKind = "provisioned",
    evaluator: Evaluator = "analytic",
    late: Late = "cheapest",
    dwell: Dwell = 30.0,
    seed: Annotated[int, typer.Option(help="The first seed.", min=0)] = 1,
    replications: Annotated[int, typer.Option(help="How many seeds, run over all cores.", min=1)] = 1,
    failures: Annotated[
        str | None, typer.Option(help="A failure file, or a line such as crash:mtbf=60s,lose_node:at=30s:node=n3.")
    ] = None,
    profiles: Annotated[
        list[Path] | None,
        typer.Option("--profile", help="A profile, for the app that it names; default: that beside the app file."),
    ] = None,
    cold: Annotated[bool, typer.Option("--cold", help="Begin without any instance.")] = False,
    log: Annotated[Path | None, typer.Option(help="Write the log to this folder; several runs: a folder each in it.")] = None,
    requests: Requests = None,
    html: Html = None,
    out: Annotated[Path | None, typer.Option(help="Write the result here, for compare.")] = None,
    as_json: Json = False,
) -> None:
    """Run the product's controller in virtual time on a pretended cluster: what would this traffic cost there?"""
    with reported():
        from grainwise.cli.options import to_us
        from grainwise.cli.scenarios import SimulateOptions
        from grainwise.cli.simulate_command import simulate_apps
        from grainwise.domain.config import AppConfig

        options = SimulateOptions(
            apps=tuple(apps),
            cluster=cluster,
            workload=workload,
            policies=tuple(policies or ("adaptive",)),
            grain=grain,
            slo_ms=slo_ms,
            objective=objective,
            seed=seed,
            replications=replications,
            failures=failures,
            profiles=tuple(profiles or ()),
            is_cold=cold,
            log=log,
            requests=requests,
            html=html,
            out=out,
            config=AppConfig(evaluator=evaluator, late=late, dwell_us=to_us("--dwell", dwell)),
        )
        simulate_apps(options, as_json)


def compare(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT...", help="Files of simulate --out or report --out.")],
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Show results side by side, with intervals over their seeds; the first is what the others are held against."""
    with reported():
        from grainwise.cli.compare_command import compare_results

        compare_results(results, html, as_json)


def report(
    source: Annotated[
        Path,
        typer.Argument(metavar="LOG|RESULT", help="A log folder, one segment of it, or a file of --out."),
    ],
    warmup_seconds: Annotated[
        float | None,
        typer.Option(help="Seconds at the beginning that do not count; default: those before a simulation's traffic.", min=0),
    ] = None,
    html: Html = None,
    out: Annotated[Path | None, typer.Option(help="Write the result here, for compare.")] = None,
    requests: Requests = None,
    as_json: Json = False,
) -> None:
    """Show what a log or a saved result says of its run: attainment, latency and its parts, both costs, functions, machines."""
    with reported():
        from grainwise.cli.report_command import ReportOptions, report_source

        report_source(ReportOptions(source, warmup_seconds, html, out, requests), as_json)


def observe(
    source: Annotated[str, typer.Argument(help="A log folder, or the admin API of a running server: its URL or socket.")],
    out: Annotated[Path, typer.Option(help="The trace to write, .csv or .parquet.")],
    seconds: Annotated[float | None, typer.Option(help="How long; default: 60 of a server, all of a log.", min=0.1)] = None,
    app: Annotated[str | None, typer.Option(help="Only requests for this app; a line plays a trace for one app.")] = None,
    admin_token_file: Annotated[Path | None, typer.Option(help="File with the admin API's token.")] = None,
    as_json: Json = False,
) -> None:
    """Record what is asked of a live run into a trace, for simulate and load with --workload trace:FILE."""
    with reported():
        from grainwise.cli.observe_command import observe_source

        observe_source(source, out, seconds, app, admin_token_file, as_json)
