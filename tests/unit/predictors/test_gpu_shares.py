"""Run times on shares of a GPU: the table, the fit, the profile that holds the points, and what does not change on cores."""

from random import Random

import msgspec
import pytest

from grainwise.control.costs import group_cost
from grainwise.domain.errors import ArtifactError
from grainwise.predictors.fit import configurations, latency_model, residuals
from grainwise.predictors.groups import device_memory_mib, group_facts, items_at_once, stage_times_us
from grainwise.predictors.latency import ColdStartModel, DeviceModel, LatencyModel, StageModel
from grainwise.predictors.station import make_station
from grainwise.profiles.artifact import Point, Profile, digest, read, write
from worlds import gpu
from worlds.problems import chain_graph, spec_of, stage_model

PAIR = (gpu.SEGMENTATION, gpu.CLASSIFICATION)


def random_device(rng: Random) -> DeviceModel:
    shares = (*sorted(rng.sample([0.1, 0.2, 0.3, 0.5, 0.7], rng.randint(0, 4))), 1.0)
    fixed, item = [1.0], [1.0]
    for _ in shares[1:]:
        fixed.insert(0, fixed[0] * rng.uniform(1.0, 1.3))
        item.insert(0, item[0] * rng.uniform(1.0, 3.0))
    parts = [rng.choice((0.0, rng.uniform(1, 50_000))) for _ in range(6)]
    return DeviceModel(*parts, shares, tuple(fixed), tuple(item))


def test_a_whole_device_is_the_table_at_one_and_a_smaller_share_is_never_faster() -> None:
    for seed in range(200):
        rng = Random(seed)
        device = random_device(rng)
        stage = msgspec.structs.replace(stage_model(scales_to=4.0), device=device)
        items, size, cores = rng.randint(1, 9), rng.uniform(0, 50), rng.choice((0.2, 1.0, 3.0, 9.0))
        host = device.host_intercept_us + device.host_per_item_us * items + device.host_per_size_us * size
        whole = host * stage.share_factor(cores) + device.fixed_us + device.per_item_us * items + device.per_size_us * size
        assert stage.predict(items, size, cores, 1.0).mean_us == pytest.approx(whole)
        times = [stage.predict(items, size, cores, share / 40).mean_us for share in range(1, 41)]
        assert times == sorted(times, reverse=True), f"seed {seed}"
        for share, fixed, item in zip(device.shares, device.fixed_factors, device.item_factors, strict=True):
            known = host * stage.share_factor(cores) + device.fixed_us * fixed
            known += (device.per_item_us * items + device.per_size_us * size) * item
            assert stage.predict(items, size, cores, share).mean_us == pytest.approx(known)


def test_predictions_on_cores_are_the_same_bits_with_and_without_a_device() -> None:
    for seed in range(100):
        rng = Random(seed)
        stage = stage_model(rng.uniform(0, 9e4), rng.uniform(0, 9e4), rng.uniform(0, 99), scales_to=rng.choice((1.0, 4.0)))
        with_device = msgspec.structs.replace(stage, device=random_device(rng))
        items, size, cores = rng.randint(1, 9), rng.uniform(0, 50), rng.uniform(0.1, 12)
        known = (stage.intercept_us + stage.per_item_us * items + stage.per_size_us * size) * stage.share_factor(cores)
        assert stage.predict(items, size, cores).mean_us == known
        assert with_device.predict(items, size, cores) == stage.predict(items, size, cores)
        # Without a profile of a device a share of one changes nothing.
        assert stage.predict(items, size, cores, 0.5) == stage.predict(items, size, cores)


def test_a_model_of_cores_travels_as_it_did_before_there_were_devices() -> None:
    model = LatencyModel((stage_model(),), ColdStartModel(1.0, 2.0), "made", "digest")
    plain = msgspec.to_builtins(model)
    assert "device_context_mib" not in plain
    assert "device" not in plain["stages"][0]
    with_device = msgspec.structs.replace(
        model, stages=(msgspec.structs.replace(stage_model(), device=random_device(Random(1))),)
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(with_device), type=LatencyModel) == with_device


@pytest.fixture(scope="module")
def profile() -> Profile:
    return gpu.profile_of(*PAIR)


@pytest.fixture(scope="module")
def model(profile: Profile) -> LatencyModel:
    return latency_model(profile)


def test_the_fit_finds_the_shape_that_the_points_were_made_with(model: LatencyModel) -> None:
    for stage, shape in zip(model.stages, PAIR, strict=True):
        assert stage.held_out_error_fraction < 0.01
        for share in (*gpu.SHARES, 0.2, 0.8):
            for cores in (1.0, 1.5, 4.0):
                for items in (1, 3, 8):
                    known = shape.time_us(items, cores, share)
                    # Between the shares of the table the host's constant part and the items are interpolated alike.
                    assert stage.predict(items, items, cores, share).mean_us == pytest.approx(known, rel=0.01)
        device = stage.device
        assert device is not None
        assert device.fixed_factors == pytest.approx((1.0,) * 5, abs=0.01)
        assert device.item_factors[0] > 3
        assert device.memory_mib == pytest.approx(1024 * shape.weights_gib)


def test_noise_in_the_points_never_makes_a_larger_share_slower() -> None:
    rng = Random(3)
    clean = gpu.profile_of(gpu.DEBLUR)
    noisy = tuple(
        msgspec.structs.replace(each, latencies_us=tuple(round(each.latencies_us[0] * rng.uniform(0.7, 1.4)) for _ in range(3)))
        for each in clean.stages[0].points
    )
    stage = latency_model(with_points(clean, noisy)).stages[0]
    assert stage.device is not None
    assert stage.device.item_factors == tuple(sorted(stage.device.item_factors, reverse=True))
    assert stage.device.fixed_factors == tuple(sorted(stage.device.fixed_factors, reverse=True))
    assert 0.0 < stage.held_out_error_fraction < 0.5
    assert stage.residual_quantiles[0] < 1 < stage.residual_quantiles[-1]


def with_points(profile: Profile, points: tuple[Point, ...]) -> Profile:
    return msgspec.structs.replace(profile, stages=(msgspec.structs.replace(profile.stages[0], points=points),))


def test_points_on_cores_and_points_on_a_device_make_two_models_of_one_stage() -> None:
    on_device = [
        Point(items, items, 1.0, cores, (round(2000 * items / cores + 1000 + 4000 * items / share),), gpu_share_fraction=share)
        for share in (0.5, 1.0)
        for cores in (1.0, 2.0)
        for items in (1, 4)
    ]
    on_cores = [Point(items, items, 1.0, cores, (round(90_000 * items / cores),)) for cores in (1.0, 2.0) for items in (1, 4)]
    profile = with_points(gpu.profile_of(gpu.DEBLUR), (*on_cores, *on_device))
    stage = latency_model(profile).stages[0]
    assert stage.predict(2, 2, 2.0).mean_us == pytest.approx(90_000, rel=0.01)
    assert stage.predict(2, 2, 2.0, 0.5).mean_us == pytest.approx(2000 + 1000 + 16_000, rel=0.01)
    assert stage.held_out_error_fraction == pytest.approx(0, abs=0.5)
    # What is measured next is chosen among the points on cores: the profiler has no other.
    assert len(configurations(profile)) == len(on_cores)
    # A stage runs where it was declared to, so its noise is that of the points there.
    assert residuals(profile)[0] == pytest.approx((1.0,) * len(on_device), rel=0.01)


def test_one_share_and_one_batch_are_enough_for_a_guess() -> None:
    point = Point(1, 1.0, 1.0, 2.0, (5000,), gpu_share_fraction=0.5)
    stage = latency_model(with_points(gpu.profile_of(gpu.DEBLUR), (point,))).stages[0]
    assert stage.predict(1, 1, 2.0, 0.5).mean_us == pytest.approx(5000)
    # A larger share than any measured one is not taken to be faster.
    assert stage.predict(1, 1, 2.0, 1.0).mean_us == pytest.approx(5000)
    # Where no share is named the stage is taken to have a whole device.
    assert stage.predict(1, 1, 1.0).mean_us == pytest.approx(5000)


def test_a_profile_with_shares_is_read_as_it_was_written_and_one_without_has_no_word_of_them(profile: Profile) -> None:
    assert read(write(profile)) == profile
    plain = msgspec.structs.replace(
        profile,
        device_context_mib=0.0,
        stages=tuple(
            msgspec.structs.replace(
                stage,
                device_memory_mib=0.0,
                activation_mib=0.0,
                points=tuple(msgspec.structs.replace(point, gpu_share_fraction=0.0) for point in stage.points),
            )
            for stage in profile.stages
        ),
    )
    text = write(plain).decode()
    assert "gpu" not in text
    assert "device_memory" not in text
    assert "activation" not in text
    assert digest(plain) != digest(profile)
    assert read(text.encode()) == plain


@pytest.mark.parametrize("share", [-0.5, 1.5])
def test_an_impossible_share_of_a_device_is_refused(profile: Profile, share: float) -> None:
    point = msgspec.structs.replace(profile.stages[0].points[0], gpu_share_fraction=share)
    with pytest.raises(ArtifactError, match=r"points\[0\]\.gpu_share_fraction"):
        read(write(with_points(profile, (point,))))


def test_memory_on_a_device_is_all_weights_and_the_largest_batch_of_activations(profile: Profile) -> None:
    problem = gpu.problem_of(profile, 1000.0, gpu.sliced(), max_batch=8)
    weights = 1024 * (0.8 + 0.3 + 0.2)
    assert device_memory_mib(problem, 0b11, 4) == pytest.approx(weights + 1024 * 0.4 * 4)
    assert device_memory_mib(problem, 0b11, 64) == pytest.approx(weights + 1024 * 0.4 * 8)
    mixed = gpu.problem_of(profile, 1000.0, gpu.sliced(), on_cpu=(0,))
    assert device_memory_mib(mixed, 0b11, 4) == pytest.approx(1024 * (0.8 + 0.2 + 4 * 0.05))
    assert device_memory_mib(mixed, 0b01, 4) == 0.0
    assert items_at_once(spec_of(chain_graph(2), batches=(1, 8)), 4) == (1, 4)
    # Where the device was not profiled a stage needs there what it needs on its host.
    host_only = LatencyModel((stage_model(memory_mib=70.0),), ColdStartModel(0.0, 0.0), "made", "digest")
    assert host_only.device_memory_mib(1, (1,)) == 70.0


def test_a_function_on_a_smaller_share_takes_longer_and_its_neighbours_may_slow_it(profile: Profile) -> None:
    problem = gpu.problem_of(profile, 1000.0, gpu.sliced(), on_cpu=(0,))
    facts = group_facts(problem, 0b11)
    whole, third = (stage_times_us(problem, facts, 2, 2.0, share) for share in (1.0, 3 / 7))
    assert third[1] == pytest.approx(gpu.CLASSIFICATION.time_us(2, 2.0, 3 / 7), rel=0.01)
    assert third[1] > whole[1]
    slowed = stage_times_us(problem, facts, 2, 2.0, 3 / 7, 1.25)
    assert slowed == pytest.approx([stage * 1.25 for stage in third])
    on_cores = stage_times_us(problem, facts, 2, 2.0)
    assert stage_times_us(problem, facts, 2, 2.0, 0.0, 1.25) == on_cores
    stations = [
        make_station(problem, facts, cpu_cores=2.0, max_batch=4, instances=3, rate_per_s=2.0, gpu_share=share)
        for share in (1 / 7, 3 / 7, 1.0)
    ]
    assert [each.utilisation for each in stations] == sorted((each.utilisation for each in stations), reverse=True)


def test_the_cost_of_a_batch_follows_the_share(profile: Profile) -> None:
    problem = gpu.problem_of(profile, 1000.0, gpu.sliced())
    extent = group_facts(problem, 0b11).extent
    for share in (1 / 7, 1.0):
        cost = group_cost(problem.app.graph, extent, 2.0, problem.model, problem.workload, (8, 8), share)
        known = sum(shape.time_us(1, 2.0, share) for shape in PAIR)
        assert cost.predict_us(1, 1.0) == pytest.approx(known, rel=0.01)


def test_stage_models_are_still_made_without_a_device() -> None:
    assert StageModel(1.0, 0.0, 0.0, (1.0,), (1.0,), (1.0,) * 7, 0.1, 1.0, 0.0, 0.0).device is None
