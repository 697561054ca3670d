"""What was measured, on which machine, and beside how much foreign load."""

import os
import platform
import statistics
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import msgspec
import psutil
from msgspec import Struct

from grainwise.cli import foreign_load

LEAST_ROUNDS = 3

QUIET_CORES = 0.10
"""Foreign load (cores) up to which a round counts as taken on an idle machine."""


class Machine(Struct, frozen=True):
    """The hardware and the software that figures come from."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    numpy: str
    uvloop: str


class Check(Struct, frozen=True):
    """One target: what was measured, its bound, and whether it holds."""

    what: str
    measured: str
    bound: str
    is_met: bool


class Table(Struct, frozen=True):
    """Rows under column titles; ``note`` says how they were taken."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


class Result(Struct, frozen=True):
    """One benchmark's outcome. ``foreign_cores`` is the median load by others per round; ``data`` are the raw figures."""

    name: str
    date: str
    machine: Machine
    is_quick: bool
    foreign_cores: float
    tables: tuple[Table, ...]
    checks: tuple[Check, ...]
    data: dict[str, object] = {}
    skipped: tuple[str, ...] = ()


def this_machine() -> Machine:
    """The machine that this process runs on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return Machine(
        cpu=model,
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        kernel=platform.release(),
        python=platform.python_version(),
        numpy=version("numpy"),
        uvloop=version("uvloop"),
    )


class ForeignLoad:
    """Cores that processes outside this process's tree use, round by round."""

    def __init__(self) -> None:
        self.rounds: list[float] = []
        self.begin()

    def begin(self) -> None:
        """Start a round."""
        self._round = foreign_load.ForeignLoad()

    def end(self) -> float:
        """The cores of this round."""
        cores = self._round.end()
        self.rounds.append(cores)
        return cores

    @property
    def quiet(self) -> int:
        """How many rounds were taken on an idle machine."""
        return sum(cores <= QUIET_CORES for cores in self.rounds)

    def kept(self) -> list[int]:
        """The rounds that count: those on an idle machine, or, where there were fewer than three, the quieter half."""
        quiet = [at for at, cores in enumerate(self.rounds) if cores <= QUIET_CORES]
        if len(quiet) >= LEAST_ROUNDS:
            return quiet
        by_load = sorted(range(len(self.rounds)), key=self.rounds.__getitem__)
        return sorted(by_load[: max(LEAST_ROUNDS, (len(by_load) + 1) // 2)])

    @property
    def median(self) -> float:
        """The median over the rounds that count."""
        return statistics.median(self.rounds[at] for at in self.kept()) if self.rounds else 0.0


def wait_for_quiet(limit_s: float, cores: float = QUIET_CORES) -> float:
    """Wait until one second passes with less foreign load than ``cores``, at most ``limit_s``; the load that was seen last."""
    until = time.monotonic() + limit_s
    while True:
        load = ForeignLoad()
        time.sleep(1.0)
        seen = load.end()
        if seen <= cores or time.monotonic() >= until:
            return seen


def quantile(values: Iterable[float], level: float) -> float:
    """The value below which ``level`` of ``values`` lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(level * len(ordered)))]


def now_text() -> str:
    """The time of a measurement, to the second, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


encode = msgspec.json.Encoder().encode
