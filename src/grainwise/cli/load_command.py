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
    """Run the load and print its report; returns the exit code, 1 when an answer was wrong or none came.

    Raises:
        GrainwiseError: an option or a file cannot be used.
    """
    calls = _calls(options)
    instants = _instants(options)
    with Progress(console=None if sys.stderr.isatty() else console(), disable=as_json or not sys.stderr.isatty()) as progress:
        task = progress.add_task("offering load", total=len(instants))

        def step(sample: Sample) -> None:
            progress.advance(task)

        samples = asyncio.run(run_load(calls, instants, timeout_s=options.timeout_s, on_sample=step))
    span = max((instants[-1] if instants else 0) / SECOND, 1e-3)
    report = summarise(samples, options.slo_ms, max(span, max((sample.done for sample in samples), default=0) / SECOND))
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    else:
        console().print(render_load(report))
        if report.first_error:
            console().print(f"first error: {report.first_error}")
    return 0 if report.wrong == 0 and report.answered == report.offered else 1


def _instants(options: LoadOptions) -> list[Instant]:
    if options.trace is not None:
        try:
            data = options.trace.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"the trace {options.trace} cannot be read: {error.strerror}") from error
        return read_arrivals(data, str(options.trace), options.time_scale)
    phases: tuple[Phase, ...] = (Phase(options.rate_per_s, round(options.seconds * SECOND)),)
    if options.steps is not None:
        phases = parse_steps(options.steps)
    return list(arrivals(phases, options.process, options.seed))


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
