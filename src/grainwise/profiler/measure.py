"""One point: a batch of real items at a share, warm, repeated, in an instance that holds the stages of the app."""

import time
from collections.abc import Sequence

from grainwise.control.events import InvocationDone
from grainwise.domain.values import Payload
from grainwise.profiler.bench import Bench, MeasurementError
from grainwise.profiler.grid import LEAST_REPEATS, Configuration
from grainwise.profiler.record import CALL_LIMIT_S, StageRecord, outcome_of
from grainwise.profiles.artifact import Point

MOST_REPEATS = 64
"""Repeats that are kept; of more, as many evenly spread."""

_SHORT_US = 200_000
"""A call that takes longer needs no warm-up beyond the first of its stage."""


class Instances:
    """Instances with every stage, one for each number of threads that a share brings; started when first needed.

    Where not all stages fit into one instance, each stage gets its own.
    """

    def __init__(self, bench: Bench, *, can_change_share: bool) -> None:
        self._bench = bench
        self._can_change_share = can_change_share
        self._is_split = False
        self._instances: dict[tuple[float, int], int] = {}
        self._warm: set[tuple[int, int]] = set()

    async def holding(self, stage: int, cpu_cores: float) -> int:
        """An instance that can run ``stage`` at ``cpu_cores``.

        Raises:
            MeasurementError: none can be started.
        """
        kind = float(max(1, int(cpu_cores))) if self._can_change_share else cpu_cores
        everything = self._bench.runtime.spec.graph.all_mask
        if not self._is_split:
            try:
                return await self._instance(kind, everything, cpu_cores)
            except MeasurementError:
                self._is_split = True
                for instance in self._instances.values():
                    await self._bench.stop(instance)
                self._instances.clear()
        return await self._instance(kind, 1 << stage, cpu_cores)

    async def _instance(self, kind: float, stages: int, cpu_cores: float) -> int:
        instance = self._instances.get((kind, stages), 0)
        if not self._bench.is_alive(instance):
            ready = await self._bench.start(stages, max(1.0, cpu_cores) if self._can_change_share else cpu_cores)
            instance = self._instances[kind, stages] = ready.instance
        return instance

    def is_warm(self, instance: int, stage: int) -> bool:
        """Whether this stage has run in this instance; from now on it has."""
        was_warm = (instance, stage) in self._warm
        self._warm.add((instance, stage))
        return was_warm

    def any_alive(self) -> int:
        """An instance that lives, 0 when there is none."""
        return next((instance for instance in self._instances.values() if self._bench.is_alive(instance)), 0)


async def measure(
    bench: Bench,
    instances: Instances,
    configuration: Configuration,
    record: StageRecord,
    least_s: float,
    until: float | None = None,
) -> Point | None:
    """Measure one configuration: at least ``LEAST_REPEATS`` times, and more until ``least_s`` seconds are over.

    None when the monotonic clock has passed ``until`` before there are so many repeats.
    """
    center = record.items[configuration.item]
    size_sum = configuration.size_sum(record)
    try:
        instance = await instances.holding(configuration.stage, configuration.cpu_cores)
        batch = _neighbours(record, configuration)
        done = await _call(bench, instance, configuration, batch)
        if len(done.spans) > 1:
            # Items of different shape do not share a call: the batch is of copies then.
            batch = [center.inputs] * configuration.items
            done = await _call(bench, instance, configuration, batch)
        durations: list[int] = []
        if instances.is_warm(instance, configuration.stage) and done.spans[0].duration_us > _SHORT_US:
            durations.append(_duration_us(done))
        size_sum = sum(span.size_sum for span in done.spans)
        began = time.monotonic()
        while len(durations) < LEAST_REPEATS or time.monotonic() - began < least_s:
            if until is not None and time.monotonic() > until and len(durations) < LEAST_REPEATS:
                return None
            durations.append(_duration_us(await _call(bench, instance, configuration, batch)))
    except MeasurementError as error:
        return Point(configuration.items, size_sum, center.size, configuration.cpu_cores, (), error.outcome, error.detail)
    size_max = max(center.size, size_sum / configuration.items)
    return Point(configuration.items, size_sum, size_max, configuration.cpu_cores, _kept(durations))


def _neighbours(record: StageRecord, configuration: Configuration) -> list[tuple[Payload, ...]]:
    """The real items whose size is nearest to that of the item in the middle, repeated where there are too few."""
    size = record.items[configuration.item].size
    near = sorted(range(len(record.items)), key=lambda index: (abs(record.items[index].size - size), index))
    close = [index for index in near if abs(record.items[index].size - size) <= 0.02 * size] or near[:1]
    return [record.items[close[index % len(close)]].inputs for index in range(configuration.items)]


async def _call(
    bench: Bench, instance: int, configuration: Configuration, batch: Sequence[tuple[Payload, ...]]
) -> InvocationDone:
    extent = 1 << configuration.stage
    done = await bench.invoke(instance, extent, batch, configuration.cpu_cores, CALL_LIMIT_S)
    bench.release(done.results)
    for result in done.results:
        if result.failure is not None:
            raise outcome_of(result.failure)
    if any(span.raised for span in done.spans):
        raise MeasurementError("failed", f"it raises on a batch of {configuration.items}, but on none of its items alone")
    return done


def _duration_us(done: InvocationDone) -> int:
    return sum(span.duration_us for span in done.spans)


def _kept(durations: Sequence[int]) -> tuple[int, ...]:
    if len(durations) <= MOST_REPEATS:
        return tuple(durations)
    return tuple(durations[index * len(durations) // MOST_REPEATS] for index in range(MOST_REPEATS))
