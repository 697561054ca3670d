"""What a picture is, and how pictures of several sizes become batches for a network."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grainwise import Failed, empty

Picture = NDArray[np.uint8]
"""(height, width, 3) uint8 RGB."""

MIN_SIDE = 8
MAX_PIXELS = 1_000_000
"""Limits of what is taken; a picture outside them fails alone, and says so."""


def refusal(picture: Picture) -> Failed | None:
    """Why an array is no picture to work on, or None."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        return Failed(f"not a picture: {picture.dtype} of shape {picture.shape}; height x width x 3 of uint8 is expected")
    height, width = picture.shape[:2]
    if min(height, width) < MIN_SIDE or height * width > MAX_PIXELS:
        return Failed(f"a picture of {height} x {width}: sides of {MIN_SIDE} and up to {MAX_PIXELS} pixels are taken")
    return None


def by_shape(pictures: Sequence[Picture], run: Callable[[Any], Any]) -> list[Picture | Failed]:
    """``run`` on the pictures of each shape as one (batch, height, width, 3); the results in the order of ``pictures``."""
    results: list[Picture | Failed | None] = [refusal(picture) for picture in pictures]
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, picture in enumerate(pictures):
        if results[index] is None:
            groups.setdefault(picture.shape, []).append(index)
    for indices in groups.values():
        made = run(np.stack([pictures[index] for index in indices]))
        for index, result in zip(indices, made, strict=True):
            results[index] = born(result)
    return [result for result in results if result is not None]


def at_side(pictures: Sequence[Picture], side: int) -> Picture:
    """Every picture scaled to ``side`` x ``side`` pixels: (batch, side, side, 3) uint8."""
    scaled = np.empty((len(pictures), side, side, 3), np.uint8)
    for row, picture in enumerate(pictures):
        scaled[row] = picture if picture.shape[:2] == (side, side) else scaled_to(picture, side, side)
    return scaled


def resized(values: NDArray[np.uint8], like: Picture, smoothly: bool = True) -> NDArray[np.uint8]:
    """A map of values at the height and width of a picture; bilinear, or by the nearest where they may not be mixed."""
    height, width = like.shape[:2]
    return scaled_to(values, height, width, Image.Resampling.BILINEAR if smoothly else Image.Resampling.NEAREST)


def scaled_to(
    values: NDArray[np.uint8], height: int, width: int, how: Image.Resampling = Image.Resampling.BILINEAR
) -> NDArray[np.uint8]:
    """A picture or a map at another size."""
    return np.asarray(Image.fromarray(values).resize((width, height), how))


def born(content: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy that lies where the next stage reads it."""
    made: NDArray[np.uint8] = empty(content.shape, content.dtype)
    np.copyto(made, content)
    return made
