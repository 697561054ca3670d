import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from grainwise.domain.errors import DeclarationError
from grainwise.runtimes.loading import load_app

EXAMPLE = Path(__file__).parents[3] / "examples" / "text" / "app.py"

GOOD = """
    import dataclasses
    from grainwise import App, Batch, Slo

    app = App("good", slo=Slo(latency_ms=100))

    @dataclasses.dataclass
    class Word:
        text: str

    @app.stage
    def read(texts: Batch[str]) -> "Batch[Word]":
        return [Word(text) for text in texts]

    @app.flow
    def flow(text: str) -> Word:
        return read(text)
"""


def written(folder: Path, source: str, name: str = "app.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(source))
    return path


@pytest.fixture(autouse=True)
def _undo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading extends ``sys.path`` and sets variables for native thread pools."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")


def test_the_text_example_loads_runs_and_declares_itself() -> None:
    app = load_app(EXAMPLE)
    spec = app.spec(EXAMPLE.read_bytes())
    assert spec.name == "text"
    assert [node.name for node in spec.graph.stages] == ["split", "clean", "count", "join"]
    module = sys.modules[app.stages["split"].declared.__module__]
    assert module.report("Deep  GRAIN, wise") == "deep:4 grain:5 wise:4"
    assert module.report("") == ""


def test_a_file_is_loaded_under_a_private_name_with_its_folder_on_the_path(tmp_path: Path) -> None:
    written(tmp_path, "SUFFIX = '!'\n", "neighbour_of_app.py")
    path = written(tmp_path, GOOD + "    import neighbour_of_app\n")
    app = load_app(path)
    assert app.name == "good"
    name = app.stages["read"].declared.__module__
    assert name.startswith("_grainwise_app_")
    assert "app" not in sys.modules or sys.modules["app"].__file__ != str(path)
    assert app.spec(path.read_bytes()).outputs[0].annotation == "Word"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = (\n", "app.py:1: syntax error: '(' was never closed"),
        ("import no_such_module_at_all\n", "app.py:1: the app file cannot be imported: ModuleNotFoundError"),
        ("x = 1\n\ndef f():\n    return 1 / 0\n\nf()\n", "app.py:4: the app file cannot be imported: ZeroDivisionError"),
        ("import sys\nsys.exit(2)\n", "app.py:2: the app file cannot be imported: SystemExit: 2"),
        ("x = 1\n", "the file holds no app; write app = App("),
        (
            "from grainwise import App, Slo\none, two = (App(name, slo=Slo(latency_ms=1)) for name in ('one', 'two'))\n",
            "the file holds 2 apps: one ('one'), two ('two')",
        ),
        (
            "from grainwise import App, Slo\napp = App('bad name', slo=Slo(latency_ms=1))\n",
            "app.py:2: 'bad name' cannot be the name",
        ),
    ],
)
def test_a_file_that_cannot_be_served_is_refused(tmp_path: Path, source: str, message: str) -> None:
    path = written(tmp_path, source)
    with pytest.raises(DeclarationError) as raised:
        load_app(path)
    assert str(raised.value).startswith(str(path))
    assert message in str(raised.value)
    assert not [
        name for name in sys.modules if getattr(sys.modules[name], "__file__", None) == str(path) and "holds" not in message
    ]


def test_an_app_under_two_names_is_one_app(tmp_path: Path) -> None:
    assert load_app(written(tmp_path, GOOD + "    alias = app\n")).name == "good"


def test_a_missing_file_and_a_file_that_is_no_python_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="there is no such app file"):
        load_app(tmp_path / "nothing.py")
    with pytest.raises(DeclarationError, match=r"an app file ends in \.py"):
        load_app(written(tmp_path, "x = 1", "app.txt"))


def refusal(tmp_path: Path, source: str) -> str:
    """What loading says in a process of its own, which the threads and sessions of the app file cannot outlive."""
    path = written(tmp_path, source)
    program = (
        "import sys; from pathlib import Path; from grainwise.runtimes.loading import load_app\n"
        "from grainwise.domain.errors import DeclarationError\n"
        "try: load_app(Path(sys.argv[1])); print('loaded')\n"
        "except DeclarationError as error: print(error)\n"
        "import os; sys.stdout.flush(); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_a_top_level_thread_is_refused_by_name(tmp_path: Path) -> None:
    thread = "    import threading\n    threading.Thread(target=threading.Event().wait, name='poller', daemon=True).start()\n"
    said = refusal(tmp_path, GOOD + thread)
    assert "the top level starts a thread (poller)" in said
    assert "start it in the constructor of a stage" in said


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads of the operating system are not shown here")
def test_a_native_thread_that_python_does_not_know_is_refused_too(tmp_path: Path) -> None:
    thread = (
        "    import ctypes, _thread, threading\n"
        "    class Native:\n"
        "        wait = threading.Event().wait\n"
        "    _thread.start_new_thread(Native.wait, ())\n"
    )
    assert "the top level starts a thread (native thread " in refusal(tmp_path, GOOD + thread)


def test_a_top_level_model_session_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = Path(pytest.importorskip("rapidocr_onnxruntime").__file__).parent / "models"
    first = sorted(model.glob("*cls*.onnx"))[0]
    session = (
        "    import onnxruntime\n"
        "    options = onnxruntime.SessionOptions()\n"
        "    options.intra_op_num_threads = 1\n"
        f"    session = onnxruntime.InferenceSession({str(first)!r}, options, providers=['CPUExecutionProvider'])\n"
    )
    assert "creates an onnxruntime InferenceSession" in refusal(tmp_path, GOOD + session)


def test_a_session_that_was_there_before_is_not_held_against_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class InferenceSession:
        __module__ = "onnxruntime.made_up"

        def __init__(self) -> None:
            self.known: list[object] = []

    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    monkeypatch.setattr(sys, "kept_sessions", [InferenceSession()], raising=False)
    assert load_app(written(tmp_path, GOOD)).name == "good"
    monkeypatch.setattr(sys, "make_session", InferenceSession, raising=False)
    with pytest.raises(DeclarationError, match="creates an onnxruntime InferenceSession"):
        load_app(written(tmp_path, GOOD + "    import sys\n    session = sys.make_session()\n"))


def test_importing_heavy_libraries_at_the_top_is_welcome(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    pytest.importorskip("onnxruntime")
    assert refusal(tmp_path, GOOD + "    import cv2, onnxruntime, numpy\n") == "loaded"
