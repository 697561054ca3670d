"""A local runtime driven by hand: actions go in, events come out of a queue."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from grainwise.control.actions import Invoke, StartInstance
from grainwise.control.events import Event, InstanceReady, InvocationDone, ItemRange, ItemResult
from grainwise.domain.because import Because
from grainwise.domain.extent import make_extent
from grainwise.domain.values import Payload, Ref
from grainwise.runtimes.local.runtime import LocalRuntime

E = TypeVar("E")
TEST = Because("test")
LIMIT_S = 20.0


class World:
    def __init__(self, runtime: LocalRuntime, events: "asyncio.Queue[Event]") -> None:
        self.runtime = runtime
        self.store = runtime.store
        self.events = events
        self.graph = runtime.spec.graph
        self._invocations = 0

    async def expect(self, kind: type[E]) -> E:
        event = await asyncio.wait_for(self.events.get(), LIMIT_S)
        assert isinstance(event, kind), event
        return event

    async def start(self, instance: int, *stages: str, cpu_cores: float = 1.0) -> InstanceReady:
        self.begin(instance, *stages, cpu_cores=cpu_cores)
        return await self.expect(InstanceReady)

    def begin(self, instance: int, *stages: str, cpu_cores: float = 1.0) -> None:
        mask = self.graph.mask(stages)
        self.runtime.start(StartInstance(instance, self.runtime.spec.name, mask, "local", cpu_cores, 0.0, TEST))

    def put(self, value: object, index: int = 0) -> Payload:
        stored = self.store.put(value, self.runtime.spec.inputs[index])
        return Payload((Ref(stored.handle, stored.nbytes),))

    def invoke(self, instance: int, stages: tuple[str, ...], *items: tuple[Payload, ...], cpu_cores: float = 1.0) -> int:
        self._invocations += 1
        mask = self.graph.mask(stages)
        assert all(len(item) == len(make_extent(self.graph, mask).inputs) for item in items)
        ranges = tuple(ItemRange(index + 1, (), 0, 1) for index in range(len(items)))
        self.runtime.invoke(Invoke(self._invocations, instance, mask, ranges, items, cpu_cores, 10**7, TEST))
        return self._invocations

    async def run(self, instance: int, stages: tuple[str, ...], *items: tuple[Payload, ...]) -> tuple[ItemResult, ...]:
        invocation = self.invoke(instance, stages, *items)
        done = await self.expect(InvocationDone)
        assert done.invocation == invocation
        return done.results

    def get(self, payload: Payload) -> Any:
        if payload.shape == "many":
            return [self.store.get(ref.handle) for ref in payload.refs]
        return self.store.get(payload.refs[0].handle)

    def release(self, *payloads: Payload) -> None:
        for payload in payloads:
            self.store.release(tuple(ref.handle for ref in payload.refs))

    def assert_nothing_lives(self) -> None:
        assert self.store.live_bytes == 0
        assert self.store.live_handles == 0


@asynccontextmanager
async def open_world(folder: Path, source: str, **options: Any) -> AsyncIterator[World]:
    path = folder / "app.py"
    path.write_text(source)
    events: asyncio.Queue[Event] = asyncio.Queue()
    runtime = await LocalRuntime.open(path, post=events.put_nowait, **options)
    try:
        yield World(runtime, events)
    finally:
        await runtime.close()
