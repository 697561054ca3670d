"""Two stages with one edge. The last eight bytes of the array on it are the instant at which it was finished.

The answer is (microseconds of the hop, a checksum), the hop being the time from the last byte that ``produce`` wrote to the
first line of ``consume``: both clocks are CLOCK_MONOTONIC, which all processes of a machine share.
"""

import time

import numpy as np
from numpy.typing import NDArray

import grainwise
from grainwise import App, Batch, Slo

app = App("hop", slo=Slo(latency_ms=1000))
Bytes = NDArray[np.uint8]


@app.stage(max_batch=1)
def produce(arrays: Batch[Bytes]) -> Batch[Bytes]:
    array = arrays[0]
    result = grainwise.empty_like(array)
    np.subtract(255, array, out=result)
    result[-8:].view(np.int64)[0] = time.monotonic_ns()
    return [result]


@app.stage(max_batch=1)
def consume(arrays: Batch[Bytes]) -> Batch[list[float]]:
    now = time.monotonic_ns()
    array = arrays[0]
    produced = int(array[-8:].view(np.int64)[0])
    return [[(now - produced) / 1000, float(array[:-8:4096].sum())]]


@app.flow
def hop(array: Bytes) -> list[float]:
    return consume(produce(array))
