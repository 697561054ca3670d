"""Evenly spread samples of many independent quantities at once, without randomness.

Column ``j`` of a rank-1 lattice (N. M. Korobov, 1959) visits every level ``(i + 0.5) / M`` once, in an order of its own, so a
sum of columns behaves as a sum of independent quantities, and every evaluation of a plan uses the same numbers: two plans
differ only by what they are, never by luck. A quantity that two paths share is the same column in both.
"""

from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from grainwise.predictors.latency import RESIDUAL_LEVELS
from grainwise.predictors.queueing import Waiting

SAMPLES = 1021
"""A prime; the resolution of an attainment is its reciprocal."""

_GENERATOR = 298
"""A primitive root; no two of its first 72 columns correlate by more than 0.08."""

_LEVELS = (0.0, *RESIDUAL_LEVELS, 1.0)

Samples = NDArray[np.float64]


@cache
def levels(column: int) -> Samples:
    """The levels of one independent quantity, strictly between 0 and 1."""
    step = pow(_GENERATOR, column, SAMPLES)
    positions = (np.arange(SAMPLES, dtype=np.int64) * step + 389 * column) % SAMPLES
    values: Samples = (positions + 0.5) / SAMPLES
    values.setflags(write=False)
    return values


@cache
def _exponential(column: int) -> Samples:
    """``-log(1 - level)`` of a column."""
    values: Samples = -np.log1p(-levels(column))
    values.setflags(write=False)
    return values


@lru_cache(maxsize=1024)
def residuals(quantiles: tuple[float, ...], column: int, side_by_side: int = 1) -> Samples:
    """A stage's residual factor, the greatest of ``side_by_side`` independent ones."""
    values: Samples = np.interp(levels(column) ** (1 / side_by_side), _LEVELS, _ends(quantiles))
    values.setflags(write=False)
    return values


@lru_cache(maxsize=256)
def factor_moments(quantiles: tuple[float, ...]) -> tuple[float, float]:
    """Mean and variance of a stage's residual factor."""
    values = _ends(quantiles)
    mean = square = 0.0
    for left, right, low, high in zip(_LEVELS, _LEVELS[1:], values, values[1:], strict=False):
        width = right - left
        mean += width * (low + high) / 2
        square += width * (low * low + low * high + high * high) / 3
    return mean, max(0.0, square - mean * mean)


def _ends(quantiles: tuple[float, ...]) -> tuple[float, ...]:
    """The factors at ``_LEVELS``, joined by straight lines; beyond the last one it goes on as it came from the one before."""
    return (quantiles[0], *quantiles, 2 * quantiles[-1] - quantiles[-2])


_NEVER = 1e-12
"""Rarer than any of the levels: nobody among the samples waits."""


def waits(waiting: Waiting, column: int, further: int) -> Samples | float:
    """A wait in microseconds; ``further`` is a second column, for the wait behind others once a server is free."""
    if waiting.mean_us <= 0 or waiting.probability <= _NEVER:
        return 0.0
    if waiting.is_growing:
        return 2 * waiting.mean_us * levels(column)
    if waiting.probability <= 0.5 / SAMPLES:
        # None of the samples lies so far out; a probability next to nothing would overflow below.
        return 0.0
    mean_us = waiting.mean_us / waiting.probability - waiting.shared_us
    residual_us = min(waiting.residual_us, mean_us)
    # Where in its tail a wait lies, between 0 and 1; below 0 for those that do not wait.
    place = (levels(column) - 1) / waiting.probability + 1
    late = np.flatnonzero(place > 0)
    inside = place[late]
    even, uneven = 2 * inside, -np.log1p(-inside)
    found = waiting.shared_us + residual_us * (waiting.evenness * even + (1 - waiting.evenness) * uneven)
    if mean_us > residual_us:
        # The rest of the mean, exponential with the whole mean, for the fraction that this leaves.
        found = found + mean_us * np.maximum(0.0, _exponential(further)[late] + np.log(1 - residual_us / mean_us))
    spread: Samples = np.zeros(SAMPLES)
    spread[late] = found
    return spread
