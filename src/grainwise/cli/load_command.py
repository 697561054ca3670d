"""``grainwise load``: from options to a run of the load generator and its report."""

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal

import msgspec
from msgspec import Struct
from rich.progress import Progress

from grainwise.cli.load_bodies import choose_by_app, read_bodies
from grainwise.cli.load_generator import LoadReport, Sample, run_traffic, summarise
from grainwise.cli.load_workload import app_of, steady_traffic, stepped_traffic, traced_traffic, urls_of
from grainwise.cli.options import check_positive
from grainwise.cli.render import console, render_load
from grainwise.cli.workload_file import read_workload
from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import SECOND
from grainwise.workloads.traces.finding import trace_source
from grainwise.workloads.traffic import Traffic, mean_rate_per_s, open_arrivals, span_us
from grainwise.workloads.users import UserPool


class LoadOptions(Struct, frozen=True, kw_only=True):
    """What ``grainwise load`` was told. At most one of ``workload``, ``steps`` and ``trace`` stands in for the rate."""

    url: str
    workload: str | None = None
    rate_per_s: float = 10.0
    seconds: float = 10.0
    steps: str | None = None
    trace: str | None = None
    time_scale: float = 1.0
    process: Literal["poisson", "constant"] = "poisson"
    seed: int = 1
    bodies: Sequence[str] = ()
    json_bodies: Sequence[str] = ()
    expect: str | None = None
    slo_ms: float | None = None
    timeout_s: float = 60.0


class AppsReport(Struct, frozen=True):
    """The whole load, and each app's part of it."""

    total: LoadReport
    apps: dict[str, LoadReport]


def load_url(options: LoadOptions, as_json: bool) -> int:
    """Run the load and print its report; a workload of several apps has one for each as well.

    Returns the exit code: 1 where an answer was wrong, none came, or the request itself was refused (4xx but 429).

    Raises:
        GrainwiseError: an option or a file cannot be used.
    """
    traffic = _traffic(options)
    traces = cache(trace_source(options.seed))
    urls = urls_of(traffic, options.url, from_file=options.workload is not None)
    is_right = expected(options.expect) if options.expect is not None else None
    bodies = read_bodies(urls, options.bodies, options.json_bodies, is_right)
    check_positive("--slo-ms", options.slo_ms)
    seconds = span_us(traffic, traces) / SECOND
    offered = seconds * sum(mean_rate_per_s(traffic, app, traces) for app in traffic.apps)
    with Progress(console=None if sys.stderr.isatty() else console(), disable=as_json or not sys.stderr.isatty()) as progress:
        task = progress.add_task("offering load", total=round(offered))

        def step(sample: Sample) -> None:
            progress.advance(task)

        samples = asyncio.run(
            run_traffic(
                open_arrivals(traffic, options.seed, traces),
                choose_by_app(bodies),
                users=UserPool(traffic, traces),
                seed=options.seed,
                timeout_s=options.timeout_s,
                on_sample=step,
            )
        )
    report = summarise(samples, options.slo_ms, seconds)
    by_app = {
        app: summarise([sample for sample in samples if sample.app == app], options.slo_ms, seconds)
        for app in traffic.apps
        if len(traffic.apps) > 1
    }
    _print(report, by_app, as_json)
    is_refused = any(status.startswith("4") and status != "429" for status in report.status_counts)
    return 1 if report.wrong or report.answered < report.offered or is_refused else 0


def _print(report: LoadReport, by_app: dict[str, LoadReport], as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(AppsReport(report, by_app) if by_app else report) + b"\n")
        return
    for app, part in by_app.items():
        console().print(app, markup=False)
        console().print(render_load(part))
    if by_app:
        console().print("all apps")
    console().print(render_load(report))
    if report.first_error:
        console().print(f"first error: {report.first_error}")


def _traffic(options: LoadOptions) -> Traffic:
    """What is offered."""
    given = [name for name in ("workload", "steps", "trace") if getattr(options, name) is not None]
    if len(given) > 1:
        raise ConfigurationError(f"--{given[0]} and --{given[1]} both say when requests come; give one of them")
    if options.workload is not None:
        return read_workload(options.workload, (app_of(options.url),))
    if options.trace is not None:
        return traced_traffic(options.url, options.trace, options.time_scale)
    if options.steps is not None:
        return stepped_traffic(options.url, options.steps, options.process)
    return steady_traffic(options.url, options.rate_per_s, options.seconds, options.process)


def expected(text: str) -> Callable[[bytes], bool]:
    """A judge of answers: their ``outputs`` equal this JSON (or its single value, where there is one output).

    Raises:
        ConfigurationError: ``text`` is no JSON.
    """
    try:
        wanted = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"--expect is no JSON: {error}") from error
    return lambda body: outputs_equal(body, wanted)


def outputs_equal(body: bytes, wanted: object) -> bool:
    """Whether an answer of the plain API holds these outputs."""
    try:
        outputs = json.loads(body)["outputs"]
    except (ValueError, KeyError, TypeError):
        return False
    return outputs == wanted or (isinstance(outputs, dict) and list(outputs.values()) == [wanted])
