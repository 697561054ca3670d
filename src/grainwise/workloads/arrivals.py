"""Arrivals at rates that are held for a while, each evenly spaced or memoryless, as microseconds from the start."""

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from grainwise.domain.errors import ConfigurationError
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
