"""How sure a mean over runs is: ranges in which it lies with about nine chances in ten.

Requests of one run share its queues, so they tell less than as many independent ones would: the parts of a run are taken for
the observations (batch means: Law and Carson, Operations Research 27, 1979), and a fraction is at least as unsure as if all of
them were independent (the score interval: Wilson, Journal of the American Statistical Association 22, 1927).
"""

from collections.abc import Sequence
from math import sqrt

from grainwise.predictors.evaluator import Band

_Z = 1.645
_T = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)
"""Student's t at 95 % for 1, 2, ... degrees of freedom."""


def fraction_band(hits: Sequence[int], tries: Sequence[int], runs: int = 1) -> Band:
    """The fraction of tries that hit, over parts of runs; 1 and anything from 0 to 1 where nothing was tried.

    Args:
        hits: by part, run after run, at most as many as its tries.
        tries: by part, run after run.
        runs: how many there are. Of several, a part is compared with the same part of the others: what changes in the course
            of every run, as after a change of plan, is no uncertainty.
    """
    count = sum(tries)
    if not count:
        return Band(1.0, 0.0, 1.0)
    value = sum(hits) / count
    square = _Z * _Z
    middle = (value + square / (2 * count)) / (1 + square / count)
    half = _Z / (1 + square / count) * sqrt(value * (1 - value) / count + square / (4 * count * count))
    # A ratio of two sums: its error is that of what each part has more than the ratio says.
    excess = [hit - value * tried for hit, tried in zip(hits, tries, strict=True)]
    parts = len(excess) // runs
    groups = [excess[part::parts] for part in range(parts)] if runs > 1 else [excess]
    degrees = sum(len(group) - 1 for group in groups)
    reach = _t(degrees) * sqrt(sum(_variance_of_sum(group) for group in groups)) / count if degrees else 0.0
    low, high = min(middle - half, value - reach), max(middle + half, value + reach)
    return Band(value, max(0.0, min(low, value)), min(1.0, max(high, value)))


def _variance_of_sum(values: Sequence[float]) -> float:
    count = len(values)
    mean = sum(values) / count
    return sum((value - mean) * (value - mean) for value in values) * count / (count - 1) if count > 1 else 0.0


def mean_band(values: Sequence[float], requests: int) -> Band:
    """The mean of what runs cost. One run alone is as unsure as the number of its requests, if they cost what they like."""
    count = len(values)
    mean = sum(values) / count
    if count == 1:
        reach = _Z * mean / sqrt(max(1, requests))
    else:
        reach = _t(count - 1) * sqrt(sum((value - mean) * (value - mean) for value in values) / (count - 1) / count)
    return Band(mean, max(0.0, mean - reach), mean + reach)


def _t(degrees: int) -> float:
    return _T[degrees - 1] if degrees <= len(_T) else _Z + 1.6 / degrees
