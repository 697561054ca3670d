"""The OCR example read eagerly, in this process: every picture, both variants, and values that are no pictures."""

import io
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grainwise.domain.errors import ArtifactError
from grainwise.sdk.stage import StageFailedError

pytest.importorskip("onnxruntime", reason='the OCR example needs its extra: pip install "grainwise[ocr]"')

EXAMPLE = Path(__file__).parents[3] / "examples" / "ocr"
VARIANTS = ("app.py", "app_accurate.py")
sys.path.insert(0, str(EXAMPLE))

from pictures import EXPECTED, Picture, pictures, sign  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402
from ppocr import models, page  # noqa: E402

PICTURES = {picture.name: picture for picture in pictures()}


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLE / request.param))


@pytest.fixture(scope="module")
def light() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLE / "app.py"))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_text_of_every_picture_is_read_without_an_error(variant: dict[str, Any], name: str) -> None:
    assert tuple(variant["ocr"](PICTURES[name].content)) == EXPECTED[name]


def test_a_picture_that_hangs_upside_down_is_read_too(variant: dict[str, Any]) -> None:
    with Image.open(io.BytesIO(PICTURES["invoice"].content)) as image:
        turned = io.BytesIO()
        image.rotate(180).save(turned, "PNG")
    assert sorted(variant["ocr"](turned.getvalue())) == sorted(EXPECTED["invoice"])


def test_boxes_in_one_row_make_one_line(light: dict[str, Any]) -> None:
    image = Image.new("RGB", (900, 200), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=36)
    for row, (left, right) in enumerate((("Spokes", "12.50"), ("Saddle", "48.00"))):
        draw.text((40, 30 + 80 * row), left, fill="black", font=font)
        draw.text((700, 30 + 80 * row), right, fill="black", font=font)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert light["ocr"](buffer.getvalue()) == ["Spokes 12.50", "Saddle 48.00"]


def test_a_picture_without_text_gives_no_lines(light: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (200, 120), "white").save(buffer, "PNG")
    assert light["ocr"](buffer.getvalue()) == []


def test_a_batch_of_different_pictures_is_read_as_each_of_them_alone(light: dict[str, Any]) -> None:
    chosen: list[Picture] = [PICTURES["sign"], PICTURES["label"], sign()]
    stages = {name: light[name].construct() for name in ("decode", "detect", "crop", "orient", "recognise", "assemble")}
    decoded = stages["decode"]([picture.content for picture in chosen])
    for picture in decoded:
        picture.setflags(write=False)
    boxes = stages["detect"](decoded)
    lines = stages["crop"](decoded, boxes)
    flat = [line for found in lines for line in found]
    for line in flat:
        line.setflags(write=False)
    readings = stages["recognise"](stages["orient"](flat))
    taken = iter(readings)
    texts = stages["assemble"](boxes, [[next(taken) for _ in found] for found in lines])
    assert [tuple(text) for text in texts] == [picture.expected for picture in chosen]


@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"<svg/>", PICTURES["invoice"].content[:2000]], ids=repr
)
def test_a_value_that_is_no_picture_fails_and_says_so(light: dict[str, Any], content: bytes) -> None:
    with pytest.raises(StageFailedError, match="stage 'decode' failed: not a picture"):
        light["ocr"](content)


def test_a_bad_picture_leaves_its_neighbours_in_the_batch_alone() -> None:
    good, bad, other = page.decode([PICTURES["sign"].content, b"no picture", PICTURES["label"].content])
    assert isinstance(good, np.ndarray) and good.shape == (320, 480, 3) and good.dtype == np.uint8
    assert not isinstance(bad, np.ndarray) and "not a picture" in bad.reason
    assert isinstance(other, np.ndarray) and other.shape == (128, 256, 3)


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    buffer = io.BytesIO()
    Image.new("1", (5000, 5000)).save(buffer, "PNG")
    (refused,) = page.decode([buffer.getvalue()])
    assert not isinstance(refused, np.ndarray)
    assert refused.reason == "not a picture to read here: 5000 x 5000 pixels, at most 20000000 are decoded"


def test_a_missing_or_another_model_names_the_package_to_install() -> None:
    absent = models.ModelFile("no_such_package", "no-such-package==1", "det.onnx", "00")
    with pytest.raises(ArtifactError, match=r'no_such_package.*pip install "no-such-package==1"'):
        absent.find()
    known = models.LIGHT.orient
    other = models.ModelFile(known.package, known.requirement, known.path, "0" * 64)
    with pytest.raises(ArtifactError, match=r'another model.*pip install "rapidocr-onnxruntime==1.4.4"'):
        other.find()


@pytest.mark.parametrize("file", VARIANTS)
def test_importing_the_app_file_starts_no_thread_and_opens_no_session(file: str) -> None:
    program = (
        "from pathlib import Path; from grainwise.runtimes.loading import load_app; import sys;"
        "app = load_app(Path(sys.argv[1])); print(','.join(node.name for node in app.graph.stages))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(EXAMPLE / file)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "decode,detect,crop,orient,recognise,assemble"
