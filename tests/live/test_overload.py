"""Deadlines, bounded queues, early refusal, a full arena: who is not answered is told at once, with what to do."""

import asyncio
import io

import msgspec
import pytest

from grainwise.control.actions import CancelInvocation, Invoke, Reject
from grainwise.control.events import InvocationDone, RequestCancelled
from grainwise.domain.config import AppConfig

from .gates import SOURCE, Gate
from .serving_harness import run, serve, write_app


@pytest.fixture
def gate(tmp_path):
    with Gate(tmp_path) as gate:
        yield gate


async def call(live, word, **headers):
    """Status, headers and answer."""
    sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with live.session.post(live.url, data=msgspec.json.encode({"word": word}), headers=sent) as response:
        return response.status, response.headers, msgspec.json.decode(await response.read())


def test_a_deadline_that_passes_is_a_504_and_the_work_is_cancelled(tmp_path, gate):
    async def main():
        async with serve(write_app(tmp_path, SOURCE), tmp_path, grain="split") as live:
            running = asyncio.create_task(call(live, "wait", Grainwise_Deadline_Ms="700"))
            await gate.reached()
            queued = asyncio.create_task(call(live, "queued", Grainwise_Deadline_Ms="300"))
            for asked in (queued, running):
                status, headers, answer = await asked
                assert (status, answer["code"]) == (504, "deadline")
                assert "Retry-After" not in headers
            gate.open()
            await live.until(lambda: not live.serving.controller.state.requests)
            assert await live.post({"word": "after"}) == (200, {"outputs": {"output": "AFTER"}})
            hold = live.serving.spec.graph.mask(["hold"])
            held = [item.request for action in live.actions(Invoke) if action.extent == hold for item in action.items]
            assert len(held) == 2, "the queued request was run past its deadline"
            cancelled = [action.invocation for action in live.actions(CancelInvocation)]
            done = [entry.event.invocation for entry in live.entries() if isinstance(entry.event, InvocationDone)]
            assert len(cancelled) == 1
            assert cancelled[0] in done, "what had begun ends by itself, and no one awaits it"

    run(main())


def test_a_client_that_goes_away_frees_its_place(tmp_path, gate):
    async def main():
        async with serve(write_app(tmp_path, SOURCE), tmp_path) as live:
            gone = asyncio.create_task(call(live, "wait"))
            await gate.reached()
            gone.cancel()
            await asyncio.wait([gone])
            await live.until(lambda: live.serving.door.in_flight == 0)
            gate.open()
            assert (await live.post({"word": "after"}))[0] == 200
            assert [entry.event.request for entry in live.entries() if isinstance(entry.event, RequestCancelled)] == [1]

    run(main())


def test_more_than_the_accepted_requests_are_a_429_that_says_when_to_come_again(tmp_path, gate):
    async def main():
        config = AppConfig(max_requests=3, replan_us=0)
        async with serve(write_app(tmp_path, SOURCE), tmp_path, grain="fused", config=config) as live:
            first = asyncio.create_task(call(live, "wait"))
            await gate.reached()
            others = [asyncio.create_task(call(live, word)) for word in ("b", "c")]
            await live.until(lambda: live.serving.door.in_flight == 3)
            status, headers, answer = await call(live, "d")
            assert (status, answer["code"]) == (429, "queue_full")
            assert int(headers["Retry-After"]) >= 1
            assert "3" in answer["error"]
            gate.open()
            assert [(await asked)[0] for asked in (first, *others)] == [200] * 3
            assert (await call(live, "d"))[0] == 200

    run(main())


def test_an_app_that_asks_for_it_refuses_early_what_would_be_late(tmp_path, gate):
    source = SOURCE.replace("Slo(latency_ms=20_000, target=0.9)", "Slo(latency_ms=1000, target=0.9), reject_late=True")

    async def main():
        async with serve(write_app(tmp_path, source, stage_us=100_000), tmp_path, grain="fused") as live:
            status, headers, answer = await call(live, "a", Grainwise_Deadline_Ms="40")
            assert (status, answer["code"]) == (429, "too_late")
            assert int(headers["Retry-After"]) >= 1
            first = asyncio.create_task(call(live, "wait"))
            await gate.reached()
            asked = [asyncio.create_task(call(live, f"w{number}")) for number in range(40)]
            while (left := [each for each in asked if not each.done()]) and not live.actions(Reject)[1:]:
                await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            gate.open()
            answers = [await each for each in asked]
            statuses = [status for status, _, _ in answers]
            assert set(statuses) == {200, 429}, statuses
            assert {answer["code"] for status, _, answer in answers if status == 429} == {"too_late"}
            assert (await first)[0] == 200

    run(main())


BIG = """
from pathlib import Path

from grainwise import App, Batch, Slo

app = App("big", slo=Slo(latency_ms=20_000, target=0.9))
HERE = Path(__file__).parent


@app.stage(max_batch=1, timeout_ms=50_000)
def look(blobs: Batch[bytes]) -> Batch[int]:
    with (HERE / "reached").open("wb", buffering=0) as reached:
        reached.write(b"x")
    with (HERE / "gate").open("rb", buffering=0) as gate:
        gate.read(1)
    return [len(blob) for blob in blobs]


@app.flow
def flow(blob: bytes) -> int:
    return look(blob)
"""


def test_a_full_arena_is_a_429_and_room_comes_back(tmp_path, gate):
    async def main():
        async with serve(write_app(tmp_path, BIG), tmp_path, arena_mib=8) as live:

            async def send(nbytes):
                body = io.BytesIO(bytes(nbytes))
                headers = {"Content-Type": "application/octet-stream"}
                async with live.session.post(live.url, data=body, headers=headers) as response:
                    return response.status, response.headers, msgspec.json.decode(await response.read())

            first = asyncio.create_task(send(5 << 20))
            await gate.reached()
            status, headers, answer = await send(5 << 20)
            assert (status, answer["code"]) == (429, "backpressure")
            assert int(headers["Retry-After"]) >= 1
            gate.open()
            assert (await first)[::2] == (200, {"outputs": {"output": 5 << 20}})
            gate.open()
            assert (await send(5 << 20))[0] == 200
            await gate.reached()
            status, _, answer = await send(9 << 20)
            assert (status, answer["code"]) == (413, "too_large")

    run(main())
