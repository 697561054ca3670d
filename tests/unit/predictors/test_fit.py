"""Fits of points whose truth is known."""

from collections.abc import Sequence
from random import Random

import msgspec
import pytest

from grainwise.domain.errors import ArtifactError
from grainwise.domain.machine import HopModel
from grainwise.predictors.fit import UNKNOWN_ERROR_FRACTION, configurations, held_out_errors, latency_model, workload_of
from grainwise.profiles.artifact import SCHEMA, ColdParts, MachineFacts, Point, Profile, StageProfile, digest
from worlds.problems import chain_graph, spec_of

GRAPH = chain_graph(2)


def profile_of(*stages: Sequence[Point], declared: Sequence[str] = ("s0", "s1")) -> Profile:
    return Profile(
        schema=SCHEMA,
        app="made",
        app_digest="digest",
        source_digest="source",
        device_class="made",
        machine=MachineFacts("made", 2.0, 4096.0, "Linux", "3.11"),
        share_mechanism="signals",
        libraries={},
        date="2026-01-01T00:00:00Z",
        budget_s=60.0,
        entry_bytes=(1000.0,),
        process_mib=30.0,
        cold=ColdParts(10_000.0, 200_000.0),
        hop=HopModel(150.0, 20.0, 60.0, 5.0, 30.0),
        stages=tuple(
            StageProfile(f"s{index}", declared[index], 1e5, 2e4, 40.0, 1.5, 10.0, 50.0, tuple(points))
            for index, points in enumerate(stages)
        ),
    )


def grid(
    fixed: float, per_item: float, per_size: float, *, noise: float = 0.0, factors: dict[float, float] | None = None
) -> list[Point]:
    """Points of a stage with these coefficients over batch, size and share."""
    rng = Random(7)
    points = []
    for cores, factor in (factors or {1.0: 1.0}).items():
        for items in (1, 2, 4, 8):
            for size in (5.0, 20.0, 80.0):
                truth = (fixed + per_item * items + per_size * items * size) * factor
                repeats = tuple(max(1, round(truth * (1 + rng.uniform(-noise, noise)))) for _ in range(9))
                points.append(Point(items, items * size, size, cores, repeats))
    return points


def test_known_coefficients_are_recovered() -> None:
    model = latency_model(profile_of(grid(5000, 800, 30), grid(0, 2000, 0)))
    first, second = model.stages
    assert (first.intercept_us, first.per_item_us, first.per_size_us) == pytest.approx((5000, 800, 30), rel=0.01)
    assert (second.intercept_us, second.per_item_us, second.per_size_us) == pytest.approx((0, 2000, 0), rel=0.01, abs=1)
    assert first.held_out_error_fraction < 0.01
    assert first.residual_quantiles == pytest.approx((1.0,) * 7, abs=0.01)


def test_noise_goes_into_the_residuals_and_not_into_the_mean() -> None:
    stage = latency_model(profile_of(grid(5000, 800, 30, noise=0.2), grid(1, 1, 1))).stages[0]
    assert stage.predict(4, 80.0, 1.0).mean_us == pytest.approx(5000 + 3200 + 2400, rel=0.08)
    assert stage.residual_quantiles[0] == pytest.approx(0.82, abs=0.06)
    assert stage.residual_quantiles[-1] == pytest.approx(1.2, abs=0.06)
    assert list(stage.residual_quantiles) == sorted(stage.residual_quantiles)


def test_the_share_table_is_recovered_between_and_beyond_its_points() -> None:
    factors = {0.25: 4.2, 0.5: 2.1, 1.0: 1.0, 2.0: 0.6}
    stage = latency_model(profile_of(grid(5000, 800, 30, factors=factors), grid(1, 1, 1))).stages[0]
    for cores, factor in factors.items():
        assert stage.share_factor(cores) == pytest.approx(factor, rel=0.01)
    assert 1.0 < stage.share_factor(0.75) < 2.1
    assert stage.share_factor(0.125) == pytest.approx(8.4, rel=0.01)
    assert stage.share_factor(16) == pytest.approx(0.6, rel=0.01)


def test_more_cores_never_make_a_stage_slower() -> None:
    stage = latency_model(profile_of(grid(5000, 800, 30, factors={0.5: 0.9, 1.0: 1.0, 2.0: 1.2}), grid(1, 1, 1))).stages[0]
    factors = [stage.share_factor(cores) for cores in (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)]
    assert factors == sorted(factors, reverse=True)


def test_a_profile_without_a_point_at_one_core_keeps_the_time_of_a_core() -> None:
    stage = latency_model(profile_of(grid(5000, 800, 30, factors={0.5: 2.0}), grid(1, 1, 1))).stages[0]
    assert stage.predict(1, 5.0, 0.5).mean_us == pytest.approx(2 * 5950, rel=0.01)
    assert stage.predict(1, 5.0, 1.0).mean_us == pytest.approx(5950, rel=0.01)


def test_one_point_gives_a_constant_with_a_wide_error() -> None:
    stage = latency_model(profile_of([Point(1, 10.0, 10.0, 1.0, (900, 1000, 1100))], grid(1, 1, 1))).stages[0]
    assert stage.predict(1, 10.0, 1.0).mean_us == pytest.approx(1000)
    assert stage.held_out_error_fraction == UNKNOWN_ERROR_FRACTION


def test_means_are_predicted_where_repeats_are_skewed() -> None:
    points = [Point(items, float(items), 1.0, 1.0, (100 * items,) * 9 + (600 * items,)) for items in (1, 2, 4, 8)]
    stage = latency_model(profile_of(points, grid(1, 1, 1))).stages[0]
    assert stage.predict(4, 4.0, 1.0).mean_us == pytest.approx(600, rel=0.02)
    assert stage.residual_quantiles[2] == pytest.approx(2 / 3, rel=0.02)


def test_coefficients_are_never_negative() -> None:
    points = [Point(items, float(items), 1.0, 1.0, (1000 - 90 * items,)) for items in (1, 2, 4, 8)]
    stage = latency_model(profile_of(points, grid(1, 1, 1))).stages[0]
    assert min(stage.intercept_us, stage.per_item_us, stage.per_size_us) >= 0


def test_results_that_are_not_times_are_left_out_of_the_fit() -> None:
    points = [*grid(5000, 800, 0), Point(64, 640.0, 10.0, 1.0, (), "out of memory", "MemoryError")]
    assert latency_model(profile_of(points, grid(1, 1, 1))).stages[0].intercept_us == pytest.approx(5000, rel=0.01)


def test_stages_of_one_declaration_share_their_points() -> None:
    model = latency_model(profile_of(grid(5000, 800, 30), (), declared=("same", "same")))
    assert model.stages[0].intercept_us == model.stages[1].intercept_us


def test_a_stage_that_never_ran_is_named() -> None:
    with pytest.raises(ArtifactError, match="s1"):
        latency_model(profile_of(grid(5000, 800, 30), ()))


def test_the_worst_configuration_is_the_one_that_does_not_fit_in() -> None:
    points = grid(5000, 800, 30)
    odd = msgspec.structs.replace(points[7], latencies_us=(400_000,) * 3)
    points[7] = odd
    worst = configurations(profile_of(points, grid(100, 100, 1)))[0]
    assert (worst.stage, worst.items, worst.size_sum) == (0, odd.items, odd.size_sum)
    assert worst.error_fraction > 0.5


def test_held_out_errors_are_those_of_the_model() -> None:
    profile = profile_of(grid(5000, 800, 30, noise=0.3), grid(1000, 100, 1))
    assert held_out_errors(profile) == tuple(stage.held_out_error_fraction for stage in latency_model(profile).stages)


def test_the_model_carries_where_it_came_from_and_the_rest_of_the_profile() -> None:
    profile = profile_of(grid(5000, 800, 30), grid(1000, 100, 1))
    model = latency_model(profile)
    assert (model.device_class, model.profile_digest) == ("made", digest(profile))
    assert model.cold_start_us(0b11) == pytest.approx(210_000 + 2 * 120_000)
    assert model.memory_mib(0b01, 30.0) == pytest.approx(70.0)


def test_the_workload_is_the_profiled_mean_request() -> None:
    workload = workload_of(profile_of(grid(1, 1, 1), grid(1, 1, 1)), 7.0)
    assert (workload.rate_per_s, workload.items, workload.output_bytes) == (7.0, (1.5, 1.5), (50.0, 50.0))
    assert workload.input_bytes == (1000.0,)


def test_a_declared_memory_is_the_least_that_a_stage_gets() -> None:
    profile = profile_of(grid(0.0, 100.0, 0.0), grid(0.0, 100.0, 0.0))
    spec = spec_of(chain_graph(2))
    hinted = msgspec.structs.replace(
        spec, stages=(msgspec.structs.replace(spec.stages[0], memory_mib=5000.0), *spec.stages[1:])
    )
    measured = latency_model(profile).stages
    assert [stage.memory_mib for stage in latency_model(profile, spec).stages] == [stage.memory_mib for stage in measured]
    assert [stage.memory_mib for stage in latency_model(profile, hinted).stages] == [5000.0, measured[1].memory_mib]
