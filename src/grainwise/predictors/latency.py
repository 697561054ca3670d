"""Latency of a stage from the size of its batch and its CPU share: the model, as data that travels in events.

Everything here is plain arithmetic on IEEE doubles (no libm), so a prediction is the same on every interpreter.
"""

from bisect import bisect_left
from typing import Protocol

from msgspec import Struct


class Estimate(Struct, frozen=True, array_like=True, gc=False):
    """A predicted duration in microseconds: its mean and its 99th percentile."""

    mean_us: float
    p99_us: float


class StageModel(Struct, frozen=True):
    """Run time of one stage: ``(intercept + per_item*n + per_size*sum) * share_factor(cores)``, times a residual.

    ``share_factor`` is a table over CPU cores (1.0 at one core), interpolated linearly in ``1 / cores`` and held at both
    ends in proportion to ``1 / cores`` below the first point. ``residual_quantiles`` are multiplicative factors at the
    levels ``RESIDUAL_LEVELS``.
    """

    intercept_us: float
    per_item_us: float
    per_size_us: float
    share_cores: tuple[float, ...]
    share_factors: tuple[float, ...]
    residual_quantiles: tuple[float, ...]
    held_out_error_fraction: float
    memory_mib: float
    load_us: float
    first_call_us: float

    def share_factor(self, cpu_cores: float) -> float:
        """Factor on the one-core run time at ``cpu_cores``."""
        cores, factors = self.share_cores, self.share_factors
        if cpu_cores <= cores[0]:
            return factors[0] * cores[0] / cpu_cores
        if cpu_cores >= cores[-1]:
            return factors[-1]
        right = bisect_left(cores, cpu_cores)
        left = right - 1
        inverse_left, inverse_right = 1 / cores[left], 1 / cores[right]
        weight = (1 / cpu_cores - inverse_left) / (inverse_right - inverse_left)
        return factors[left] + weight * (factors[right] - factors[left])

    def predict(self, items: float, size_sum: float, cpu_cores: float) -> Estimate:
        """Run time of one batch of ``items`` whose sizes add up to ``size_sum``."""
        mean = (self.intercept_us + self.per_item_us * items + self.per_size_us * size_sum) * self.share_factor(cpu_cores)
        return Estimate(mean, mean * self.residual_quantiles[-1])

    def quantile_factor(self, level: float) -> float:
        """The residual factor at ``level``, the next tabulated level above it."""
        return self.residual_quantiles[min(bisect_left(RESIDUAL_LEVELS, level), len(RESIDUAL_LEVELS) - 1)]


RESIDUAL_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
"""Levels of ``StageModel.residual_quantiles``."""


class ColdStartModel(Struct, frozen=True):
    """Cold start of an instance by parts: process and import once, then load and first call of every stage it holds."""

    process_us: float
    import_us: float


class LatencyModel(Struct, frozen=True):
    """Everything a predictor knows about one app on one device class: plain coefficients, with where they came from."""

    stages: tuple[StageModel, ...]
    cold: ColdStartModel
    device_class: str
    profile_digest: str

    def stage(self, index: int, items: float, size_sum: float, cpu_cores: float) -> Estimate:
        """Run time of stage ``index``."""
        return self.stages[index].predict(items, size_sum, cpu_cores)

    def cold_start_us(self, mask: int) -> float:
        """Microseconds from a start to readiness of an instance that holds the stages of ``mask``."""
        total = self.cold.process_us + self.cold.import_us
        for index, stage in enumerate(self.stages):
            if mask >> index & 1:
                total += stage.load_us + stage.first_call_us
        return total

    def memory_mib(self, mask: int, process_mib: float) -> float:
        """Resident memory of an instance that holds the stages of ``mask``."""
        return process_mib + sum(stage.memory_mib for index, stage in enumerate(self.stages) if mask >> index & 1)


class LatencyPredictor(Protocol):
    """Time of a stage under a configuration, with its error, and the cold start of an instance."""

    def stage(self, index: int, items: float, size_sum: float, cpu_cores: float) -> Estimate:
        """Run time of one batch of stage ``index``."""
        ...

    def cold_start_us(self, mask: int) -> float:
        """Start-up time of an instance that holds the stages of ``mask``."""
        ...
