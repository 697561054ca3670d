"""An open loop: answers that are late delay no request, latency counts from when a request was due, reports add up."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from grainwise.cli.load_generator import Call, Sample, run_load, summarise
from grainwise.domain.time import MILLISECOND, SECOND

LIMIT_S = 30.0


@asynccontextmanager
async def answering(handler):
    """The URL of a server on this loop."""
    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/", handler)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def run(main):
    async def bounded():
        return await asyncio.wait_for(main, LIMIT_S)

    return asyncio.run(bounded())


def test_a_server_that_stalls_delays_no_request_and_its_stall_is_in_every_latency():
    """No answer is given until the last request has come: a generator that waited for one would never end."""
    dues = [number * 5 * MILLISECOND for number in range(20)]

    async def main():
        came = []
        everyone = asyncio.Event()

        async def stall(request):
            came.append(await request.read())
            if len(came) == len(dues):
                everyone.set()
            await everyone.wait()
            return web.Response(text="ok")

        async with answering(stall) as url:
            return await run_load([Call(url, b"x", "text/plain")], dues)

    samples = run(main())
    assert [sample.due for sample in samples] == dues
    for sample in samples:
        assert sample.status == 200
        assert sample.sent >= sample.due
        assert sample.done >= dues[-1]
        assert sample.latency_us >= dues[-1] - sample.due


def test_a_request_that_the_generator_sends_late_was_due_all_the_same():
    async def main():
        async def ok(request):
            return web.Response(text="ok")

        async with answering(ok) as url:
            return await run_load([Call(url, b"", "text/plain")], [-2 * SECOND, 0])

    samples = run(main())
    assert samples[0].latency_us >= 2 * SECOND
    report = summarise(samples)
    assert report.max_send_delay_ms >= 2000
    assert report.max_ms >= 2000


def test_calls_are_sent_in_turn_with_their_type_and_judged_one_by_one():
    async def main():
        seen = []

        async def echo(request):
            body = await request.read()
            seen.append((body, request.content_type))
            return web.Response(body=body)

        async with answering(echo) as url:
            calls = [
                Call(url, b"a", "text/plain", lambda body: body == b"a"),
                Call(url, b"b", "image/png", lambda body: body == b"not b"),
            ]
            samples = await run_load(calls, range(0, 40 * MILLISECOND, 10 * MILLISECOND))
        return seen, samples

    seen, samples = run(main())
    assert sorted(seen) == [(b"a", "text/plain")] * 2 + [(b"b", "image/png")] * 2
    assert [sample.is_right for sample in samples] == [True, False, True, False]
    report = summarise(samples)
    assert (report.right, report.wrong, report.first_error) == (2, 2, "b")


def test_statuses_time_outs_and_lost_connections_are_counted_apart():
    async def main():
        async def moody(request):
            body = await request.read()
            if body == b"hang":
                await asyncio.Event().wait()
            if body == b"hang up":
                request.transport.abort()
            return web.Response(status={b"shed": 429, b"fail": 500}.get(body, 200))

        async with answering(moody) as url:
            calls = [Call(url, body, "text/plain") for body in (b"ok", b"shed", b"fail", b"hang", b"hang up")]
            return await run_load(calls, [0] * 5, timeout_s=1)

    samples = run(main())
    report = summarise(samples)
    assert report.status_counts == {"200": 1, "429": 1, "500": 1, "no answer": 2}
    assert (report.offered, report.answered, report.right, report.wrong) == (5, 3, 1, 0)
    details = {sample.detail.partition(":")[0] for sample in samples if not sample.status}
    assert details == {"TimeoutError", "ServerDisconnectedError"}


def test_a_large_body_is_sent_whole():
    body = bytes(range(256)) * 8192

    async def main():
        async def measure(request):
            return web.Response(text=str(await request.read() == body))

        async with answering(measure) as url:
            return await run_load([Call(url, body, "image/png", lambda said: said == b"True")], [0, 0])

    assert [sample.is_right for sample in run(main())] == [True, True]


def test_nobody_listens():
    samples = run(run_load([Call("http://127.0.0.1:9/", b"", "text/plain")], [0, 0]))
    assert summarise(samples).status_counts == {"no answer": 2}


def test_whoever_looks_on_sees_each_sample_once():
    async def main():
        async def ok(request):
            return web.Response()

        seen = []
        async with answering(ok) as url:
            samples = await run_load([Call(url, b"", "text/plain")], [0] * 7, on_sample=seen.append)
        return seen, samples

    seen, samples = run(main())
    assert sorted(map(id, seen)) == sorted(map(id, samples))
    assert len(samples) == 7


def test_a_judge_that_fails_is_no_silent_loss():
    async def main():
        async def ok(request):
            return web.Response()

        def judge(body):
            raise ZeroDivisionError

        async with answering(ok) as url:
            await run_load([Call(url, b"", "text/plain", judge)], [0])

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert caught.group_contains(ZeroDivisionError)


samples_of = st.lists(
    st.builds(
        lambda due, delay, work, status, right: Sample(due, due + delay, due + delay + work, status, status == 200 and right),
        st.integers(0, 10 * SECOND),
        st.integers(0, SECOND),
        st.integers(SECOND // 10, 5 * SECOND),
        st.sampled_from([0, 200, 200, 429, 500]),
        st.booleans(),
    ),
    min_size=1,
)


@given(samples_of, st.floats(1, 5000))
def test_a_report_adds_up(samples, slo_ms):
    report = summarise(samples, slo_ms)
    assert report.offered == len(samples) == sum(report.status_counts.values())
    assert report.answered == report.offered - report.status_counts.get("no answer", 0)
    assert report.right + report.wrong == report.status_counts.get("200", 0)
    met = [sample for sample in samples if sample.is_right and sample.latency_us <= slo_ms * 1000]
    assert report.attainment == pytest.approx(len(met) / len(samples), abs=1e-5)
    assert report.goodput_per_s == pytest.approx(len(met) / report.seconds, rel=0.01, abs=0.01)
    assert report.p50_ms <= report.p95_ms <= report.p99_ms <= report.max_ms
    good = [sample.latency_us / 1000 for sample in samples if sample.status == 200]
    if good:
        assert report.max_ms == pytest.approx(max(good), abs=0.001)
        assert report.p50_ms == pytest.approx(np.percentile(good, 50), abs=0.001)


def test_the_offered_rate_is_that_of_the_offering_even_if_the_answers_took_longer():
    samples = [Sample(at * SECOND // 10, 0, 60 * SECOND, 200, True) for at in range(100)]
    report = summarise(samples, seconds=10)
    assert (report.offered_per_s, report.seconds) == (10.0, 60.0)
    assert report.goodput_per_s == pytest.approx(100 / 60, abs=0.001)
    assert report.attainment is None
    assert report.slo_ms is None


def test_nothing_offered_is_a_report_too():
    report = summarise([], 100)
    assert (report.offered, report.p50_ms, report.attainment, report.first_error) == (0, 0.0, 0.0, "")
