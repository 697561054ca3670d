"""How long a call of a stage takes: the model's mean for its batch and share, times a residual that was measured.

A residual is chosen by what is called (seed, app, request, stage, place, attempt) and not by when: the same call meets the same
luck under every policy and every granularity, which makes runs comparable in pairs.
"""

from collections.abc import Sequence
from typing import NamedTuple

from grainwise.control.events import StageSpan
from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import Micros
from grainwise.predictors.latency import LatencyModel
from grainwise.workloads.integers import mixed

RESIDUALS = 4096
"""Residuals are kept as a table of so many equally likely values."""

_MASK = (1 << 64) - 1
_SHIFT = 64 - (RESIDUALS - 1).bit_length()

Call = tuple[int, int, float, float, tuple[float, ...], int]
"""One call of a stage: stage, items, sum of sizes, mean microseconds, residuals, and what tells it from other calls."""


class DevicePart(NamedTuple):
    """What an instance has of a device, and how fast the cores beside it are relative to the profiled ones."""

    share_fraction: float
    host_speed: float


class ServiceTimes:
    """Draws durations of calls of one app.

    Args:
        model: mean run times on the machine that was profiled.
        max_batches: the declared batch of each stage of the graph.
        residuals: per stage, measured over predicted run times, all equally likely; empty for none.
        seed: of the run and the app.
        on_host: stages that stay on the cores of an instance that has a part of a device, as a mask.

    Raises:
        ConfigurationError: a stage has no model, or a residual is negative.
    """

    def __init__(
        self,
        model: LatencyModel,
        max_batches: Sequence[int],
        residuals: Sequence[Sequence[float]],
        seed: int,
        on_host: int = 0,
    ) -> None:
        if len(model.stages) != len(max_batches) or len(residuals) not in (0, len(max_batches)):
            raise ConfigurationError(f"the latency model has {len(model.stages)} stages, the app {len(max_batches)}")
        self._stages = model.stages
        self._max_batches = tuple(max_batches)
        self._tables = tuple(residual_table(each) for each in residuals) or ((1.0,) * RESIDUALS,) * len(max_batches)
        self._seed = mixed(seed)
        self._on_host = on_host
        self._factors: dict[tuple[int, float, float], float] = {}
        self._on_part: dict[tuple[int, float, float, DevicePart], tuple[float, float, float]] = {}

    def calls(
        self,
        stage: int,
        items: int,
        size_sum: float,
        cpu_cores: float,
        speed: float,
        *,
        work: float = 1.0,
        split: float = 1.0,
        part: DevicePart | None = None,
    ) -> list[Call]:
        """The calls in which a stage runs ``items``, each of its own batch, on a machine ``speed`` times the profiled one.

        They take ``work`` times what their sizes predict, and are ``split`` times as many as batches need. With ``part`` a
        stage that was profiled on a device runs there, ``speed`` being that of the device.
        """
        model = self._stages[stage]
        if part is not None and self._on_host >> stage & 1:
            speed, part = part.host_speed, None
        if part is not None and model.device is not None:
            factor = 1.0
            fixed, per_item, per_size = self._coefficients(stage, cpu_cores, speed, part)
        else:
            known = self._factors.get((stage, cpu_cores, speed))
            if known is None:
                known = self._factors[(stage, cpu_cores, speed)] = model.share_factor(cpu_cores) / speed
            factor = known
            fixed, per_item, per_size = model.intercept_us, model.per_item_us, model.per_size_us
        batch, table = self._max_batches[stage], self._tables[stage]
        if split > 1.0:
            # Calls of even length: which items have one shape is not known.
            least = -(-items // batch)
            batch = -(-items // min(items, round(least * split)))
        factor *= work
        found: list[Call] = []
        for number, lo in enumerate(range(0, items, batch)):
            count = min(batch, items - lo)
            size = size_sum * count / items
            mean = (fixed + per_item * count + per_size * size) * factor
            salt = (stage + 1) * 0xA0761D6478BD642F + number * 0xE7037ED1A0B428DB & _MASK
            found.append((stage, count, size, mean, table, salt))
        return found

    def _coefficients(self, stage: int, cpu_cores: float, speed: float, part: DevicePart) -> tuple[float, float, float]:
        """Microseconds of a batch, an item and a unit of size on a part of a device, each at the speed of where it runs."""
        key = (stage, cpu_cores, speed, part)
        known = self._on_part.get(key)
        if known is None:
            model = self._stages[stage]
            device = model.device
            if device is None:
                raise ConfigurationError(f"stage {stage} was not profiled on a device")
            on_host = model.share_factor(cpu_cores) * speed / part.host_speed
            fixed, per_item, per_size = device.coefficients(on_host, part.share_fraction)
            known = self._on_part[key] = fixed / speed, per_item / speed, per_size / speed
        return known

    def luck(self, request: int) -> int:
        """What the residuals of a request are chosen by."""
        return mixed(self._seed ^ request * 0x9E3779B97F4A7C15)


def another_luck(luck: int, path: tuple[int, ...], attempt: int) -> int:
    """The luck of an item inside a fan-out, or of a later attempt."""
    for index in path:
        luck = (luck * 0x8CB92BA72F3D8DD7 + index * 0xD1B54A32D192ED03) & _MASK
    return luck + (attempt - 1) * 0x9E3779B97F4A7C15


def served(calls: Sequence[Call], luck: int, slow: float) -> tuple[Micros, list[StageSpan]]:
    """The microseconds of all calls together, and a span for each; everything takes ``slow`` times as long as it might."""
    total = 0
    spans: list[StageSpan] = []
    for stage, items, size_sum, mean, table, salt in calls:
        # Two multiplications whose highest bits depend on every bit of what the residual is chosen by.
        value = luck + salt & _MASK
        value = (value ^ (value >> 29)) * 0xBF58476D1CE4E5B9 & _MASK
        value = (value ^ (value >> 32)) * 0x94D049BB133111EB & _MASK
        duration = int(mean * table[value >> _SHIFT] + 0.5)
        if slow != 1.0:
            duration = int(duration * slow)
        total += duration
        spans.append(StageSpan(stage, items, size_sum, duration))
    return total, spans


def duration_us(call: Call, luck: int) -> Micros:
    """Microseconds of one call."""
    return served((call,), luck, 1.0)[0]


def hop_us(mean_us: Micros, table: tuple[float, ...], luck: int, extent: int) -> Micros:
    """Microseconds of a hop into an extent whose mean is ``mean_us``."""
    return int(mean_us * table[mixed(luck ^ extent * 0xD6E8FEB86659FD93) >> _SHIFT] + 0.5)


def residual_table(residuals: Sequence[float]) -> tuple[float, ...]:
    """Mid-point quantiles of some equally likely values, as many as ``RESIDUALS``."""
    if not residuals:
        return (1.0,) * RESIDUALS
    ordered = sorted(residuals)
    if ordered[0] < 0:
        raise ConfigurationError(f"a residual is negative: {ordered[0]:g}; it is measured over predicted run time")
    count = len(ordered)
    return tuple(ordered[(2 * at + 1) * count // (2 * RESIDUALS)] for at in range(RESIDUALS))
