"""What ``grainwise calibrate`` says while it works and prints at its end."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from msgspec import Struct
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from grainwise.cli.render import console, render_plan
from grainwise.domain.app import Slo
from grainwise.domain.plan import Plan
from grainwise.profiles.calibration import Calibration
from grainwise.simulation.capacity import ATTAINMENT
from grainwise.simulation.comparison import Row

QUIET_CORES = 0.1
"""Foreign load from which on a run was not alone on its machine."""

_BEAT_S = 1.0
"""How often the progress is drawn: seldom, since it is drawn on the loop of the server that is measured."""


class Try(Struct, frozen=True):
    """One rate at which the capacity was sought."""

    rate_per_s: float
    kind: str
    attainment: float


class Outcome(Struct, frozen=True):
    """What a calibration came to. ``rows`` are metrics and parts by level; ``foreign_cores`` is what others used, by run."""

    app: str
    hardware: str
    slo: Slo
    plan: Plan
    grain: str
    planned_for_per_s: float
    capacity_per_s: float
    tries: tuple[Try, ...]
    runs: int
    seconds: float
    gated: tuple[float, ...]
    rows: tuple[Row, ...]
    foreign_cores: dict[str, float]
    most_send_delay_ms: float
    calibration: Calibration

    @property
    def is_met(self) -> bool:
        """Whether every gated metric is within its bound."""
        return all(row.is_met is not False for row in self.rows)


class Tell:
    """Says on standard error what is running now."""

    def __init__(self, shown: Console, progress: Progress, *, is_quiet: bool) -> None:
        self._shown = shown
        self._progress = progress
        self._is_quiet = is_quiet
        self._task = progress.add_task("", total=1.0)

    def say(self, text: str) -> None:
        """A line of its own."""
        if not self._is_quiet:
            self._shown.print(text)

    @contextlib.asynccontextmanager
    async def running(self, what: str, seconds: float) -> AsyncIterator[None]:
        """Something that takes about so long is running inside."""
        self.say(what)
        began = time.monotonic()

        async def beat() -> None:
            while True:
                self._progress.update(self._task, description=what, total=max(seconds, 1.0), completed=time.monotonic() - began)
                if not self._is_quiet:
                    self._progress.refresh()
                await asyncio.sleep(_BEAT_S)

        beating = asyncio.ensure_future(beat())
        try:
            yield
        finally:
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating


@contextlib.contextmanager
def told(*, is_quiet: bool) -> Iterator[Tell]:
    """A place to say what is running."""
    shown = console(is_error=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    is_hidden = is_quiet or not shown.is_terminal
    with Progress(*columns, console=shown, auto_refresh=False, disable=is_hidden, transient=True) as progress:
        yield Tell(shown, progress, is_quiet=is_quiet)


def print_outcome(outcome: Outcome, profile: Path, *, is_applied: bool) -> None:
    """The table of levels and metrics, what it was measured on, and the correction of the profile."""
    shown = console()
    shown.print(f"measured and simulated: {outcome.app} on {outcome.hardware}")
    shown.print(f"SLO {outcome.slo.latency_ms:g} ms; plan for {outcome.planned_for_per_s:g}/s, fixed: {outcome.grain}")
    shown.print(render_plan(outcome.plan))
    tries = ", ".join(f"{each.kind} {each.rate_per_s:g}/s: {each.attainment:.1%}" for each in outcome.tries)
    shown.print(f"capacity {outcome.capacity_per_s:g}/s ({tries or 'given'})")
    if outcome.tries and all(each.attainment < ATTAINMENT for each in outcome.tries if each.kind == "measured"):
        shown.print(
            f"no live run attained {ATTAINMENT:.0%}: the capacity is a guess, below every rate that was tried", style="yellow"
        )
    busiest = max(outcome.foreign_cores, key=outcome.foreign_cores.__getitem__)
    loaded = sum(cores > QUIET_CORES for cores in outcome.foreign_cores.values())
    shown.print(
        f"foreign CPU load: {loaded} of {len(outcome.foreign_cores)} runs above {QUIET_CORES:g} cores, "
        f"most {outcome.foreign_cores[busiest]:.2f} in {busiest}; latest send {outcome.most_send_delay_ms:.1f} ms late",
        style="yellow" if loaded else None,
    )
    shown.print(_levels(outcome))
    shown.print(_correction(outcome.calibration))
    door, hop = outcome.calibration.door, outcome.calibration.hop
    shown.print(f"hop {hop.fixed_us:.0f} us + {hop.us_per_mib:.1f} us/MiB")
    shown.print(f"door {door.ingress_us:.0f} us in, {door.egress_us:.0f} us out")
    shown.print(f"from {'; '.join(outcome.calibration.runs)}")
    if is_applied:
        shown.print(f"written into {profile}")
    else:
        shown.print(f"not written; --apply writes it into {profile}")
    if not any(row.is_met is not None for row in outcome.rows):
        shown.print("no level is gated")
    else:
        shown.print("every gated metric is within its bound" if outcome.is_met else "a gated metric is out of its bound")


def _levels(outcome: Outcome) -> Table:
    table = Table(
        title=f"median of {outcome.runs} runs of {outcome.seconds:g} s at each level of capacity",
        caption="interval: least to greatest live run; attainment differs in points; parts are means per request",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in ("level", "metric", "live", "interval", "simulated", "difference", "bound", ""):
        table.add_column(name, justify="left" if name in ("level", "metric", "") else "right")
    level = ""
    for row in outcome.rows:
        if level not in ("", row.level):
            table.add_section()
        table.add_row(
            row.level if row.level != level else "",
            row.metric,
            _value(row, row.live),
            f"{_value(row, row.live_low)} - {_value(row, row.live_high)}",
            _value(row, row.simulated),
            _difference(row),
            "" if row.limit is None else f"{row.limit:.0%}" if row.is_relative else f"{row.limit * 100:g} pt",
            {True: "pass", False: "FAIL", None: ""}[row.is_met],
        )
        level = row.level
    return table


def _value(row: Row, value: float) -> str:
    if row.unit == "fraction":
        return f"{value:.2%}"
    return f"${value:.3g}" if row.unit == "usd" else f"{value:.2f} ms"


def _difference(row: Row) -> str:
    if row.is_relative:
        return f"{row.difference:+.1%}"
    return f"{row.difference * 100:+.2f} pt" if row.unit == "fraction" else f"{row.difference:+.2f} ms"


def _correction(calibration: Calibration) -> Table:
    table = Table(
        title="predictions of the profile, corrected", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for name in ("stage", "calls", "measured/predicted", "residual p5", "p50", "p95", "by batch and share"):
        table.add_column(name, justify="left" if name in ("stage", "by batch and share") else "right")
    for stage in calibration.stages:
        levels = [_at(stage.residuals, level) for level in (0.05, 0.5, 0.95)]
        groups = ", ".join(f"{each.items} on {each.cpu_cores:g}: {each.factor:.3f} ({each.calls})" for each in stage.groups)
        table.add_row(stage.name, str(stage.calls), f"{stage.factor:.3f}", *levels, groups)
    return table


def _at(quantiles: tuple[float, ...], level: float) -> str:
    return f"{quantiles[int(level * len(quantiles))]:.3f}" if quantiles else "as profiled"
