"""Two stages that do nothing but hand an array on: by them the profiler measures what a hop costs on this machine."""

import time

import numpy as np
from numpy.typing import NDArray

from grainwise import App, Batch, Slo, empty

app = App("hop", slo=Slo(latency_ms=1000))


@app.stage()
def make(lengths: Batch[int]) -> Batch[NDArray[np.uint8]]:
    """Arrays of so many bytes; the first eight hold the monotonic clock in nanoseconds when the last was written."""
    arrays = []
    for length in lengths:
        array = empty((length,), np.uint8)
        array[8:] = 1
        array[:8].view(np.int64)[0] = time.monotonic_ns()
        arrays.append(array)
    return arrays


@app.stage()
def take(arrays: Batch[NDArray[np.uint8]]) -> Batch[int]:
    """Nanoseconds since each array was complete."""
    now = time.monotonic_ns()
    return [now - int(array[:8].view(np.int64)[0]) for array in arrays]


@app.flow
def hop(length: int) -> int:
    """The nanoseconds that an array of ``length`` bytes took from one stage to the other."""
    return take(make(length))
