"""What does a line say? A network that emits a letter or nothing every eight pixels."""

from collections import defaultdict
from typing import ClassVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from grainwise import Batch
from ppocr.lines import LINE_HEIGHT, normalise
from ppocr.models import LIGHT, Variant, open_session

WIDTH_STEP = 64
"""Lines are padded to a multiple of this, so that lines of nearly equal width share a batch and padding stays small."""

MIN_WIDTH = 128


class Reading(Struct, frozen=True):
    """The text of one line and the mean probability of its letters, 0..1."""

    text: str
    confidence: float


class Recognise:
    """An upright line, (48, width, 3) uint8, to its text."""

    variant: ClassVar[Variant] = LIGHT

    def __init__(self) -> None:
        self._session = open_session(self.variant.recognise)
        letters = self._session.get_modelmeta().custom_metadata_map["character"].splitlines()
        self._letters = np.array(["", *letters, " "])

    def __call__(self, lines: Batch[NDArray[np.uint8]]) -> Batch[Reading]:
        by_width: dict[int, list[int]] = defaultdict(list)
        for index, line in enumerate(lines):
            by_width[max(MIN_WIDTH, -(-line.shape[1] // WIDTH_STEP) * WIDTH_STEP)].append(index)
        readings = [Reading("", 0.0)] * len(lines)
        for width, members in by_width.items():
            tensor = np.zeros((len(members), 3, LINE_HEIGHT, width), np.float32)
            for row, index in enumerate(members):
                tensor[row, :, :, : lines[index].shape[1]] = normalise(lines[index])
            (scores,) = self._session.run(None, {"x": tensor})
            for row, index in enumerate(members):
                readings[index] = self._spell(scores[row])
        return readings

    def _spell(self, scores: NDArray[np.float32]) -> Reading:
        """The best letter of each position, with repetitions and blanks (letter 0) taken out."""
        best = scores.argmax(axis=1)
        kept = (best != 0) & np.concatenate(([True], best[1:] != best[:-1]))
        if not kept.any():
            return Reading("", 0.0)
        confidence = float(scores[np.arange(len(best)), best][kept].mean())
        return Reading("".join(self._letters[best[kept]]).strip(), confidence)
