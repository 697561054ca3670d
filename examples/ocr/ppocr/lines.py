"""Between detection and recognition: upright, equally high pictures of single lines."""

import math
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from grainwise import Batch, empty
from ppocr.models import LIGHT, Variant, open_session

LINE_HEIGHT = 48
"""The height in pixels at which the recogniser was trained."""

MIN_LINE_WIDTH = 16
MAX_LINE_WIDTH = 2400
"""A longer line is squeezed; 2400 pixels hold some 150 letters."""

TALL = 1.5
"""A box that is this much higher than wide is taken for text that runs upwards."""

CLASSIFIER_WIDTH = 192
"""The width in pixels at which the orientation network was trained."""

CERTAIN = 0.9
"""A line is turned over only when the network is this sure."""


def crop(pictures: Batch[NDArray[np.uint8]], boxes: Batch[NDArray[np.float32]]) -> Batch[list[NDArray[np.uint8]]]:
    """Cut every box out of its picture, straightened and scaled to ``LINE_HEIGHT``: (48, width, 3) uint8 each."""
    return [[cut(picture, corners) for corners in found] for picture, found in zip(pictures, boxes, strict=True)]


def cut(picture: NDArray[np.uint8], corners: NDArray[np.float32]) -> NDArray[np.uint8]:
    """One line, its four corners being given clockwise from the top left."""
    width = max(math.dist(corners[0], corners[1]), math.dist(corners[3], corners[2]))
    height = max(math.dist(corners[0], corners[3]), math.dist(corners[1], corners[2]))
    if height >= TALL * width:
        corners, width, height = np.roll(corners, -1, axis=0), height, width
    target = min(MAX_LINE_WIDTH, max(MIN_LINE_WIDTH, round(width * LINE_HEIGHT / height)))
    upright = np.array([[0, 0], [target, 0], [target, LINE_HEIGHT], [0, LINE_HEIGHT]], np.float32)
    matrix = cv2.getPerspectiveTransform(np.ascontiguousarray(corners), upright)
    line: NDArray[np.uint8] = empty((LINE_HEIGHT, target, 3))
    cv2.warpPerspective(
        picture, matrix, (target, LINE_HEIGHT), dst=line, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return line


class Orient:
    """A line, (48, width, 3) uint8, to the same line, turned by 180 degrees if it stood on its head."""

    variant: ClassVar[Variant] = LIGHT

    def __init__(self) -> None:
        self._session = open_session(self.variant.orient)

    def __call__(self, lines: Batch[NDArray[np.uint8]]) -> Batch[NDArray[np.uint8]]:
        # A long line squeezed into the network's width is illegible, so both ends are looked at and the two answers averaged.
        tensor = np.zeros((2 * len(lines), 3, LINE_HEIGHT, CLASSIFIER_WIDTH), np.float32)
        for row, line in enumerate(lines):
            width = min(CLASSIFIER_WIDTH, line.shape[1])
            tensor[2 * row, :, :, :width] = normalise(line[:, :width])
            tensor[2 * row + 1, :, :, :width] = normalise(line[:, -width:])
        (probabilities,) = self._session.run(None, {"x": tensor})
        turned = probabilities[:, 1].reshape(len(lines), 2).mean(axis=1) > CERTAIN
        return [np.ascontiguousarray(line[::-1, ::-1]) if over else line for line, over in zip(lines, turned, strict=True)]


def normalise(line: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A line as the networks want it: (3, 48, width) float32 in BGR, -1 black to 1 white."""
    blob = cv2.dnn.blobFromImage(np.ascontiguousarray(line), 1 / 127.5, mean=(127.5, 127.5, 127.5), swapRB=True)
    return np.asarray(blob, np.float32).reshape(3, LINE_HEIGHT, line.shape[1])
