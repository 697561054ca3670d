"""Latency of a stage from its batch, its CPU share and its share of a GPU: the model, as data that travels in events.

Everything here is plain arithmetic on IEEE doubles (no libm), so a prediction is the same on every interpreter.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct


class Estimate(Struct, frozen=True, array_like=True, gc=False):
    """A predicted duration in microseconds: its mean and its 99th percentile."""

    mean_us: float
    p99_us: float


class DeviceModel(Struct, frozen=True):
    """Run time of a stage on a share of a GPU: a part on the host and a part on the device, one after the other.

    On the host ``host_intercept + host_per_item*n + host_per_size*sum`` at one core, times the stage's ``share_factor``. On the
    device ``fixed * fixed_factor(share) + (per_item*n + per_size*sum) * item_factor(share)``: launching kernels and reading
    weights hardly shrinks with the share, the work of the items does. Both factors are tables over shares of a device, 1.0 at
    the largest, interpolated linearly in ``1 / share``. ``memory_mib`` is what the weights take on the device,
    ``activation_mib`` what each item of a batch takes while it runs.
    """

    host_intercept_us: float
    host_per_item_us: float
    host_per_size_us: float
    fixed_us: float
    per_item_us: float
    per_size_us: float
    shares: tuple[float, ...]
    fixed_factors: tuple[float, ...]
    item_factors: tuple[float, ...]
    memory_mib: float = 0.0
    activation_mib: float = 0.0

    def coefficients(self, share_factor: float, gpu_share: float) -> tuple[float, float, float]:
        """Microseconds of a batch, of each item and of each unit of size, for a factor of the host part and a share."""
        by_fixed = interpolated(self.shares, self.fixed_factors, gpu_share)
        by_item = interpolated(self.shares, self.item_factors, gpu_share)
        return (
            self.host_intercept_us * share_factor + self.fixed_us * by_fixed,
            self.host_per_item_us * share_factor + self.per_item_us * by_item,
            self.host_per_size_us * share_factor + self.per_size_us * by_item,
        )


class StageModel(Struct, frozen=True, omit_defaults=True):
    """Run time of one stage: ``(intercept + per_item*n + per_size*sum) * share_factor(cores)``, times a residual.

    ``share_factor`` is a table over CPU cores (1.0 at one core), interpolated linearly in ``1 / cores`` and held at both
    ends in proportion to ``1 / cores`` below the first point. ``residual_quantiles`` are multiplicative factors at the
    levels ``RESIDUAL_LEVELS``.

    ``device`` says the same of a share of a GPU, ``None`` where none was profiled: the stage is then taken to run on any share
    as it does on its cores.
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
    device: DeviceModel | None = None

    def share_factor(self, cpu_cores: float) -> float:
        """Factor on the one-core run time at ``cpu_cores``."""
        return interpolated(self.share_cores, self.share_factors, cpu_cores)

    def coefficients(self, cpu_cores: float, gpu_share: float = 0.0) -> tuple[float, float, float, float]:
        """Mean microseconds of a batch, of each item and of each unit of size, and the factor on all three.

        ``gpu_share`` of 0: on cores, where the factor is that of the CPU share; on a device it is 1.
        """
        factor = self.share_factor(cpu_cores)
        if gpu_share > 0 and self.device is not None:
            return *self.device.coefficients(factor, gpu_share), 1.0
        return self.intercept_us, self.per_item_us, self.per_size_us, factor

    def predict(self, items: float, size_sum: float, cpu_cores: float, gpu_share: float = 0.0) -> Estimate:
        """Run time of one batch of ``items`` whose sizes add up to ``size_sum``, on a share of a GPU unless that is 0."""
        if gpu_share > 0 and self.device is not None:
            fixed, per_item, per_size = self.device.coefficients(self.share_factor(cpu_cores), gpu_share)
            mean = fixed + per_item * items + per_size * size_sum
        else:
            mean = (self.intercept_us + self.per_item_us * items + self.per_size_us * size_sum) * self.share_factor(cpu_cores)
        return Estimate(mean, mean * self.residual_quantiles[-1])

    def quantile_factor(self, level: float) -> float:
        """The residual factor at ``level``, the next tabulated level above it."""
        return self.residual_quantiles[min(bisect_left(RESIDUAL_LEVELS, level), len(RESIDUAL_LEVELS) - 1)]


RESIDUAL_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
"""Levels of ``StageModel.residual_quantiles``."""


def interpolated(points: tuple[float, ...], factors: tuple[float, ...], at: float) -> float:
    """A table's factor, linear in ``1 / at``; below the first point in proportion to it, above the last one held."""
    if at <= points[0]:
        return factors[0] * points[0] / at
    if at >= points[-1]:
        return factors[-1]
    right = bisect_left(points, at)
    left = right - 1
    inverse_left, inverse_right = 1 / points[left], 1 / points[right]
    weight = (1 / at - inverse_left) / (inverse_right - inverse_left)
    return factors[left] + weight * (factors[right] - factors[left])


class ColdStartModel(Struct, frozen=True):
    """Cold start of an instance by parts: process and import once, then load and first call of every stage it holds."""

    process_us: float
    import_us: float


class LatencyModel(Struct, frozen=True, omit_defaults=True):
    """Everything a predictor knows about one app on one device class: plain coefficients, with where they came from.

    ``device_context_mib`` is what an instance takes on a device before it holds any stage.
    """

    stages: tuple[StageModel, ...]
    cold: ColdStartModel
    device_class: str
    profile_digest: str
    device_context_mib: float = 0.0

    def stage(self, index: int, items: float, size_sum: float, cpu_cores: float, gpu_share: float = 0.0) -> Estimate:
        """Run time of stage ``index``, on a share of a GPU unless that is 0."""
        return self.stages[index].predict(items, size_sum, cpu_cores, gpu_share)

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

    def device_memory_mib(self, mask: int, at_once: Sequence[int]) -> float:
        """Memory on a device of an instance that holds the stages of ``mask`` there, 0 for none.

        The weights of all of them, and the activations of the largest batch: stages run one after the other. ``at_once`` has,
        for every stage of the graph, the items that it takes at once. A stage whose device was not profiled is taken to need
        there what it needs on its host.
        """
        if not mask:
            return 0.0
        weights = self.device_context_mib
        activations = 0.0
        for index, stage in enumerate(self.stages):
            if not mask >> index & 1:
                continue
            if stage.device is None:
                weights += stage.memory_mib
            else:
                weights += stage.device.memory_mib
                activations = max(activations, stage.device.activation_mib * at_once[index])
        return weights + activations


class LatencyPredictor(Protocol):
    """Time of a stage under a configuration, with its error, and the cold start of an instance."""

    def stage(self, index: int, items: float, size_sum: float, cpu_cores: float, gpu_share: float = 0.0) -> Estimate:
        """Run time of one batch of stage ``index``, on a share of a GPU unless that is 0."""
        ...

    def cold_start_us(self, mask: int) -> float:
        """Start-up time of an instance that holds the stages of ``mask``."""
        ...
