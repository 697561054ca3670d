"""A date and time of day as microseconds, without a clock and without a time zone."""

import re
from datetime import datetime, timedelta

from grainwise.domain.time import SECOND, Instant

_ORIGIN = datetime(1970, 1, 1)
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?", re.ASCII)


def micros_of(text: str) -> Instant | None:
    """Microseconds since 1970 of ``2023-11-16 18:17:03.9799600``; finer digits are cut. ``None``: no such time."""
    found = _STAMP.fullmatch(text.strip())
    if found is None:
        return None
    try:
        whole = datetime.fromisoformat(found[1]) - _ORIGIN
    except ValueError:
        return None
    return whole // timedelta(seconds=1) * SECOND + int((found[2] or "").ljust(6, "0")[:6])
