"""Pictures whose text is known: three drawn at run time and a photograph that a package ships.

``EXPECTED`` holds, by name, the lines that every variant of the app must read.
"""

import importlib.util
import io
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct
from PIL import Image, ImageDraw, ImageFont

INVOICE = (
    "INVOICE 2026-0417",
    "Harbour Bicycle Works",
    "14 Quay Street, Bristol",
    "Two wheels, rebuilt",
    "Brake cable, stainless",
    "Total due: 186.40 EUR",
    "Payment within 14 days",
)

SIGN = ("NO ENTRY", "Deliveries at rear")

LABEL = ("FRAGILE", "Lot 58213")

PAGE = (
    "Region-based segmentation",
    "Let us first determine markers of the coins and the",
    "background. These markers are pixels that we can label",
    "unambiguously as either object or background. Here,",
    "the markers are found at the two extreme parts of the",
    "histogram of grey values:",
)

EXPECTED: dict[str, tuple[str, ...]] = {"invoice": INVOICE, "sign": SIGN, "label": LABEL, "page": PAGE}


class Picture(Struct, frozen=True):
    """An encoded picture and the lines of text in it, in reading order."""

    name: str
    content: bytes
    media_type: str
    expected: tuple[str, ...]


def invoice() -> Picture:
    """A page of black text on white, 640 x 520 pixels, PNG."""
    image = Image.new("RGB", (640, 520), "white")
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(INVOICE):
        draw.text((48, 40 + 64 * row), line, fill="black", font=ImageFont.load_default(size=36 if row == 0 else 28))
    return _encode("invoice", image, "PNG")


def sign() -> Picture:
    """A street sign, white on red, 480 x 320 pixels, JPEG."""
    image = Image.new("RGB", (480, 320), (178, 24, 32))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((16, 16, 464, 304), radius=24, outline="white", width=6)
    draw.text((240, 120), SIGN[0], fill="white", font=ImageFont.load_default(size=72), anchor="mm")
    draw.text((240, 220), SIGN[1], fill="white", font=ImageFont.load_default(size=40), anchor="mm")
    return _encode("sign", image, "JPEG")


def label() -> Picture:
    """A small label, 256 x 128 pixels, PNG."""
    image = Image.new("RGB", (256, 128), (250, 244, 214))
    draw = ImageDraw.Draw(image)
    draw.text((24, 16), LABEL[0], fill=(40, 40, 40), font=ImageFont.load_default(size=40))
    draw.text((24, 76), LABEL[1], fill=(40, 40, 40), font=ImageFont.load_default(size=28))
    return _encode("label", image, "PNG")


def page() -> Picture:
    """A photograph of a printed page, unevenly lit and slightly turned, 384 x 145 pixels, PNG.

    It is ``page.png`` of scikit-image (BSD-3-Clause), read as package data and cut above a line that its lower edge halves.

    Raises:
        FileNotFoundError: scikit-image is not installed.
    """
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        raise FileNotFoundError('the photograph lies in scikit-image; install it with: pip install "grainwise[ocr]"')
    with Image.open(Path(found.origin).parent / "data" / "page.png") as image:
        return _encode("page", image.crop((0, 0, 384, 145)).convert("RGB"), "PNG")


DRAWN: tuple[Callable[[], Picture], ...] = (invoice, sign, label)


def pictures() -> list[Picture]:
    """Every picture; the photograph comes last."""
    return [*(draw() for draw in DRAWN), page()]


def _encode(name: str, image: Image.Image, form: str) -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, form, **({"quality": 92} if form == "JPEG" else {}))
    return Picture(name, buffer.getvalue(), f"image/{form.lower()}", EXPECTED[name])
