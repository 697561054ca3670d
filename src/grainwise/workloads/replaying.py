"""Arrivals that were recorded, played again: windowed, faster or slower, more or fewer."""

from bisect import bisect_left
from collections.abc import Iterator
from math import ceil
from typing import Annotated

from msgspec import Meta, Struct

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import SECOND, Instant, Micros
from grainwise.workloads.integers import SplitMix64, derive_seed, happens
from grainwise.workloads.ranges import Factor, Offset, Seconds
from grainwise.workloads.recorded import Recorded, TraceSource

Recalled = tuple[Instant, float]
"""An arrival with its recorded size in the trace's own unit; 0 where none was recorded."""


class Replay(Struct, frozen=True, tag_field="process", tag="trace", forbid_unknown_fields=True):
    """The arrivals of a trace by its name or path, at their recorded instants.

    The window ``from_s`` … ``until_s`` is in the trace's own time and is cut first. ``time_scale`` 2 plays it twice as fast.
    ``rate_scale`` keeps the duration: below 1 each arrival is kept with that probability, above 1 it is repeated within the gap
    to the next (at most the mean gap, so that a burst stays one). With ``repeat`` it starts again at its end. ``only`` takes
    one app, function or segment of the trace. A trace of counts is played as ``Counts``.
    """

    trace: Annotated[str, Meta(min_length=1)]
    rate_scale: Factor = 1.0
    time_scale: Factor = 1.0
    from_s: Offset = 0.0
    until_s: Seconds | None = None
    repeat: bool = False
    only: Annotated[str, Meta(min_length=1)] | None = None

    def __post_init__(self) -> None:
        if self.until_s is not None and self.until_s <= self.from_s:
            raise ValueError(f"until_s must lie after from_s = {self.from_s:g}, not at {self.until_s:g}")


class Counts(Struct, frozen=True, tag_field="process", tag="counts", forbid_unknown_fields=True):
    """So many arrivals in each interval, uniformly spread within it."""

    counts: Annotated[tuple[Annotated[int, Meta(ge=0, le=100_000_000)], ...], Meta(min_length=1)]
    interval_s: Seconds = 1.0
    rate_scale: Factor = 1.0
    time_scale: Factor = 1.0
    repeat: bool = False


class Tape(Struct, frozen=True):
    """A recording that is ready to play: what, which part of it and how."""

    recorded: Recorded
    start_us: Micros
    stop_us: Micros
    rate_scale: float
    time_scale: float
    repeat: bool

    @property
    def span_us(self) -> Micros:
        """How long one pass takes when it is played."""
        return ceil((self.stop_us - self.start_us) / self.time_scale)


def load_tape(process: Replay | Counts, traces: TraceSource | None) -> Tape:
    """Finds the recording.

    Raises:
        ConfigurationError: there is no source of traces, or the window holds nothing of the trace.
    """
    if isinstance(process, Counts):
        interval_us = max(1, round(process.interval_s * SECOND))
        span_us = interval_us * len(process.counts)
        recorded = Recorded("counts", [], [], span_us, "", list(process.counts), interval_us)
        return Tape(recorded, 0, span_us, process.rate_scale, process.time_scale, process.repeat)
    if traces is None:
        raise ConfigurationError(f"the workload replays the trace {process.trace}, but no traces are at hand here")
    recorded = traces(process.trace, process.only)
    start_us = round(process.from_s * SECOND)
    span_us = max(recorded.span_us, recorded.instants[-1] + 1 if recorded.instants else 1)
    stop_us = span_us if process.until_s is None else min(round(process.until_s * SECOND), span_us)
    if stop_us <= start_us:
        raise ConfigurationError(
            f"the trace {process.trace} covers {span_us / SECOND:g} s, so a window from {process.from_s:g} s on holds nothing"
        )
    return Tape(recorded, start_us, stop_us, process.rate_scale, process.time_scale, process.repeat)


def play(tape: Tape, seed: int, end_us: Micros) -> Iterator[Recalled]:
    """Arrivals in ``[0, end_us)``, in order, one at a time."""
    draw = _counted if tape.recorded.interval_us and not tape.recorded.instants else _single
    for number, start in enumerate(range(0, end_us, tape.span_us)):
        rng = SplitMix64(derive_seed(seed, number))
        for at, size in draw(tape, rng):
            played = start + int((at - tape.start_us) / tape.time_scale)
            if played >= end_us:
                return
            yield played, size
        if not tape.repeat:
            return


def expected_replays(tape: Tape, end_us: Micros) -> float:
    """How many arrivals are expected in ``[0, end_us)``."""
    passes = end_us // tape.span_us if tape.repeat else min(1, end_us // tape.span_us)
    total = float(passes * _count_until(tape, tape.stop_us)) if passes else 0.0
    rest_us = end_us - passes * tape.span_us
    if (tape.repeat or not passes) and rest_us > 0:
        total += _count_until(tape, tape.start_us + round(rest_us * tape.time_scale))
    return total * tape.rate_scale


def _count_until(tape: Tape, stop_us: Micros) -> float:
    recorded, stop_us = tape.recorded, min(stop_us, tape.stop_us)
    if recorded.instants:
        return bisect_left(recorded.instants, stop_us) - bisect_left(recorded.instants, tape.start_us)
    total = 0.0
    for number, count in enumerate(recorded.counts):
        opens = number * recorded.interval_us
        overlap = min(opens + recorded.interval_us, stop_us) - max(opens, tape.start_us)
        total += count * max(0, overlap) / recorded.interval_us
    return total


def _copies(rng: SplitMix64, scaled: float) -> int:
    whole = int(scaled)
    return whole + happens(rng, scaled - whole) if scaled != whole else whole


def _single(tape: Tape, rng: SplitMix64) -> Iterator[Recalled]:
    instants, sizes = tape.recorded.instants, tape.recorded.sizes
    first, last = bisect_left(instants, tape.start_us), bisect_left(instants, tape.stop_us)
    widest = max(1, (tape.stop_us - tape.start_us) // max(1, last - first))
    for index in range(first, last):
        at, size = instants[index], sizes[index] if sizes else 0.0
        count = _copies(rng, tape.rate_scale)
        if count:
            yield at, size
        if count > 1:
            following = instants[index + 1] if index + 1 < last else tape.stop_us
            gap = max(1, min(following - at, widest))
            for offset in sorted(rng.below(gap) for _ in range(count - 1)):
                yield at + offset, size


def _counted(tape: Tape, rng: SplitMix64) -> Iterator[Recalled]:
    recorded = tape.recorded
    width = recorded.interval_us
    for number in range(tape.start_us // width, len(recorded.counts)):
        opens = number * width
        if opens >= tape.stop_us:
            return
        for offset in sorted(rng.below(width) for _ in range(_copies(rng, recorded.counts[number] * tape.rate_scale))):
            if tape.start_us <= opens + offset < tape.stop_us:
                yield opens + offset, 0.0
