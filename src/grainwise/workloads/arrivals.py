"""Who asks, when: arrivals as microseconds from the start. One definition serves live load and simulation."""

import csv
import io
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from grainwise.domain.errors import ArtifactError, ConfigurationError
from grainwise.domain.time import SECOND, Instant, Micros
from grainwise.workloads.integers import SplitMix64, exponential

Process = Literal["poisson", "constant"]

_PARTS = 1024
_NEVER = 1e18


class Phase(Struct, frozen=True):
    """A rate in requests per second that is held for a while. A rate of 0 is silence."""

    rate_per_s: float
    duration_us: Micros


def parse_steps(text: str) -> tuple[Phase, ...]:
    """``"5:10,40:20,5:10"``: 5 requests per second for 10 s, then 40 for 20 s, then 5 for 10 s.

    Raises:
        ConfigurationError: a step is not ``RATE:SECONDS`` with RATE >= 0 and SECONDS > 0.
    """
    phases: list[Phase] = []
    for part in text.split(","):
        rate, separator, seconds = part.partition(":")
        try:
            phase = Phase(float(rate), round(float(seconds) * SECOND))
        except (ValueError, OverflowError):
            phase = Phase(-1.0, 0)
        if not separator or not 0 <= phase.rate_per_s < 1e6 or phase.duration_us <= 0:
            raise ConfigurationError(f"step {part!r} is not RATE:SECONDS with RATE >= 0 and SECONDS > 0, as in 5:10,40:20,5:10")
        phases.append(phase)
    return tuple(phases)


def arrivals(phases: tuple[Phase, ...], process: Process, seed: int) -> Iterator[Instant]:
    """Instants of arrival over the phases, in order.

    ``constant`` spaces them evenly; ``poisson`` draws exponential gaps, anew at each change of rate (memoryless, so no
    arrival of one phase depends on another's rate).
    """
    rng = SplitMix64(seed)
    start: Instant = 0
    for phase in phases:
        end = start + phase.duration_us
        if phase.rate_per_s > 0:
            if process == "constant":
                gap_us = SECOND / phase.rate_per_s
                count = round(phase.duration_us / gap_us)
                yield from (start + int(index * gap_us) for index in range(count))
            else:
                yield from _poisson(rng, phase, start)
        start = end


def _poisson(rng: SplitMix64, phase: Phase, start: Instant) -> Iterator[Instant]:
    """Adds gaps up in parts of a microsecond, so that rounding does not raise a high rate."""
    mean = round(min(SECOND * _PARTS / phase.rate_per_s, _NEVER))
    at = exponential(rng, mean)
    while at < phase.duration_us * _PARTS:
        yield start + at // _PARTS
        at += exponential(rng, mean)


def read_arrivals(data: bytes, name: str, time_scale: float = 1.0) -> list[Instant]:
    """Recorded arrivals from CSV with a header and a column ``t_ms`` or ``t_s``; ``time_scale`` 2 plays twice as fast.

    Raises:
        ArtifactError: a row is malformed; the message names file, line and column.
    """
    try:
        rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig")))
        columns = rows.fieldnames or []
        column = next((known for known in ("t_ms", "t_s") if known in columns), None)
        if column is None:
            raise ArtifactError(f"{name}, line 1: no column t_ms or t_s among {', '.join(columns) or 'none'}")
        unit = SECOND // 1000 if column == "t_ms" else SECOND
        return sorted(round(_instant(row[column], f"{name}, line {rows.line_num}", column) * unit / time_scale) for row in rows)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ArtifactError(f"{name} is no CSV text: {error}") from error


def _instant(text: str | None, place: str, column: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e15:
        raise ArtifactError(f"{place}, column {column}: {text!r} is not a number >= 0")
    return value
