"""Read the text in a picture: decode, detect, crop, turn and recognise every line, assemble.

Models: PP-OCRv4 mobile, as shipped by the package rapidocr-onnxruntime.
"""

import numpy as np
from numpy.typing import NDArray
from ppocr import lines, page
from ppocr.detection import Detect
from ppocr.lines import Orient
from ppocr.recognition import Reading, Recognise

from grainwise import App, Slo, each, sizes

app = App("ocr", slo=Slo(latency_ms=800, target=0.99))

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
