"""Which configurations of a stage can be measured, and the few that always are."""

from collections.abc import Sequence

from msgspec import Struct

from grainwise.domain.machine import Capabilities
from grainwise.profiler.record import StageRecord
from grainwise.profiles.artifact import Point

LEAST_REPEATS = 3
"""Measured repeats of a point at the least; one more warms up."""

_LOWEST_CORES = 0.25
_SAME_SIZE = 0.02
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


class Configuration(Struct, frozen=True):
    """A batch of ``items`` around item number ``item`` of stage ``stage`` (its items are ordered by size), at ``cpu_cores``."""

    stage: int
    items: int
    item: int
    cpu_cores: float

    def size_sum(self, record: StageRecord) -> float:
        """The sizes of the batch added up, if all its items are like the one that it is around."""
        return self.items * record.items[self.item].size

    def once_us(self, record: StageRecord) -> float:
        """Microseconds that one call would take if a batch gained nothing over single calls."""
        return self.items * record.items[self.item].call_us / min(1.0, self.cpu_cores)

    def expected_s(self, record: StageRecord, least_s: float, pace: float = 1.0) -> float:
        """Seconds that the point will about take when calls take ``pace`` times ``once_us``."""
        return max(least_s, (LEAST_REPEATS + 1) * pace * self.once_us(record) * 1e-6)

    def is_measured(self, record: StageRecord, points: Sequence[Point]) -> bool:
        """Whether there is a point of this batch and share whose sizes are about these."""
        size_sum = self.size_sum(record)
        return any(
            point.items == self.items
            and point.cpu_cores == self.cpu_cores
            and abs(point.size_sum - size_sum) <= _SAME_SIZE * max(size_sum, point.size_sum)
            for point in points
        )


def shares(capabilities: Capabilities, cores: float) -> tuple[float, ...]:
    """CPU shares to measure, ascending: a quarter of a core, or the least that can be held, and doublings up to ``cores``."""
    if capabilities.share_mechanism == "none":
        return (min(1.0, cores),)
    lowest = min(max(_LOWEST_CORES, capabilities.min_cpu_cores), cores)
    found = [lowest]
    doubling = _LOWEST_CORES
    while (doubling := doubling * 2) <= cores:
        if doubling > lowest:
            found.append(doubling)
    return tuple(found)


def whole_core(choices: Sequence[float]) -> float:
    """The share at which one thread is not held back: one core, or the most there is."""
    return min(choices, key=lambda cores: abs(cores - 1.0))


def batches(max_batch: int) -> tuple[int, ...]:
    """Batches to measure: doublings, and the largest."""
    found = [1]
    while found[-1] * 2 < max_batch:
        found.append(found[-1] * 2)
    return (*found, max_batch) if max_batch > 1 else (1,)


def sizes(record: StageRecord) -> tuple[int, ...]:
    """Items of different size, from the smallest to the largest, evenly spread over what the samples have."""
    found: list[int] = []
    for quantile in _QUANTILES:
        index = round(quantile * (len(record.items) - 1))
        size = record.items[index].size
        if not found or abs(size - record.items[found[-1]].size) > _SAME_SIZE * size:
            found.append(index)
    return tuple(found)


def candidates(stage: int, record: StageRecord, max_batch: int, choices: Sequence[float]) -> list[Configuration]:
    """Every configuration of a stage that may be measured."""
    return [
        Configuration(stage, items, item, cpu_cores)
        for items in batches(max_batch)
        for item in sizes(record)
        for cpu_cores in choices
    ]


def anchors(stage: int, record: StageRecord, max_batch: int, choices: Sequence[float]) -> list[Configuration]:
    """The configurations that are always measured: both ends of batch and size on a whole core, and of batch at the least."""
    small, large = sizes(record)[0], sizes(record)[-1]
    whole, least = whole_core(choices), choices[0]
    wanted = (
        (1, large, whole),
        (1, small, whole),
        (max_batch, small, whole),
        (max_batch, large, whole),
        (1, large, least),
        (max_batch, small, least),
    )
    return list(dict.fromkeys(Configuration(stage, items, item, cores) for items, item, cores in wanted))
