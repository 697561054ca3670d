"""The live controller, runtime, driver and log without the doors: what ``grainwise serve`` wires, for one fixed plan."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from grainwise.control.actions import ComputePlan, Reject, Respond
from grainwise.control.controller import Controller
from grainwise.control.events import AppDeployed, CapacityChanged, RequestArrived
from grainwise.domain.app import AppSpec
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import NOMINAL_PRICES, HopModel, Node
from grainwise.domain.plan import FunctionPlan, Grain, Plan
from grainwise.domain.values import Payload, Ref
from grainwise.predictors.latency import RESIDUAL_LEVELS, ColdStartModel, LatencyModel, StageModel
from grainwise.predictors.workload import Workload
from grainwise.runtimes.driver import Driver
from grainwise.runtimes.local.runtime import LocalRuntime
from grainwise.runtimes.local.store import LocalStore
from grainwise.runtimes.log_writer import LogWriter


def made_up_model(spec: AppSpec, stage_us: float = 500.0) -> LatencyModel:
    """Equal figures for every stage: the plan is fixed, so only orders of magnitude matter."""
    stage = StageModel(
        stage_us,
        0.0,
        0.0,
        (0.5, 1.0),
        (2.0, 1.0),
        tuple(1.0 + 0.05 * at for at in range(len(RESIDUAL_LEVELS))),
        0.1,
        1.0,
        1e3,
        1e3,
    )
    return LatencyModel((stage,) * len(spec.graph.stages), ColdStartModel(50_000.0, 0.0), "made up", "made up")


class Recipient:
    """A door without HTTP: the answer of each request settles a future."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._waiting: dict[int, asyncio.Future[object]] = {}

    def expect(self, request: int) -> "asyncio.Future[object]":
        """The future of a request's only output."""
        future = self._waiting[request] = asyncio.get_running_loop().create_future()
        return future

    def respond(self, action: Respond) -> None:
        """Settle with the value, then give it back."""
        handle = action.outputs[0].refs[0].handle
        self._waiting.pop(action.request).set_result(self._store.get(handle))
        self._store.release((handle,))

    def reject(self, action: Reject) -> None:
        """Settle with an error: no request of a benchmark is refused."""
        self._waiting.pop(action.request).set_exception(RuntimeError(f"request {action.request} was rejected: {action}"))


class NoPlanner:
    """A planner that is never asked: the plan is fixed."""

    def compute(self, action: ComputePlan) -> None:
        """Refuse."""
        raise AssertionError(f"nobody asks for a plan here: {action}")


class Wired(Struct):
    """A running controller with its instances."""

    driver: Driver
    runtime: LocalRuntime
    recipient: Recipient
    asked: int = 0

    async def ask(self, data: memoryview, dtype: str, shape: tuple[int, ...]) -> object:
        """One request with one array, which is read into place as the gateway does it; the answer's value."""
        reservation = self.runtime.store.reserve(data.nbytes)
        reservation.view[:] = data
        stored = reservation.tensor(0, data.nbytes, dtype, shape)
        reservation.close()
        self.asked = request = self.asked + 1
        answer = self.recipient.expect(request)
        app = self.runtime.spec.name
        self.driver.post(RequestArrived(request, app, (Payload((Ref(stored.handle, stored.nbytes),)),)))
        return await answer


@asynccontextmanager
async def wire(app: Path, grain: Grain, log_folder: Path) -> AsyncIterator[Wired]:
    """Serve ``app`` at ``grain`` with one instance of one core per function, logging to ``log_folder``."""
    controller = Controller()
    log = LogWriter(log_folder)
    driver = Driver(controller, log=log)
    runtime = await LocalRuntime.open(app, post=driver.post)
    try:
        spec = runtime.spec
        recipient = Recipient(runtime.store)
        driver.attach(runtime=runtime, store=runtime.store, door=recipient, planner=NoPlanner())
        count = len(spec.graph.stages)
        plan = Plan(spec.name, tuple(FunctionPlan(stages, cpu_cores=1.0, min_instances=1) for stages in grain))
        workload = Workload(1.0, (1.0,) * count, (1.0,) * count, (1e6,) * count, (1e6,) * len(spec.inputs))
        hop = HopModel(50.0, 10.0, 50.0, 10.0, 20.0)
        driver.post(CapacityChanged((Node("local", float(len(grain)), 16_384.0),)))
        config = AppConfig(replan_us=0)
        deployed = AppDeployed(spec, made_up_model(spec), hop, workload, plan, runtime.capabilities, NOMINAL_PRICES, config)
        ready = asyncio.Event()

        def look(*_: object) -> None:
            if controller.status(spec.name).is_ready:
                ready.set()

        driver.observe(look)
        driver.post(deployed)
        await asyncio.wait_for(ready.wait(), 60)
        driver.unobserve(look)
        yield Wired(driver, runtime, recipient)
        assert runtime.store.live_bytes == 0, f"{runtime.store.live_bytes} bytes are live"
    finally:
        driver.close()
        await runtime.close()
        log.close()
