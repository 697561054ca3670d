"""The same job for many items, over several processes; the answers do not depend on how many there are."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from grainwise.domain.errors import CapacityError

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def usable_processes(wanted: int | None) -> int:
    """How many processes to use: ``wanted``, or one for each core that this process may run on."""
    if wanted is not None:
        return wanted
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_each(
    job: Callable[[Item], Answer], items: Iterable[Item], on_done: Callable[[int], None], processes: int | None = None
) -> list[Answer]:
    """Do ``job`` for every item; the answers are in the order of the items.

    Args:
        job: a function of a module, which other processes import by name.
        items: what it is done for.
        on_done: called with how many are done.
        processes: at most so many at once; without it one for each core.

    Raises:
        CapacityError: a process was ended from outside.
        GrainwiseError: a job failed; those that have not begun by then are left out.
    """
    given: Sequence[Item] = list(items)
    at_once = min(len(given), usable_processes(processes))
    if at_once <= 1:
        found = []
        for number, item in enumerate(given, 1):
            found.append(job(item))
            on_done(number)
        return found
    # The libraries under NumPy would spread over the cores that the processes share.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    executor = ProcessPoolExecutor(at_once, mp_context=get_context("spawn"))
    try:
        futures = [executor.submit(job, item) for item in given]
        _follow(futures, on_done)
        return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise CapacityError(
            f"one of {at_once} processes was ended from outside, maybe for lack of memory; free some, or give --processes 1"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _follow(futures: Sequence["Future[Answer]"], on_done: Callable[[int], None]) -> None:
    """Tell how many are done until all are or one has failed."""
    open_ones = set(futures)
    while open_ones:
        done, open_ones = wait(open_ones, return_when=FIRST_COMPLETED)
        on_done(len(futures) - len(open_ones))
        if any(future.exception() is not None for future in done):
            return
