"""Durations as people write them on a command line: ``500ms``, ``30s``, ``10m``, ``1h``."""

import re

from grainwise.domain.time import SECOND, Micros

EXAMPLES = "a duration such as 500ms, 30s, 10m or 1h"
"""What an error message asks for."""

_UNITS_US: dict[str, Micros] = {
    "us": 1,
    "ms": SECOND // 1000,
    "s": SECOND,
    "m": 60 * SECOND,
    "min": 60 * SECOND,
    "h": 3600 * SECOND,
    "d": 86_400 * SECOND,
}
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(us|ms|s|min|m|h|d)", re.ASCII)


def seconds_of(text: str) -> float | None:
    """The seconds that a text such as ``30s`` or ``1.5h`` names; ``None``: it is no duration. A bare number has no unit."""
    found = _DURATION.fullmatch(text)
    return float(found[1]) * _UNITS_US[found[2]] / SECOND if found else None


def window_of(text: str) -> tuple[float, float | None] | None:
    """Start and end, in seconds, of ``600s..1200s``; each side may be left open. ``None``: it is no window."""
    start, separator, end = text.partition("..")
    since, until = seconds_of(start) if start else 0.0, seconds_of(end) if end else None
    if not separator or since is None or (end and until is None) or (until is not None and until <= since):
        return None
    return since, until
