"""What ``grainwise trace`` does and prints."""

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from rich import box
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table

from grainwise.cli.render import console
from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import SECOND, Micros
from grainwise.workloads.durations import window_of
from grainwise.workloads.traces.catalogue import CATALOGUE
from grainwise.workloads.traces.description import Description, describe
from grainwise.workloads.traces.download import Downloaded, find_public, get_trace
from grainwise.workloads.traces.finding import FOLDER_VARIABLE, load_trace, trace_folder, traces_in
from grainwise.workloads.traces.fitted import PREFIX, PUBLISHED
from grainwise.workloads.traces.shaping import scaled, window

_BLOCKS = " ▁▂▃▄▅▆▇█"
_HEIGHT = 4
_WIDTH = 80


class DescribeOptions(Struct, frozen=True):
    """What ``grainwise trace describe`` was told."""

    trace: str
    format_name: str | None
    only: str | None
    window: str | None
    rate_scale: float
    time_scale: float
    seed: int


def describe_trace(options: DescribeOptions, as_json: bool) -> None:
    """Load, cut, scale, describe and print a trace."""
    recorded = load_trace(options.trace, trace_folder(), options.seed, format_name=options.format_name, only=options.only)
    if options.window is not None:
        recorded = window(recorded, *parse_window(options.window))
    description = describe(scaled(recorded, options.rate_scale, options.time_scale, options.seed))
    if as_json:
        _print_json(description)
    else:
        _print_description(console(), description)


def parse_window(text: str) -> tuple[Micros, Micros | None]:
    """``"600s..1200s"`` as microseconds; the end is ``None`` where it is left open.

    Raises:
        ConfigurationError: it is no such pair, or the end is not after the start.
    """
    found = window_of(text)
    if found is None:
        raise ConfigurationError(f"--window {text!r} is not START..END with START before END, as in 600s..1200s or 10m..20m")
    since, until = found
    return round(since * SECOND), None if until is None else round(until * SECOND)


def _print_json(value: object) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value)) + b"\n")
    sys.stdout.flush()


def _print_description(shown: Console, description: Description) -> None:
    gaps = "" if description.gap_cv is None else f", gaps' cv {description.gap_cv:.2f}"
    shown.print(f"{description.name}: {description.note}", width=_WIDTH)
    shown.print(
        f"{description.arrivals:,} arrivals in {render_span(description.span_s)}, mean {description.mean_per_s:.4g}/s{gaps}",
        width=_WIDTH,
    )
    if description.rates_per_s:
        highest = max(description.rates_per_s)
        shown.print()
        for at, line in enumerate(plot(description.rates_per_s, _HEIGHT)):
            label = f"{highest:.4g}/s" if at == 0 else "0" if at == _HEIGHT - 1 else ""
            shown.print(f"{label:>11} ┤{line}", no_wrap=True)
        shown.print(f"{'':11} └{'─' * len(description.rates_per_s)}", no_wrap=True)
    if description.scales:
        table = _table(("in windows of", "windows", "peak/s", "index of dispersion"))
        for scale in description.scales:
            figures = f"{scale.windows:,}", f"{scale.peak_per_s:.4g}", f"{scale.dispersion:.4g}"
            table.add_row(f"{scale.scale_s:g} s", *figures)
        shown.print(table)
    if description.sizes is not None:
        sizes = description.sizes
        table = _table(("size: mean", "p50", "p95", "p99", "largest", "cv", "correlation with the last"))
        amounts = (sizes.mean, sizes.p50, sizes.p95, sizes.p99, sizes.largest)
        table.add_row(*(f"{amount:,.6g}" for amount in amounts), f"{sizes.cv:.2f}", f"{sizes.correlation:.2f}")
        shown.print(table)


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def render_span(seconds: float) -> str:
    """A span in the unit that suits it."""
    for unit, length in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.4g} {unit}"
    return f"{seconds:.4g} s"


def plot(values: Sequence[float], height: int) -> list[str]:
    """Bars from 0 to the highest value as lines of block characters, the top line first."""
    highest = max(values) or 1.0
    steps = len(_BLOCKS) - 1
    # What is above nothing is shown as something.
    levels = [max(round(value / highest * height * steps), value > 0) for value in values]
    return ["".join(_BLOCKS[min(max(level - row * steps, 0), steps)] for level in levels) for row in range(height - 1, -1, -1)]


def list_traces(as_json: bool) -> None:
    """Print what there is and what can be had."""
    folder = trace_folder()
    here = [path.name for path in traces_in(folder)]
    fitted = {f"{PREFIX}{published.name}": published.note for published in PUBLISHED}
    if as_json:
        _print_json({"folder": str(folder) if folder else None, "here": here, "public": CATALOGUE, "fitted": fitted})
        return
    shown = console()
    where = str(folder) if folder is not None else f"{FOLDER_VARIABLE} names no folder"
    shown.print(f"Here ({where}):")
    for name in here or ["none"]:
        shown.print(f"  {name}")
    shown.print("\nPublic (grainwise trace get NAME):")
    for public in CATALOGUE:
        shown.print(f"  {public.name}: {public.what} ({public.licence})")
    shown.print("\nGenerators:")
    for name, note in fitted.items():
        shown.print(f"  {name}: {note}")


_CHECKED_BY = {
    "published": "its hash is the published one",
    "repository": "its git hash is that of the publisher's repository",
    "recorded": "its hash is that of the first download, which nobody verified",
    "first": "its hash is NOT VERIFIED: none was published; it is recorded beside the file and checked from now on",
}


def get_public(name: str, to: Path | None, as_json: bool) -> None:
    """Download a public trace, check it and say by what.

    Raises:
        ConfigurationError: there is no such trace, or no folder was named.
    """
    public = find_public(name)
    folder = to if to is not None else trace_folder()
    if folder is None:
        raise ConfigurationError(f"say where {name} should go: --to FOLDER, or set {FOLDER_VARIABLE}")
    messages = console(is_error=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, console=messages, disable=as_json or not messages.is_terminal) as progress:
        bar = progress.add_task(name, total=None)
        found = get_trace(public, folder, lambda received, total: progress.update(bar, completed=received, total=total))
    if as_json:
        _print_json({"path": str(found.path), "sha256": found.sha256, "trust": found.trust, "is_new": found.is_new})
        return
    _print_downloaded(found)
    shown = console()
    shown.print(f"licence: {public.licence}")
    shown.print(f"cite: {public.citation}")
    if public.unpack is not None:
        shown.print(f"unpack it in {folder}: {public.unpack}")
    else:
        shown.print(f"next: grainwise trace describe {found.path}")


def _print_downloaded(found: Downloaded) -> None:
    shown = console()
    shown.print(f"{found.path} {'was downloaded' if found.is_new else 'is there already'}; {_CHECKED_BY[found.trust]}")
    shown.print(f"sha256: {found.sha256}")
