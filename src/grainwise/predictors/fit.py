"""From a profile's points to the coefficients that predict: least squares on relative error, residuals, held-out error."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from msgspec import Struct

from grainwise.domain.app import AppSpec
from grainwise.domain.errors import ArtifactError
from grainwise.domain.machine import HopModel
from grainwise.predictors.latency import RESIDUAL_LEVELS, ColdStartModel, LatencyModel, StageModel
from grainwise.predictors.workload import Workload
from grainwise.profiles.artifact import Point, Profile, StageProfile, digest

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

    def predict(self, point: Point) -> float:
        base, per_item, per_size = self.coefficients
        model = StageModel(
            base, per_item, per_size, self.share_cores, self.share_factors, (1.0,) * len(RESIDUAL_LEVELS), 0, 0, 0, 0
        )
        return model.predict(point.items, point.size_sum, point.cpu_cores).mean_us


def latency_model(profile: Profile, spec: AppSpec | None = None) -> LatencyModel:
    """Fit every stage. Stages of one declaration share their points.

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
        errors = _held_out(points)
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
            )
        )
    cold = ColdStartModel(profile.cold.process_us, profile.cold.import_us)
    return LatencyModel(tuple(stages), cold, profile.device_class, digest(profile))


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
        work = [fit.predict(Point(items, size, size, REFERENCE_CORES)) if items else 0.0 for items, size in stage.samples]
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
    """Every usable configuration with its held-out error, the worst first: where a further measurement teaches most."""
    found: list[Configuration] = []
    for index in range(len(profile.stages)):
        points = _points(profile, index)
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
    cores = sorted({point.cpu_cores for point in points})
    reference = min(cores, key=lambda each: (abs(each - REFERENCE_CORES), each))
    at_reference = [point for point in points if point.cpu_cores == reference]
    scale = 1.0 if reference >= REFERENCE_CORES else reference
    coefficients = _least_squares(at_reference)
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
    skew = float(np.mean([float(np.mean(point.latencies_us)) / _median(point) for point in points]))
    base, per_item, per_size = fit.coefficients
    return _Fit((base * skew, per_item * skew, per_size * skew), fit.share_cores, fit.share_factors)


def _least_squares(points: Sequence[Point]) -> tuple[float, float, float]:
    """Non-negative coefficients of (1, items, size) that minimise the squared relative error.

    With three columns the active set is found by trying every subset; fewer columns win ties, so that a few points do not
    give a size a weight that it has not shown.
    """
    rows = np.array([(1.0, point.items, point.size_sum) for point in points])
    measured = np.array([_median(point) for point in points])
    scaled = rows / measured[:, None]
    best: tuple[float, float, float] = (float(np.mean(measured)), 0.0, 0.0)
    best_error = float(np.sum((scaled @ np.array(best) - 1) ** 2))
    for count in (1, 2, 3):
        for columns in combinations(range(3), count):
            part = scaled[:, columns]
            norms = np.linalg.norm(part, axis=0)
            if np.any(norms == 0) or np.linalg.matrix_rank(part / norms) < count:
                continue
            solved = np.linalg.lstsq(part / norms, np.ones(len(points)), rcond=None)[0] / norms
            if np.any(solved < 0):
                continue
            error = float(np.sum((part @ solved - 1) ** 2))
            if error < best_error * 0.98 - 1e-12:
                values = [0.0, 0.0, 0.0]
                for column, value in zip(columns, solved, strict=True):
                    values[column] = float(value)
                best, best_error = (values[0], values[1], values[2]), error
    return best


def _held_out(points: Sequence[Point]) -> list[float]:
    """For each configuration the relative error of a fit without it; empty with fewer than two."""
    if len(points) < 2:
        return []
    errors: list[float] = []
    for at, point in enumerate(points):
        rest = [*points[:at], *points[at + 1 :]]
        errors.append(abs(_fit(rest).predict(point) - _median(point)) / _median(point))
    return errors


def _corrected(fit: _Fit, profile: Profile, index: int) -> _Fit:
    """The same fit, its mean corrected by what live runs have shown."""
    if profile.calibration is None:
        return fit
    factor = profile.calibration.stages[index].factor
    base, per_item, per_size = fit.coefficients
    return _Fit((base * factor, per_item * factor, per_size * factor), fit.share_cores, fit.share_factors)


def _calibrated(profile: Profile, index: int) -> tuple[float, ...]:
    """Residuals of a stage in live runs; empty where there were none, or too few."""
    return () if profile.calibration is None else profile.calibration.stages[index].residuals


def _quantiles(ratios: Sequence[float]) -> tuple[float, ...]:
    """Measured over predicted at the tabulated levels, every repeat counted."""
    return tuple(float(value) for value in np.quantile(np.array(ratios), RESIDUAL_LEVELS))


def _ratios(points: Sequence[Point], fit: _Fit) -> list[float]:
    return [value / max(fit.predict(point), 1e-9) for point in points for value in point.latencies_us]
