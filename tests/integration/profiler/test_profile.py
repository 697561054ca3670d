"""Profiles of real instances: of stages whose cost is known, of the text example, of apps and inputs that are wrong."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from grainwise.control.events import Event
from grainwise.domain.errors import ArtifactError, ConfigurationError, DeclarationError, InputError
from grainwise.predictors.fit import latency_model, workload_of
from grainwise.profiler.run import Progress, profile
from grainwise.profiles.artifact import Profile, read, write
from grainwise.runtimes.local.machine import device_class
from grainwise.runtimes.local.runtime import LocalRuntime

TEXT = Path(__file__).parents[3] / "examples" / "text" / "app.py"

FIXED_US, PER_ITEM_US, PER_SIZE_US = 500, 300, 2

# ``spread`` takes CPU time, which shows the share; ``burn`` takes time of the clock: its cost is known on a busy machine too.
BURN_APP = f"""
import time
from grainwise import App, Batch, Slo, each, sizes

app = App("burn", slo=Slo(latency_ms=20))

@app.stage(max_batch=8, size=sizes.length)
def spread(texts: Batch[str]) -> Batch[list[str]]:
    end = time.thread_time_ns() + 3_000_000
    while time.thread_time_ns() < end:
        pass
    return [text.split() for text in texts]

class Burn:
    def __init__(self) -> None:
        self.ballast = bytearray(b"x") * (24 << 20)
    def __call__(self, words: Batch[str]) -> Batch[int]:
        end = time.monotonic_ns() + 1000 * ({FIXED_US} + {PER_ITEM_US} * len(words) + {PER_SIZE_US} * sum(map(len, words)))
        while time.monotonic_ns() < end:
            pass
        return [len(word) for word in words]

burn = app.stage(Burn, max_batch=8, size=sizes.length)

@app.flow
def flow(text: str) -> list[int]:
    return each(burn, spread(text))

@app.samples
def samples():
    return ["a" * 10, "b" * 200 + " " + "c" * 900, "d" * 400 + " " + "e" * 900 + " " + "f" * 10]
"""

PLAIN_APP = """
from grainwise import App, Batch, Slo

app = App("plain", slo=Slo(latency_ms=100))

@app.stage(max_batch=4)
def shout(texts: Batch[str]) -> Batch[str]:
    if texts == ["raise"]:
        raise ValueError("no such text")
    if len(texts) > 3:
        raise RuntimeError("too many")
    return [text.upper() for text in texts]

@app.flow
def flow(text: str) -> str:
    return shout(text)
"""


def measure(path: Path, **options: object) -> Profile:
    return asyncio.run(profile(path, **options))


def written(folder: Path, source: str) -> Path:
    path = folder / "app.py"
    path.write_text(source)
    return path


@pytest.fixture(scope="module")
def burnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Profile, list[Profile], list[Progress]]:
    path = written(tmp_path_factory.mktemp("burn"), BURN_APP)
    saved: list[Profile] = []
    progress: list[Progress] = []
    found = measure(path, budget_s=8.0, on_progress=progress.append, save=saved.append)
    return path, found, saved, progress


def test_a_stage_of_known_cost_is_predicted_where_it_was_not_measured(burnt):
    _, found, _, _ = burnt
    model = latency_model(found)
    for items, size_sum in ((3, 1500), (6, 600), (5, 4500)):
        known_us = FIXED_US + PER_ITEM_US * items + PER_SIZE_US * size_sum
        assert all(point.items != items for point in found.stages[1].points)
        assert model.stage(1, items, size_sum, 1.0).mean_us == pytest.approx(known_us, rel=0.4)
    assert 0 < found.stages[1].held_out_error_fraction < 1.5


def test_a_stage_that_computes_takes_longer_with_a_smaller_share(burnt):
    _, found, _, _ = burnt
    slowdown = latency_model(found).stages[0].share_factor(0.25)
    assert 2.0 < slowdown < 8.0


def test_a_profile_says_what_a_mean_request_looks_like(burnt):
    _, found, _, _ = burnt
    assert found.stages[0].items_per_request == 1
    assert found.stages[1].items_per_request == 2
    assert found.stages[1].item_size == pytest.approx((10 + 200 + 900 + 400 + 900 + 10) / 6)
    assert found.stages[0].output_bytes > 100
    assert workload_of(found, 5.0).items == (1.0, 2.0)


def test_memory_and_cold_start_are_taken_apart(burnt):
    _, found, _, _ = burnt
    spread, burn = found.stages
    assert 20 < burn.memory_mib < 40
    assert spread.memory_mib < 10
    assert 0 < found.process_mib < 50
    assert found.hop.process_mib == found.process_mib
    assert burn.load_us > spread.load_us
    assert burn.first_call_us > FIXED_US
    assert found.cold.process_us > 0


def test_a_hop_has_a_cost_in_latency_and_in_cpu(burnt):
    _, found, _, _ = burnt
    assert 10 < found.hop.fixed_us < 20_000
    assert 0 < found.hop.cpu_fixed_us < 20_000
    assert found.hop.us_per_mib >= 0


def test_a_profile_carries_its_provenance(burnt):
    _, found, _, _ = burnt
    assert found.device_class == device_class()
    assert found.budget_s == 8.0
    assert "numpy" in found.libraries
    assert found.machine.cpu_cores > 0
    assert found.date.startswith("20")
    assert read(write(found)) == found


def test_every_point_has_three_repeats_and_no_batch_is_too_large(burnt):
    _, found, _, _ = burnt
    for stage in found.stages:
        assert all(point.count >= 3 and point.items <= 8 for point in stage.points)
        assert {1, 8} <= {point.items for point in stage.points}


def test_what_is_measured_is_saved_after_each_round_and_progress_is_told(burnt):
    _, found, saved, progress = burnt
    assert found.is_complete
    assert saved
    assert not any(each.is_complete for each in saved)
    assert [len(each.stages[1].points) for each in saved] == sorted(len(each.stages[1].points) for each in saved)
    assert progress[-1].stage in ("spread", "burn")
    assert progress[-1].point <= sum(len(stage.points) for stage in found.stages)
    assert all(0 <= each.left_s <= 8.0 for each in progress)


def test_a_profile_is_resumed_with_its_points(burnt):
    path, _, saved, _ = burnt
    first = saved[0]
    found = measure(path, budget_s=3.0, previous=first)
    for before, after in zip(first.stages, found.stages, strict=True):
        assert after.points[: len(before.points)] == before.points
    assert found.hop == msgspec.structs.replace(first.hop, process_mib=found.process_mib)
    assert found.is_complete


def test_a_profile_of_another_app_or_machine_is_not_resumed(burnt):
    path, found, _, _ = burnt
    with pytest.raises(ArtifactError, match="`source_digest`"):
        measure(path, budget_s=3.0, previous=msgspec.structs.replace(found, source_digest="0"))
    with pytest.raises(ArtifactError, match="`device_class`"):
        measure(path, budget_s=3.0, previous=msgspec.structs.replace(found, device_class="cpu:other:1"))


def test_a_budget_that_cannot_hold_the_anchors_names_the_least_that_can(burnt):
    path, _, _, _ = burnt
    with pytest.raises(ConfigurationError, match=r"a budget of 0\.2 s .* give at least \d+ s"):
        measure(path, budget_s=0.2)
    with pytest.raises(ConfigurationError, match="must be positive"):
        measure(path, budget_s=0.0)


def test_the_text_example_is_profiled_in_seconds():
    found = measure(TEXT, budget_s=6.0)
    assert [stage.name for stage in found.stages] == ["split", "clean", "count", "join"]
    assert found.stages[1].items_per_request > 10
    assert latency_model(found).stage(0, 1, 20, 1.0).mean_us < 1000


def test_an_app_without_samples_is_told_which_lines_to_add(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no samples to profile with(.|\n)*@app\.samples(.|\n)*--input FILE"):
        measure(written(tmp_path, PLAIN_APP), budget_s=6.0)


def test_files_stand_for_samples_and_failures_are_results(tmp_path):
    path = written(tmp_path, PLAIN_APP)
    found = measure(path, budget_s=6.0, inputs=[(b"deep grain",), ("wise",), (b"raise",)])
    (stage,) = found.stages
    failed = {point.items: point.detail for point in stage.points if point.outcome == "failed"}
    assert "no such text" in failed[1]
    assert failed[4] == "it raises on a batch of 4, but on none of its items alone"
    assert found.entry_bytes[0] > 3


def test_a_stage_that_ends_its_process_is_a_result_and_the_rest_is_measured(tmp_path):
    source = PLAIN_APP.replace('raise RuntimeError("too many")', "os._exit(3)").replace(
        "from grainwise", "import os\nfrom grainwise", 1
    )
    found = measure(written(tmp_path, source), budget_s=6.0, inputs=[("deep",), ("grains of sand",)])
    outcomes = {(point.items, point.outcome) for point in found.stages[0].points}
    assert (1, "ok") in outcomes
    assert (4, "failed") in outcomes
    lost = next(point for point in found.stages[0].points if point.outcome == "failed")
    assert lost.detail == "stage 'shout': exited with status 3"


def test_samples_come_from_an_instance_that_no_event_tells_of(tmp_path):
    async def story() -> None:
        events: list[Event] = []
        source = f"{PLAIN_APP}\n@app.samples\ndef samples():\n    return ['deep', 'g' * 10_000]\n"
        runtime = await LocalRuntime.open(written(tmp_path, source), post=events.append)
        try:
            samples = await runtime.samples()
            refs = [payload.refs[0] for (payload,) in samples]
            assert [runtime.store.get(ref.handle) for ref in refs] == ["deep", "g" * 10_000]
            assert runtime.store.live_handles == 2
            runtime.store.release(tuple(ref.handle for ref in refs))
            assert runtime.store.live_bytes == runtime.store.live_handles == 0
            assert await runtime.samples() != []
        finally:
            await runtime.close()
        assert events == []

    asyncio.run(story())


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([(b"\xff",)], InputError, r"input 0 \(text\) is str; its file must be UTF-8 text"),
        ([("a", "b")], InputError, "input 0 has 2 values; app 'plain' takes text"),
        ([(7,)], InputError, "."),
        ([], ConfigurationError, "no input is given"),
        ([("raise",)], DeclarationError, "stage 'shout' fails on every sample: ValueError: no such text"),
    ],
)
def test_wrong_inputs_are_refused_before_anything_is_measured(tmp_path, inputs, error, message):
    with pytest.raises(error, match=message):
        measure(written(tmp_path, PLAIN_APP), budget_s=6.0, inputs=inputs)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return []", "return a list with at least one sample"),
        ("raise OSError('no disk')", "raised OSError: no disk"),
        ("return [7]", "text"),
        ("import os; os._exit(3)", "the process that made the samples of its app failed: exited with status 3"),
    ],
)
def test_wrong_samples_are_refused(tmp_path, body, message):
    source = f"{PLAIN_APP}\n@app.samples\ndef samples():\n    {body}\n"
    with pytest.raises((DeclarationError, InputError), match=message):
        measure(written(tmp_path, source), budget_s=6.0)


def test_a_stage_that_cannot_be_loaded_is_named(tmp_path):
    source = BURN_APP.replace("self.ballast =", "raise RuntimeError('no model file') #")
    with pytest.raises(DeclarationError, match=r"instance \(burn\) did not become ready: .*no model file"):
        measure(written(tmp_path, source), budget_s=6.0)


def test_a_branch_that_no_sample_takes_is_named(tmp_path):
    source = BURN_APP.replace('return ["a" * 10,', 'return [""] or [')
    with pytest.raises(DeclarationError, match="no sample reaches stage 'burn'; add one that does"):
        measure(written(tmp_path, source), budget_s=6.0)


def test_nothing_outlives_a_profile(tmp_path):
    path = written(tmp_path, PLAIN_APP)
    measure(path, budget_s=4.0, inputs=[("a",)])
    marker = str(path).encode()
    running = [each for each in Path("/proc").glob("[0-9]*/cmdline") if _reads(each, marker)]
    assert running == []


def _reads(file: Path, marker: bytes) -> bool:
    try:
        return marker in file.read_bytes()
    except OSError:
        return False
