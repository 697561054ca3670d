"""The six stages: what each network is given, and what becomes of its answer.

A constructor opens the network. A call takes pictures of any sizes: those that work at the picture's own size run once per
size in the batch, the others scale every picture to theirs and run once.
"""

import io
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from PIL import Image

from grainwise import Batch, Failed
from networks.dimensions import BACKGROUND_SIDE, CLASSIFICATION_SIDE, DEPTH_SIDE, MULTIPLE, SEGMENTATION_SIDE
from networks.pictures import Picture, at_side, born, by_shape, refusal, resized
from networks.session import Network

R = TypeVar("R")

GREY = 128
"""What stands where a segment is not."""


class Verdict(Struct, frozen=True):
    """What a picture shows: the number of a class, and how sure the network is, from 0 to 1."""

    label: int
    score: float


class SuperResolution:
    """A picture to the same at twice the height and width."""

    def __init__(self) -> None:
        self._network = Network("super-resolution")

    def __call__(self, pictures: Batch[Picture]) -> Batch[Picture | Failed]:
        return by_shape(pictures, self._network)


class Deblur:
    """A picture to the same, sharpened."""

    def __init__(self) -> None:
        self._network = Network("deblur")

    def __call__(self, pictures: Batch[Picture]) -> Batch[Picture | Failed]:
        return by_shape(pictures, self._run)

    def _run(self, batch: NDArray[np.uint8]) -> Any:
        height, width = batch.shape[1:3]
        beyond = ((0, 0), (0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0))
        return self._network(np.pad(batch, beyond, mode="edge"))[:, :height, :width]


class Segmentation:
    """A picture to the same with only its largest segment left, the rest grey."""

    def __init__(self) -> None:
        self._network = Network("segmentation")

    def __call__(self, pictures: Batch[Picture]) -> Batch[Picture | Failed]:
        return at_one_size(pictures, SEGMENTATION_SIDE, self._network, _largest_segment)


class BackgroundRemoval:
    """A picture to the same with its background faded to black."""

    def __init__(self) -> None:
        self._network = Network("background-removal")

    def __call__(self, pictures: Batch[Picture]) -> Batch[Picture | Failed]:
        return at_one_size(pictures, BACKGROUND_SIDE, self._network, _faded)


class Cutout:
    """A picture to a PNG of its foreground: the same network, and what was background is transparent."""

    def __init__(self) -> None:
        self._network = Network("background-removal")

    def __call__(self, pictures: Batch[Picture]) -> Batch[bytes | Failed]:
        return at_one_size(pictures, BACKGROUND_SIDE, self._network, _cut_out)


class Depth:
    """A picture to a map of nearness, (64, 64) uint8: 0 is the farthest point of the picture and 255 the nearest."""

    def __init__(self) -> None:
        self._network = Network("depth")

    def __call__(self, pictures: Batch[Picture]) -> Batch[NDArray[np.uint8] | Failed]:
        return at_one_size(pictures, DEPTH_SIDE, self._network, _nearness)


class Classification:
    """A picture to what it shows."""

    def __init__(self) -> None:
        self._network = Network("classification")

    def __call__(self, pictures: Batch[Picture]) -> Batch[Verdict | Failed]:
        return at_one_size(pictures, CLASSIFICATION_SIDE, self._network, _verdict)


def at_one_size(
    pictures: Batch[Picture], side: int, network: Network, finish: Callable[[Picture, Any], R]
) -> Batch[R | Failed]:
    """The network on all pictures at one size, and of each ``finish(picture, what the network made of it)``."""
    refused = [refusal(picture) for picture in pictures]
    taken = [picture for picture, failed in zip(pictures, refused, strict=True) if failed is None]
    made = iter(network(at_side(taken, side)) if taken else ())
    return [
        finish(picture, next(made)) if failed is None else failed for picture, failed in zip(pictures, refused, strict=True)
    ]


def _largest_segment(picture: Picture, kinds: NDArray[np.int64]) -> Picture:
    largest = np.bincount(kinds.reshape(-1)).argmax()
    is_inside = resized((kinds == largest).astype(np.uint8), picture, smoothly=False)
    return born(np.where(is_inside[..., None] == 1, picture, np.uint8(GREY)))


def _faded(picture: Picture, mask: NDArray[np.float32]) -> Picture:
    opacity = resized(_as_bytes(mask), picture)
    return born((picture.astype(np.uint16) * opacity[..., None] // 255).astype(np.uint8))


def _cut_out(picture: Picture, mask: NDArray[np.float32]) -> bytes:
    opacity = resized(_as_bytes(mask), picture)
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([picture, opacity])).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _nearness(picture: Picture, nearness: NDArray[np.float32]) -> NDArray[np.uint8]:
    return born(_as_bytes(nearness))


def _verdict(picture: Picture, shares: NDArray[np.float32]) -> Verdict:
    label = int(shares.argmax())
    return Verdict(label, float(shares[label]))


def _as_bytes(unit: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Values from 0 to 1 as 0 to 255."""
    return np.rint(unit * 255).astype(np.uint8)
