"""Arrival processes that need no recording: what they are called in a file, and the instants that they draw.

Every rate is in requests per second, every time in seconds; instants are microseconds from the start of the process. Draws add
up in parts of a microsecond, so that rounding does not change a high rate.
"""

from collections.abc import Iterator
from functools import cache
from typing import Annotated, Literal

from msgspec import Meta, Struct

from grainwise.domain.time import SECOND, Instant, Micros
from grainwise.workloads.arrivals import Phase, arrivals
from grainwise.workloads.elementary import PI, sine
from grainwise.workloads.integers import SplitMix64, Weights, derive_seed, exponential, uniform
from grainwise.workloads.quantiles import gamma
from grainwise.workloads.ranges import Offset, Probability, Rate, Seconds

_PARTS = 1024
_NEVER = 1e18
_SINES = 4096


class Constant(Struct, frozen=True, tag_field="process", tag="constant", forbid_unknown_fields=True):
    """Evenly spaced."""

    rate_per_s: Rate


class Poisson(Struct, frozen=True, tag_field="process", tag="poisson", forbid_unknown_fields=True):
    """Memoryless: many independent clients."""

    rate_per_s: Rate


class Gamma(Struct, frozen=True, tag_field="process", tag="gamma", forbid_unknown_fields=True):
    """Gamma-distributed gaps with this coefficient of variation: below 1 smoother than Poisson, above 1 burstier."""

    rate_per_s: Rate
    cv: Annotated[float, Meta(ge=0.01, le=30)]


class State(Struct, frozen=True, forbid_unknown_fields=True):
    """A state of a modulated process: a rate that is held for an exponential time of this mean."""

    rate_per_s: Rate
    dwell_s: Seconds


class Modulated(Struct, frozen=True, tag_field="process", tag="mmpp", forbid_unknown_fields=True):
    """A Markov-modulated Poisson process; from each state it moves to any other with equal probability.

    It starts in a state by the time that it spends there in the long run.
    """

    states: Annotated[tuple[State, ...], Meta(min_length=2, max_length=64)]


class OnOff(Struct, frozen=True, tag_field="process", tag="on_off", forbid_unknown_fields=True):
    """Poisson arrivals while on, nothing while off. ``dwell`` says whether the two durations are means or fixed.

    With fixed durations it starts on; with exponential ones, on or off by their long-run shares.
    """

    rate_per_s: Rate
    on_s: Seconds
    off_s: Seconds
    dwell: Literal["exponential", "constant"] = "exponential"


class Diurnal(Struct, frozen=True, tag_field="process", tag="diurnal", forbid_unknown_fields=True):
    """A daily cycle: a Poisson process whose rate is ``mean × (1 + amplitude × cos(2π (t − peak) / period))``.

    ``peak_s`` is when the first peak comes; without it, half a period after the start, so that the run begins at the trough.
    """

    rate_per_s: Rate
    amplitude: Probability = 0.5
    period_s: Seconds = 86_400.0
    peak_s: Offset | None = None

    @property
    def first_peak_s(self) -> float:
        """When the rate is first at its highest, or a whole number of periods later."""
        return self.period_s / 2 if self.peak_s is None else self.peak_s


class StepPhase(Struct, frozen=True, forbid_unknown_fields=True):
    """A rate that is held for a while; 0 is silence."""

    rate_per_s: Rate
    duration_s: Seconds


class Steps(Struct, frozen=True, tag_field="process", tag="steps", forbid_unknown_fields=True):
    """Rates one after the other, then nothing, or, with ``repeat``, all over again."""

    phases: Annotated[tuple[StepPhase, ...], Meta(min_length=1, max_length=100_000)]
    spacing: Literal["poisson", "constant"] = "poisson"
    repeat: bool = False

    @property
    def period_s(self) -> float:
        """The time that all phases take together."""
        return sum(phase.duration_s for phase in self.phases)


class Users(Struct, frozen=True, tag_field="process", tag="users", forbid_unknown_fields=True):
    """A closed loop: each user thinks (a fixed or exponential time of this mean), asks, waits for the answer, thinks again.

    Its instants depend on the answers: ``users.UserPool`` gives them.
    """

    count: Annotated[int, Meta(ge=1, le=1_000_000)]
    think_s: Offset = 0.0
    think: Literal["exponential", "constant"] = "exponential"


Process = Constant | Poisson | Gamma | Modulated | OnOff | Diurnal | Steps
"""What can be drawn from a seed alone: the open processes."""


def draw_instants(process: Process, seed: int, end_us: Micros) -> Iterator[Instant]:
    """Instants in ``[0, end_us)``, in order, one at a time."""
    rng = SplitMix64(seed)
    match process:
        case Constant():
            return arrivals((Phase(process.rate_per_s, end_us),), "constant", seed)
        case Poisson():
            return arrivals((Phase(process.rate_per_s, end_us),), "poisson", seed)
        case Gamma():
            return _renewals(process, rng, end_us)
        case Modulated():
            return _modulated(process, rng, end_us)
        case OnOff():
            return _on_off(process, rng, end_us)
        case Diurnal():
            return _diurnal(process, rng, end_us)
        case Steps():
            return _stepped(process, seed, end_us)


def expected_count(process: Process, seconds: float) -> float:
    """How many arrivals are expected in the first ``seconds``."""
    match process:
        case Constant() | Poisson() | Gamma():
            return process.rate_per_s * seconds
        case Modulated():
            dwell = sum(state.dwell_s for state in process.states)
            return seconds * sum(state.rate_per_s * state.dwell_s for state in process.states) / dwell
        case OnOff(dwell="exponential"):
            return seconds * process.rate_per_s * process.on_s / (process.on_s + process.off_s)
        case OnOff():
            cycles = int(seconds / (process.on_s + process.off_s))
            rest = seconds - cycles * (process.on_s + process.off_s)
            return process.rate_per_s * (cycles * process.on_s + min(rest, process.on_s))
        case Diurnal():
            swing = _phase(process, seconds) - _phase(process, 0.0)
            return process.rate_per_s * (seconds + process.amplitude * process.period_s / (2 * PI) * swing)
        case Steps():
            return _stepped_count(process, seconds)


def _phase(process: Diurnal, seconds: float) -> float:
    return sine((seconds - process.first_peak_s) / process.period_s)


def _stepped_count(process: Steps, seconds: float) -> float:
    cycles = int(seconds / process.period_s) if process.repeat else 0
    total = cycles * sum(phase.rate_per_s * phase.duration_s for phase in process.phases)
    rest = seconds - cycles * process.period_s
    for phase in process.phases:
        total += phase.rate_per_s * max(0.0, min(rest, phase.duration_s))
        rest -= phase.duration_s
    return total


def _mean_gap(rate_per_s: float) -> int:
    return round(min(SECOND * _PARTS / rate_per_s, _NEVER)) if rate_per_s > 0 else round(_NEVER)


def _renewals(process: Gamma, rng: SplitMix64, end_us: Micros) -> Iterator[Instant]:
    gaps, mean, end = gamma(1 / (process.cv * process.cv)), _mean_gap(process.rate_per_s), end_us * _PARTS
    at = int(gaps.draw(rng) * mean)
    while at < end:
        yield at // _PARTS
        at += int(gaps.draw(rng) * mean)


def _held(rng: SplitMix64, rate_per_s: float, start: int, stop: int) -> Iterator[Instant]:
    """Poisson arrivals while one rate holds; all three times in parts."""
    mean = _mean_gap(rate_per_s)
    at = start + exponential(rng, mean)
    while at < stop:
        yield at // _PARTS
        at += exponential(rng, mean)


def _modulated(process: Modulated, rng: SplitMix64, end_us: Micros) -> Iterator[Instant]:
    states, end = process.states, end_us * _PARTS
    current = Weights([state.dwell_s for state in states]).choose(rng)
    start = 0
    while start < end:
        stop = start + exponential(rng, round(states[current].dwell_s * SECOND * _PARTS))
        yield from _held(rng, states[current].rate_per_s, start, min(stop, end))
        current = (current + 1 + rng.below(len(states) - 1)) % len(states)
        start = stop


def _on_off(process: OnOff, rng: SplitMix64, end_us: Micros) -> Iterator[Instant]:
    if process.dwell == "exponential":
        states = State(process.rate_per_s, process.on_s), State(0.0, process.off_s)
        yield from _modulated(Modulated(states), rng, end_us)
        return
    on, off = (round(seconds * SECOND * _PARTS) for seconds in (process.on_s, process.off_s))
    for start in range(0, end_us * _PARTS, max(1, on + off)):
        yield from _held(rng, process.rate_per_s, start, min(start + on, end_us * _PARTS))


def _diurnal(process: Diurnal, rng: SplitMix64, end_us: Micros) -> Iterator[Instant]:
    """Thinning (Lewis and Shedler): candidates at the highest rate, each kept with the rate's share of it."""
    highest, period = 1 + process.amplitude, max(1, round(process.period_s * SECOND))
    sines, offset = _sines(), period // 4 - round(process.first_peak_s * SECOND)
    for at in _held(rng, process.rate_per_s * highest, 0, end_us * _PARTS):
        place = (at + offset) % period * _SINES / period
        index = int(place)
        swing = sines[index] + (sines[index + 1] - sines[index]) * (place - index)
        if uniform(rng) * highest < 1 + process.amplitude * swing:
            yield at


@cache
def _sines() -> tuple[float, ...]:
    """One turn; between its points the sine is off by less than 1e-6."""
    return tuple(sine(index / _SINES) for index in range(_SINES + 1))


def _stepped(process: Steps, seed: int, end_us: Micros) -> Iterator[Instant]:
    phases = tuple(Phase(phase.rate_per_s, max(1, round(phase.duration_s * SECOND))) for phase in process.phases)
    period = sum(phase.duration_us for phase in phases)
    for number, start in enumerate(range(0, end_us, period)):
        for at in arrivals(phases, process.spacing, derive_seed(seed, number) if number else seed):
            if start + at >= end_us:
                return
            yield start + at
        if not process.repeat:
            return
