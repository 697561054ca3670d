"""Where traces are: a path, or a name in the folder that ``GRAINWISE_TRACES`` names."""

import os
from pathlib import Path

from grainwise.domain.errors import ConfigurationError
from grainwise.workloads.recorded import Recorded, TraceSource
from grainwise.workloads.traces.catalogue import CATALOGUE
from grainwise.workloads.traces.fitted import PREFIX, PUBLISHED, fitted_trace
from grainwise.workloads.traces.formats import load

FOLDER_VARIABLE = "GRAINWISE_TRACES"
SUFFIXES = (".parquet", ".csv", ".jsonl", ".txt")


def trace_folder() -> Path | None:
    """The folder that ``GRAINWISE_TRACES`` names; ``None`` where it is not set.

    Raises:
        ConfigurationError: it names no folder.
    """
    named = os.environ.get(FOLDER_VARIABLE, "")
    if named and not Path(named).is_dir():
        raise ConfigurationError(f"{FOLDER_VARIABLE} names {named}, which is no folder")
    return Path(named) if named else None


def traces_in(folder: Path | None) -> list[Path]:
    """The files of traces in a folder, sorted by name."""
    if folder is None:
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())


def find_trace(name_or_path: str, folder: Path | None) -> Path:
    """The file of a trace: a path to it, or its name in ``folder``, with or without its ending.

    Raises:
        ConfigurationError: there is none; the message lists what is there.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    for suffix in ("", *SUFFIXES) if folder is not None else ():
        within = folder / f"{name_or_path}{suffix}" if folder is not None else path
        if within.is_file():
            return within
    raise ConfigurationError(f"there is no trace {name_or_path!r}{_what_there_is(name_or_path, folder)}")


def _what_there_is(name: str, folder: Path | None) -> str:
    found = ", ".join(path.stem for path in traces_in(folder))
    where = f" in {folder} (there: {found or 'none'})" if folder is not None else f", and {FOLDER_VARIABLE} names no folder"
    hints = []
    if any(public.name == name for public in CATALOGUE):
        hints.append(f"download it with: grainwise trace get {name}")
    if any(published.name == name for published in PUBLISHED):
        hints.append(f"{PREFIX}{name} is a generator fitted to its published statistics")
    return where + "".join(f"; {hint}" for hint in hints)


def load_trace(
    name_or_path: str,
    folder: Path | None,
    seed: int = 1,
    *,
    format_name: str | None = None,
    only: str | None = None,
) -> Recorded:
    """The trace of that name or path (see ``find_trace`` and ``load``); ``fitted:NAME`` is a generated stand-in for NAME.

    Raises:
        ConfigurationError: there is none, or nothing of the name ``only`` in it.
        ArtifactError: it is broken; the message names file, line and column.
        PlatformError: it is Parquet, and pyarrow is not installed.
    """
    if name_or_path.startswith(PREFIX):
        if only is not None:
            raise ConfigurationError(f"{name_or_path} is a generator and has no part {only!r}; leave it out")
        return fitted_trace(name_or_path, seed)
    path = find_trace(name_or_path, folder)
    return load(path, path.name, seed, format_name=format_name, only=only)


def trace_source(seed: int = 1) -> TraceSource:
    """Finds traces for a workload: in the folder that ``GRAINWISE_TRACES`` names, or by their path."""

    def find(name: str, only: str | None) -> Recorded:
        return load_trace(name, trace_folder(), seed, only=only)

    return find
