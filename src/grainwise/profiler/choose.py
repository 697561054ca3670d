"""Where to measure next: where the fitted model errs most in the time of a mean request."""

from collections.abc import Sequence
from math import log2

from grainwise.predictors.fit import Configuration as Held
from grainwise.profiler.grid import Configuration
from grainwise.profiler.record import StageRecord
from grainwise.profiles.artifact import Point

_LEAST_ERROR = 0.01
"""What a stage or a point without any held-out error is taken to have."""

_FAR = 2.0
"""Doublings of batch, size or share beyond which a point says nothing of another."""

_Place = tuple[float, float, float]


def choose(
    wanted: Sequence[Configuration],
    records: Sequence[StageRecord],
    points: Sequence[Sequence[Point]],
    held: Sequence[Held],
    least_error_us: float,
    least_s: float,
    budget_s: float,
) -> list[Configuration]:
    """The next configurations to measure, the most telling first, that together fit ``budget_s``.

    A configuration tells the more the more time of a mean request the model of its stage gets wrong, the larger the held-out
    error of the nearest measured point, and the further that point is away. Those already measured are left out.

    Args:
        wanted: what may be measured.
        records: the first pass, per stage.
        points: what has been measured, per stage.
        held: every point that came to a duration, with its held-out error.
        least_error_us: a stage whose error in a mean request is smaller needs no further point.
        least_s: seconds that a point takes at the least.
        budget_s: seconds that all together may take.
    """
    known: list[list[tuple[_Place, float]]] = [[] for _ in records]
    for point in held:
        known[point.stage].append((_place(point.items, point.size_sum, point.cpu_cores), point.error_fraction))
    errors_us = [
        record.items_per_request * record.call_us * max(_LEAST_ERROR, sum(error for _, error in found) / len(found))
        for record, found in zip(records, known, strict=True)
    ]
    remaining = [
        each
        for each in wanted
        if errors_us[each.stage] >= least_error_us and not each.is_measured(records[each.stage], points[each.stage])
    ]

    def gain(each: Configuration) -> float:
        here = _place(each.items, each.size_sum(records[each.stage]), each.cpu_cores)
        distance, error = min((_distance(here, place), error) for place, error in known[each.stage])
        return errors_us[each.stage] * min(distance, _FAR) * max(_LEAST_ERROR, min(1.0, error))

    chosen: list[Configuration] = []
    spent_s = 0.0
    while remaining:
        best = max(remaining, key=gain)
        remaining.remove(best)
        record = records[best.stage]
        pace = _pace(best, record, points[best.stage])
        expected_s = best.expected_s(record, least_s, pace)
        if spent_s + expected_s <= budget_s:
            chosen.append(best)
            spent_s += expected_s
            place = _place(best.items, best.size_sum(record), best.cpu_cores)
            known[best.stage].append((place, _LEAST_ERROR))
    return chosen


def _pace(each: Configuration, record: StageRecord, points: Sequence[Point]) -> float:
    """How much longer than expected calls take, as far as the nearest measured point says; never less than 1."""
    here = _place(each.items, each.size_sum(record), each.cpu_cores)
    nearest = min(
        (point for point in points if point.count),
        key=lambda point: _distance(here, _place(point.items, point.size_sum, point.cpu_cores)),
        default=None,
    )
    if nearest is None:
        return 1.0
    item = min(record.items, key=lambda item: abs(item.size - nearest.size_sum / nearest.items))
    expected_us = nearest.items * max(1, item.call_us) / min(1.0, nearest.cpu_cores)
    return max(1.0, nearest.quantile_us(0.5) / expected_us)


def _place(items: int, size_sum: float, cpu_cores: float) -> _Place:
    return log2(items), log2(1 + size_sum / items), log2(cpu_cores)


def _distance(one: _Place, other: _Place) -> float:
    return sum(abs(ours - theirs) for ours, theirs in zip(one, other, strict=True))
