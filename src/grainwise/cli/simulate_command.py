"""``grainwise simulate``: from options to tables, a page and files."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from grainwise.cli.render import console
from grainwise.cli.results_file import encode_results
from grainwise.cli.scenarios import SimulateOptions, make_trials
from grainwise.cli.trials import run_trials, traces
from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import SECOND
from grainwise.simulation.trial import Trial
from grainwise.telemetry.compare import Comparison, Replicated, compare
from grainwise.telemetry.result import RunResult


def simulate_apps(options: SimulateOptions, as_json: bool, processes: int | None = None) -> None:
    """The command.

    Raises:
        GrainwiseError: see ``make_trials`` and ``run_trials``.
    """
    if options.html is not None:
        check_pages()
    shown = console(is_error=True)
    # Gone when it ends, so that nothing of it stays above an error.
    with Progress(TextColumn("planning"), BarColumn(), console=shown, disable=as_json, transient=True) as planning:
        planning.add_task("", total=None)
        trials = make_trials(options, traces())
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=shown, disable=as_json) as progress:
        what = f"simulating {len(trials)} runs" if len(trials) > 1 else f"simulating {trials[0].traffic.name}"
        task = progress.add_task(what, total=len(trials))
        fractions = [0.0] * len(trials)

        def step(at: int, fraction: float) -> None:
            fractions[at] = fraction
            progress.update(task, completed=sum(fractions))

        began = time.perf_counter()
        results = run_trials(trials, step, processes)
        took_s = time.perf_counter() - began
        progress.update(task, completed=len(trials))
    settings = _settings(trials, results)
    if options.out is not None:
        write_file(options.out, encode_results(settings))
    if options.html is not None:
        write_page(options.html, settings, "Simulation of " + ", ".join(app.name for app in results[0].apps))
    if as_json:
        print_results(settings)
        return
    print_settings(settings)
    virtual_s = sum(trial.scenario.duration_us for trial in trials) / SECOND
    shown.print(f"{virtual_s:,.0f} s of virtual time in {took_s:.1f} s: {virtual_s / max(took_s, 1e-9):,.0f} times as fast")
    for what, path in (("page", options.html), ("result", options.out), ("requests", options.requests), ("log", options.log)):
        if path is not None:
            shown.print(f"{what}: {path}")


def _settings(trials: Sequence[Trial], results: Sequence[RunResult]) -> list[Replicated]:
    found: dict[str, list[RunResult]] = {}
    for trial, result in zip(trials, results, strict=True):
        found.setdefault(trial.policy, []).append(result)
    return [Replicated(name, tuple(own)) for name, own in found.items()]


def is_single(settings: Sequence[Replicated]) -> bool:
    """Whether there is one run only."""
    return len(settings) == 1 and len(settings[0].results) == 1


def print_settings(settings: Sequence[Replicated]) -> None:
    """The tables of one run, or those of several side by side."""
    from grainwise.reports.text import render_comparison, render_result

    if is_single(settings):
        console().print(render_result(settings[0].results[0]))
    else:
        console().print(render_comparison(compare(settings)))


def print_results(settings: Sequence[Replicated]) -> None:
    """What ``--out`` writes, on standard output."""
    sys.stdout.buffer.write(encode_results(settings) + b"\n")
    sys.stdout.buffer.flush()


def check_pages() -> None:
    """Refuse to begin where a page cannot be written in the end.

    Raises:
        PlatformError: plotly is not installed.
    """
    from grainwise.reports.figures import load_plotly

    load_plotly()


def write_page(path: Path, settings: Sequence[Replicated], title: str) -> None:
    """The page about some runs: of each setting the run with its first seed, and the comparison over all.

    Raises:
        ConfigurationError: the file cannot be written.
        PlatformError: plotly is not installed.
    """
    from grainwise.reports.page import page

    comparison: Comparison | None = None if is_single(settings) else compare(settings)
    write_file(path, page([each.results[0] for each in settings], comparison, title).encode())


def write_file(path: Path, data: bytes) -> None:
    """Write a file that was asked for.

    Raises:
        ConfigurationError: it cannot be written.
    """
    try:
        path.write_bytes(data)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
