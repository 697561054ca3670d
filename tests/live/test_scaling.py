"""Instances come and go with the load: down to none, back with the first request, up under a backlog, down after it."""

import asyncio

from grainwise.control.actions import StartInstance, StopInstance
from grainwise.control.events import InstanceStopped, RequestArrived
from grainwise.domain.config import AppConfig
from grainwise.domain.time import SECOND

from .gates import SOURCE, Gate
from .serving_harness import TEXT_APP, run, serve, write_app


def test_an_idle_app_has_no_instance_and_its_first_request_starts_the_whole_chain(tmp_path):
    async def main():
        config = AppConfig(scale_to_zero=True, keep_alive_us=SECOND // 5, replan_us=0)
        async with serve(TEXT_APP, tmp_path, grain="split", config=config) as live:
            functions = len(live.serving.spec.graph.stages)
            assert len(live.actions(StartInstance)) == functions
            await live.until(lambda: not live.serving.controller.state.instances)
            assert {action.because.rule for action in live.actions(StopInstance)} == {"idle past its keep-alive"}
            assert await live.post({"text": "a bb"}) == (200, {"outputs": {"output": "a:1 bb:2"}})
            entries = live.entries()
            arrival = next(entry for entry in entries if isinstance(entry.event, RequestArrived))
            started = [action for action in arrival.actions if isinstance(action, StartInstance)]
            assert len(started) == functions, "the first request does not warm the whole chain"
            assert {action.because.rule for action in started} == {"the first request of an idle app warms every function"}

    run(main())


def test_a_backlog_starts_another_instance_that_ends_after_its_keep_alive(tmp_path):
    source = SOURCE.replace("latency_ms=20_000", "latency_ms=1000")

    async def main():
        config = AppConfig(keep_alive_us=SECOND // 5, replan_us=0)
        app = write_app(tmp_path, source, stage_us=100_000)
        with Gate(tmp_path) as gate:
            async with serve(app, tmp_path, grain="fused", config=config) as live:
                asked = [asyncio.create_task(live.post({"word": f"wait {number}"})) for number in range(12)]
                await gate.reached(2)
                assert len(live.actions(StartInstance)) > 1
                gate.open(12)
                assert [status for status, _ in [await each for each in asked]] == [200] * 12
                await live.until(lambda: len(live.serving.controller.state.instances) == 1)
                assert [entry for entry in live.entries() if isinstance(entry.event, InstanceStopped)]
                assert {action.because.rule for action in live.actions(StopInstance)} == {"idle past its keep-alive"}
                assert (await live.post({"word": "after"}))[0] == 200

    run(main())
