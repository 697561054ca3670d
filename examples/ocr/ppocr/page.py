"""The two ends of the flow: encoded bytes to a picture, and the readings of its boxes to lines of text."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from grainwise import Batch, Failed, empty
from ppocr.detection import rows
from ppocr.recognition import Reading

MAX_PIXELS = 20_000_000
"""The header of a picture is believed before its pixels are decoded: a larger one is refused unread."""

# The limit above replaces Pillow's own, which warns first and refuses at twice the size.
Image.MAX_IMAGE_PIXELS = None

MIN_CONFIDENCE = 0.5
"""Readings below this are noise that was taken for text."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")


def decode(contents: Batch[bytes]) -> Batch[NDArray[np.uint8] | Failed]:
    """An encoded picture to (height, width, 3) uint8 RGB, turned as its camera noted."""
    return [decode_one(content) for content in contents]


def decode_one(content: bytes) -> NDArray[np.uint8] | Failed:
    """One picture, or why it is none."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return Failed(
                    f"not a picture to read here: {image.width} x {image.height} pixels, at most {MAX_PIXELS} are decoded"
                )
            upright = ImageOps.exif_transpose(image).convert("RGB")
            pixels: NDArray[np.uint8] = empty((upright.height, upright.width, 3))
            np.copyto(pixels, np.asarray(upright))
            return pixels
    except UnidentifiedImageError:
        return Failed(f"not a picture: the {len(content)} bytes are none of {', '.join(FORMATS)}")
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        return Failed(f"not a picture: {error}")


def assemble(boxes: Batch[NDArray[np.float32]], readings: Batch[list[Reading]]) -> Batch[list[str]]:
    """The lines of each picture from top to bottom; boxes that stand in one row are joined by a space."""
    return [assemble_one(found, read) for found, read in zip(boxes, readings, strict=True)]


def assemble_one(boxes: NDArray[np.float32], readings: list[Reading]) -> list[str]:
    """The lines of one picture."""
    lines: list[str] = []
    for row in rows(list(boxes)):
        texts = [readings[index].text for index in row if readings[index].confidence >= MIN_CONFIDENCE]
        if line := " ".join(text for text in texts if text):
            lines.append(line)
    return lines
