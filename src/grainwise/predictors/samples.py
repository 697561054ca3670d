"""Evenly spread samples of many independent quantities at once, without randomness.

Column ``j`` of a rank-1 lattice (N. M. Korobov, 1959) visits every level ``(i + 0.5) / M`` once, in an order of its own, so a
sum of columns behaves as a sum of independent quantities, and every evaluation of a plan uses the same numbers: two plans
differ only by what they are, never by luck. A quantity that two paths share is the same column in both.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from grainwise.predictors.latency import RESIDUAL_LEVELS
from grainwise.predictors.queueing import Waiting

SAMPLES = 1021
"""A prime; the resolution of an attainment is its reciprocal."""

_GENERATOR = 76

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


@cache
def residuals(quantiles: tuple[float, ...], column: int) -> Samples:
    """A stage's residual factor; beyond the last tabulated level it goes on as it came from the one before."""
    ends = (quantiles[0], *quantiles, 2 * quantiles[-1] - quantiles[-2])
    values: Samples = np.interp(levels(column), (0.0, *RESIDUAL_LEVELS, 1.0), ends)
    values.setflags(write=False)
    return values


def waits(waiting: Waiting, column: int) -> Samples | float:
    """A wait in microseconds."""
    if waiting.mean_us <= 0:
        return 0.0
    if waiting.is_growing:
        return 2 * waiting.mean_us * levels(column)
    scale = waiting.mean_us / waiting.probability
    found: Samples = np.maximum(0.0, scale * (_exponential(column) + np.log(waiting.probability)))
    return found
