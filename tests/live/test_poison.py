"""A request that makes a stage raise, hang, exit or crash fails alone; its batch neighbours are answered."""

import asyncio

import pytest

from grainwise.control.events import InstanceFailed, InstanceStopped

from .serving_harness import run, serve, write_app

SOURCE = """
import ctypes, os, time
from grainwise import App, Batch, Failed, Slo

app = App("poison", slo=Slo(latency_ms=20_000, target=0.9))

@app.stage(max_batch=8)
def prepare(words: Batch[str]) -> Batch[str]:
    return [word.strip() for word in words]

@app.stage(max_batch=8, timeout_ms=700)
def risky(words: Batch[str]) -> Batch[str]:
    for word in words:
        if word == "raise":
            raise ValueError("no such word")
        if word == "hang":
            while True:
                time.sleep(60)
        if word == "exit":
            os._exit(3)
        if word == "segfault":
            ctypes.string_at(0)
    answers = {"declared": Failed("unwanted"), "type": 3}
    return [answers.get(word, word.upper()) for word in words]

@app.flow
def shout(word: str) -> str:
    return risky(prepare(word))
"""

CASES = {
    "raise": (500, "risky"),
    "declared": (500, "risky"),
    "type": (500, "risky"),
    "hang": (502, ""),
    "exit": (502, "risky"),
    "segfault": (502, "risky"),
}


@pytest.mark.parametrize("poison", list(CASES))
@pytest.mark.parametrize("grain", ["fused", "split"])
def test_a_poisonous_request_fails_alone(tmp_path, poison, grain):
    status, stage = CASES[poison]

    async def main():
        app = write_app(tmp_path, SOURCE)
        async with serve(app, tmp_path, grain=grain) as live:
            words = [f"w{index}" for index in range(10)]
            words.insert(4, poison)
            answers = dict(zip(words, await asyncio.gather(*(live.post({"word": word}) for word in words)), strict=True))
            bad_status, bad = answers.pop(poison)
            assert bad_status == status, bad
            assert "Traceback" not in str(bad)
            if stage:
                assert stage in str(bad), bad
            assert answers == {word: (200, {"outputs": {"output": word.upper()}}) for word in answers}
            assert (await live.post({"word": "after"}))[0] == 200

    run(main())


SLOW = """
import time
from grainwise import App, Batch, Slo, each

app = App("slow", slo=Slo(latency_ms=20_000, target=0.9))

@app.stage(max_batch=4)
def cut(text: Batch[str]) -> Batch[list[str]]:
    return [each.split() for each in text]

@app.stage(max_batch=1)
def slow(words: Batch[str]) -> Batch[str]:
    time.sleep(0.3)
    return list(words)

@app.stage(timeout_ms=6_000)
def patient(lists: Batch[list[str]]) -> Batch[int]:
    time.sleep(2.5)
    return [len(words) for words in lists]

@app.flow
def count(text: str) -> int:
    return patient(each(slow, cut(text)))
"""


def test_what_goes_on_is_not_hung_and_declared_limits_hold_in_a_fused_function(tmp_path):
    async def main():
        app = write_app(tmp_path, SLOW)
        async with serve(app, tmp_path, grain="fused") as live:
            # Ten elements take longer together than the limit of one invocation, and the last stage longer than its floor.
            assert await live.post({"text": " ".join("w" * 10)}) == (200, {"outputs": {"output": 10}})
            assert not [entry for entry in live.entries() if isinstance(entry.event, InstanceFailed | InstanceStopped)]

    run(main())
