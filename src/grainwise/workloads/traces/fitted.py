"""Stand-ins for traces that are not at hand: generators fitted to the statistics that were published of the real ones.

A two-state Markov-modulated Poisson process has a rate that jumps between two levels. With the rate's mean m, its variance V
and the speed r at which it forgets its state, the index of dispersion of counts over a time t is

    I(t) = 1 + 2 V / (m r) * g(r t),    g(x) = 1 - (1 - exp(-x)) / x,

so two published indices give r, by the ratio of their excesses over 1, and then V; the published peak gives the higher level.

What the fit does not have: the real trace's gaps, its burstiness far below 1 s and far above 10 s, and its sizes.
"""

from math import sqrt

from msgspec import Struct

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import SECOND
from grainwise.workloads.elementary import exp
from grainwise.workloads.processes import Modulated, State, draw_instants
from grainwise.workloads.recorded import Recorded

PREFIX = "fitted:"
FITTED_SPAN_S = 3600.0
# A Poisson count of mean a exceeds a + 3 sqrt(a) about once in a thousand: the fullest second of an hour.
_PEAK_DEVIATIONS = 3.0
_BISECTIONS = 100


class Published(Struct, frozen=True):
    """What was published of a trace: mean rate, indices of dispersion at 1 s and 10 s, and the fullest second."""

    name: str
    rate_per_s: float
    dispersion_1s: float
    dispersion_10s: float
    peak_per_s: float

    @property
    def note(self) -> str:
        """How what is made from it calls itself wherever it is shown."""
        return (
            f"fitted to the published statistics of {self.name}, not the trace: "
            f"{self.rate_per_s:g}/s, index of dispersion {self.dispersion_1s:g} at 1 s and {self.dispersion_10s:g} at 10 s"
        )


PUBLISHED = (
    Published("azure_llm_2023_code", 2.6, 13.0, 71.0, 67.0),
    Published("azure_llm_2023_conv", 5.5, 1.4, 4.0, 16.0),
)


def fit(published: Published) -> Modulated:
    """The two-state process with this rate, these indices of dispersion, and as near to this peak as they allow.

    Raises:
        ConfigurationError: no such process has these indices: it needs ``1 < I(1 s)`` and an excess over 1 that grows between
            one and ten times from 1 s to 10 s.
    """
    short, long = published.dispersion_1s - 1, published.dispersion_10s - 1
    mean = published.rate_per_s
    if not (mean > 0 and short > 0 and 1.001 * short < long < 9.999 * short):
        raise ConfigurationError(
            f"no two-state process has the statistics of {published.name}: "
            f"index of dispersion {published.dispersion_1s:g} at 1 s and {published.dispersion_10s:g} at 10 s"
        )
    forgets = _solve(long / short)
    variance = short * mean * forgets / (2 * _excess(forgets))
    root = (sqrt(_PEAK_DEVIATIONS**2 + 4 * published.peak_per_s) - _PEAK_DEVIATIONS) / 2
    # The levels lie at distances d and V / d from the mean; the lower one must not fall below 0.
    above = max(root * root - mean, variance / mean)
    below = min(variance / above, mean)
    high_share = below / (above + below)
    high = State(mean + above, 1 / (forgets * (1 - high_share)))
    return Modulated((State(mean - below, 1 / (forgets * high_share)), high))


def fitted_trace(name: str, seed: int = 1, span_s: float = FITTED_SPAN_S) -> Recorded:
    """A stand-in for the trace of that name, drawn from its fitted process; it has no sizes, none were published.

    Raises:
        ConfigurationError: no statistics of such a trace are known.
    """
    for published in PUBLISHED:
        if published.name == name.removeprefix(PREFIX):
            span_us = round(span_s * SECOND)
            instants = list(draw_instants(fit(published), seed, span_us))
            return Recorded(f"{PREFIX}{published.name}", instants, [], span_us, published.note)
    known = ", ".join(f"{PREFIX}{published.name}" for published in PUBLISHED)
    raise ConfigurationError(f"there are no published statistics of {name!r} to fit a generator to; known: {known}")


def _excess(turns: float) -> float:
    """``g`` above; near 0 by its series, where the difference would lose its digits."""
    if turns < 1e-3:
        return turns / 2 - turns * turns / 6
    return 1 - (1 - exp(-turns)) / turns


def _solve(ratio: float) -> float:
    """The speed at which ``g(10 r) / g(r)`` is this ratio, per second; it falls from 10 towards 1 as r grows."""
    low, high = 1e-6, 1e6
    for _ in range(_BISECTIONS):
        middle = sqrt(low * high)
        if _excess(10 * middle) / _excess(middle) > ratio:
            low = middle
        else:
            high = middle
    return sqrt(low * high)
