"""The trivial application that every server of the comparison runs: invert, mask, add up every sixteenth value."""

import numpy as np
from numpy.typing import NDArray

import grainwise
from grainwise import App, Batch, Slo

app = App("image", slo=Slo(latency_ms=100))
Image = NDArray[np.uint8]


@app.stage(max_batch=1)
def invert(images: Batch[Image]) -> Batch[Image]:
    results = []
    for image in images:
        result = grainwise.empty_like(image)
        np.subtract(255, image, out=result)
        results.append(result)
    return results


@app.stage(max_batch=1)
def mask(images: Batch[Image]) -> Batch[Image]:
    results = []
    for image in images:
        result = grainwise.empty_like(image)
        np.bitwise_xor(image, 0x55, out=result)
        results.append(result)
    return results


@app.stage(max_batch=1)
def total(images: Batch[Image]) -> Batch[int]:
    return [int(image.reshape(-1)[::16].sum(dtype=np.int64)) for image in images]


@app.flow
def flow(image: Image) -> int:
    return total(mask(invert(image)))


@app.samples
def samples() -> list[Image]:
    """One picture of the size that the benchmark sends."""
    return [np.random.default_rng(0).integers(0, 256, (448, 448, 3), dtype=np.uint8)]
