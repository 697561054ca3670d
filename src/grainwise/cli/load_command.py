"""``grainwise load``: from options to a run of the load generator and its report."""

import asyncio
import json
import mimetypes
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct
from rich.progress import Progress

from grainwise.cli.load_generator import Call, Sample, run_load, summarise
from grainwise.cli.options import check_positive
from grainwise.cli.render import console, render_load
from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import SECOND, Instant
from grainwise.workloads.arrivals import Phase, arrivals, parse_steps, read_arrivals


class LoadOptions(Struct, frozen=True):
    """What ``grainwise load`` was told."""

    url: str
    rate_per_s: float
    seconds: float
    steps: str | None
    trace: Path | None
    time_scale: float
    process: Literal["poisson", "constant"]
    seed: int
    bodies: list[Path]
    json_body: str | None
    expect: str | None
    slo_ms: float | None
    timeout_s: float


def load_url(options: LoadOptions, as_json: bool) -> int:
    """Run the load and print its report.

    Returns the exit code: 1 where an answer was wrong, none came, or the request itself was refused (4xx but 429).

    Raises:
        GrainwiseError: an option or a file cannot be used.
    """
    if not options.url.startswith(("http://", "https://")):
        raise ConfigurationError(f"{options.url!r} is no URL; give one like http://127.0.0.1:8000/v1/apps/APP")
    calls = _calls(options)
    instants, seconds = _instants(options)
    check_positive("--slo-ms", options.slo_ms)
    with Progress(console=None if sys.stderr.isatty() else console(), disable=as_json or not sys.stderr.isatty()) as progress:
        task = progress.add_task("offering load", total=len(instants))

        def step(sample: Sample) -> None:
            progress.advance(task)

        samples = asyncio.run(run_load(calls, instants, timeout_s=options.timeout_s, on_sample=step))
    report = summarise(samples, options.slo_ms, seconds)
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    else:
        console().print(render_load(report))
        if report.first_error:
            console().print(f"first error: {report.first_error}")
    is_refused = any(status.startswith("4") and status != "429" for status in report.status_counts)
    return 1 if report.wrong or report.answered < report.offered or is_refused else 0


def _instants(options: LoadOptions) -> tuple[list[Instant], float | None]:
    """The arrivals, and for how many seconds they are offered, where that is known."""
    if options.trace is not None:
        try:
            data = options.trace.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"the trace {options.trace} cannot be read: {error.strerror}") from error
        return read_arrivals(data, str(options.trace), options.time_scale), None
    if options.steps is not None:
        phases = parse_steps(options.steps)
    else:
        check_positive("--rate", options.rate_per_s)
        check_positive("--seconds", options.seconds)
        phases = (Phase(options.rate_per_s, round(options.seconds * SECOND)),)
    seconds = sum(phase.duration_us for phase in phases) / SECOND
    return list(arrivals(phases, options.process, options.seed)), seconds


def _calls(options: LoadOptions) -> list[Call]:
    is_right = expected(options.expect) if options.expect is not None else None
    if options.json_body is not None:
        try:
            json.loads(options.json_body)
        except json.JSONDecodeError as error:
            raise ConfigurationError(f"--json-body is no JSON: {error}") from error
        return [Call(options.url, options.json_body.encode(), "application/json", is_right)]
    if not options.bodies:
        raise ConfigurationError("nothing to post: give --body FILE or --json-body JSON")
    return [_file_call(options.url, path, is_right) for path in options.bodies]


def _file_call(url: str, path: Path, is_right: Callable[[bytes], bool] | None) -> Call:
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"the body {path} cannot be read: {error.strerror}") from error
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Call(url, body, kind, is_right)


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
