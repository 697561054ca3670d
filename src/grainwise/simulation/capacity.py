"""The capacity of a plan: the highest offered rate at which a run still reaches its attainment, found by bisection."""

from collections.abc import Callable

ATTAINMENT = 0.98
"""The attainment that a run at capacity has at the least."""


def bisect_rate(attains: Callable[[float], bool], first: float, *, resolution: float = 0.02, most: float = 1e5) -> float:
    """The highest rate at which ``attains`` holds, within a fraction ``resolution`` of it; 0 where it holds at none.

    Args:
        attains: whether a run at a rate is good enough; expected to hold below some rate and not above it.
        first: a rate to begin with.
        resolution: where to stop.
        most: no higher rate is tried.
    """
    low, high = 0.0, first
    while attains(high):
        low, high = high, high * 2
        if high > most:
            return low
    while high - low > resolution * high:
        middle = (low + high) / 2
        if attains(middle):
            low = middle
        else:
            high = middle
        if high < first * 1e-4:
            return 0.0
    return low
