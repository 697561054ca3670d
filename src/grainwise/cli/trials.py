"""Runs trials over all cores. The results do not depend on how many processes there are."""

import os
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from multiprocessing import get_context
from multiprocessing.queues import Queue

from grainwise.domain.errors import CapacityError, GrainwiseError
from grainwise.simulation.planners import plan
from grainwise.simulation.trial import Trial, run_trial
from grainwise.telemetry.result import RunResult
from grainwise.workloads.recorded import TraceSource
from grainwise.workloads.traces.finding import trace_source

OnProgress = Callable[[int, float], None]
"""Called with the number of a trial and the fraction of it that is over."""

_POLL_S = 0.2

_progress: "Queue[tuple[int, float]] | None" = None
"""Where a worker process says how far it is."""


def traces() -> TraceSource:
    """The traces of this machine, each read once."""
    return cache(trace_source())


def run_trials(trials: Sequence[Trial], on_progress: OnProgress, processes: int | None = None) -> list[RunResult]:
    """Run trials, at most ``processes`` at once (all cores without it); the results are in the order of the trials.

    Raises:
        CapacityError: a process was ended from outside.
        GrainwiseError: a trial failed; those that have not begun by then are left out.
    """
    at_once = min(len(trials), processes if processes is not None else _cores())
    if at_once <= 1:
        source = traces()
        return [run_trial(trial, source, partial(on_progress, at), plan) for at, trial in enumerate(trials)]
    context = get_context("spawn")
    channel: Queue[tuple[int, float]] = context.Queue()
    executor = ProcessPoolExecutor(at_once, mp_context=context, initializer=_begin, initargs=(channel,))
    try:
        futures = [executor.submit(_run, at, trial) for at, trial in enumerate(trials)]
        _follow(futures, channel, on_progress)
        return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise CapacityError(
            f"one of {at_once} processes that simulated was ended from outside, maybe for lack of memory; free some, "
            "or simulate one seed at a time"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)
        channel.close()


def _follow(futures: Sequence["Future[RunResult]"], channel: "Queue[tuple[int, float]]", on_progress: OnProgress) -> None:
    """Pass on how far the workers are until all are done or one has failed."""
    while True:
        done, waiting = wait(futures, timeout=0)
        if not waiting or any(future.exception() is not None for future in done):
            return
        try:
            on_progress(*channel.get(timeout=_POLL_S))
        except queue.Empty:
            continue


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _begin(channel: "Queue[tuple[int, float]]") -> None:
    global _progress
    _progress = channel


def _run(at: int, trial: Trial) -> RunResult:
    channel = _progress
    if channel is None:
        raise GrainwiseError("a worker of simulations was started without its channel")
    return run_trial(trial, traces(), lambda done: channel.put((at, done)), plan)
