"""Every line with `# E: code` must be refused by mypy --strict with that code, and no other line."""

import numpy as np
from numpy.typing import NDArray

from grainwise import App, Batch, Slo, choose, each, sizes

Image = NDArray[np.uint8]

app = App("typed", slo=Slo(latency_ms=100))


class Detect:
    def __call__(self, images: Batch[Image]) -> Batch[list[str]]:
        return [[] for _ in images]


class NeedsAPath:
    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, texts: Batch[str]) -> Batch[str]:
        return texts


@app.stage
def decode(files: Batch[bytes]) -> Batch[Image]:
    return [np.zeros((2, 2), np.uint8) for _ in files]


@app.stage(max_batch=2)
def upper(texts: Batch[str]) -> Batch[str]:
    return [text.upper() for text in texts]


@app.stage
def length(texts: Batch[str]) -> Batch[int]:
    return [len(text) for text in texts]


@app.stage
def pair(texts: Batch[str], numbers: Batch[int]) -> Batch[str]:
    return [text * number for text, number in zip(texts, numbers, strict=True)]


detect = app.stage(Detect)
needs = app.stage(NeedsAPath)  # E: arg-type
batchless = app.stage(str.upper)  # E: arg-type var-annotated
sized = app.stage(Detect, size="pixels")  # E: call-overload
misspelt = app.stage(Detect, max_batches=3)  # E: call-overload
on_tpu = app.stage(Detect, device="tpu")  # E: call-overload
measured = app.stage(Detect, size=sizes.volume)  # E: attr-defined


@app.stage  # E: arg-type
def one_at_a_time(text: str) -> str:
    return text


@app.stage(max_batch=2)  # E: arg-type
def returns_no_batch(texts: Batch[str]) -> str:
    return texts[0]


@app.flow
def wrong_edges(file: bytes, text: str) -> list[str]:
    detect(file)  # E: arg-type
    upper(decode(file))  # E: arg-type
    pair(text, text)  # E: arg-type
    pair(text)  # E: call-arg
    upper(text, text)  # E: call-arg
    each(length, detect(decode(file))).append("word")  # E: arg-type
    each(decode, detect(decode(file)))  # E: arg-type
    each(upper, text)  # E: arg-type
    each(lambda word: pair(word, word), detect(decode(file)))  # E: arg-type
    choose(text, {"a": decode}, text)  # E: dict-item
    choose(text, {1: upper}, text)  # E: dict-item
    upper(choose(text, {"a": upper}, text, otherwise=length))  # E: arg-type
    upper(choose(text, {"a": length}, text))  # E: arg-type
    each(lambda word: length(pair(word, word)), detect(decode(file)))  # E: arg-type
    choose(text, {"a": upper}, text, file)  # E: dict-item
    return each(length, detect(decode(file)))  # E: arg-type


@app.flow
def wrong_result(text: str) -> int:
    return upper(text)  # E: return-value


wrong_entry: str = wrong_edges("file", "text")  # E: assignment arg-type
