"""``grainwise trace``: what a trace is like, which there are, and how to get a public one."""

from pathlib import Path
from typing import Annotated

import typer

from grainwise.cli.errors import reported

traces = typer.Typer(help="Recorded traffic: describe a trace, list them, download a public one.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@traces.command(epilog="Example: grainwise trace describe azure_llm_2023_code --window 10m..20m")
def describe(
    trace: Annotated[str, typer.Argument(help="A file, a name in the folder GRAINWISE_TRACES, or fitted:NAME.")],
    format_name: Annotated[str | None, typer.Option("--format", help="The format; default: told by the columns.")] = None,
    only: Annotated[str | None, typer.Option(help="One app, function or segment of the file.")] = None,
    window: Annotated[str | None, typer.Option(help="A part of it: START..END, such as 10m..20m.")] = None,
    rate_scale: Annotated[float, typer.Option(help="This many times as many arrivals.")] = 1.0,
    time_scale: Annotated[float, typer.Option(help="This many times as fast.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of whatever is drawn.")] = 1,
    as_json: Json = False,
) -> None:
    """Rate, burstiness at several scales, sizes and a small plot of a trace."""
    with reported():
        from grainwise.cli.trace_output import DescribeOptions, describe_trace

        describe_trace(DescribeOptions(trace, format_name, only, window, rate_scale, time_scale, seed), as_json)


@traces.command("list", epilog="Example: grainwise trace list")
def list_all(as_json: Json = False) -> None:
    """The traces in the folder GRAINWISE_TRACES, the public ones that can be downloaded, and the fitted generators."""
    with reported():
        from grainwise.cli.trace_output import list_traces

        list_traces(as_json)


@traces.command(epilog="Example: grainwise trace get azure_llm_2023_code --to traces")
def get(
    name: Annotated[str, typer.Argument(help="A public trace, as grainwise trace list names it.")],
    to: Annotated[Path | None, typer.Option(help="The folder; default: the one that GRAINWISE_TRACES names.")] = None,
    as_json: Json = False,
) -> None:
    """Download a public trace from its publisher and check its hash."""
    with reported():
        from grainwise.cli.trace_output import get_public

        get_public(name, to, as_json)
