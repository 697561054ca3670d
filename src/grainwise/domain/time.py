"""Time inside Grainwise: integer microseconds, never floats and never a clock."""

from typing import TypeAlias

Instant: TypeAlias = int
"""Microseconds since an arbitrary origin that one run shares."""

Micros: TypeAlias = int
"""A duration in microseconds."""

SECOND: Micros = 1_000_000
MILLISECOND: Micros = 1_000


def from_ms(milliseconds: float) -> Micros:
    """Microseconds of a duration that a user gave in milliseconds."""
    return round(milliseconds * MILLISECOND)


def to_ms(duration: Micros) -> float:
    """Milliseconds for a report."""
    return duration / MILLISECOND
