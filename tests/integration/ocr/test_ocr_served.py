"""The OCR example behind a real server: read over plain HTTP and by a stock client, refused, re-granulated under requests."""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from grainwise.cli.admin_client import AdminClient, regranulate_and_follow
from grainwise.cli.profiles import save_profile
from grainwise.runtimes.loading import load_app
from live.serving_harness import made_profile

pytest.importorskip("onnxruntime", reason='the OCR example needs its extra: pip install "grainwise[ocr]"')

EXAMPLE = Path(__file__).parents[3] / "examples" / "ocr"
sys.path.insert(0, str(EXAMPLE))

from pictures import Picture, label, sign  # noqa: E402

LIMIT_S = 60.0
# Made-up figures, and large ones: nothing that a busy machine does is then taken for a hang.
STAGE_US = 300_000.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What a server in a process of its own has announced; it must drain and end well."""
    folder = tmp_path_factory.mktemp("ocr")
    app = EXAMPLE / "app.py"
    save_profile(made_profile(load_app(app).spec(app.read_bytes()), STAGE_US), folder / "profile.json")
    options = ["--profile", folder / "profile.json", "--log", folder / "log", "--port", 0, "--admin-socket", folder / "admin"]
    options += ["--replan-seconds", 0, "--grain", "fused", "--slo-ms", 20_000, "--json"]
    command = [sys.executable, "-m", "grainwise", "serve", app, *options]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, f"the server ended with {process.wait()} before it was ready"
            yield json.loads(line)
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT_S) == 0
        finally:
            process.kill()


def url(server: dict[str, Any]) -> str:
    return f"{server['url']}/v1/apps/ocr"


async def read(session: aiohttp.ClientSession, server: dict[str, Any], content: bytes, media_type: str) -> tuple[int, Any]:
    """Status and answer of a picture that is posted as curl does."""
    async with session.post(url(server), data=content, headers={"Content-Type": media_type}) as response:
        return response.status, await response.json()


def test_a_picture_over_plain_http_is_read_and_what_is_none_is_refused_by_its_stage(server: dict[str, Any]) -> None:
    async def main() -> None:
        picture = sign()
        async with aiohttp.ClientSession() as session:
            status, answer = await read(session, server, picture.content, picture.media_type)
            assert (status, answer) == (200, {"outputs": {"output": list(picture.expected)}})
            status, answer = await read(session, server, b"no picture", "image/png")
            assert (status, answer["code"], answer["stage"]) == (500, "stage_failed", "decode")
            assert answer["error"].startswith("stage decode refused this request: not a picture")

    asyncio.run(asyncio.wait_for(main(), LIMIT_S))


def test_a_stock_client_reads_a_picture(server: dict[str, Any]) -> None:
    try:
        import tritonclient.http as triton
    except ImportError:
        if "tritonclient" in os.environ.get("GRAINWISE_REQUIRE", ""):
            raise
        pytest.skip("tritonclient[http] is not installed")
    picture = label()
    with triton.InferenceServerClient(server["url"].removeprefix("http://"), network_timeout=LIMIT_S) as client:
        image = triton.InferInput("image", [1], "BYTES")
        image.set_data_from_numpy(np.array([picture.content], dtype=object))
        result = client.infer("ocr", [image])
    assert [text.decode() for text in result.as_numpy("output")] == list(picture.expected)


def test_regranulations_under_requests_change_no_text(server: dict[str, Any]) -> None:
    pictures: list[Picture] = [sign(), label()]

    async def main() -> None:
        answers: asyncio.Queue[str] = asyncio.Queue()
        grain = "fused"

        async def ask(session: aiohttp.ClientSession) -> None:
            """Picture after picture; each answer tells the granularity on which its request began."""
            try:
                for picture in itertools.cycle(pictures):
                    began_on = grain
                    status, answer = await read(session, server, picture.content, picture.media_type)
                    assert (status, answer) == (200, {"outputs": {"output": list(picture.expected)}})
                    answers.put_nowait(began_on)
                    if began_on == "end":
                        return
            finally:
                answers.put_nowait("ended")

        async with aiohttp.ClientSession() as session, AdminClient(server["admin"]) as admin:
            asking = asyncio.create_task(ask(session))
            for wanted in ("split", "fused"):
                status = await regranulate_and_follow(admin, wanted, None, LIMIT_S)
                assert status["grain"].count("|") == (5 if wanted == "split" else 0)
                grain = wanted
                while await answers.get() not in (wanted, "ended"):
                    pass
            grain = "end"
            await asking

    asyncio.run(asyncio.wait_for(main(), LIMIT_S))
