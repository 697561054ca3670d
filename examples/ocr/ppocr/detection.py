"""Where is text? A segmentation network, and rectangles around what it marks."""

import math
from collections import defaultdict
from typing import ClassVar

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from grainwise import Batch
from ppocr.models import LIGHT, Variant, open_session

MAX_SIDE = 960
"""Longer pictures are scaled down to this many pixels before detection: its time grows with the pixels."""

MIN_SIDE = 64
"""Shorter pictures are scaled up: the network halves its input five times."""

PROBABILITY = 0.3
"""A pixel above this belongs to text."""

BOX_PROBABILITY = 0.5
"""A box whose pixels are less certain than this on average is dropped."""

UNCLIP = 1.6
"""The network marks the core of a line; boxes grow by area x UNCLIP / perimeter on every side to hold all of it."""

MIN_EDGE = 3.0
"""Boxes thinner than this many pixels are noise."""


class Detect:
    """A picture, (height, width, 3) uint8 RGB, to its text boxes, (boxes, 4, 2) float32.

    Corners are in pixels of the picture, clockwise from the top left; boxes are in reading order.
    """

    variant: ClassVar[Variant] = LIGHT

    def __init__(self) -> None:
        self._session = open_session(self.variant.detect)

    def __call__(self, pictures: Batch[NDArray[np.uint8]]) -> Batch[NDArray[np.float32]]:
        by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, picture in enumerate(pictures):
            by_shape[network_shape(picture.shape[0], picture.shape[1])].append(index)
        boxes: list[NDArray[np.float32]] = [np.empty((0, 4, 2), np.float32)] * len(pictures)
        for (height, width), members in by_shape.items():
            tensor = cv2.dnn.blobFromImages(
                [pictures[index] for index in members], 1 / 127.5, (width, height), (127.5, 127.5, 127.5), swapRB=True
            )
            (maps,) = self._session.run(None, {"x": tensor})
            for row, index in enumerate(members):
                boxes[index] = find_boxes(maps[row, 0], pictures[index].shape[0], pictures[index].shape[1])
        return boxes


def network_shape(height: int, width: int) -> tuple[int, int]:
    """The height and width, multiples of 32, at which a picture is looked at."""
    scale = min(1.0, MAX_SIDE / max(height, width))
    scale = max(scale, MIN_SIDE / max(height, width))
    return max(32, round(height * scale / 32) * 32), max(32, round(width * scale / 32) * 32)


def find_boxes(probability: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """The text boxes of a probability map, in pixels of a picture of ``height`` x ``width``."""
    mask = cv2.dilate((probability > PROBABILITY).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    scale = np.array([width / probability.shape[1], height / probability.shape[0]], np.float32)
    found: list[NDArray[np.float32]] = []
    for contour in contours:
        centre, (long, short), angle = cv2.minAreaRect(contour)
        if min(long, short) < MIN_EDGE or mean_inside(probability, contour) < BOX_PROBABILITY:
            continue
        # Growing a rectangle by d on every side is what the polygon offset of the paper comes to for rectangles.
        grow = long * short * UNCLIP / (2 * (long + short))
        corners = cv2.boxPoints((centre, (long + 2 * grow, short + 2 * grow), angle)) * scale
        box = clockwise(corners).clip((0, 0), (width - 1, height - 1)).astype(np.float32)
        if min(math.dist(box[0], box[1]), math.dist(box[0], box[3])) >= MIN_EDGE:
            found.append(box)
    return np.stack([found[index] for index in reading_order(found)]) if found else np.empty((0, 4, 2), np.float32)


def mean_inside(probability: NDArray[np.float32], contour: MatLike) -> float:
    """The mean probability inside a contour."""
    x, y, width, height = cv2.boundingRect(contour)
    inside = np.zeros((height, width), np.uint8)
    cv2.fillPoly(inside, [contour - (x, y)], 1)
    return float(cv2.mean(probability[y : y + height, x : x + width], inside)[0])


def clockwise(corners: NDArray[np.float32]) -> NDArray[np.float32]:
    """The four corners of a rectangle, top left first, then clockwise on the screen."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left, right = by_x[:2], by_x[2:]
    top_left, bottom_left = left[np.argsort(left[:, 1], kind="stable")]
    top_right, bottom_right = right[np.argsort(right[:, 1], kind="stable")]
    return np.array([top_left, top_right, bottom_right, bottom_left], np.float32)


def reading_order(boxes: list[NDArray[np.float32]]) -> list[int]:
    """Positions of ``boxes`` from top to bottom and, within a row, from left to right."""
    return [index for row in rows(boxes) for index in row]


def rows(boxes: list[NDArray[np.float32]]) -> list[list[int]]:
    """Boxes grouped into rows: a box belongs to the row above if its middle is less than half a line below it."""
    middles = [float(box[:, 1].mean()) for box in boxes]
    heights = [math.dist(box[0], box[3]) for box in boxes]
    grouped: list[list[int]] = []
    for index in sorted(range(len(boxes)), key=lambda index: middles[index]):
        if grouped and middles[index] - middles[grouped[-1][0]] < 0.5 * min(heights[index], heights[grouped[-1][0]]):
            grouped[-1].append(index)
        else:
            grouped.append([index])
    return [sorted(row, key=lambda index: float(boxes[index][0, 0])) for row in grouped]
