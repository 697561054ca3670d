"""What a hop costs at each level of the study: measured here, by whom and how each level says.

``shared_memory`` is the local runtime's own hop, from a shipped profile; the others are in ``hops.json``, which
``measure_hops`` writes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from grainwise.domain.errors import ArtifactError
from grainwise.domain.machine import HopModel
from grainwise.predictors.least_squares import least_squares
from reproduce.granularity import measured_cpu

FILE = Path(__file__).parent / "hops.json"
SCHEMA = 1
SHARED_MEMORY = "shared_memory"
PROFILED = "vision/expanded_classification"
"""The example whose profile has the hop of the local runtime."""
_MIB = 1_048_576


class Size(Struct, frozen=True, forbid_unknown_fields=True):
    """Hops of one size. Per round of ``hops`` hops: the median and the 95th percentile of the latency, and CPU per hop."""

    nbytes: int
    hops: int
    median_us: tuple[float, ...]
    p95_us: tuple[float, ...]
    cpu_us: tuple[float, ...]


class Level(Struct, frozen=True, forbid_unknown_fields=True):
    """One level: its model, how it was come by, and for a measured one what was measured.

    ``foreign_cores`` is the load by other processes in each round; the model is of the quieter half of the rounds.
    """

    name: str
    provenance: Literal["measured", "cited"]
    how: str
    hop: HopModel
    sizes: tuple[Size, ...] = ()
    foreign_cores: tuple[float, ...] = ()


class HopFile(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that was measured at one time."""

    schema: int
    date: str
    machine: str
    cores: int
    python: str
    versions: dict[str, str]
    method: str
    levels: tuple[Level, ...]


def load(path: Path = FILE) -> dict[str, HopModel]:
    """The hop of every level by its name, the cheapest kind first.

    Raises:
        ArtifactError: the file is missing or malformed.
    """
    return {level.name: level.hop for level in levels(path)}


def levels(path: Path = FILE) -> tuple[Level, ...]:
    """Every level with where it comes from.

    Raises:
        ArtifactError: the file is missing or malformed.
    """
    profile = measured_cpu.profile(PROFILED)
    how = f"the local runtime's own, shared memory and a socket, profiled on {profile.date} on {profile.machine.cpu_model}"
    return (Level(SHARED_MEMORY, "measured", how, profile.hop), *read(path).levels)


def read(path: Path = FILE) -> HopFile:
    """What was measured.

    Raises:
        ArtifactError: the file is missing or malformed.
    """
    again = "measure again with: python -m reproduce.granularity.measure_hops"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=HopFile)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}; {again}") from error
    except msgspec.MsgspecError as error:
        raise ArtifactError(f"{path} is no file of hops: {error}; {again}") from error
    if found.schema != SCHEMA:
        raise ArtifactError(f"{path} has schema {found.schema}, this version reads {SCHEMA}; {again}")
    return found


def fitted(sizes: Sequence[Size], foreign_cores: Sequence[float]) -> HopModel:
    """A fixed part and one per MiB, of latency and of CPU, through each size's median over the rounds that are kept.

    Kept is the half of the rounds beside which other processes did least. The fit is by relative error.
    """
    by_load = sorted(range(len(foreign_cores)), key=foreign_cores.__getitem__)
    kept = sorted(by_load[: (len(by_load) + 1) // 2])
    rows = [(1.0, size.nbytes / _MIB) for size in sizes]
    latency = least_squares(rows, [_median([size.median_us[at] for at in kept]) for size in sizes])
    cpu = least_squares(rows, [_median([size.cpu_us[at] for at in kept]) for size in sizes])
    return HopModel(round(latency[0], 2), round(latency[1], 2), round(cpu[0], 2), round(cpu[1], 2), 0.0)


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
