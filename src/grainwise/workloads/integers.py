"""A documented integer generator: one seed gives one sequence on every interpreter and machine.

SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014). Exponential draws use a table of
quantiles made with decimal arithmetic, so no C library's logarithm is involved.
"""

from decimal import Context, Decimal
from functools import cache

_MASK = (1 << 64) - 1
_QUANTILES = 4096
_SCALE = 1 << 20


class SplitMix64:
    """Implements ``domain.rng.Rng``."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def _next(self) -> int:
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        value = self._state
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
        return value ^ (value >> 31)

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
