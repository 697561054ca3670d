"""What a part of the validation comes to: a table for people and verdicts for machines."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from msgspec import Struct

CORES = 2


class Check(Struct, frozen=True):
    """One claim: what was measured and whether it held."""

    what: str
    measured: str
    bound: str
    is_met: bool


class Part(Struct):
    """One part of the validation. ``cpu_s`` counts all processes that it used; ``failures`` says how to see one again."""

    name: str
    about: str
    columns: tuple[str, ...] = ()
    rows: list[tuple[str, ...]] = []
    checks: list[Check] = []
    notes: list[str] = []
    failures: list[str] = []
    cpu_s: float = 0.0
    wall_s: float = 0.0

    @property
    def is_met(self) -> bool:
        """Whether every claim held."""
        return all(check.is_met for check in self.checks)


J = TypeVar("J")
R = TypeVar("R")


def timed(job: tuple[Callable[[J], R], J]) -> tuple[R, float]:
    """The result of a call and the processor time that it took, in the process that ran it."""
    call, argument = job
    began = time.process_time()
    result = call(argument)
    return result, time.process_time() - began


def run_jobs(call: Callable[[J], R], jobs: Sequence[J], workers: int = CORES) -> tuple[list[R], float]:
    """``call`` of every job, in the order of the jobs whatever the order of their ends; and their processor time together."""
    if workers <= 1:
        found = [timed((call, job)) for job in jobs]
    else:
        with ProcessPoolExecutor(workers) as pool:
            found = list(pool.map(timed, [(call, job) for job in jobs]))
    return [result for result, _ in found], sum(took for _, took in found)
