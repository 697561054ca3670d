"""What a server says of itself: predictions against live calls in its status, and digests at the head of its log."""

import hashlib

import aiohttp
import msgspec

from grainwise.control.log import Header
from grainwise.runtimes.log_writer import read_log

from .serving_harness import run, serve, write_app

SOURCE = """
import time
from grainwise import App, Batch, Slo

app = App("slow", slo=Slo(latency_ms=20_000, target=0.9))

@app.stage
def wait(words: Batch[str]) -> Batch[str]:
    time.sleep(0.02)
    return words

@app.flow
def flow(word: str) -> str:
    return wait(word)
"""


def test_calls_that_contradict_the_profile_make_it_stale_and_the_log_says_what_was_served(tmp_path):
    """The made-up profile has a stage of 1 ms; it takes 20 ms."""

    async def main():
        app = write_app(tmp_path, SOURCE)
        async with serve(app, tmp_path) as live, aiohttp.ClientSession() as admin:

            async def get(path, at=live.serving.addresses.admin):
                async with admin.get(at + path) as response:
                    assert response.status == 200
                    return await response.read()

            assert not msgspec.json.decode(await get("/status"))["profile_is_stale"]
            for _ in range(60):
                status, _ = await live.post({"word": "a"})
                assert status == 200
            status = msgspec.json.decode(await get("/status"))
            assert status["profile_is_stale"]
            (wait,) = status["predictions"]
            assert (wait["stage"], wait["calls"], wait["is_stale"]) == ("wait", 60, True)
            assert wait["ratio"] > 2
            assert wait["error"] > 1
            metrics = (await get("/metrics", live.serving.addresses.url)).decode()
            assert 'grainwise_profile_stale{app="slow"} 1.0' in metrics
            live.serving.log.flush()
            header = read_log(live.serving.log.folder)[0]
            assert isinstance(header, Header)
            digests = header.digests
            assert digests["app"] == live.serving.spec.digest
            assert digests["source"] == hashlib.sha256(app.read_bytes()).hexdigest()
            assert digests["plan"] == live.serving.plan("slow").plan_id
            assert digests["device_class"] == digests["profile_device_class"] == live.serving.device_class
            assert digests["profile_is_of_this_machine"] == "yes"
            assert all(digests[name] for name in ("profile", "config", "predictor"))

    run(main())
