"""Results as files: one run, or several settings each with its seeds. What ``simulate --out`` writes and ``compare`` reads."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from grainwise.domain.errors import ArtifactError, ConfigurationError
from grainwise.telemetry.compare import Comparison, Replicated, compare
from grainwise.telemetry.result import RESULT_SCHEMA, read_result


class Results(Struct, frozen=True):
    """Several runs: a setting for each policy, in it a run for each seed, and what the comparison says."""

    schema: int
    settings: tuple[Replicated, ...]
    comparison: Comparison


class _Shape(Struct):
    settings: msgspec.Raw = msgspec.Raw()


def encode_results(settings: Sequence[Replicated]) -> bytes:
    """JSON: the bare result where there is one run, else all settings and their comparison."""
    if len(settings) == 1 and len(settings[0].results) == 1:
        return settings[0].results[0].to_json()
    results = Results(RESULT_SCHEMA, tuple(settings), compare(settings))
    return msgspec.json.format(msgspec.json.encode(results), indent=2)


def read_results(path: Path) -> list[Replicated]:
    """The settings in a file of ``encode_results`` or of one result, live or simulated; one result is called as the file is.

    Raises:
        ArtifactError: there is no file, or it holds no result.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"there is no result at {path} ({error.strerror}); write one with: grainwise simulate --out"
        ) from error
    try:
        is_several = len(bytes(msgspec.json.decode(data, type=_Shape).settings)) > 0
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path} is no result of a run: {error}; write it anew with --out") from error
    if not is_several:
        return [Replicated(path.stem, (read_result(data, str(path)),))]
    try:
        results = msgspec.json.decode(data, type=Results)
    except msgspec.MsgspecError as error:
        raise ArtifactError(f"{path} is no result of runs: {error}; write it anew with --out") from error
    if results.schema != RESULT_SCHEMA:
        raise ArtifactError(f"{path}: field schema is {results.schema}, this version reads {RESULT_SCHEMA}; run it again")
    return list(results.settings)


def read_settings(paths: Sequence[Path]) -> list[Replicated]:
    """The settings of several files, each under a name of its own: the file's, or its own beside the file's.

    Raises:
        ArtifactError: see ``read_results``.
        ConfigurationError: a file is given twice.
    """
    repeated = [path for path, times in Counter(path.resolve() for path in paths).items() if times > 1]
    if repeated:
        raise ConfigurationError(f"{repeated[0]} is given twice; give each result once")
    stems = Counter(path.stem for path in paths)
    found: list[Replicated] = []
    for path in paths:
        settings = read_results(path)
        shown = path.stem if stems[path.stem] == 1 else str(path)
        for each in settings:
            name = shown if len(settings) == 1 else f"{shown} {each.name}"
            found.append(Replicated(name, each.results))
    return found
