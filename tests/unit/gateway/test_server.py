import asyncio
import contextlib
import json
import os
import signal

import numpy as np
import pytest
from gateway_doubles import Raw, get, head, infer_body, post, run, serving, tensor_in, text_app

from grainwise.control.actions import Respond
from grainwise.control.events import RequestCancelled
from grainwise.domain.errors import ConfigurationError
from grainwise.gateway.limits import Limits
from grainwise.gateway.server import bind, bind_unix, on_signals

IMAGE = np.arange(300 * 300, dtype=np.uint32).astype(np.uint8).reshape(300, 300)
INVERT = "/v2/models/invert/infer"
both_protocols = pytest.mark.parametrize("protocol", ["placed", "httptools"])


def whole_request(image=IMAGE) -> tuple[bytes, bytes]:
    body, headers = infer_body([tensor_in(image)], image.tobytes())
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return head(INVERT, f"Content-Length: {len(body)}", *lines), body


@both_protocols
def test_a_slow_client_is_a_408_and_its_memory_is_free(protocol):
    async def main():
        async with serving(limits=Limits(body_timeout_ms=30), protocol=protocol) as served:
            raw = await Raw.connect(served)
            top, body = whole_request()
            await raw.send(top + body[:1000])
            status, headers, answer = await raw.response()
            assert (status, json.loads(answer)["code"]) == (408, "slow_client")
            assert headers["connection"] == "close"
            assert await raw.reader.read() == b""
            assert served.store.live_bytes == 0
            assert served.script.arrivals == []
            await raw.close()

    run(main())


def test_a_slow_head_is_a_408():
    async def main():
        async with serving(limits=Limits(head_timeout_ms=30)) as served:
            raw = await Raw.connect(served)
            await raw.send(b"POST /v2 HTTP/1.1\r\nHost: te")
            status, _, _ = await raw.response()
            assert status == 408
            assert await raw.reader.read() == b""
            await raw.close()

    run(main())


def test_a_long_head_is_a_431():
    async def main():
        async with serving(limits=Limits(max_head_bytes=2000)) as served:
            raw = await Raw.connect(served)
            await raw.send(b"GET /v2 HTTP/1.1\r\nX: " + b"x" * 3000)
            status, _, _ = await raw.response()
            assert status == 431
            await raw.close()

    run(main())


def test_what_is_no_http_is_a_400():
    async def main():
        async with serving() as served:
            raw = await Raw.connect(served)
            await raw.send(b"hello\r\n\r\n")
            status, _, answer = await raw.response()
            assert (status, json.loads(answer)["code"]) == (400, "bad_http")
            await raw.close()

    run(main())


@both_protocols
def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing_behind(protocol):
    async def main():
        async with serving(protocol=protocol) as served:
            before = served.counters.responses.copy()
            raw = await Raw.connect(served)
            top, body = whole_request()
            await raw.send(top + body[:1000])
            await raw.close()
            while served.counters.responses == before:
                await get(served.url, "/v2/health/live")
            assert served.counters.responses == {("infer", 499): 1}
            assert served.store.live_bytes == 0

    run(main())


@both_protocols
def test_a_client_that_leaves_while_it_waits_cancels_its_request(protocol):
    async def main():
        async with serving(protocol=protocol) as served:
            script = served.script
            arrived, cancelled = asyncio.Event(), asyncio.Event()
            script.on_arrival = lambda event: arrived.set()
            script.on_cancel = lambda event: cancelled.set()
            raw = await Raw.connect(served)
            await raw.send(b"".join(whole_request()))
            await arrived.wait()
            await raw.close()
            await cancelled.wait()
            assert script.events[-1] == RequestCancelled(1)
            script.answer(script.arrivals[0])

    run(main())


@both_protocols
def test_many_requests_on_one_connection_and_pipelined(protocol):
    async def main():
        async with serving(protocol=protocol) as served:
            raw = await Raw.connect(served)
            small = np.arange(12, dtype=np.uint8).reshape(4, 3)
            for image in (IMAGE, small, IMAGE):
                await raw.send(b"".join(whole_request(image)))
                status, _, answer = await raw.response()
                assert (status, json.loads(answer)["outputs"][0]["data"]) == (200, (255 - image).reshape(-1).tolist())
            await raw.send(b"".join(whole_request(small) + whole_request(IMAGE) + whole_request(small)))
            for image in (small, IMAGE, small):
                status, _, answer = await raw.response()
                assert (status, json.loads(answer)["outputs"][0]["data"]) == (200, (255 - image).reshape(-1).tolist())
            await raw.close()

    run(main())


def test_a_body_that_comes_byte_by_byte_is_whole():
    async def main():
        async with serving() as served:
            raw = await Raw.connect(served)
            small = np.arange(12, dtype=np.uint8).reshape(4, 3)
            for byte in b"".join(whole_request(small)):
                await raw.send(bytes((byte,)))
                await asyncio.sleep(0)
            status, _, answer = await raw.response()
            assert (status, json.loads(answer)["outputs"][0]["data"]) == (200, (255 - small).reshape(-1).tolist())
            await raw.close()

    run(main())


def test_expect_continue_is_answered_before_the_body_comes():
    async def main():
        async with serving() as served:
            raw = await Raw.connect(served)
            top, body = whole_request()
            await raw.send(top[:-2] + b"Expect: 100-continue\r\n\r\n")
            assert await raw.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await raw.send(body)
            assert (await raw.response())[0] == 200
            await raw.close()

    run(main())


def test_a_connection_over_the_limit_is_refused():
    async def main():
        async with serving(limits=Limits(max_connections=1)) as served:
            first = await Raw.connect(served)
            await first.send(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await first.response())[0] == 200
            second = await Raw.connect(served)
            status, headers, answer = await second.response()
            assert (status, json.loads(answer)["code"]) == (503, "too_many_connections")
            assert headers["retry-after"] == "1"
            await first.send(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await first.response())[0] == 200
            await second.close()
            await first.close()

    run(main())


def test_draining_answers_what_is_in_flight_and_refuses_the_rest():
    async def main():
        async with serving() as served:
            script = served.script
            arrived = asyncio.Event()
            script.on_arrival = lambda event: arrived.set()
            body, headers = infer_body([tensor_in(IMAGE)], IMAGE.tobytes())
            first = asyncio.create_task(post(served, INVERT, body, headers))
            await arrived.wait()
            draining = asyncio.create_task(served.server.drain())
            await asyncio.sleep(0)
            for path in ("/v2/health/ready", "/v2/models/invert/ready"):
                assert (await get(served.url, path))[0] == 503
            assert (await get(served.url, "/v2/health/live"))[0] == 200
            status, answered, answer = await post(served, INVERT, body, headers)
            assert (status, answer["code"]) == (503, "draining")
            assert "Retry-After" in answered
            assert not draining.done()
            script.answer(script.arrivals[0])
            assert (await first)[0] == 200
            assert await draining

    run(main())


@pytest.mark.parametrize("whole", [True, False], ids=["the whole body is there", "the body still comes"])
def test_a_drain_that_meets_an_arriving_body_leaves_no_memory_behind(whole):
    async def main():
        async with serving() as served:
            raw = await Raw.connect(served)
            # The small body comes in one read with its head.
            top, body = whole_request(IMAGE[:30, :30] if whole else IMAGE)
            place, drained = served.server._gateway.place, []

            def place_and_drain(target, headers):
                """The drain begins between the head, which has got its room, and the endpoint."""
                found = place(target, headers)
                served.script.door.begin_drain()
                drained.append(found)
                return found

            for connection in list(served.server._running[0][0].server_state.connections):
                connection.placer = place_and_drain
            await raw.send(top + (body if whole else body[:1000]))
            status, _, answer = await raw.response()
            assert (status, json.loads(answer)["code"]) == (503, "draining")
            assert drained[0] is not None
            await raw.close()
            while served.server._running[0][0].server_state.connections:
                await asyncio.sleep(0)
            assert served.store.live_bytes == 0
            assert served.store.regions.live_bytes == 0

    run(main())


def test_a_client_that_pipelines_and_leaves_cancels_the_request_in_flight():
    async def main():
        async with serving() as served:
            script = served.script
            arrived, cancelled = asyncio.Event(), asyncio.Event()
            script.on_arrival = lambda event: arrived.set()
            script.on_cancel = lambda event: cancelled.set()
            raw = await Raw.connect(served)
            small = np.arange(12, dtype=np.uint8).reshape(4, 3)
            # The first is answered, the second waits for its stage, the third for the second.
            await raw.send(b"".join(whole_request(small)))
            await arrived.wait()
            await raw.send(b"".join(whole_request(small) * 2))
            arrived.clear()
            script.answer(script.arrivals[0])
            await raw.response()
            await arrived.wait()
            await raw.close()
            await cancelled.wait()
            assert script.events[-1] == RequestCancelled(2)
            script.answer(script.arrivals[1])

    run(main())


def test_a_client_that_leaves_in_the_next_head_cancels_the_request_in_flight():
    async def main():
        async with serving() as served:
            script = served.script
            arrived, cancelled = asyncio.Event(), asyncio.Event()
            script.on_arrival = lambda event: arrived.set()
            script.on_cancel = lambda event: cancelled.set()
            raw = await Raw.connect(served)
            await raw.send(b"".join(whole_request()) + whole_request()[0][:20])
            await arrived.wait()
            await raw.close()
            await cancelled.wait()
            assert script.events[-1] == RequestCancelled(1)
            script.answer(script.arrivals[0])

    run(main())


def test_a_drain_that_takes_too_long_says_so():
    async def main():
        async with serving() as served:
            script = served.script
            script.on_arrival = lambda event: None
            ticket = script.door.submit(text_app(), ())
            assert not await served.server.drain(timeout_s=0.01)
            script.door.respond(Respond(ticket.request, ()))

    run(main())


def test_readiness_is_that_of_the_apps():
    async def main():
        async with serving(is_ready=lambda app: app != "words") as served:
            assert (await get(served.url, "/v2/health/ready"))[0] == 503
            assert (await get(served.url, "/v2/models/invert/ready"))[0] == 200
            assert (await get(served.url, "/v2/models/words/ready"))[0] == 503

    run(main())


def test_metrics_are_those_that_the_server_was_given():
    async def main():
        async with serving(exposition=lambda: ("text/plain; version=0.0.4", b"grainwise_up 1\n")) as served:
            status, headers, body = await get(served.url, "/metrics")
            assert (status, headers["Content-Type"], body) == (200, "text/plain; version=0.0.4", b"grainwise_up 1\n")

    run(main())


def test_an_unforeseen_error_is_a_500_without_a_traceback(caplog):
    async def main():
        async with serving() as served:

            def fail(event):
                served.script.answer(event)
                raise ZeroDivisionError("secret")

            served.script.on_arrival = fail
            body, headers = infer_body([tensor_in(IMAGE)], IMAGE.tobytes())
            status, _, answer = await post(served, INVERT, body, headers)
            assert (status, answer["code"]) == (500, "internal")
            assert "secret" not in json.dumps(answer)

    run(main())
    assert "secret" in caplog.text


def test_a_port_that_is_taken_is_a_configuration_error():
    with contextlib.closing(bind("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}"):
            bind("127.0.0.1", port)
    with pytest.raises(ConfigurationError):
        bind("no.such.host.invalid", 0)


def test_a_unix_socket_is_ours_alone_and_a_stale_one_is_replaced(tmp_path):
    path = tmp_path / "admin.sock"
    first = bind_unix(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigurationError, match="another server listens"):
        bind_unix(path)
    first.close()
    bind_unix(path).close()
    path.unlink()
    path.write_text("something")
    with pytest.raises(ConfigurationError, match="no socket"):
        bind_unix(path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_begins_a_drain(number):
    async def main():
        asked = asyncio.Event()
        remove = on_signals(asked.set)
        os.kill(os.getpid(), number)
        await asked.wait()
        remove()

    run(main())


def test_a_client_that_sends_too_much_reads_why():
    async def main():
        async with serving(limits=Limits(max_body_bytes=1 << 20)) as served:
            status, _, answer = await post(served, "/v1/apps/reverse", b"x" * (4 << 20), {"Content-Type": "image/png"})
            assert (status, answer["code"]) == (413, "too_large")

    run(main())


def test_a_client_that_does_not_read_its_answer_is_cut_off():
    async def main():
        async with serving(limits=Limits(answer_timeout_ms=50), arena_bytes=128 << 20) as served:
            image = np.zeros((4000, 4000), np.uint8)
            body, headers = infer_body([tensor_in(image)], image.tobytes(), parameters={"binary_data_output": True})
            raw = await Raw.connect(served, limit=1024)
            lines = [f"{name}: {value}" for name, value in headers.items()]
            await raw.send(head(INVERT, f"Content-Length: {len(body)}", *lines) + body)
            while not served.script.arrivals or served.store.live_bytes:
                await get(served.url, "/v2/health/live")
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await raw.response()
            await raw.close()

    run(main())


def test_a_stop_ends_a_call_that_is_not_answered():
    async def main():
        async with serving() as served:
            script = served.script
            arrived = asyncio.Event()
            script.on_arrival = lambda event: arrived.set()
            raw = await Raw.connect(served)
            await raw.send(b"".join(whole_request()))
            await arrived.wait()
            await served.server.stop()
            assert script.events[-1] == RequestCancelled(1)
            script.answer(script.arrivals[0])
            await raw.close()

    run(main())
