"""The recalled shape: what its figures come to on a device and on cores, and what the axes of the study change about an app."""

import pytest
from reproduce.granularity import measured_cpu, profile_sets, recalled_shape

from grainwise.domain.errors import ArtifactError, ConfigurationError
from grainwise.domain.extent import make_extent
from grainwise.domain.machine import HopModel
from grainwise.simulation.contents import Contents

SAMPLES = recalled_shape.samples()


@pytest.mark.parametrize(("items", "cores", "slices"), [(1, 1, 1), (1, 4, 2), (4, 2, 3), (8, 1, 7), (8, 7, 1)])
def test_a_stage_takes_what_the_shape_says_on_any_share_of_a_device(items: int, cores: float, slices: float) -> None:
    for sample in SAMPLES:
        for at, node in enumerate(sample.spec.graph.stages):
            predicted = sample.model.stage(at, items, items, cores, slices / 7).mean_us
            assert predicted == pytest.approx(recalled_shape.SHAPES[node.name].time_us(items, cores, slices))


def test_an_eighth_of_a_device_is_no_extrapolation() -> None:
    deblur = SAMPLES[3].model.stage(0, 1, 1.0, 1.0, 1 / 8).mean_us
    assert deblur == pytest.approx(recalled_shape.SHAPES["deblur"].time_us(1, 1, 7 / 8))


def test_on_cores_alone_a_core_stands_for_a_core_and_a_slice() -> None:
    for sample in recalled_shape.samples("cpu"):
        for at, node in enumerate(sample.spec.graph.stages):
            shape = recalled_shape.SHAPES[node.name]
            for cores in (1.0, 2.0, 5.0):
                assert sample.model.stage(at, 1, 1.0, cores).mean_us == pytest.approx(shape.time_us(1, cores, cores))
            assert sample.model.stage(at, 8, 8.0, 1.0).mean_us == pytest.approx(shape.time_us(8, 1, 1))
            assert sample.model.stage(at, 8, 8.0, 4.0).mean_us > shape.time_us(8, 4, 4)


def test_cold_starts_come_to_what_is_recalled() -> None:
    first = SAMPLES[0]
    alone = [first.model.cold_start_us(1 << at) / 1000 for at in range(3)]
    assert alone == pytest.approx([3503, 16_510, 18_299])
    assert first.model.cold_start_us(0b111) / 1000 == pytest.approx(3000 + 503 + 13_510 + 15_299)


def test_base_latency_is_a_lone_request_on_a_core_and_a_slice() -> None:
    assert [profile_sets.base_latency_ms(sample) for sample in SAMPLES] == pytest.approx([526, 1233, 1452, 1892])
    on_cores = [profile_sets.base_latency_ms(sample) for sample in recalled_shape.samples("cpu")]
    assert on_cores == pytest.approx([526, 1233, 1452, 1892])


def test_noise_has_mean_one_and_a_tenth_of_spread() -> None:
    factors = recalled_shape.noise()
    mean = sum(factors) / len(factors)
    spread = (sum((factor - mean) ** 2 for factor in factors) / len(factors)) ** 0.5
    assert mean == pytest.approx(1.0)
    assert spread == pytest.approx(0.1, rel=0.02)
    assert max(factors) - 1 > 1 - min(factors)


def test_every_pipeline_says_that_it_was_not_measured_and_can_be_simulated() -> None:
    for sample in SAMPLES:
        graph = sample.spec.graph
        assert "not measured" in sample.model.device_class
        assert "not measured" in sample.source
        made = Contents(graph, sample.kinds).work(0, graph.all_mask, (), 1.0)
        assert len(made.calls) == len(graph.stages)
        assert make_extent(graph, graph.all_mask).stages == tuple(range(len(graph.stages)))


def test_larger_models_take_more_memory_and_no_more_time() -> None:
    small, large = SAMPLES[3], profile_sets.with_weights(SAMPLES[3], 12.0)
    every = small.spec.graph.all_mask
    added = large.model.device_memory_mib(every, (1,) * 5) - small.model.device_memory_mib(every, (1,) * 5)
    assert added == pytest.approx(11 * 1024 * 1.1)
    assert large.model.stage(2, 4, 4.0, 2.0, 2 / 7) == small.model.stage(2, 4, 4.0, 2.0, 2 / 7)


def test_a_hop_is_put_in_without_the_memory_of_whoever_measured_it() -> None:
    hop = HopModel(1.0, 2.0, 3.0, 4.0, 5.0)
    changed = profile_sets.with_hop(SAMPLES[0], hop)
    assert changed.hop == HopModel(1.0, 2.0, 3.0, 4.0, SAMPLES[0].hop.process_mib)


def test_slo_and_load_are_put_in() -> None:
    changed = profile_sets.with_rate(profile_sets.with_slo(SAMPLES[0], 400.0), 7.0, 2.5)
    assert changed.spec.slo.latency_ms == 400.0
    assert (changed.workload.rate_per_s, changed.workload.arrival_scv) == (7.0, 2.5)


def test_measured_apps_are_examples_with_the_digest_of_their_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all((measured_cpu.EXAMPLES / f"{app}.py").exists() for app in measured_cpu.APPS)
    monkeypatch.setattr(measured_cpu, "APPS", measured_cpu.APPS[:1])
    (sample,) = profile_sets.load("measured-cpu")
    assert sample.spec.name == "image-classification"
    assert sample.profile_digest


def test_what_is_not_there_says_so() -> None:
    with pytest.raises(ArtifactError, match="nothing was measured on a GPU"):
        profile_sets.load("measured-gpu")
    with pytest.raises(ConfigurationError, match="recalled-shape"):
        profile_sets.load("guessed")


def test_a_digest_tells_sets_apart_and_is_the_same_again() -> None:
    gpu, cpu = recalled_shape.samples("gpu"), recalled_shape.samples("cpu")
    assert profile_sets.digest(gpu) == profile_sets.digest(recalled_shape.samples("gpu"))
    assert profile_sets.digest(gpu) != profile_sets.digest(cpu)
