"""Every kind of value that may cross an edge, through a chain and a fan-out."""

from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from grainwise import App, Batch, Slo, each, empty, sizes

app = App("values", slo=Slo(latency_ms=5000))


@dataclass
class Box:
    left: int
    score: float
    tag: str = "none"


class Crop(Struct):
    box: Box
    pixels: NDArray[np.uint8]


@app.stage(max_batch=2, size=sizes.pixels)
def find(pictures: Batch[NDArray[np.uint8]], scales: Batch[float]) -> Batch[list[Box]]:
    return [
        [Box(index, float(picture[index].mean()) * scale, f"row {index}") for index in range(picture.shape[0])]
        for picture, scale in zip(pictures, scales, strict=True)
    ]


@app.stage(max_batch=2)
def cut(pictures: Batch[NDArray[np.uint8]], boxes: Batch[list[Box]]) -> Batch[list[Crop]]:
    return [[Crop(box, picture[box.left]) for box in found] for picture, found in zip(pictures, boxes, strict=True)]


@app.stage(max_batch=3)
def invert(crops: Batch[Crop]) -> Batch[NDArray[np.int32]]:
    made = []
    for crop in crops:
        row = empty(crop.pixels.shape, np.int32)
        row[:] = 255 - crop.pixels.astype(np.int32) + crop.box.left
        made.append(row)
    return made


@app.stage(max_batch=4)
def name(crops: Batch[Crop], prefixes: Batch[str]) -> Batch[str]:
    return [f"{prefix}{crop.box.tag}" for crop, prefix in zip(crops, prefixes, strict=True)]


@app.stage(max_batch=2)
def stack(rows: Batch[list[NDArray[np.int32]]]) -> Batch[NDArray[np.int32]]:
    return [np.stack(found) if found else np.zeros((0, 0), np.int32) for found in rows]


@app.stage(max_batch=2)
def tally(names: Batch[list[str]], raws: Batch[bytes]) -> Batch[dict[str, int]]:
    return [{name: len(raw) for name in found} for found, raw in zip(names, raws, strict=True)]


@app.flow
def values(
    picture: NDArray[np.uint8], scale: float, prefix: str, raw: bytes
) -> tuple[NDArray[np.int32], dict[str, int], list[Crop]]:
    crops = cut(picture, find(picture, scale))
    return stack(each(invert, crops)), tally(each(lambda crop: name(crop, prefix), crops), raw), crops
