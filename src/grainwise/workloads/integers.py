"""A documented integer generator: one seed gives one sequence on every interpreter and machine.

SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014). Exponential draws use a table of
quantiles made with decimal arithmetic, so no C library's logarithm is involved. Floats are made of 53 bits by one exact
multiplication.
"""

from bisect import bisect_right
from collections.abc import Sequence
from decimal import Context, Decimal
from functools import cache
from itertools import accumulate

from grainwise.domain.rng import Rng

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15
_QUANTILES = 4096
_SCALE = 1 << 20
_FLOAT_BITS = 53
_ULP = 1.0 / (1 << _FLOAT_BITS)


def mixed(value: int) -> int:
    """What a generator in state ``value`` gives next: 64 bits that depend on every bit of ``value``."""
    value = (value + _STEP) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


class SplitMix64:
    """Implements ``domain.rng.Rng``."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def _next(self) -> int:
        value = mixed(self._state)
        self._state = (self._state + _STEP) & _MASK
        return value

    def below(self, bound: int) -> int:
        """A uniform integer in ``[0, bound)``, without modulo bias.

        Raises:
            ValueError: ``bound`` is not in ``[1, 2**64]``.
        """
        if not 0 < bound <= 1 << 64:
            raise ValueError(f"bound must lie between 1 and 2**64, not {bound}")
        limit = (1 << 64) - (1 << 64) % bound
        value = self._next()
        while value >= limit:
            value = self._next()
        return value % bound


@cache
def _exponential_table() -> tuple[int, ...]:
    """Mid-point quantiles of the unit exponential, scaled to integers so that their mean is exactly one."""
    context = Context(prec=20)
    raw = [-context.ln(context.divide(Decimal(2 * (_QUANTILES - at) - 1), Decimal(2 * _QUANTILES))) for at in range(_QUANTILES)]
    mean = context.divide(sum(raw, Decimal(0)), Decimal(_QUANTILES))
    return tuple(int((value / mean * _SCALE).to_integral_value()) for value in raw)


def exponential(rng: SplitMix64, mean: int) -> int:
    """An exponential duration of the given mean, in whatever unit the mean is in; rounded down to a whole one."""
    return mean * _exponential_table()[rng.below(_QUANTILES)] // _SCALE


def derive_seed(seed: int, *path: int | str) -> int:
    """The seed of a stream of its own, in ``[0, 2**64)``: ``derive_seed(7, "arrivals", 0)``.

    Each purpose draws from its own stream, so that a change in one (another policy, one more size) leaves the others' numbers
    as they were: runs that are compared see common random numbers.
    """
    state = SplitMix64(seed).below(1 << 64)
    for part in path:
        words = part.to_bytes(8, "little", signed=part < 0) if isinstance(part, int) else b"\xff" + part.encode()
        for start in range(0, len(words), 8):
            word = int.from_bytes(words[start : start + 8], "little")
            state = SplitMix64(state ^ word).below(1 << 64)
    return state


def uniform(rng: Rng) -> float:
    """A float in ``[0, 1)``: a multiple of 2**-53, each as likely."""
    return rng.below(1 << _FLOAT_BITS) * _ULP


def happens(rng: Rng, probability: float) -> bool:
    """True with this probability, which is cut to ``[0, 1]``; it always draws, so that streams stay in step."""
    return uniform(rng) < probability


class Weights:
    """Indices by weight; one uniform draw each."""

    def __init__(self, weights: Sequence[float]) -> None:
        """Args: weights: each finite and >= 0, at least one above 0; they need not add up to 1.

        Raises:
            ValueError: they are none, negative, not finite, or all 0.
        """
        if not weights or not all(0 <= weight < 1e300 for weight in weights) or not any(weights):
            raise ValueError(f"weights must be finite and >= 0 with one above 0, not {list(weights)}")
        self._ends = list(accumulate(weights))
        self._last = max(index for index, weight in enumerate(weights) if weight > 0)

    def choose(self, rng: Rng) -> int:
        """An index of the weights."""
        return min(bisect_right(self._ends, uniform(rng) * self._ends[-1]), self._last)
