"""How long a call of a stage takes: the model's mean for its batch and share, times a residual that was measured.

A residual is chosen by what is called (seed, app, request, stage, place, attempt) and not by when: the same call meets the same
luck under every policy and every granularity, which makes runs comparable in pairs.
"""

from collections.abc import Sequence

from msgspec import Struct

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import Micros
from grainwise.predictors.latency import LatencyModel

RESIDUALS = 4096
"""Residuals are kept as a table of so many equally likely values."""

_MASK = (1 << 64) - 1


class StageRate(Struct, frozen=True, gc=False):
    """Coefficients of one stage at one share on one kind of machine: microseconds per call, item and size."""

    intercept_us: float
    per_item_us: float
    per_size_us: float
    max_batch: int
    residuals: tuple[float, ...]


class ServiceTimes:
    """Draws durations of calls of one app.

    Args:
        model: mean run times on the machine that was profiled.
        max_batches: the declared batch of each stage of the graph.
        residuals: per stage, measured over predicted run times, all equally likely; empty for none.
        seed: of the run and the app.

    Raises:
        ConfigurationError: a stage has no model, or a residual is negative.
    """

    def __init__(
        self, model: LatencyModel, max_batches: Sequence[int], residuals: Sequence[Sequence[float]], seed: int
    ) -> None:
        if len(model.stages) != len(max_batches) or len(residuals) not in (0, len(max_batches)):
            raise ConfigurationError(f"the latency model has {len(model.stages)} stages, the app {len(max_batches)}")
        self._model = model
        self._max_batches = tuple(max_batches)
        self._tables = tuple(_table(each) for each in residuals) or ((1.0,) * RESIDUALS,) * len(max_batches)
        self._seed = mixed(seed)
        self._rates: dict[tuple[float, float], tuple[StageRate, ...]] = {}

    def rates(self, cpu_cores: float, speed: float) -> tuple[StageRate, ...]:
        """The coefficients of every stage at a share on a machine ``speed`` times as fast as the profiled one."""
        found = self._rates.get((cpu_cores, speed))
        if found is None:
            found = tuple(
                StageRate(
                    stage.intercept_us * (factor := stage.share_factor(cpu_cores) / speed),
                    stage.per_item_us * factor,
                    stage.per_size_us * factor,
                    batch,
                    table,
                )
                for stage, batch, table in zip(self._model.stages, self._max_batches, self._tables, strict=True)
            )
            self._rates[(cpu_cores, speed)] = found
        return found

    def luck(self, request: int, index: int, attempt: int) -> int:
        """What the residuals of one invocation are chosen by; 64 bits."""
        return mixed(self._seed ^ (request * 0x9E3779B97F4A7C15 + index * 0xD1B54A32D192ED03 + attempt * 0x8CB92BA72F3D8DD7))

    @staticmethod
    def duration(rate: StageRate, stage: int, items: int, size_sum: float, luck: int, call: int) -> Micros:
        """Microseconds of one call of ``items``."""
        table = rate.residuals
        # Two rounds of the mixer of SplitMix64 (see workloads.integers) over the call's own number.
        value = (luck + (stage + 1) * 0x9E3779B97F4A7C15 + call * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
        mean = rate.intercept_us + rate.per_item_us * items + rate.per_size_us * size_sum
        return int(mean * table[(value ^ (value >> 31)) & (RESIDUALS - 1)] + 0.5)


def mixed(value: int) -> int:
    """The output function of SplitMix64: 64 bits that depend on every bit of ``value``."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _table(residuals: Sequence[float]) -> tuple[float, ...]:
    """Mid-point quantiles of some equally likely values, as many as ``RESIDUALS``."""
    if not residuals:
        return (1.0,) * RESIDUALS
    ordered = sorted(residuals)
    if ordered[0] < 0:
        raise ConfigurationError(f"a residual is negative: {ordered[0]:g}; it is measured over predicted run time")
    count = len(ordered)
    return tuple(ordered[(2 * at + 1) * count // (2 * RESIDUALS)] for at in range(RESIDUALS))
