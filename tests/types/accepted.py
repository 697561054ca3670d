"""Everything here must pass mypy --strict."""

import dataclasses
from typing import Any, NamedTuple, assert_type

import numpy as np
from numpy.typing import NDArray

from grainwise import App, Batch, Failed, Slo, Stage, choose, each, empty, sizes

Image = NDArray[np.uint8]


@dataclasses.dataclass
class Box:
    left: int
    score: float


class Detect:
    def __init__(self, limit: int = 3) -> None:
        self.limit = limit

    def __call__(self, images: Batch[Image]) -> Batch[list[Box]]:
        return [[Box(0, 1.0)] * self.limit for _ in images]


class Read:
    def __call__(self, images: Batch[Image], boxes: Batch[Box]) -> Batch[str | Failed]:
        return [str(box.left) if image.size else Failed("empty") for image, box in zip(images, boxes, strict=True)]


app = App("typed", slo=Slo(latency_ms=100, target=0.9))
detect = app.stage(Detect, max_batch=2, size=sizes.pixels)
read = app.stage(Read, timeout_ms=50)
assert_type(detect, Stage[[Image], list[Box]])
assert_type(read, Stage[[Image, Box], str])


@app.stage
def decode(files: Batch[bytes]) -> Batch[Image]:
    return [empty((2, 2)) for _ in files]


@app.stage(max_batch=4, size=len, name="longest")
def longest(lists: Batch[list[str]]) -> Batch[str]:
    return [max(words, key=len) for words in lists]


@app.stage(size=sizes.length, memory_mib=10, device="cpu")
def upper(texts: Batch[str]) -> Batch[str | Failed]:
    return [text.upper() for text in texts]


class Lower:
    def __call__(self, texts: Batch[str]) -> Batch[str]:
        return [text.lower() for text in texts]


lower = app.stage(Lower)


@app.stage
def is_long(texts: Batch[str]) -> Batch[bool]:
    return [len(text) > 3 for text in texts]


@app.stage
def sextet(
    a: Batch[int], b: Batch[str], c: Batch[bytes], d: Batch[float], e: Batch[bool], f: Batch[list[int]]
) -> Batch[dict[str, int]]:
    return [{"a": x} for x, *_ in zip(a, b, c, d, e, f, strict=True)]


assert_type(decode, Stage[[bytes], Image])
assert_type(longest, Stage[[list[str]], str])
assert_type(upper, Stage[[str], str])
assert_type(lower, Stage[[str], str])
assert_type(sextet, Stage[[int, str, bytes, float, bool, list[int]], dict[str, int]])


class Answer(NamedTuple):
    text: str
    words: list[str]


@app.flow
def ocr(file: bytes, mode: str) -> Answer:
    image = decode(file)
    assert_type(image, Image)
    words = each(lambda box: read(image, box), detect(image))
    assert_type(words, list[str])
    text = longest(words)
    assert_type(choose(mode, {"loud": upper, "quiet": lower}, text), str)
    loud = choose(is_long(text), {True: upper}, text, otherwise=lower)
    assert_type(loud, str)
    assert_type(choose(mode, {"both": read}, image, Box(0, 1.0)), str)
    return Answer(loud, each(upper, words))


def words_of(file: bytes) -> list[str]:
    answer = ocr(file, "loud")
    assert_type(answer, Answer)
    return answer.words


def stage_in_a_signature(stage: Stage[[str], str], text: str) -> str:
    return stage(text)


anything: Any = stage_in_a_signature(upper, "text")
