"""The vision example run eagerly, in this process, with networks that two processes have built at the same time."""

import hashlib
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from grainwise.cli.main import cli
from grainwise.cli.profiles import save_profile
from grainwise.domain.errors import ArtifactError, ConfigurationError
from grainwise.profiles import artifact
from grainwise.runtimes.loading import load_app
from grainwise.sdk.stage import Failed, StageFailedError
from live.serving_harness import made_profile

for needed in ("onnxruntime", "onnx", "PIL"):
    pytest.importorskip(needed, reason='the vision example needs its extra: pip install "grainwise[vision]"')

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "vision"
sys.path.insert(0, str(EXAMPLE))

from networks import session, stages, store  # noqa: E402
from PIL import Image  # noqa: E402
from scenes import WIDTH, scene, scenes  # noqa: E402

PIPELINES = {
    "image_classification": ("super_resolution", "segmentation", "classification"),
    "depth_recognition": ("deblur", "super_resolution", "depth"),
    "background_elimination": ("super_resolution", "deblur", "background_removal"),
    "expanded_classification": ("deblur", "super_resolution", "background_removal", "segmentation", "classification"),
}
STAGES = (
    stages.SuperResolution,
    stages.Deblur,
    stages.Segmentation,
    stages.BackgroundRemoval,
    stages.Cutout,
    stages.Depth,
    stages.Classification,
)
TINY = scene(16)

BUILD = """
import sys
from networks.store import NAMES, network_file
sys.stdin.readline()
print(*(network_file(name) for name in NAMES[:: int(sys.argv[1])]), sep="\\n")
"""


@pytest.fixture(scope="module", autouse=True)
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """The files of the networks in a folder of their own, built by two processes that begin at its two ends."""
    folder = tmp_path_factory.mktemp("networks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(store.FOLDER_VARIABLE, str(folder))
        patch.delenv(session.DEVICE_VARIABLE, raising=False)
        racing = [
            subprocess.Popen(
                [sys.executable, "-c", BUILD, step],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": str(EXAMPLE), "PYTHONHASHSEED": seed},
            )
            for seed, step in (("1", "1"), ("2", "-1"))
        ]
        for process in racing:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [process.communicate(timeout=60)[0].splitlines() for process in racing]
        assert [process.returncode for process in racing] == [0, 0]
        assert said[0] == said[1][::-1] == [str(store.network_file(name)) for name in store.NAMES]
        yield [Path(line) for line in said[0]]


@cache
def stage(kind: type[Any]) -> Any:
    """A stage with its network open, one for all tests."""
    return kind()


def test_every_build_in_every_process_gives_the_same_bytes(built: list[Path]) -> None:
    digests = [hashlib.sha256(store.build(name)).hexdigest() for name in store.NAMES]
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in built] == digests
    assert len(set(digests)) == len(store.NAMES)
    assert sorted(built[0].parent.iterdir()) == sorted(built), "an unfinished file was left"


def test_builders_that_meet_leave_one_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have found no file, and both write it."""
    meeting = threading.Barrier(2, timeout=30)
    content = bytes(range(256)) * 1000

    def build(name: str) -> bytes:
        meeting.wait()
        return content

    monkeypatch.setenv(store.FOLDER_VARIABLE, str(tmp_path / "new" / "folder"))
    monkeypatch.setattr(store, "build", build)
    threads = [threading.Thread(target=store.network_file, args=("depth",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (path,) = (tmp_path / "new" / "folder").iterdir()
    assert path == store.network_file("depth") and path.read_bytes() == content


def test_another_builder_makes_another_file(tmp_path: Path) -> None:
    copy = shutil.copytree(EXAMPLE / "networks", tmp_path / "networks")
    assert runpy.run_path(str(copy / "store.py"))["source_digest"]() == store.source_digest()
    with (copy / "architectures.py").open("a") as source:
        source.write("# changed\n")
    assert runpy.run_path(str(copy / "store.py"))["source_digest"]() != store.source_digest()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(tmp_path / "file" / "folder"))
    monkeypatch.setattr(store, "build", lambda name: b"")
    with pytest.raises(ArtifactError, match=f"deblur cannot be written to .*name a folder.* in {store.FOLDER_VARIABLE}"):
        store.network_file("deblur")


def test_a_damaged_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(store, "build", lambda name: b"no network")
    with pytest.raises(ArtifactError, match=r"deblur-\w+\.onnx cannot be opened.*delete it"):
        session.Network("deblur")


@pytest.mark.parametrize("file", PIPELINES)
def test_a_pipeline_is_traced_and_runs_from_end_to_end(file: str) -> None:
    app = load_app(EXAMPLE / f"{file}.py")
    assert tuple(node.name for node in app.graph.stages) == PIPELINES[file]
    module = runpy.run_path(str(EXAMPLE / f"{file}.py"))
    for name, each in module["app"].stages.items():
        each._eager = stage(each.declared)  # a network is opened once for all tests
        assert each.spec.size == ("pixels" if name in ("deblur", "super_resolution") else "one")
    result = module[file](TINY)
    if "classification" in file:
        assert isinstance(result, stages.Verdict) and 0 <= result.label < 1000 and 0 < result.score <= 1
    elif file == "depth_recognition":
        assert result.shape == (64, 64) and result.dtype == np.uint8 and (result.min(), result.max()) == (0, 255)
    else:
        with Image.open(io.BytesIO(result)) as cut:
            assert (cut.format, cut.mode, cut.size) == ("PNG", "RGBA", (2 * WIDTH, 32))


@pytest.mark.parametrize("file", PIPELINES)
def test_the_profile_beside_a_pipeline_is_of_this_pipeline(file: str) -> None:
    path = EXAMPLE / f"{file}.py"
    spec = load_app(path).spec(path.read_bytes())
    profile = artifact.read(path.with_suffix(".profile.json").read_bytes())
    artifact.check(profile, spec=spec, device_class=None)
    assert profile.is_complete


@pytest.mark.parametrize("kind", STAGES, ids=lambda kind: kind.__name__)
def test_a_batch_is_answered_as_its_pictures_alone(kind: type[Any]) -> None:
    """Of two sizes, one of which the deblurring network cannot halve twice, and of one where each is scaled."""
    pictures = [TINY, scene(16, seed=1), scene(18, seed=2)][: 3 if kind in STAGES[:2] else 2]
    for picture in pictures:
        picture.setflags(write=False)
    together = stage(kind)(pictures)
    for picture, answer in zip(pictures, together, strict=True):
        (alone,) = stage(kind)([picture])
        if isinstance(alone, stages.Verdict):
            assert answer.label == alone.label and answer.score == pytest.approx(alone.score, rel=1e-3)
            continue
        shown, expected = (np.asarray(Image.open(io.BytesIO(x))) if isinstance(x, bytes) else x for x in (answer, alone))
        assert shown.shape == expected.shape and shown.dtype == np.uint8
        assert np.mean(np.abs(shown.astype(int) - expected) > 1) < 0.01


def test_pictures_keep_their_size_but_for_super_resolution() -> None:
    picture = scene(18)
    for kind in STAGES[:4]:
        (answer,) = stage(kind)([picture])
        assert answer.shape == ((36, 2 * WIDTH, 3) if kind is stages.SuperResolution else picture.shape)
        assert answer.std() > 1, "an empty picture"


@pytest.mark.parametrize("kind", STAGES, ids=lambda kind: kind.__name__)
def test_what_is_no_picture_fails_alone(kind: type[Any]) -> None:
    wrong = [np.zeros((16, 16), np.uint8), np.zeros((16, 16, 3), np.float32), np.zeros((4, 64, 3), np.uint8)]
    good, *failed = stage(kind)([TINY, *wrong])
    assert not isinstance(good, Failed)
    assert [failure.reason.partition(": ")[0] for failure in failed if isinstance(failure, Failed)] == [
        "not a picture",
        "not a picture",
        "a picture of 4 x 64",
    ]
    assert all(isinstance(failure, Failed) for failure in stage(kind)(wrong))


def test_a_pipeline_says_which_stage_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    module = runpy.run_path(str(EXAMPLE / "image_classification.py"))
    monkeypatch.setattr(module["super_resolution"], "_eager", stage(stages.SuperResolution))
    with pytest.raises(StageFailedError, match="stage 'super_resolution' failed: a picture of 2 x 64"):
        module["image_classification"](np.zeros((2, WIDTH, 3), np.uint8))


def test_samples_are_pictures_of_several_sizes_that_any_run_draws_alike() -> None:
    first, second = scenes(), scenes()
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    assert len({picture.shape for picture in first}) > 2
    assert runpy.run_path(str(EXAMPLE / "depth_recognition.py"))["app"].sample_values()[0][0].shape == first[0].shape


def test_an_instance_that_finds_its_network_needs_no_onnx() -> None:
    program = (
        "import sys; from networks.stages import Segmentation; from scenes import scene;"
        "Segmentation()([scene(16)]); print('onnx' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": str(EXAMPLE)},
    )
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_the_environment_chooses_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    path = EXAMPLE / "depth_recognition.py"
    on_cpu = load_app(path).spec(path.read_bytes())
    monkeypatch.setenv(session.DEVICE_VARIABLE, "gpu")
    on_gpu = load_app(path).spec(path.read_bytes())
    assert {each.device for each in on_cpu.stages} == {"cpu"} and {each.device for each in on_gpu.stages} == {"gpu"}
    assert on_gpu.digest != on_cpu.digest, "a profile of the one would pass for one of the other"
    monkeypatch.setenv(session.DEVICE_VARIABLE, "tpu")
    with pytest.raises(ConfigurationError, match="'tpu'; it is cpu or gpu"):
        session.chosen_device()


def test_a_gpu_is_the_first_choice_where_it_is_asked_for_and_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    assert session.providers("cpu") == ["CPUExecutionProvider"]
    monkeypatch.setattr(session.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ArtifactError, match="no CUDAExecutionProvider, only CPUExecutionProvider; install onnxruntime-gpu"):
        session.providers("gpu")
    monkeypatch.setattr(
        session.onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    assert session.providers("gpu")[0] == "CUDAExecutionProvider"


SHOWN = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / "docs" / "tutorial" / "vision.md").read_text(), re.MULTILINE | re.DOTALL)


def test_the_python_that_the_tutorial_shows_runs() -> None:
    flow, called = (content for language, content in SHOWN if language == "python")
    assert flow.splitlines()[-1] in (EXAMPLE / "expanded_classification.py").read_text()
    exec(called, {})


def test_the_commands_that_the_tutorial_shows_check_and_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One plan stands for all, with a made-up profile: what is planned depends on no measurement."""
    lines = [line for language, content in SHOWN if not language for line in content.splitlines()]
    check, *plans = [line.split()[1:] for line in lines if line.startswith(("grainwise check", "grainwise plan"))]
    by_file = {Path(words[1]).stem: words for words in plans}
    assert set(by_file) == set(PIPELINES)
    path = EXAMPLE / "image_classification.py"
    save_profile(made_profile(load_app(path).spec(path.read_bytes())), tmp_path / "made.json")
    monkeypatch.chdir(ROOT)
    for words in (check, [*by_file[path.stem], "--profile", str(tmp_path / "made.json")]):
        said = CliRunner().invoke(cli, words)
        assert said.exit_code == 0, f"{words}: {said.output}"
        assert "classification" in said.output
