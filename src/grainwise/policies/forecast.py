"""How many requests will come: smoothed counts per second, a trend, and a short window that tells a burst from noise.

Exponentially weighted means over a short (*panic*), a middle (*stable*) and a long window; level and damped trend by double
exponential smoothing (Holt 1957, reprinted in Int. J. Forecasting 20, 2004; damped as in Gardner and McKenzie, Management
Science 31, 1985). Two windows and their names are those of Knative's autoscaler. The stable mean and the trend begin anew when
the panic window contradicts them by more than chance: what lies between two such instants is a *regime*, and a regime that has
lasted for some time is trusted to last as long again.

Plain arithmetic on IEEE doubles, so that a forecast is the same on every interpreter.
"""

from collections.abc import Iterable

from msgspec import Struct

from grainwise.domain.because import Because
from grainwise.domain.time import SECOND, Micros

PANIC_S = 6
STABLE_S = 60
LONG_RUN_S = 300
PANIC_LASTS_S = 30
"""Windows in seconds, and how long a burst is held to go on unless it is seen to end.

An exponential mean over a window of n gives the newest count the weight ``2 / (n + 1)``.
"""

LEVEL_WEIGHT = 0.2
TREND_WEIGHT = 0.02
DAMPING = 0.95
"""Of the trend, per second: it adds at most nineteen seconds' growth, however far one looks ahead."""

LEAST_CHANGE = 0.5
CHANGE_VARIANCES = 12.0
"""A regime ends when the two means differ by half of the stable one, and by three and a half standard deviations of chance."""

OUTLIER_VARIANCES = 4.0
"""A squared deviation counts for a regime's noise up to this many times what is usual."""

GROWTH_VARIANCES = 9.0
"""A trend counts when what it adds to the stable mean is beyond three standard deviations of chance."""

MAX_HORIZON_S = 120
FORGOTTEN_S = 600
"""What is older than so many seconds without a look is of no use any more."""


class Memory(Struct, frozen=True):
    """What is remembered of the counts per second.

    ``through`` is the last whole second that was taken in, -1 for none, ``seconds`` how many were. ``dispersion`` is the
    variance of a count over its mean within a regime (1 for Poisson). ``regime_since`` is the second in which the present
    regime began; ``panic_until`` the second up to which a burst is held to go on, and ``highest`` the panic mean's maximum
    since it began.
    """

    through: int = -1
    seconds: int = 0
    panic: float = 0.0
    stable: float = 0.0
    long_run: float = 0.0
    level: float = 0.0
    trend: float = 0.0
    dispersion: float = 1.0
    regime_since: int = 0
    panic_until: int = -1
    highest: float = 0.0


class Forecast(Struct, frozen=True):
    """Requests per second over the next ``horizon_s``: the mean, the highest, and what the long run has been.

    ``trusted_us`` is the age of the present regime: for about so long it should last. ``has_data`` is false where no whole
    second has been counted.
    """

    rate_per_s: float
    peak_rate_per_s: float
    long_run_rate_per_s: float
    horizon_s: int
    trusted_us: Micros
    is_panic: bool
    has_data: bool
    because: Because

    def planning_rate_per_s(self, settled_us: Micros) -> float:
        """The rate to plan for: the highest that is expected, and no trough that is younger than ``settled_us``."""
        if self.trusted_us < settled_us:
            return max(self.peak_rate_per_s, self.long_run_rate_per_s)
        return self.peak_rate_per_s


def observe(memory: Memory, first: int, counts: Iterable[int]) -> Memory:
    """Take in the counts of whole seconds, the first of them numbered ``first``; after a hole memory begins anew."""
    if memory.seconds and first != memory.through + 1:
        memory = Memory()
    for offset, count in enumerate(counts):
        memory = _next(memory, first + offset, float(count))
    return memory


def _next(memory: Memory, second: int, count: float) -> Memory:
    if not memory.seconds:
        return Memory(second, 1, count, count, count, count, 0.0, 1.0, second, -1, count)
    number = memory.seconds + 1
    age = second - memory.regime_since + 1
    panic = memory.panic + _weight(PANIC_S, number) * (count - memory.panic)
    stable = memory.stable + _weight(STABLE_S, age) * (count - memory.stable)
    long_run = memory.long_run + _weight(LONG_RUN_S, number) * (count - memory.long_run)
    expected = memory.level + DAMPING * memory.trend
    level = expected + max(LEVEL_WEIGHT, 1 / age) * (count - expected)
    trend = DAMPING * memory.trend + TREND_WEIGHT * (level - expected) / LEVEL_WEIGHT
    dispersion = _dispersion(memory, count, age)
    regime_since, panic_until, highest = memory.regime_since, memory.panic_until, max(memory.highest, panic)
    if number > PANIC_S // 2 and _contradicts(panic, stable, max(1.0, dispersion)):
        regime_since = second - PANIC_S // 2
        panic_until = second + PANIC_LASTS_S if panic > stable else -1
        stable = level = highest = panic
        trend = 0.0
    elif second >= panic_until:
        highest = panic
    return Memory(
        second, number, panic, stable, long_run, level, trend, dispersion, regime_since, panic_until, highest
    )  # fmt: skip


def _weight(window_s: int, number: int) -> float:
    """Of the newest of ``number`` counts: the plain mean until the window is full."""
    return max(2 / (window_s + 1), 1 / number)


def _dispersion(memory: Memory, count: float, age: int) -> float:
    """A count far out is cut, so that the seconds in which a regime ends do not pass for its noise."""
    if memory.stable <= 0 or age < PANIC_S:
        return memory.dispersion
    deviation = count - memory.stable
    found = min(deviation * deviation / memory.stable, OUTLIER_VARIANCES * max(1.0, memory.dispersion))
    return memory.dispersion + _weight(LONG_RUN_S, memory.seconds + STABLE_S) * (found - memory.dispersion)


def _contradicts(panic: float, stable: float, dispersion: float) -> bool:
    """Whether the two means differ by more than chance, for counts of this dispersion."""
    gap = panic - stable
    if abs(gap) <= LEAST_CHANGE * stable:
        return False
    # One stray arrival is no burst, however rare arrivals have been.
    variance = dispersion * (stable + 1 / (2 * PANIC_S)) / PANIC_S
    return gap * gap > CHANGE_VARIANCES * variance


def forecast(memory: Memory, ahead_us: float) -> Forecast:
    """What is expected over the next ``ahead_us``, the time that an instance takes to start; at least a panic window.

    Without a whole second of counts every rate is 0 and ``has_data`` is false.
    """
    ahead_s = MAX_HORIZON_S if ahead_us >= MAX_HORIZON_S * SECOND else int(ahead_us) // SECOND + 1
    horizon_s = max(PANIC_S, ahead_s)
    if not memory.seconds:
        return Forecast(0.0, 0.0, 0.0, horizon_s, 0, False, False, Because("no whole second has been counted"))
    mean, highest = _growth(memory, horizon_s)
    rate = max(0.0, memory.stable + mean)
    peak = max(rate, memory.stable + highest)
    is_panic = memory.through < memory.panic_until
    rule = "the rate is steady"
    if is_panic:
        rate, peak = max(rate, memory.panic), max(peak, memory.highest)
        rule = "a burst"
    elif highest > 0 or mean < 0:
        rule = "the rate is rising" if highest > 0 else "the rate is falling"
    elif not memory.stable:
        rule = "nothing comes"
    facts = (
        ("rate_per_s", rate),
        ("peak_rate_per_s", peak),
        ("long_run_rate_per_s", memory.long_run),
        ("for_s", memory.through - memory.regime_since + 1),
        ("ahead_s", horizon_s),
    )
    trusted_us = max(0, memory.through - memory.regime_since + 1) * SECOND
    return Forecast(rate, peak, memory.long_run, horizon_s, trusted_us, is_panic, True, Because(rule, facts))


def _growth(memory: Memory, horizon_s: int) -> tuple[float, float]:
    """What the trend adds to the stable mean: on average over the horizon, and at its highest."""
    power, total, sum_of_totals = 1.0, 0.0, 0.0
    for _ in range(horizon_s):
        power *= DAMPING
        total += power
        sum_of_totals += total
    lead, growth = memory.level - memory.stable, memory.trend * total
    # In units of a count's variance: what independent counts make of the level and, further ahead the more, of the trend.
    of_level = LEVEL_WEIGHT / (2 - LEVEL_WEIGHT)
    of_trend = TREND_WEIGHT * TREND_WEIGHT / (1 - DAMPING * DAMPING) * total * total
    chance = max(1.0, memory.dispersion) * memory.stable * (of_level + of_trend)
    if (lead + growth) * (lead + growth) <= GROWTH_VARIANCES * chance or growth * lead < 0:
        return 0.0, 0.0
    return lead + memory.trend * sum_of_totals / horizon_s, max(0.0, lead + growth)
