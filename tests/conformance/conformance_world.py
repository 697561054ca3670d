"""One app under a controller, a driver, the real door without HTTP, a planner of asked-for grains, and any runtime.

Every step is checked against the numbered invariants; leaving the world checks that nothing is live and nothing is left.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from grainwise import App
from grainwise.control.actions import Action, Invoke
from grainwise.control.controller import Controller
from grainwise.control.events import AppDeployed, CapacityChanged, Event, PlanRequested
from grainwise.control.invariants import Monitor, check_state
from grainwise.control.log import Entry as LogEntry
from grainwise.control.log import Record
from grainwise.control.performers import Post, Runtime
from grainwise.domain.app import AppSpec
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import NOMINAL_PRICES, Capabilities, Node
from grainwise.domain.plan import Grain, render_grain
from grainwise.gateway.door import Answer, HttpDoor
from grainwise.gateway.entry import Entry, Intake
from grainwise.gateway.errors import Failure
from grainwise.planning.problem import Option, PlanTable, Problem
from grainwise.runtimes.driver import Driver
from grainwise.runtimes.in_memory import HOP, InMemoryRuntime, MemoryStore
from grainwise.runtimes.loading import load_app
from grainwise.runtimes.local.runtime import LocalRuntime
from grainwise.runtimes.log_writer import LogWriter, read_log
from grainwise.runtimes.payloads import PayloadStore
from grainwise.runtimes.planner import InlinePlanner
from worlds.control import PREDICTED, model_of, workload_of
from worlds.grains import plan_for

LIMIT_S = 60.0
ARENA_MIB = 16


class Opened:
    """A runtime with its store."""

    def __init__(self, runtime: Any, store: Any, spec: AppSpec, app: App) -> None:
        self.runtime: Runtime = runtime
        self.capabilities: Capabilities = runtime.capabilities
        self.store: PayloadStore = store
        self.spec = spec
        self.app = app


@asynccontextmanager
async def in_memory(path: Path, post: Post) -> AsyncIterator[Opened]:
    app = load_app(path)
    spec = app.spec(path.read_bytes())
    store = MemoryStore(ARENA_MIB << 20)
    yield Opened(InMemoryRuntime(app, spec, store, post), store, spec, app)


@asynccontextmanager
async def local(path: Path, post: Post) -> AsyncIterator[Opened]:
    app = load_app(path)
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    runtime = await LocalRuntime.open(path, post=post, arena_mib=ARENA_MIB)
    try:
        yield Opened(runtime, runtime.store, runtime.spec, app)
    finally:
        await runtime.close()
    left = {child.pid for child in psutil.Process().children(recursive=True)} - before
    assert not left, f"processes {left} are left"


RUNTIMES: dict[str, Callable[[Path, Post], Any]] = {"in-memory": in_memory, "local": local}


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine with a bound, so that a hang is a failure with a traceback."""

    async def bounded() -> None:
        await asyncio.wait_for(main, LIMIT_S)

    asyncio.run(bounded())


def table_of(problem: Problem) -> PlanTable:
    """The planner of this suite: one plan, of the grain that was asked for."""
    assert problem.grain is not None
    plan = plan_for(problem.app.name, problem.grain, cpu_cores=0.5)
    return PlanTable(problem.number, (Option(plan, PREDICTED, True),), "a test asked for it", True)


class World:
    """See the module."""

    def __init__(self, opened: Opened, driver: Driver, log: LogWriter, door: HttpDoor) -> None:
        self.opened = opened
        self.spec = opened.spec
        self.graph = opened.spec.graph
        self.store = opened.store
        self.runtime = opened.runtime
        self.driver = driver
        self.controller = driver.controller
        self.log = log
        self.door = door
        self.entry = Entry(opened.spec)

    async def ask(self, *arguments: Any, deadline: int = 0) -> Any:
        """The answer as Python values (a tuple where there are several), or the failure."""
        reply = await self.door.ask(self.spec, self.inputs(*arguments), deadline)
        if isinstance(reply, Failure):
            return reply
        assert isinstance(reply, Answer)
        values = tuple(self.plain(reply.value(index)) for index in range(len(reply.outputs)))
        reply.close()
        return values[0] if len(values) == 1 else values

    def inputs(self, *arguments: Any) -> Any:
        """The payloads of one request."""
        intake = Intake(self.entry, self.store)
        for slot, value in zip(self.entry.slots, arguments, strict=True):
            intake.put_value(slot, value)
        return intake.take()

    @staticmethod
    def plain(value: Any) -> Any:
        """A copy that outlives the handle."""
        return value.copy() if hasattr(value, "dtype") and hasattr(value, "copy") else value

    async def change_to(self, grain: Grain) -> None:
        """Command a granularity and wait until new requests run on it."""
        name = self.spec.name
        self.driver.post(PlanRequested(name, "a test", grain))
        await self.until(lambda: self.status.grain == render_grain(grain) and not self.status.regranulating_to)

    async def until(self, claim: Callable[[], bool]) -> None:
        """Wait for a step of the controller after which a claim holds."""
        holds = asyncio.Event()

        def look(*_: object) -> None:
            if claim():
                holds.set()

        self.driver.observe(look)
        look()
        await holds.wait()
        self.driver.unobserve(look)

    @property
    def status(self) -> Any:
        return self.controller.status(self.spec.name)

    def actions(self, kind: type) -> list[Any]:
        """The actions of a kind so far."""
        return [action for entry in self.log.tail(1_000_000) for action in entry.actions if isinstance(action, kind)]

    def events(self, kind: type) -> list[Any]:
        """The events of a kind so far."""
        return [entry.event for entry in self.log.tail(1_000_000) if isinstance(entry.event, kind)]

    def extents(self) -> set[int]:
        """The extents that have been invoked."""
        return {action.extent for action in self.actions(Invoke)}


@asynccontextmanager
async def world(
    platform: str,
    path: Path,
    folder: Path,
    *,
    grain: Grain | None = None,
    config: AppConfig | None = None,
    max_batch: int = 4,
    instances: int = 1,
    is_ready: bool = True,
) -> AsyncIterator[World]:
    """An app on a runtime, every function of ``grain`` (fused by default) ready."""
    controller = Controller()
    monitor = Monitor()
    log_folder = folder / f"log-{len(list(folder.glob('log-*')))}"
    log = LogWriter(log_folder, tail_entries=100_000)

    def check(event: Event, actions: Sequence[Action], now: int) -> None:
        monitor.observe(event, actions, now)
        check_state(controller, monitor)

    driver = Driver(controller, log=log, observers=(check,))
    try:
        async with RUNTIMES[platform](path, driver.post) as opened:
            door = HttpDoor(opened.store, driver.now)
            door.attach(driver.post)
            planner = InlinePlanner(table_of, driver.post)
            driver.attach(runtime=opened.runtime, store=opened.store, door=door, planner=planner)
            spec = opened.spec
            fused = (spec.graph.names(spec.graph.all_mask),)
            plan = plan_for(spec.name, grain or fused, cpu_cores=0.5, max_batch=max_batch, instances=instances)
            driver.post(CapacityChanged((Node("local", 64.0, 10_000.0),)))
            driver.post(
                AppDeployed(
                    spec,
                    model_of(spec),
                    HOP,
                    workload_of(spec),
                    plan,
                    opened.capabilities,
                    NOMINAL_PRICES,
                    config or AppConfig(replan_us=0, policies="fixed"),
                )
            )
            made = World(opened, driver, log, door)
            if is_ready:
                wanted = instances * len(plan.functions)
                await made.until(lambda: sum(each.phase == "ready" for each in made.status.instances) == wanted)
            yield made
            await made.until(lambda: not controller.state.requests and not controller.state.invocations)
            assert door.in_flight == 0
            assert opened.store.live_bytes == 0, f"{opened.store.live_bytes} bytes are live"
            driver.close()
    finally:
        driver.close()
        log.close()


def entries_of(folder: Path) -> list[LogEntry]:
    """The entries of a log."""
    records: list[Record] = read_log(folder)
    return [record for record in records if isinstance(record, LogEntry)]
