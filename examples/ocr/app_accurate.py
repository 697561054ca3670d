"""The same flow as ``app.py`` with the larger models: PP-OCRv6 small, as shipped by the package rapidocr."""

import numpy as np
from numpy.typing import NDArray
from ppocr import detection, lines, page, recognition
from ppocr.models import ACCURATE
from ppocr.recognition import Reading

from grainwise import App, Slo, each, sizes


class Detect(detection.Detect):
    variant = ACCURATE


class Orient(lines.Orient):
    variant = ACCURATE


class Recognise(recognition.Recognise):
    variant = ACCURATE


app = App("ocr-accurate", slo=Slo(latency_ms=1000, target=0.99))

decode = app.stage(page.decode, max_batch=4, size=sizes.nbytes)
detect = app.stage(Detect, size=sizes.pixels)
crop = app.stage(lines.crop, max_batch=4, size=sizes.pixels)
orient = app.stage(Orient, max_batch=16)
recognise = app.stage(Recognise, max_batch=8, size=sizes.pixels)
assemble = app.stage(page.assemble, max_batch=16, size=sizes.length)


@app.flow
def ocr(image: bytes) -> list[str]:
    """The lines of text in an encoded picture, from top to bottom."""
    picture = decode(image)
    boxes = detect(picture)
    return assemble(boxes, each(read, crop(picture, boxes)))


def read(line: NDArray[np.uint8]) -> Reading:
    """The body of the fan-out: one line."""
    return recognise(orient(line))


@app.samples
def samples() -> list[bytes]:
    """Pictures to profile with."""
    from pictures import pictures  # drawn only when they are asked for, and then in an instance

    return [picture.content for picture in pictures()]
