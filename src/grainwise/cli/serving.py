"""A server of one app on this machine, wired together: runtime, controller, driver, planner, door, listeners."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import msgspec
import psutil
from msgspec import Struct

from grainwise.cli.options import check_positive, read_grain
from grainwise.cli.problems import Machines, problem_of, refuse_untrained
from grainwise.cli.profiles import find_profile
from grainwise.cli.server_status import CostStatus, ServerStatus, control_status
from grainwise.control.controller import Controller
from grainwise.control.events import AppDeployed, CapacityChanged, PlanRequested
from grainwise.control.invariants import Monitor, check_state
from grainwise.control.scaling import GIVE_UP_STARTS
from grainwise.domain.app import AppSpec, Slo
from grainwise.domain.config import AppConfig
from grainwise.domain.errors import CapacityError
from grainwise.domain.machine import NOMINAL_PRICES, Node
from grainwise.domain.plan import Grain, Objective
from grainwise.gateway.admin import AdminListen
from grainwise.gateway.door import HttpDoor
from grainwise.gateway.limits import Limits
from grainwise.gateway.server import Addresses, Server
from grainwise.planning.problem import PlanTable, Problem
from grainwise.policies.sets import policy_set
from grainwise.predictors.latency import LatencyModel
from grainwise.profiles.artifact import Profile, digest
from grainwise.runtimes.driver import Driver
from grainwise.runtimes.local.machine import this_node
from grainwise.runtimes.local.runtime import ARENA_MIB, LocalRuntime
from grainwise.runtimes.log_writer import LogWriter
from grainwise.runtimes.planner import ProcessPlanner
from grainwise.simulation.planners import plan as make_plan
from grainwise.telemetry.http import HttpCounters
from grainwise.telemetry.log_folder import segments_in
from grainwise.telemetry.metrics import Metrics
from grainwise.telemetry.recorder import Recorder

KEPT_LOGS = 5


class ServeOptions(Struct, frozen=True):
    """What ``grainwise serve`` was told. ``rate_per_s`` is the forecast for the first plan; ``grain`` forces a granularity."""

    app_path: Path
    host: str = "127.0.0.1"
    port: int = 8000
    admin: AdminListen = msgspec.field(default_factory=AdminListen)
    profile: Path | None = None
    accept_profile: bool = False
    rate_per_s: float = 1.0
    slo_ms: float | None = None
    objective: Objective = "provisioned"
    grain: str | None = None
    log: Path | None = None
    arena_mib: int = ARENA_MIB
    config: AppConfig = msgspec.field(default_factory=AppConfig)
    limits: Limits = msgspec.field(default_factory=Limits)
    check_invariants: bool = False
    reserve_cores: float = 0.0

    def __post_init__(self) -> None:
        check_positive("--rate", self.rate_per_s)
        check_positive("--slo-ms", self.slo_ms)
        policy_set(self.config.policies)


class Serving:
    """A running server; ``open`` makes it, ``close`` ends it and everything that it started."""

    def __init__(self, options: ServeOptions) -> None:
        self.options = options
        self.controller = Controller()
        self.monitor = Monitor() if options.check_invariants else None
        self.recorder = Recorder()
        self._began = time.monotonic()
        self._stop = asyncio.Event()
        self.spec: AppSpec
        self.measured: Profile
        self.table: PlanTable
        self.runtime: LocalRuntime
        self.driver: Driver
        self.door: HttpDoor
        self.server: Server
        self.addresses: Addresses
        self.log: LogWriter
        self.device_class = ""
        self._planner: ProcessPlanner | None = None

    @classmethod
    async def open(cls, options: ServeOptions) -> "Serving":
        """Import the app in a zygote, check its profile, plan, start its instances and listen.

        Raises:
            GrainwiseError: the app, the profile, an option or the machine does not permit it; nothing is left running.
        """
        serving = cls(options)
        try:
            await serving._open()
        except BaseException:
            await serving.close()
            raise
        return serving

    async def _open(self) -> None:
        options = self.options
        self.driver = Driver(self.controller)
        self.runtime = await LocalRuntime.open(options.app_path, post=self.driver.post, arena_mib=options.arena_mib)
        declared = self.runtime.spec
        self.measured, self.device_class = find_profile(options.app_path, declared, options.profile, options.accept_profile)
        spec = declared
        if options.slo_ms is not None:
            spec = msgspec.structs.replace(declared, slo=Slo(options.slo_ms, declared.slo.target))
        self.spec = spec
        node = this_node(reserve_cores=options.reserve_cores)
        self._planner = ProcessPlanner(make_plan, self.driver.post)
        problem = self.problem(node, options.rate_per_s, read_grain(spec, options.grain))
        refuse_untrained(problem)
        answer = await self._planner.solve(problem)
        if answer.table is None:
            raise CapacityError(f"no first plan for {spec.name!r}: {answer.error}")
        self.table = answer.table
        folder = options.log if options.log is not None else default_log_folder(options.app_path)
        note = f"grainwise serve {options.app_path.name}"
        self.log = LogWriter(folder, note=note, digests=self._digests(problem.model))
        store = self.runtime.store
        self.door = HttpDoor(store, self.driver.now)
        self.door.attach(self.driver.post)
        self.driver.attach(runtime=self.runtime, store=store, door=self.door, planner=self._planner, log=self.log)
        counters = HttpCounters()
        metrics = Metrics(
            self.recorder,
            counters,
            status=self.controller.status,
            payload_bytes=lambda: store.live_bytes,
            clock=self.driver.now,
        )
        self.driver.observe(self.recorder.observe)
        if self.monitor is not None:
            self.driver.observe(self._check)
        self.driver.post(CapacityChanged((node,)))
        self.driver.post(
            AppDeployed(
                spec,
                problem.model,
                problem.hop,
                problem.workload,
                self.table.winner.plan,
                self.runtime.capabilities,
                problem.prices,
                options.config,
            )
        )
        self.server = Server(
            (spec,),
            store,
            self.door,
            host=options.host,
            port=options.port,
            limits=self._limits(),
            admin_backend=self,
            admin_listen=options.admin,
            is_ready=lambda app: self.controller.status(app).is_ready,
            counters=counters,
            exposition=metrics.expose,
        )
        self.addresses = await self.server.start()

    def problem(self, node: Node, rate_per_s: float, grain: Grain | None) -> Problem:
        """The planning problem of this app on this machine."""
        return problem_of(
            self.spec,
            self.measured,
            Machines((node,), self.runtime.capabilities),
            rate_per_s=rate_per_s,
            objective=self.options.objective,
            grain=grain,
            config=self.options.config,
        )

    def _limits(self) -> Limits:
        """The limits of the door; a body that an arena could never hold is too large, and no later time is better."""
        limits = self.options.limits
        most = min(limits.max_body_bytes, self.runtime.capabilities.payload_limit_bytes)
        return msgspec.structs.replace(limits, max_body_bytes=most)

    def _check(self, event: object, actions: object, now: int) -> None:
        if self.monitor is not None:
            self.monitor.observe(event, actions, now)  # type: ignore[arg-type]
            check_state(self.controller, self.monitor)

    def _digests(self, model: LatencyModel) -> dict[str, str]:
        """What this run is made of, for the headers of its log."""
        return {
            "app": self.spec.digest,
            "source": self.spec.source_digest,
            "profile": digest(self.measured),
            "plan": self.table.winner.plan.id,
            "config": _digest_of(self.options.config),
            "policy": self.options.config.policies,
            "evaluator": self.options.config.evaluator,
            "predictor": _digest_of(model),
            "device_class": self.device_class,
            "profile_device_class": self.measured.device_class,
            "profile_is_of_this_machine": "yes" if self.measured.device_class == self.device_class else "no, accepted",
        }

    async def ready(self, timeout_s: float = 120.0) -> None:
        """Wait until every function of the plan has an instance that serves, or until ``drain`` is called.

        Raises:
            CapacityError: instances do not start, or not in time.
        """
        settled = asyncio.Event()
        state = self.controller.state.apps[self.spec.name]

        def look(*_: object) -> None:
            if self._is_ready() or state.starts_failed >= GIVE_UP_STARTS:
                settled.set()

        self.driver.observe(look)
        look()
        waits = [asyncio.ensure_future(event.wait()) for event in (settled, self._stop)]
        try:
            done, _ = await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.driver.unobserve(look)
            for wait in waits:
                wait.cancel()
        if self.is_stopping or self._is_ready():
            return
        if not done:
            raise CapacityError(f"the instances of {self.spec.name!r} were not ready within {timeout_s:.0f} s")
        raise CapacityError(f"the instances of {self.spec.name!r} do not start: {state.last_start_error}")

    def _is_ready(self) -> bool:
        return self.controller.status(self.spec.name).is_ready

    @property
    def is_stopping(self) -> bool:
        """Whether ``drain`` has been called."""
        return self._stop.is_set()

    # AdminBackend

    def status(self) -> ServerStatus:
        """See ``ServerStatus``."""
        sums = self.recorder.apps.get(self.spec.name)
        predictions = sums.stage_accuracy() if sums is not None else ()
        return ServerStatus(
            app=self.spec.name,
            uptime_s=round(time.monotonic() - self._began, 3),
            in_flight=self.door.in_flight,
            is_draining=self.door.is_draining,
            memory_mib=round(psutil.Process().memory_info().rss / 1048576, 1),
            live_bytes=self.runtime.store.live_bytes,
            copied_bytes=self.runtime.store.copied_bytes,
            log=str(self.log.folder),
            share_mechanism=self.runtime.capabilities.share_mechanism,
            device_class=self.device_class,
            profile_device_class=self.measured.device_class,
            profile_is_of_this_machine=self.measured.device_class == self.device_class,
            cost=self._cost(),
            control=control_status(self.options.config, self.controller.status(self.spec.name)),
            profile_is_stale=any(each.is_stale for each in predictions),
            predictions=predictions,
        )

    def _cost(self) -> CostStatus:
        sums = self.recorder.apps.get(self.spec.name)
        if sums is None:
            return CostStatus(0.0, 0.0, NOMINAL_PRICES.source)
        return CostStatus(sums.billed_usd, self.recorder.provisioned_usd(sums, self.driver.now()), NOMINAL_PRICES.source)

    def plan(self, app: str) -> object:
        """The plan, a change under way, instances and queues."""
        return self.controller.status(app)

    def plan_table(self, app: str) -> object:
        """The latest table of the planner."""
        return self.controller.state.apps[app].last_table or self.table

    def profile(self, app: str) -> object:
        """The profile that the app is served with."""
        return self.measured

    def log_tail(self, entries: int) -> Iterable[object]:
        """The latest entries of the log."""
        return self.log.tail(entries)

    def request_plan(self, app: str, grain: Grain | None) -> None:
        """Ask for a plan."""
        self.driver.post(PlanRequested(app, "the admin API", grain))

    def drain(self) -> None:
        """Begin to stop."""
        self._stop.set()

    async def stopped(self, on_drain: Callable[[], None] = lambda: None, drain_s: float = 30.0) -> None:
        """Wait until ``drain`` is called, then refuse new requests and wait for those in flight."""
        await self._stop.wait()
        on_drain()
        await self.server.drain(drain_s)

    async def close(self) -> None:
        """End the listeners, the instances, the planner and the log. Idempotent."""
        if hasattr(self, "server"):
            await self.server.stop()
        if hasattr(self, "driver"):
            self.driver.close()
        if self._planner is not None:
            await self._planner.close()
        if hasattr(self, "runtime"):
            await self.runtime.close()
        if hasattr(self, "log"):
            self.log.close()


def _digest_of(value: Struct) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:16]


def default_log_folder(app_path: Path) -> Path:
    """A fresh folder beside the app file; only the latest few logs are kept."""
    parent = app_path.resolve().parent / ".grainwise" / "logs"
    old = sorted(path for path in parent.glob("*") if path.is_dir())
    for folder in old[: max(0, len(old) - KEPT_LOGS + 1)]:
        for segment in segments_in(folder):
            segment.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    return parent / datetime.now().astimezone().strftime("%Y%m%d-%H%M%S-%f")
