"""What is wrong is said by the server with the stage or the field, and whoever comes after is served."""

import io

import psutil
import pytest

from grainwise.cli.serving import ServeOptions, Serving
from grainwise.domain.errors import DeclarationError

from .serving_harness import ROOT, TEXT_APP, run, serve, write_app

PICTURES = """
import io

from PIL import Image

from grainwise import App, Batch, Failed, Slo, sizes

app = App("pictures", slo=Slo(latency_ms=5000, target=0.9))


@app.stage(max_batch=4, size=sizes.nbytes)
def decode(contents: Batch[bytes]) -> Batch[list[int]]:
    return [list(Image.open(io.BytesIO(content)).size) for content in contents]


@app.stage(max_batch=4)
def area(sizes: Batch[list[int]]) -> Batch[int]:
    return [width * height for width, height in sizes]


@app.flow
def flow(image: bytes) -> int:
    return area(decode(image))
"""


def png(width, height):
    from PIL import Image

    written = io.BytesIO()
    Image.new("L", (width, height)).save(written, "png")
    return written.getvalue()


async def send(live, content, kind="image/png"):
    async with live.session.post(live.url, data=content, headers={"Content-Type": kind}) as response:
        return response.status, await response.json()


def test_a_picture_that_is_none_names_the_stage_that_could_not_read_it(tmp_path):
    pytest.importorskip("PIL")

    async def main():
        async with serve(write_app(tmp_path, PICTURES), tmp_path, grain="split") as live:
            picture = png(30, 20)
            for content, reason in (
                (b"no picture", "UnidentifiedImageError"),
                (picture[:20], "OSError"),
                (b"", "Unidentified"),
            ):
                status, answer = await send(live, content)
                assert (status, answer["code"], answer["stage"]) == (500, "stage_failed", "decode"), answer
                assert reason in answer["error"]
                assert "Traceback" not in str(answer)
            assert await send(live, picture) == (200, {"outputs": {"output": 600}})

    run(main())


def test_the_ocr_example_names_its_decoder_too(tmp_path):
    pytest.importorskip("rapidocr_onnxruntime")

    async def main():
        async with serve(ROOT / "examples" / "ocr" / "app.py", tmp_path, grain="fused") as live:
            status, answer = await send(live, b"no picture at all")
            assert (status, answer["code"], answer["stage"]) == (500, "stage_failed", "decode"), answer

    run(main())


def test_json_that_is_none_and_values_of_another_type_name_the_field(tmp_path):
    async def main():
        async with serve(TEXT_APP, tmp_path) as live:
            for body, field in ((b"{", "body"), (b'{"text": 3}', "text"), (b'{"words": "a"}', "words"), (b"[1]", "")):
                status, answer = await send(live, body, "application/json")
                assert status == 400, answer
                assert field in answer["error"]
            async with live.session.post(live.url.replace("text", "other"), data=b"{}") as response:
                assert response.status == 404
            assert (await live.post({"text": "a"}))[0] == 200

    run(main())


BROKEN = {
    "syntax": ("app = (\n", ":1: syntax error"),
    "import": ("import nothing_of_the_kind\n", "nothing_of_the_kind"),
    "edge": (
        "from grainwise import App, Batch, Slo\n"
        'app = App("edges", slo=Slo(latency_ms=1))\n'
        "@app.stage\n"
        "def gather(words: Batch[str]) -> Batch[set[str]]:\n"
        "    return [set(word) for word in words]\n"
        "@app.flow\n"
        "def flow(word: str) -> set[str]:\n"
        "    return gather(word)\n",
        "set[str]",
    ),
    "thread": (
        "import threading\n"
        "from grainwise import App, Slo\n"
        'app = App("threads", slo=Slo(latency_ms=1))\n'
        'threading.Thread(target=threading.Event().wait, name="ticker", daemon=True).start()\n',
        "ticker",
    ),
    "exit": ("import os\nos._exit(3)\n", "3"),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_an_app_file_that_cannot_be_served_says_why_and_leaves_nothing(tmp_path, mistake):
    source, why = BROKEN[mistake]
    path = tmp_path / "app.py"
    path.write_text(source)

    async def main():
        before = psutil.Process().children(recursive=True)
        with pytest.raises(Exception, match=r"app\.py") as caught:
            await Serving.open(ServeOptions(path, port=0, log=tmp_path / "log"))
        assert mistake == "exit" or isinstance(caught.value, DeclarationError)
        assert why in str(caught.value)
        assert psutil.Process().children(recursive=True) == before

    run(main())
