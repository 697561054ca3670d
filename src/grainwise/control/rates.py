"""How often something comes: counts per whole second over a short window, as integers."""

import math

from msgspec import Struct

from grainwise.domain.time import SECOND, Instant

KEPT_SECONDS = 64


class RateMeter(Struct):
    """Arrivals per second. ``since`` is the first arrival ever: before it nothing was measured."""

    seconds: list[int] = []
    counts: list[int] = []
    since: Instant = -1

    def add(self, now: Instant, count: int = 1) -> None:
        """Some arrivals at once."""
        second = now // SECOND
        if self.seconds and self.seconds[-1] == second:
            self.counts[-1] += count
            return
        if self.since < 0:
            self.since = now
        self.seconds.append(second)
        self.counts.append(count)
        if len(self.seconds) > KEPT_SECONDS:
            del self.seconds[: KEPT_SECONDS // 2]
            del self.counts[: KEPT_SECONDS // 2]

    def per_second(self, now: Instant, window_s: int) -> float:
        """Mean rate over the last ``window_s`` whole seconds (at most 32) and the present one, or since the first arrival."""
        second = now // SECOND
        oldest = second - window_s
        total = 0
        for at in range(len(self.seconds) - 1, -1, -1):
            if self.seconds[at] < oldest:
                break
            total += self.counts[at]
        if not total:
            return 0.0
        elapsed_us = min(window_s * SECOND + now % SECOND, max(SECOND, now - self.since))
        return total * SECOND / elapsed_us

    def whole_seconds(self, first: int, last: int) -> list[int]:
        """Arrivals in each of the seconds from ``first`` to before ``last``, of which at least the last 32 are still known."""
        found = [0] * max(0, last - first)
        for at in range(len(self.seconds) - 1, -1, -1):
            second = self.seconds[at]
            if second < first:
                break
            if second < last:
                found[second - first] = self.counts[at]
        return found


def dispersion(counts: list[int]) -> float:
    """Variance over mean of counts per second, 1 for Poisson arrivals; 1 where fewer than two, or nothing, came.

    Over windows that are long against the gaps it tends to the squared coefficient of variation of the inter-arrival times, for
    independent gaps (Cox and Lewis, The Statistical Analysis of Series of Events, 1966, chapter 4).
    """
    total = sum(counts)
    if len(counts) < 2 or not total:
        return 1.0
    mean = total / len(counts)
    return math.fsum((count - mean) * (count - mean) for count in counts) / (len(counts) - 1) / mean
