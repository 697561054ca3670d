"""A whole server without HTTP behaves alike on every runtime: failures, cancelling, deadlines, changes, cold starts."""

import asyncio
import shutil
from pathlib import Path

import pytest
from conformance_world import run, world

from grainwise.control.actions import Invoke, LoadStages, Reject, Release, Respond, StartInstance
from grainwise.control.events import InstanceFailed, PlanRequested, RequestArrived, RequestCancelled, StagesLoaded
from grainwise.domain.config import AppConfig
from grainwise.domain.time import MILLISECOND
from grainwise.gateway.errors import Failure
from live.serving_harness import replay_elsewhere

APPS = Path(__file__).parent / "apps"
SPLIT = (("first",), ("second",), ("third",))
FUSED = (("first", "second", "third"),)
PAIR = (("first", "second"), ("third",))


@pytest.fixture
def moody(folder):
    return Path(shutil.copy(APPS / "moody.py", folder / "moody.py"))


@pytest.mark.parametrize("grain", [FUSED, SPLIT])
def test_a_failing_request_fails_alone(platform, folder, moody, grain):
    async def main():
        async with world(platform, moody, folder, grain=grain, max_batch=8) as served:
            words = ["a", "raise", "b", "fail", "together", "number", "c"]
            answers = dict(zip(words, await asyncio.gather(*map(served.ask, words)), strict=True))
            for word, stage in (("raise", "first"), ("fail", "first"), ("number", "second")):
                failure = answers.pop(word)
                assert isinstance(failure, Failure)
                assert (failure.status, failure.body.code, failure.body.stage) == (500, "stage_failed", stage)
            assert answers == {word: f"<{word.upper()}>!" for word in answers}

    run(main())


def test_every_handle_is_released_or_answered_once(platform, folder, moody):
    async def main():
        async with world(platform, moody, folder, grain=SPLIT) as served:
            await asyncio.gather(*(served.ask(word) for word in ("a", "raise", "b")))
            released = [handle for action in served.actions(Release) for handle in action.handles]
            answered = [ref.handle for action in served.actions(Respond) for p in action.outputs for ref in p.refs]
            arrived = [ref.handle for event in served.events(RequestArrived) for p in event.inputs for ref in p.refs]
            assert len(set(released) | set(answered)) == len(released) + len(answered)
            assert set(arrived) <= set(released)

    run(main())


def test_a_cancelled_request_is_never_answered(platform, folder, moody):
    async def main():
        async with world(platform, moody, folder, grain=SPLIT) as served:
            asked = asyncio.create_task(served.ask("a"))
            await served.until(lambda: bool(served.controller.state.invocations))
            asked.cancel()
            await asyncio.wait([asked])
            assert asked.cancelled()
            (number,) = (event.request for event in served.events(RequestCancelled))
            assert await served.ask("b") == "<B>!"
            assert number not in {action.request for action in served.actions(Respond | Reject)}

    run(main())


def test_a_request_past_its_deadline_is_rejected(platform, folder, moody):
    async def main():
        async with world(platform, moody, folder, grain=SPLIT) as served:
            late = await served.ask("a", deadline=served.driver.now() - 1)
            assert (late.status, late.body.code) == (504, "deadline")
            assert await served.ask("b", deadline=served.driver.now() + 20_000 * MILLISECOND) == "<B>!"

    run(main())


def test_splitting_starts_and_loads_nothing(platform, folder, moody):
    async def main():
        async with world(platform, moody, folder, grain=FUSED) as served:
            await served.change_to(SPLIT)
            assert await served.ask("a") == "<A>!"
            assert len(served.actions(StartInstance)) == 1
            assert not served.actions(LoadStages)
            assert {action.extent for action in served.actions(Invoke)} == {1, 2, 4}

    run(main())


def test_fusing_loads_what_is_missing_into_a_spare_instance(platform, folder, moody):
    async def main():
        async with world(platform, moody, folder, grain=SPLIT, instances=2) as served:
            asking = asyncio.create_task(keep_asking(served))
            await served.change_to(FUSED)
            assert [action.stages.bit_count() for action in served.actions(LoadStages)] == [2]
            assert len(served.actions(StartInstance)) == 6
            asking.cancel()
            await asyncio.wait([asking])
            assert await served.ask("z") == "<Z>!"
            assert served.actions(Invoke)[-1].extent == 7
            assert not served.actions(Reject)

    run(main())


async def keep_asking(served):
    while True:
        assert await served.ask("a") == "<A>!"


def test_a_failed_load_keeps_what_is_served(platform, folder, moody):
    async def main():
        async with world(platform, moody, folder, grain=SPLIT, instances=2) as served:
            (folder / "Second.broken").touch()
            (folder / "Third.broken").touch()
            served.driver.post(PlanRequested(served.spec.name, "a test", FUSED))
            await served.until(lambda: bool(served.status.last_refusal))
            assert "no model for" in served.status.last_refusal
            assert any(event.error for event in served.events(StagesLoaded))
            assert served.status.grain == "first | second | third"
            assert await served.ask("a") == "<A>!"

    run(main())


def test_an_app_whose_constructor_raises_says_so_to_everyone(platform, folder, moody):
    async def main():
        (folder / "Third.broken").touch()
        async with world(platform, moody, folder, grain=PAIR, is_ready=False) as served:
            failure = await served.ask("a")
            assert (failure.status, failure.body.code) == (503, "no_capacity")
            assert "no model for Third" in failure.body.error
            assert any(name == b"retry-after" for name, _ in failure.headers)
            assert {event.cause for event in served.events(InstanceFailed)} == {"starting"}
            (folder / "Third.broken").unlink()
            await served.until(lambda: served.status.is_ready)
            assert await served.ask("a") == "<A>!"

    run(main())


def test_the_first_request_of_an_idle_app_warms_the_whole_chain(platform, folder, moody):
    async def main():
        config = AppConfig(replan_us=0, scale_to_zero=True)
        async with world(platform, moody, folder, grain=SPLIT, config=config, is_ready=False) as served:
            began = len(served.actions(StartInstance))
            assert await served.ask("a") == "<A>!"
            assert {action.stages for action in served.actions(StartInstance)} == {1, 2, 4}
            assert began <= 3

    run(main())


@pytest.mark.parametrize("runtime", ["in-memory", "local"])
def test_the_command_replays_a_log(runtime, tmp_path):
    moody = Path(shutil.copy(APPS / "moody.py", tmp_path / "moody.py"))

    async def main():
        async with world(runtime, moody, tmp_path, grain=SPLIT) as served:
            await asyncio.gather(*map(served.ask, ("a", "raise", "b")))
            await served.change_to(FUSED)
            assert await served.ask("c") == "<C>!"

    run(main())
    replay_elsewhere(tmp_path / "log-0")
