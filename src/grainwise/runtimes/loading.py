"""Importing an app file: one module-level `App`, and nothing that would not survive the fork of an instance."""

import builtins
import gc
import hashlib
import importlib.util
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from grainwise.domain.errors import DeclarationError
from grainwise.runtimes.sources import neighbours
from grainwise.sdk.app import App

_TASKS = Path("/proc/self/task")


def load_app(path: Path) -> App:
    """Import the app file at ``path`` and return its app.

    The file's folder is put on ``sys.path``, so that it may import its neighbours; their content becomes part of the app's
    ``source_digest``, so that an edit of them makes a profile stale as an edit of the file does. Thread pools of
    numerical libraries are asked for one thread before the import (an instance that has more cores raises it after its fork).

    Raises:
        DeclarationError: the file cannot be imported, holds no app or several, or its top level starts a thread or a model
            session, which a forked instance would not inherit.
    """
    path = path.resolve()
    if not path.is_file():
        raise DeclarationError(f"{path}: there is no such app file; give the path of a Python file with one App in it")
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    before = _live_threads()
    sessions = _sessions()
    with _library_threads(path.parent) as tolerated:
        module = _import(path)
    _refuse_sessions(path, sessions)
    _refuse_threads(path, before, tolerated)
    apps = {id(value): (name, value) for name, value in vars(module).items() if isinstance(value, App)}
    if not apps:
        raise DeclarationError(
            f'{path}: the file holds no app; write app = App("name", slo=Slo(latency_ms=...)) at its top level'
        )
    if len(apps) > 1:
        names = ", ".join(f"{name} ({value.name!r})" for name, value in apps.values())
        raise DeclarationError(
            f"{path}: the file holds {len(apps)} apps: {names}; an app file holds one, move the others to files of their own"
        )
    app = next(iter(apps.values()))[1]
    app.neighbours = neighbours(path)
    return app


def _import(path: Path) -> ModuleType:
    name = f"_grainwise_app_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DeclarationError(f"{path}: the file cannot be imported; an app file ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except DeclarationError:
        del sys.modules[name]
        raise
    except SyntaxError as error:
        del sys.modules[name]
        raise DeclarationError(f"{error.filename}:{error.lineno}: syntax error: {error.msg}") from error
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise DeclarationError(
            f"{_place(error, path)}: the app file cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return module


def _place(error: BaseException, path: Path) -> str:
    """The innermost line of the app file that led to ``error``."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _live_threads() -> frozenset[int]:
    """Every thread of this process at the level of the operating system, where it shows them."""
    if not _TASKS.is_dir():
        return frozenset(thread.native_id for thread in threading.enumerate() if thread.native_id is not None)
    return frozenset(int(entry.name) for entry in _TASKS.iterdir())


@contextmanager
def _library_threads(folder: Path) -> Iterator[set[int]]:
    """The threads that start while modules from outside ``folder`` are imported.

    Some libraries start a native helper thread when they are imported (onnxruntime does) and cope with a fork; importing
    them early is what makes starts of instances fast, so only what the app's own code starts is held against it.
    """
    tolerated: set[int] = set()
    plain_import = builtins.__import__
    depth = 0

    def watching_import(name: str, *arguments: Any, **options: Any) -> Any:
        nonlocal depth
        if depth or name in sys.modules:
            return plain_import(name, *arguments, **options)
        found = importlib.util.find_spec(name.partition(".")[0]) if name and not (arguments[3:] and arguments[3]) else None
        if found is None or found.origin is None or _is_own(Path(found.origin), folder):
            return plain_import(name, *arguments, **options)
        before = _live_threads()
        depth += 1
        try:
            return plain_import(name, *arguments, **options)
        finally:
            depth -= 1
            tolerated.update(_live_threads() - before)

    builtins.__import__ = watching_import
    try:
        yield tolerated
    finally:
        builtins.__import__ = plain_import


def _is_own(file: Path, folder: Path) -> bool:
    """Whether a module belongs to the app: it lies beside or below the app file and is not installed there."""
    return folder in file.parents and "site-packages" not in file.parts


def _refuse_threads(path: Path, before: frozenset[int], tolerated: set[int]) -> None:
    python_names = {thread.native_id: thread.name for thread in threading.enumerate()}
    started = [thread for thread in sorted(_live_threads() - before) if thread in python_names or thread not in tolerated]
    if not started:
        return
    names = [python_names.get(thread) or _native_name(thread) for thread in started]
    raise DeclarationError(
        f"{path}: the top level starts {'a thread' if len(names) == 1 else f'{len(names)} threads'} ({', '.join(names)}); an "
        "instance is a fork and would not have it: start it in the constructor of a stage"
    )


def _native_name(thread: int) -> str:
    try:
        return f"native thread {(_TASKS / str(thread) / 'comm').read_text().strip()}"
    except OSError:
        return "a native thread that has ended since"


def _sessions() -> list[object]:
    """Every model session of this process."""
    if "onnxruntime" not in sys.modules:
        return []
    kinds = ((found, type(found)) for found in gc.get_objects())
    return [found for found, kind in kinds if kind.__name__ == "InferenceSession" and kind.__module__.startswith("onnxruntime")]


def _refuse_sessions(path: Path, before: list[object]) -> None:
    """Model sessions keep state outside Python, which a fork does not copy, even where they run no thread of their own.

    Those of ``before`` are somebody else's: a test that runs the flow eagerly has some.
    """
    if any(all(session is not known for known in before) for session in _sessions()):
        raise DeclarationError(
            f"{path}: the top level creates an onnxruntime InferenceSession, and an instance is a fork that cannot "
            "use it: create it in the constructor of a stage"
        )
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        raise DeclarationError(
            f"{path}: the top level initialises CUDA through torch; an instance is a fork and could not use it: "
            "move the model to the device in the constructor of a stage"
        )
