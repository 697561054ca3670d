"""Stages that take time without CPU: each waits for a timer, as one waits for an accelerator or a remote model.

What is served, queued and scaled is real, and no stage competes with another, with the server or with the client for the
machine. That makes it the app to compare a simulator with: what differs is the model, not the noise of a shared core.
"""

import time

from grainwise import App, Batch, Slo, sizes

DECODE_MS, DETECT_MS, RECOGNISE_MS = 8.0, 25.0, 12.0
"""For a request of mean length; half of each is fixed and half grows with the length."""

MEAN_LENGTH = 1000.0

app = App("sleep", slo=Slo(latency_ms=150, target=0.99))


def wait(milliseconds: float, length: int) -> None:
    """Block for the time that a stage is said to take for an input of some length."""
    time.sleep(milliseconds / 1000 * (0.5 + 0.5 * length / MEAN_LENGTH))


@app.stage(max_batch=1, size=sizes.length)
def decode(texts: Batch[str]) -> Batch[str]:
    """The shortest stage."""
    for text in texts:
        wait(DECODE_MS, len(text))
    return texts


@app.stage(max_batch=1, size=sizes.length)
def detect(texts: Batch[str]) -> Batch[str]:
    """The stage that limits the others."""
    for text in texts:
        wait(DETECT_MS, len(text))
    return texts


@app.stage(max_batch=1, size=sizes.length)
def recognise(texts: Batch[str]) -> Batch[int]:
    """Ends with a number that a client can check."""
    for text in texts:
        wait(RECOGNISE_MS, len(text))
    return [len(text) for text in texts]


@app.flow
def sleep(text: str) -> int:
    """The length of a text, in its own time."""
    return recognise(detect(decode(text)))


@app.samples
def samples() -> list[str]:
    """Texts around the mean length, from short to long and back."""
    return ["x" * length for length in (600, 1000, 1400, 800, 1200)]
