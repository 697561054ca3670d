"""``grainwise predictor train``: from options to a predictor in a file."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from grainwise.cli.commands import print_json, read_spec
from grainwise.cli.process_pool import for_each
from grainwise.cli.profiles import find_shipped
from grainwise.cli.render import console
from grainwise.cli.simulate_command import write_file
from grainwise.domain.errors import CapacityError, ConfigurationError, InfeasibleError
from grainwise.predictors.features import FEATURES_VERSION
from grainwise.predictors.predictor_file import TARGETS, Predictor, write
from grainwise.predictors.trees import load_lightgbm
from grainwise.profiles.artifact import check
from grainwise.simulation.learning import train
from grainwise.simulation.made_apps import Sample, profiled
from grainwise.simulation.settings import Purpose, Setting, draw_setting
from grainwise.simulation.sweep import Cell, Swept, read_swept, sweep

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_CAPACITY_EVERY = 2
"""The capacity is sought in every second setting: it takes several runs."""


class TrainOptions(Struct, frozen=True):
    """What ``grainwise predictor train`` was told."""

    apps: tuple[Path, ...]
    settings: int
    requests: int
    seed: int
    out: Path
    is_only_these: bool = False
    processes: int | None = None
    keep: Path | None = None
    kept: Path | None = None


class _Job(Struct, frozen=True):
    setting: Setting
    requests: int
    is_capacity_sought: bool


class Trained(Struct, frozen=True):
    """What ``--json`` prints of a training: where the predictor is, what it was made of, and its errors."""

    path: str
    settings: int
    left_out: int
    rows: int
    seconds: float
    bytes: int
    held_out: dict[str, float]
    constants: dict[str, str]


def train_predictor(options: TrainOptions, as_json: bool) -> None:
    """The command.

    Raises:
        PlatformError: LightGBM is not installed.
        GrainwiseError: an app or its profile cannot be used, or there are too few settings.
    """
    load_lightgbm()
    for option, path in (("--out", options.out), ("--keep", options.keep)):
        if path is not None and not path.resolve().parent.is_dir():
            raise ConfigurationError(f"{option} {path}: there is no folder {path.parent}; make it first")
    began = time.perf_counter()
    swept = _simulate(options, as_json) if options.kept is None else _read_kept(options.kept)
    if options.keep is not None:
        write_file(options.keep, msgspec.json.encode(swept))
    found = train(swept)
    data = write(found)
    write_file(options.out, data)
    seconds = round(time.perf_counter() - began, 1)
    trained = Trained(
        str(options.out),
        found.settings,
        sum(not cells for cells in swept.cells),
        found.rows,
        seconds,
        len(data),
        found.held_out,
        found.constants,
    )
    if as_json:
        print_json(trained)
        return
    console().print(_table(found))
    console(is_error=True).print(
        f"{trained.settings} settings ({trained.left_out} left out: no plan fits), {trained.rows} simulated runs, "
        f"{seconds:.0f} s; predictor of {len(data) / 1024:.0f} KiB: {options.out}"
    )


def _simulate(options: TrainOptions, is_quiet: bool) -> Swept:
    samples = load_samples(options.apps)
    settings = draw_settings(samples, options.settings, options.seed, "training", options.is_only_these)
    jobs = [_Job(setting, options.requests, setting.number % _CAPACITY_EVERY == 0) for setting in settings]
    cells = run_with_progress("simulating settings", _sweep, jobs, options.processes, is_quiet)
    digests = {sample.source: sample.profile_digest for sample in samples}
    return Swept(FEATURES_VERSION, options.seed, options.requests, not options.is_only_these, digests, tuple(cells))


def _read_kept(path: Path) -> Swept:
    try:
        return read_swept(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigurationError(f"--kept {path} cannot be read: {error.strerror}; give the path of a file") from error


def load_samples(paths: Sequence[Path]) -> tuple[Sample, ...]:
    """Apps with the profiles that lie beside them.

    Raises:
        GrainwiseError: an app or its profile cannot be used, or two apps have one name.
    """
    found: list[Sample] = []
    for path in paths:
        before = list(sys.path)
        try:
            spec = read_spec(path)
        finally:
            # A file beside one app may have the name of a module of the next.
            sys.path[:] = before
        profile = find_shipped(path)
        check(profile, spec=spec, device_class=None)
        if any(sample.source == spec.name for sample in found):
            raise ConfigurationError(f"{path} is a second app of the name {spec.name!r}; give it once")
        found.append(profiled(profile, spec))
    return tuple(found)


def draw_settings(
    samples: Sequence[Sample], count: int, seed: int, purpose: Purpose, is_only_these: bool
) -> tuple[Setting, ...]:
    """Settings of a purpose, of these apps alone or of made ones too.

    Raises:
        ConfigurationError: these alone are wanted and there are none.
    """
    if is_only_these:
        return tuple(draw_setting(number, seed, purpose, samples, 0.0) for number in range(count))
    return tuple(draw_setting(number, seed, purpose, samples) for number in range(count))


def run_with_progress(
    what: str, job: Callable[[Item], Answer], items: Sequence[Item], processes: int | None, is_quiet: bool
) -> list[Answer]:
    """``for_each`` with a bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(is_error=True), disable=is_quiet) as progress:
        task = progress.add_task(what, total=len(items))
        return for_each(job, items, lambda done: progress.update(task, completed=done), processes)


def _sweep(job: _Job) -> tuple[Cell, ...]:
    """The cells of a setting; none where no plan fits the machines that were drawn."""
    try:
        return sweep(job.setting, requests=job.requests, is_capacity_sought=job.is_capacity_sought)
    except (InfeasibleError, CapacityError):
        return ()


def _table(found: Predictor) -> Table:
    """Errors on settings that were left out of a first fit."""
    table = Table(title="simulated runs left out of the fit: mean absolute error", title_justify="left")
    for column in ("", "learned", "analytic", "within 5-95 % range"):
        table.add_column(column, justify="right" if column else "left")
    for target in TARGETS:
        names = (f"{target}_error", f"{target}_error_analytic", f"{target}_within_range")
        if all(name in found.held_out for name in names):
            table.add_row(target, *(f"{100 * found.held_out[name]:.1f} %" for name in names))
    return table
