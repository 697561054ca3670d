"""Continuous distributions as tables of quantiles: one uniform draw gives one value, with the same bits on every machine.

A table has 512 even cells; the top sixteenth of them is cut into 512 again, and so on, down to a probability of 2**-37. Within
a cell values are interpolated. A table is divided by its own mean.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from math import sqrt

from grainwise.domain.rng import Rng
from grainwise.workloads.elementary import exp, ln, ln_gamma
from grainwise.workloads.integers import uniform

_LEVELS = 8
_CELLS = 512
_TAIL = 16
_KEPT_CELLS = _CELLS - _CELLS // _TAIL
_BOTTOM = 1 - 2.0**-12
"""Stands for the probability 1 of exceeding the lowest value, which may lie at minus infinity."""
_SMOOTH_SHAPE = 100.0
"""From here on a gamma is so close to a cube of a normal that the two differ by less than 1e-4 of the mean."""
_STEPS = 60
_PRECISE = 1e-12
_TINY = 1e-300
_KEPT_TABLES = 64


def _tails() -> list[list[float]]:
    """For each level the probabilities *above* its knots, falling; exact binary fractions. The very last is half a cell off."""
    levels: list[list[float]] = []
    width = 1.0
    for _ in range(_LEVELS):
        step = width / _CELLS
        levels.append([width - index * step for index in range(_KEPT_CELLS)])
        width /= _TAIL
    levels[0][0] = _BOTTOM
    levels[-1] += [width - index * step for index in range(_CELLS // _TAIL)]
    levels[-1].append(step / 2)
    return levels


class Quantiles:
    """A distribution by its values at the knots, scaled so that the mean of the draws is 1."""

    def __init__(self, value_above: Callable[[float], float]) -> None:
        """Args: value_above: the value that is exceeded with this probability, in (0, 1); called with falling probabilities."""
        levels = [[value_above(tail) for tail in knots] for knots in _tails()]
        for level, finer in pairwise(levels):
            level.append(finer[0])
        scale = _mean(levels)
        self._levels = [[value / scale for value in level] for level in levels]

    def at(self, probability: float) -> float:
        """The value at a cumulative probability in ``[0, 1)``."""
        level = 0
        place = probability * _CELLS
        while place >= _KEPT_CELLS and level < _LEVELS - 1:
            place = (place - _KEPT_CELLS) * _TAIL
            level += 1
        values, cell = self._levels[level], int(place)
        return values[cell] + (values[cell + 1] - values[cell]) * (place - cell)

    def draw(self, rng: Rng) -> float:
        """One value from one uniform draw."""
        return self.at(uniform(rng))


def _mean(levels: Sequence[Sequence[float]]) -> float:
    total, width = 0.0, 1.0 / _CELLS
    for level in levels:
        total += width * sum((low + high) / 2 for low, high in pairwise(level))
        width /= _TAIL
    return total


@lru_cache(_KEPT_TABLES)
def gamma(shape: float) -> Quantiles:
    """A gamma distribution with mean 1 and the coefficient of variation ``1 / sqrt(shape)``.

    Raises:
        ValueError: ``shape`` is not in [0.001, 1e9].
    """
    if not 1e-3 <= shape <= 1e9:
        raise ValueError(f"a gamma's shape must lie between 0.001 and 1e9, not {shape}")
    if shape >= _SMOOTH_SHAPE:
        return Quantiles(lambda tail: _smooth_gamma(shape, tail))
    return Quantiles(_GammaSolver(shape).value_above)


@lru_cache(_KEPT_TABLES)
def lognormal(cv: float) -> Quantiles:
    """A lognormal distribution with mean 1 and this coefficient of variation.

    Raises:
        ValueError: ``cv`` is not in [0, 30].
    """
    if not 0 <= cv <= 30:
        raise ValueError(f"a lognormal's coefficient of variation must lie between 0 and 30, not {cv}")
    sigma = sqrt(ln(1 + cv * cv))
    return Quantiles(lambda tail: exp(sigma * _normal_above(tail)))


@lru_cache(1)
def _normal_knots() -> dict[float, float]:
    solver = _GammaSolver(0.5)
    upper = sorted({min(tail, 1 - tail) for knots in _tails() for tail in knots}, reverse=True)
    return {tail: sqrt(2 * solver.value_above(2 * tail)) if tail < 0.5 else 0.0 for tail in upper}


def _normal_above(tail: float) -> float:
    return _normal_knots()[tail] if tail <= 0.5 else -_normal_knots()[1 - tail]


def _smooth_gamma(shape: float, tail: float) -> float:
    """Wilson and Hilferty: the cube root of a gamma is nearly normal."""
    spread = 1 / (9 * shape)
    root = 1 - spread + _normal_above(tail) * sqrt(spread)
    return shape * root * root * root


class _GammaSolver:
    """Quantiles of a gamma by Newton's method on the logarithm of the value.

    The logarithms of both tails are concave in it, so that each step but the first lands on the same side: it needs no bracket.
    """

    def __init__(self, shape: float) -> None:
        self._shape = shape
        self._ln_gamma = ln_gamma(shape)
        self._log = 0.0
        self._is_started = False

    def value_above(self, tail: float) -> float:
        """The value that is exceeded with this probability."""
        log = self._log if self._is_started else (ln(1 - tail) + ln_gamma(self._shape + 1)) / self._shape
        if log < -600:
            # Below the smallest float: nothing that is drawn could tell it from nothing.
            return 0.0
        for _ in range(_STEPS):
            step = self._step(log, tail)
            log += max(-1.0, min(1.0, step))
            if abs(step) < _PRECISE * 1000:
                break
        self._log, self._is_started = log, True
        return exp(log)

    def _step(self, log: float, tail: float) -> float:
        value = exp(log)
        weight = exp(self._shape * log - value - self._ln_gamma)
        if value < self._shape + 1:
            below = weight * self._series(value)
            above = max(1 - below, _TINY)
        else:
            above = max(weight * self._fraction(value), _TINY)
            below = 1 - above
        if tail > 0.5:
            return (ln(1 - tail) - ln(max(below, _TINY))) * below / weight
        return (ln(above) - ln(tail)) * above / weight

    def _series(self, value: float) -> float:
        term = total = 1 / self._shape
        divisor = self._shape
        while term > total * _PRECISE:
            divisor += 1
            term *= value / divisor
            total += term
        return total

    def _fraction(self, value: float) -> float:
        """Lentz's continued fraction of the upper tail."""
        b = value + 1 - self._shape
        c, d = 1 / _TINY, 1 / b
        total = d
        for index in range(1, 1000):
            a = -index * (index - self._shape)
            b += 2
            d = 1 / (a * d + b)
            c = b + a / c
            factor = c * d
            total *= factor
            if abs(factor - 1) < _PRECISE:
                break
        return total
