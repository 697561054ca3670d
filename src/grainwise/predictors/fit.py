"""From a profile's points to the coefficients that predict: least squares on relative error, residuals, held-out error."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec
import numpy as np
from msgspec import Struct

from grainwise.domain.app import AppSpec
from grainwise.domain.errors import ArtifactError
from grainwise.domain.machine import HopModel
from grainwise.predictors.device_fit import fit_device, scaled
from grainwise.predictors.latency import RESIDUAL_LEVELS, ColdStartModel, DeviceModel, LatencyModel, StageModel, interpolated
from grainwise.predictors.least_squares import least_squares
from grainwise.predictors.workload import Workload
from grainwise.profiles.artifact import Point, Profile, StageProfile, digest

T = TypeVar("T")

REFERENCE_CORES = 1.0
UNKNOWN_ERROR_FRACTION = 0.5
"""What is claimed for a stage with a single configuration: nothing was held out, so the error is taken to be wide."""


class Configuration(Struct, frozen=True):
    """A measured configuration of a stage and its relative error when it is left out of the fit."""

    stage: int
    items: int
    size_sum: float
    cpu_cores: float
    error_fraction: float


class _Fit(Struct, frozen=True):
    coefficients: tuple[float, float, float]
    share_cores: tuple[float, ...]
    share_factors: tuple[float, ...]
    device: DeviceModel | None = None

    def predict(self, point: Point) -> float:
        base, per_item, per_size = self.coefficients
        even = (1.0,) * len(RESIDUAL_LEVELS)
        model = StageModel(base, per_item, per_size, self.share_cores, self.share_factors, even, 0, 0, 0, 0, self.device)
        return model.predict(point.items, point.size_sum, point.cpu_cores, point.gpu_share_fraction).mean_us

    def factor(self, cpu_cores: float) -> float:
        """Factor on the one-core run time of the host at ``cpu_cores``."""
        return interpolated(self.share_cores, self.share_factors, cpu_cores)

    def times(self, factor: float) -> "_Fit":
        """The same, everything taking ``factor`` times as long."""
        base, per_item, per_size = self.coefficients
        device = None if self.device is None else scaled(self.device, factor)
        return _Fit((base * factor, per_item * factor, per_size * factor), self.share_cores, self.share_factors, device)


def latency_model(profile: Profile, spec: AppSpec | None = None) -> LatencyModel:
    """Fit every stage. Stages of one declaration share their points.

    A stage with points on a device runs there: its error and its residuals are those of these points.

    With ``spec`` a stage is given at least the memory that it declares: samples may not have shown what it needs at worst.

    Raises:
        ArtifactError: a stage has no point with outcome ``ok``.
    """
    hints = {stage.name: stage.memory_mib or 0.0 for stage in spec.stages} if spec is not None else {}
    stages = []
    for index, stage in enumerate(profile.stages):
        points = _points(profile, index)
        if not points:
            raise ArtifactError(_unusable(stage))
        fit = _corrected(_as_means(_fit(points), points), profile, index)
        errors = _where_it_runs(points, _held_out(points))
        stages.append(
            StageModel(
                *fit.coefficients,
                share_cores=fit.share_cores,
                share_factors=fit.share_factors,
                residual_quantiles=_quantiles(_calibrated(profile, index) or _ratios(points, fit)),
                held_out_error_fraction=float(np.mean(errors)) if errors else UNKNOWN_ERROR_FRACTION,
                memory_mib=max(stage.memory_mib, hints.get(stage.declared, 0.0)),
                load_us=stage.load_us,
                first_call_us=stage.first_call_us,
                device=_with_memory(fit.device, stage),
            )
        )
    cold, context = ColdStartModel(profile.cold.process_us, profile.cold.import_us), profile.device_context_mib
    model = LatencyModel(tuple(stages), cold, profile.device_class, digest(profile))
    # Encoders leave out a default that is this very object, and models of CPUs are encoded as before there were devices.
    return msgspec.structs.replace(model, device_context_mib=context) if context else model


def workload_of(profile: Profile, rate_per_s: float) -> Workload:
    """A forecast at ``rate_per_s`` of requests like those that were profiled."""
    return Workload(
        rate_per_s=rate_per_s,
        items=tuple(stage.items_per_request for stage in profile.stages),
        item_size=tuple(stage.item_size for stage in profile.stages),
        output_bytes=tuple(stage.output_bytes for stage in profile.stages),
        input_bytes=profile.entry_bytes,
        variants=_variants(profile),
    )


def _variants(profile: Profile) -> tuple[tuple[float, ...], ...]:
    """The samples as kinds of requests: predicted work per stage relative to its mean over the samples.

    Samples of which a stage knows nothing (profiles of an earlier time) give no variants: every request is the mean one.
    """
    counts = {len(stage.samples) for stage in profile.stages}
    if len(counts) != 1 or counts == {0} or counts == {1}:
        return ()
    columns: list[list[float]] = []
    for index, stage in enumerate(profile.stages):
        points = _points(profile, index)
        if not points:
            return ()
        fit = _fit(points)
        share = 0.0 if fit.device is None else 1.0
        work = [
            fit.predict(Point(items, size, size, REFERENCE_CORES, gpu_share_fraction=share)) if items else 0.0
            for items, size in stage.samples
        ]
        mean = sum(work) / len(work)
        columns.append([each / mean if mean > 0 else 1.0 for each in work])
    return tuple(zip(*columns, strict=True))


def residuals(profile: Profile) -> tuple[tuple[float, ...], ...]:
    """For each stage the measured over the predicted run time of every warm repeat of every configuration, in order.

    These are what a simulated call is drawn from: the fit's misses and the noise of the machine together. Where live runs have
    calibrated a stage, they are those of the runs.

    Raises:
        ArtifactError: a stage has no point with outcome ``ok``.
    """
    found: list[tuple[float, ...]] = []
    for index, stage in enumerate(profile.stages):
        points = _points(profile, index)
        if not points:
            raise ArtifactError(_unusable(stage))
        found.append(_calibrated(profile, index) or tuple(sorted(_ratios(points, _as_means(_fit(points), points)))))
    return tuple(found)


def hop_model(profile: Profile) -> HopModel:
    """What a hop costs: as live runs have calibrated it, else as the profiler measured it."""
    calibration = profile.calibration
    return profile.hop if calibration is None else calibration.hop


def configurations(profile: Profile) -> list[Configuration]:
    """Every usable configuration on cores with its held-out error, the worst first: where another measurement teaches most."""
    found: list[Configuration] = []
    for index in range(len(profile.stages)):
        points = [point for point in _points(profile, index) if not point.gpu_share_fraction]
        errors = _held_out(points) or [UNKNOWN_ERROR_FRACTION] * len(points)
        found.extend(
            Configuration(index, point.items, point.size_sum, point.cpu_cores, error)
            for point, error in zip(points, errors, strict=True)
        )
    return sorted(found, key=lambda each: (-each.error_fraction, each.stage, each.items, each.cpu_cores, each.size_sum))


def held_out_errors(profile: Profile) -> tuple[float, ...]:
    """Mean held-out relative error of each stage."""
    return tuple(stage.held_out_error_fraction for stage in latency_model(profile).stages)


def _points(profile: Profile, index: int) -> list[Point]:
    declared = profile.stages[index].declared
    return [
        point
        for stage in profile.stages
        if stage.declared == declared
        for point in stage.points
        if point.outcome == "ok" and point.latencies_us
    ]


def _unusable(stage: StageProfile) -> str:
    outcomes = sorted({point.outcome for point in stage.points})
    found = f"all of them ended with {' or '.join(outcomes)}" if outcomes else "there are none"
    return (
        f"Field `stages[{stage.name}].points` of the profile holds no point at which the stage ran ({found}). "
        "Run `grainwise profile` again once it does."
    )


def _median(point: Point) -> float:
    return max(float(np.median(point.latencies_us)), 0.5)


def _fit(points: Sequence[Point]) -> _Fit:
    on_cores = [point for point in points if not point.gpu_share_fraction]
    on_device = [point for point in points if point.gpu_share_fraction]
    if not on_device:
        return _fit_on_cores(on_cores)
    measured = [(point, _median(point)) for point in on_device]
    if on_cores:
        cores = _fit_on_cores(on_cores)
        return msgspec.structs.replace(cores, device=fit_device(measured, cores.factor))
    # Without a point on cores the host's part is taken to need the same CPU time on any share, and the stage, where no share of
    # a device is named, a whole one.
    shares = sorted({point.cpu_cores for point in on_device} | {REFERENCE_CORES})
    device = fit_device(measured, lambda share: 1 / min(share, shares[-1]))
    return _Fit(device.coefficients(1.0, 1.0), tuple(shares), tuple(1 / share for share in shares), device)


def _where_it_runs(points: Sequence[Point], values: Sequence[T]) -> list[T]:
    """The values that belong to points on a device, or to all points where there is none."""
    if not values or not any(point.gpu_share_fraction for point in points):
        return list(values)
    return [value for point, value in zip(points, values, strict=True) if point.gpu_share_fraction]


def _with_memory(device: DeviceModel | None, stage: StageProfile) -> DeviceModel | None:
    if device is None:
        return None
    return msgspec.structs.replace(device, memory_mib=stage.device_memory_mib, activation_mib=stage.activation_mib)


def _fit_on_cores(points: Sequence[Point]) -> _Fit:
    cores = sorted({point.cpu_cores for point in points})
    reference = min(cores, key=lambda each: (abs(each - REFERENCE_CORES), each))
    at_reference = [point for point in points if point.cpu_cores == reference]
    scale = 1.0 if reference >= REFERENCE_CORES else reference
    rows = [(1.0, point.items, point.size_sum) for point in at_reference]
    coefficients = least_squares(rows, [_median(point) for point in at_reference])
    # A profile without a point at one core is read as if the stage took the same CPU time there.
    coefficients = (coefficients[0] * scale, coefficients[1] * scale, coefficients[2] * scale)
    unit = _Fit(coefficients, (1.0,), (1.0,))
    factors: dict[float, float] = {}
    for each in cores:
        ratios = [
            _median(point) / max(unit.predict(Point(point.items, point.size_sum, point.size_max, 1.0)), 1e-9)
            for point in points
            if point.cpu_cores == each
        ]
        factors[each] = float(np.median(ratios))
    factors[REFERENCE_CORES] = 1.0
    # More cores never make a stage slower: what measures otherwise is noise.
    slowest = 0.0
    for each in sorted(factors, reverse=True):
        slowest = factors[each] = max(factors[each], slowest)
    one = factors[REFERENCE_CORES]
    ordered = sorted(factors)
    return _Fit(
        (coefficients[0] * one, coefficients[1] * one, coefficients[2] * one),
        tuple(ordered),
        tuple(factors[each] / one for each in ordered),
    )


def _as_means(fit: _Fit, points: Sequence[Point]) -> _Fit:
    """The same fit, of means instead of medians.

    Medians are what noise of the machine moves least, so they are what is fitted; but load and cost follow from means. Every
    configuration counts alike.
    """
    skews = [float(np.mean(point.latencies_us)) / _median(point) for point in _where_it_runs(points, points)]
    return fit.times(float(np.mean(skews)))


def _held_out(points: Sequence[Point]) -> list[float]:
    """For each configuration the relative error of a fit without it; empty with fewer than two."""
    if len(points) < 2:
        return []
    errors: list[float] = []
    for at, point in enumerate(points):
        rest = [*points[:at], *points[at + 1 :]]
        if not point.gpu_share_fraction:
            # What a device does says nothing of cores, unless it is all that is known.
            rest = [each for each in rest if not each.gpu_share_fraction] or rest
        errors.append(abs(_fit(rest).predict(point) - _median(point)) / _median(point))
    return errors


def _corrected(fit: _Fit, profile: Profile, index: int) -> _Fit:
    """The same fit, its mean corrected by what live runs have shown."""
    if profile.calibration is None:
        return fit
    return fit.times(profile.calibration.stages[index].factor)


def _calibrated(profile: Profile, index: int) -> tuple[float, ...]:
    """Residuals of a stage in live runs; empty where there were none, or too few."""
    return () if profile.calibration is None else profile.calibration.stages[index].residuals


def _quantiles(ratios: Sequence[float]) -> tuple[float, ...]:
    """Measured over predicted at the tabulated levels, every repeat counted."""
    return tuple(float(value) for value in np.quantile(np.array(ratios), RESIDUAL_LEVELS))


def _ratios(points: Sequence[Point], fit: _Fit) -> list[float]:
    return [value / max(fit.predict(point), 1e-9) for point in _where_it_runs(points, points) for value in point.latencies_us]
