"""What becomes of instances is the same on every runtime: each action is followed by the events that its protocol names."""

import asyncio
import shutil
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from conformance_world import RUNTIMES, run

from grainwise.control.actions import CancelInvocation, Invoke, KillInstance, LoadStages, StartInstance, StopInstance
from grainwise.control.events import (
    InstanceFailed,
    InstanceReady,
    InstanceStopped,
    InvocationDone,
    InvocationFailed,
    ItemRange,
    StagesLoaded,
)
from grainwise.domain.because import Because
from grainwise.gateway.entry import Entry, Intake

APPS = Path(__file__).parent / "apps"
TEST = Because("a test")
LIMIT_S = 20.0


@pytest.fixture(params=["in-memory", "local"])
def platform(request):
    return request.param


class Hands:
    """A runtime whose actions are given by hand."""

    def __init__(self, opened, events):
        self.opened = opened
        self.runtime = opened.runtime
        self.store = opened.store
        self.graph = opened.spec.graph
        self.events = events
        self.entry = Entry(opened.spec)
        self.invocations = 0

    async def expect(self, kind):
        event = await asyncio.wait_for(self.events.get(), LIMIT_S)
        assert isinstance(event, kind), event
        return event

    def begin(self, instance, *stages):
        mask = self.graph.mask(stages)
        self.runtime.start(StartInstance(instance, self.opened.spec.name, mask, "local", 1.0, 20.0, TEST))

    async def start(self, instance, *stages):
        self.begin(instance, *stages)
        ready = await self.expect(InstanceReady)
        assert ready.instance == instance
        assert ready.load_us >= 0
        assert ready.memory_mib > 0

    def put(self, word):
        intake = Intake(self.entry, self.store)
        intake.put_value(self.entry.slots[0], word)
        return intake.take()

    def invoke(self, instance, stages, *items):
        self.invocations += 1
        ranges = tuple(ItemRange(number, (), 0, 1) for number in range(1, len(items) + 1))
        self.runtime.invoke(Invoke(self.invocations, instance, self.graph.mask(stages), ranges, tuple(items), 1.0, 10**7, TEST))
        return self.invocations

    async def words(self, instance, stages, *words):
        """Run some words through an extent; the values, or the failures."""
        items = [self.put(word) if isinstance(word, str) else word for word in words]
        number = self.invoke(instance, stages, *items)
        done = await self.expect(InvocationDone)
        assert (done.invocation, done.instance) == (number, instance)
        assert done.busy_us >= 0
        found = [result.failure or self.store.get(result.outputs[0].refs[0].handle) for result in done.results]
        self.release(*items, *(result.outputs for result in done.results))
        return found

    def release(self, *rows):
        for row in rows:
            self.store.release(tuple(ref.handle for payload in row for ref in payload.refs))

    def act(self, kind, instance, *more):
        getattr(self.runtime, {StopInstance: "stop", KillInstance: "kill", LoadStages: "load"}[kind])(
            kind(instance, *more, TEST)
        )


@asynccontextmanager
async def hands(platform, folder):
    path = Path(shutil.copy(APPS / "moody.py", folder / "moody.py"))
    events = asyncio.Queue()
    async with RUNTIMES[platform](path, events.put_nowait) as opened:
        held = Hands(opened, events)
        yield held
        assert opened.store.live_bytes == 0
        assert events.empty(), events


def on(platform, folder, test):
    async def main():
        async with hands(platform, folder) as held:
            await test(held)

    run(main())


ALL = ("first", "second", "third")


def test_an_instance_starts_runs_its_extents_and_stops(platform, tmp_path):
    async def test(held):
        await held.start(7, *ALL)
        assert await held.words(7, ALL, "a") == ["<A>!"]
        assert await held.words(7, ("first",), "b", "c") == ["B", "C"]
        assert await held.words(7, ("second", "third"), "d") == ["<d>!"]
        held.act(StopInstance, 7)
        assert (await held.expect(InstanceStopped)).instance == 7

    on(platform, tmp_path, test)


def test_an_idle_instance_is_killed(platform, tmp_path):
    async def test(held):
        await held.start(1, "first")
        held.act(KillInstance, 1)
        assert (await held.expect(InstanceStopped)).instance == 1

    on(platform, tmp_path, test)


def test_an_instance_that_starts_is_stopped_or_killed_and_never_becomes_ready(platform, tmp_path):
    async def test(held):
        for kind in (StopInstance, KillInstance):
            held.begin(3, "first")
            held.act(kind, 3)
            assert (await held.expect(InstanceStopped)).instance == 3
        await held.start(4, "first")

    on(platform, tmp_path, test)


def test_a_killed_instance_takes_its_invocation_with_it(platform, tmp_path):
    async def test(held):
        await held.start(1, *ALL)
        item = held.put("x")
        held.invoke(1, ALL, item)
        held.act(KillInstance, 1)
        event = await asyncio.wait_for(held.events.get(), LIMIT_S)
        if isinstance(event, InvocationDone):
            held.release(event.results[0].outputs)
            event = await held.expect(InstanceStopped)
        assert isinstance(event, InstanceStopped), event
        held.release(item)

    on(platform, tmp_path, test)


def test_stages_are_loaded_into_an_idle_instance(platform, tmp_path):
    async def test(held):
        await held.start(1, "first")
        held.act(LoadStages, 1, held.graph.mask(("second", "third")))
        loaded = await held.expect(StagesLoaded)
        assert (loaded.instance, loaded.stages, loaded.error) == (1, held.graph.mask(("second", "third")), "")
        assert await held.words(1, ALL, "a") == ["<A>!"]

    on(platform, tmp_path, test)


def test_a_failed_load_keeps_the_old_residency_and_can_be_tried_again(platform, tmp_path):
    async def test(held):
        await held.start(1, "first")
        broken = tmp_path / "Third.broken"
        broken.touch()
        held.act(LoadStages, 1, held.graph.mask(("second", "third")))
        loaded = await held.expect(StagesLoaded)
        assert "third" in loaded.error.lower()
        assert "no model for Third" in loaded.error
        assert await held.words(1, ("first",), "a") == ["A"]
        item = held.put("x")
        held.invoke(1, ("second",), item)
        refused = await held.expect(InvocationFailed)
        assert refused.kind == "refused", refused
        assert "second" in refused.detail
        held.release(item)
        broken.unlink()
        held.act(LoadStages, 1, held.graph.mask(("second", "third")))
        assert (await held.expect(StagesLoaded)).error == ""
        assert await held.words(1, ALL, "a") == ["<A>!"]

    on(platform, tmp_path, test)


def test_a_start_whose_constructor_raises_fails_with_the_reason(platform, tmp_path):
    async def test(held):
        (tmp_path / "Second.broken").touch()
        held.begin(1, *ALL)
        failed = await held.expect(InstanceFailed)
        assert (failed.instance, failed.cause) == (1, "starting")
        assert "second" in failed.detail.lower()
        assert "no model for Second" in failed.detail
        await held.start(2, "first", "third")

    on(platform, tmp_path, test)


def test_failures_are_told_item_by_item(platform, tmp_path):
    async def test(held):
        await held.start(1, *ALL)
        good, unwanted, raised, alone, number, short = await held.words(
            1, ALL, "a", "fail", "raise", "together", "number", "short"
        )
        assert (good, alone) == ("<A>!", "<TOGETHER>!")
        assert (unwanted.stage, unwanted.kind, unwanted.reason) == ("first", "declared", "unwanted")
        assert (raised.stage, raised.kind, raised.reason) == ("first", "raised", "ValueError: no such word")
        for failure in (number, short):
            assert (failure.stage, failure.kind) == ("second", "value")

    on(platform, tmp_path, test)


def test_a_value_that_may_not_leave_names_its_stage(platform, tmp_path):
    async def test(held):
        await held.start(1, *ALL)
        failure, good = await held.words(1, ("second",), "NUMBER", "B")
        assert (failure.stage, failure.kind) == ("second", "value")
        assert good == "<B>"

    on(platform, tmp_path, test)


def test_an_instance_that_is_not_there_refuses(platform, tmp_path):
    async def test(held):
        item = held.put("x")
        held.invoke(9, ("first",), item)
        assert (await held.expect(InvocationFailed)).kind == "refused"
        held.act(LoadStages, 9, 1)
        assert (await held.expect(StagesLoaded)).error
        held.act(StopInstance, 9)
        held.act(KillInstance, 9)
        held.runtime.cancel(CancelInvocation(77, 9))
        held.release(item)
        await held.start(1, "first")

    on(platform, tmp_path, test)


def test_a_cancelled_invocation_ends_one_way_or_the_other(platform, tmp_path):
    async def test(held):
        await held.start(1, *ALL)
        item = held.put("x")
        number = held.invoke(1, ALL, item)
        held.runtime.cancel(CancelInvocation(number, 1))
        event = await asyncio.wait_for(held.events.get(), LIMIT_S)
        if isinstance(event, InvocationDone):
            held.release(event.results[0].outputs)
        else:
            assert isinstance(event, InvocationFailed)
            assert event.kind == "cancelled"
        held.runtime.cancel(CancelInvocation(number, 1))
        held.release(item)
        assert await held.words(1, ("first",), "a") == ["A"]

    on(platform, tmp_path, test)


def test_a_result_without_room_is_backpressure_and_leaves_nothing(platform, tmp_path):
    async def test(held):
        await held.start(1, *ALL)
        word = "x" * (6 << 20)
        items = [held.put(word), held.put(word)]
        held.invoke(1, ALL, *items, *items)
        failed = await held.expect(InvocationFailed)
        assert failed.kind == "backpressure", failed
        held.release(*items)
        assert await held.words(1, ("first",), "a") == ["A"]

    on(platform, tmp_path, test)


def test_a_payload_may_be_read_by_several_invocations(platform, tmp_path):
    async def test(held):
        await held.start(1, *ALL)
        item = held.put("a" * 5000)
        for _ in range(3):
            number = held.invoke(1, ("first",), item)
            done = await held.expect(InvocationDone)
            assert done.invocation == number
            ref = done.results[0].outputs[0].refs[0]
            assert ref.nbytes >= 5000
            assert held.store.get(ref.handle) == "A" * 5000
            held.release(done.results[0].outputs)
        held.release(item)

    on(platform, tmp_path, test)
