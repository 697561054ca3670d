"""A part of a trace, or the same trace at another rate or speed."""

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import SECOND, Micros
from grainwise.workloads.integers import SplitMix64, derive_seed, happens
from grainwise.workloads.recorded import Recorded
from grainwise.workloads.replaying import Tape, play
from grainwise.workloads.traces.formats import MAX_ARRIVALS

_MOST = 10_000.0


def window(recorded: Recorded, start: Micros, end: Micros | None) -> Recorded:
    """The arrivals in ``[start, end)`` of a trace, with ``start`` as the new 0; without ``end`` up to the trace's own.

    Raises:
        ConfigurationError: the window lies outside the trace, is empty, or cuts an interval of counts.
    """
    end = recorded.span_us if end is None else end
    if not 0 <= start < end or start >= recorded.span_us:
        raise ConfigurationError(
            f"the window {start / SECOND:g}:{end / SECOND:g} s does not lie in {recorded.name}, "
            f"which covers {recorded.span_us / SECOND:g} s"
        )
    end = min(end, recorded.span_us)
    note = f"{recorded.note}; window {start / SECOND:g}:{end / SECOND:g} s"
    if recorded.interval_us:
        interval = recorded.interval_us
        if start % interval or end % interval:
            raise ConfigurationError(
                f"{recorded.name} counts per {interval / SECOND:g} s: begin and end a window on multiples of it"
            )
        counts = recorded.counts[start // interval : end // interval]
        return Recorded(recorded.name, [], [], end - start, note, counts, interval)
    kept = [at for at, instant in enumerate(recorded.instants) if start <= instant < end]
    instants = [recorded.instants[at] - start for at in kept]
    sizes = [recorded.sizes[at] for at in kept] if recorded.sizes else []
    return Recorded(recorded.name, instants, sizes, end - start, note)


def scaled(recorded: Recorded, rate_scale: float = 1.0, time_scale: float = 1.0, seed: int = 1) -> Recorded:
    """The trace as a replay plays it: ``rate_scale`` times as many arrivals, ``time_scale`` times as fast.

    **Time**: every instant and the span are divided by ``time_scale``. The order, the sizes and the shape stay; the index of
    dispersion at a scale s becomes that of the scale ``s * time_scale``.

    **Rate below 1**: each arrival is kept with probability ``rate_scale``, on its own. Sizes, and the rate's relative course,
    stay; the index of dispersion I becomes ``1 + rate_scale * (I - 1)``: bursts thin out towards Poisson.

    **Rate above 1**: each arrival appears ``floor(rate_scale)`` times, and once more with the probability of the remainder. One
    copy keeps its instant; the others fall uniformly into the gap to the next arrival, but no further away than the mean gap,
    and keep the size. The relative course stays at scales above the mean gap, and the index of dispersion grows by the factor
    ``rate_scale``: it is the same crowd, larger, not a superposition of independent ones.

    **Counts** stay counts, of which a replay draws instants: each becomes ``rate_scale`` times itself, rounded up or down at
    random so that the mean is right.

    Raises:
        ConfigurationError: a scale is not above 0 and at most 10,000, or too many arrivals would come of it.
    """
    for option, value in (("--rate-scale", rate_scale), ("--time-scale", time_scale)):
        if not 0 < value <= _MOST:
            raise ConfigurationError(f"{option} must lie above 0 and at most {_MOST:g}, not {value:g}")
    if rate_scale == time_scale == 1:
        return recorded
    note = recorded.note + _times("rate", rate_scale) + _times("time", time_scale)
    if recorded.interval_us:
        rng = SplitMix64(derive_seed(seed, 0))
        counts = [_rounded(count * rate_scale, rng) for count in recorded.counts]
        interval = max(round(recorded.interval_us / time_scale), 1)
        return Recorded(recorded.name, [], [], interval * len(counts), note, counts, interval)
    return _played(recorded, rate_scale, time_scale, seed, note)


def expanded(recorded: Recorded, seed: int = 1) -> Recorded:
    """Counts as instants: each interval's arrivals are uniform in it and independent. A trace of instants stays as it is.

    Raises:
        ConfigurationError: there are more than ``MAX_ARRIVALS``.
    """
    if not recorded.interval_us:
        return recorded
    return _played(recorded, 1.0, 1.0, seed, f"{recorded.note}; instants drawn uniformly in each interval")


def _times(what: str, scale: float) -> str:
    return f"; {what} × {scale:g}" if scale != 1 else ""


def _played(recorded: Recorded, rate_scale: float, time_scale: float, seed: int, note: str) -> Recorded:
    if recorded.arrival_count * rate_scale > MAX_ARRIVALS:
        raise ConfigurationError(
            f"{recorded.arrival_count * rate_scale:,.0f} arrivals would come of {recorded.name}, above {MAX_ARRIVALS:,}: "
            "take a window, or a lower rate"
        )
    tape = Tape(recorded, 0, recorded.span_us, rate_scale, time_scale, repeat=False)
    arrivals = list(play(tape, seed, tape.span_us))
    instants = [instant for instant, _ in arrivals]
    return Recorded(recorded.name, instants, [size for _, size in arrivals] if recorded.sizes else [], tape.span_us, note)


def _rounded(exact: float, rng: SplitMix64) -> int:
    """Up or down at random, so that the mean is right."""
    whole = int(exact)
    return whole + (exact != whole and happens(rng, exact - whole))
