"""A trial: one scenario under one traffic, run to its result. Plain data, so that another process can run it."""

import heapq
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct

from grainwise.control.actions import Action
from grainwise.control.controller import Controller
from grainwise.control.events import Event
from grainwise.domain.time import Instant
from grainwise.planning.problem import PlanTable, Problem
from grainwise.planning.table import compute
from grainwise.reports.rows import open_requests
from grainwise.simulation.log_file import END, NOTES, ORIGIN, TENANTS, LogFile
from grainwise.simulation.loop import Observer
from grainwise.simulation.run import START, Scenario, Simulation
from grainwise.telemetry.request_rows import RequestRow
from grainwise.telemetry.result import RunResult
from grainwise.telemetry.run_recorder import RunRecorder
from grainwise.workloads.recorded import TraceSource
from grainwise.workloads.traffic import Arrival, Traffic, open_arrivals
from grainwise.workloads.users import UserPool

Progress = Callable[[float], None]


class Trial(Struct, frozen=True):
    """What is run and what it is called in its result.

    ``policy`` names the setting. ``log`` is an empty folder and ``requests`` a file that this trial alone writes.
    """

    scenario: Scenario
    traffic: Traffic
    policy: str
    hardware: str
    digests: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    requests: Path | None = None
    log: Path | None = None


def run_trial(
    trial: Trial,
    traces: TraceSource,
    on_progress: Progress | None = None,
    compute: Callable[[Problem], PlanTable] = compute,
    observers: tuple[Observer, ...] = (),
) -> RunResult:
    """Run a trial; memory does not grow with the number of requests.

    Args:
        trial: what is run.
        traces: where the traffic's traces are.
        on_progress: called now and then with the fraction that is over.
        compute: answers planning problems; ``planners.plan`` asks the evaluator that an app names, the search alone does not.
        observers: see every event as well, from the first start on.

    Raises:
        CapacityError: an app does not become ready on the cluster.
        GrainwiseError: a trace or a file cannot be used.
    """
    scenario, traffic = trial.scenario, trial.traffic
    users = UserPool(traffic, traces)
    tenants = _Tenants(traffic)
    with ExitStack() as files:
        on_request: Callable[[RequestRow], None] | None = None
        if trial.requests is not None:
            on_request = files.enter_context(open_requests(trial.requests)).append
        log = files.enter_context(_DeferredLog(trial)) if trial.log is not None else None
        watch = _Watch(on_request, tenants.of if tenants else None)
        simulation = Simulation(
            scenario,
            _arrivals(traffic, users, scenario.seed, traces),
            on_end=lambda arrival, now: users.next(arrival.user, now) if arrival.user >= 0 else None,
            on_offer=tenants.offer if tenants else None,
            append=log.append if log is not None else None,
            observers=(watch.observe, *observers),
            compute=compute,
        )
        watch.simulation = simulation
        if log is not None:
            log.simulation = simulation
        simulation.run(on_progress)
        return watch.recorder().result(
            end=simulation.origin + scenario.duration_us,
            hardware=trial.hardware,
            seed=scenario.seed,
            policy=trial.policy,
            cluster=scenario.cluster.name,
            workload=traffic.name,
            versions={"grainwise": version("grainwise")},
            digests=trial.digests,
            notes=trial.notes + _inflicted(simulation),
        )


def _inflicted(simulation: Simulation) -> tuple[str, ...]:
    """How many of the planned failures came to something, in words."""
    if not simulation.scenario.failures.entries:
        return ()
    struck, missed = simulation.failing.struck, simulation.failing.missed
    return (f"{struck} failure{'' if struck == 1 else 's'} struck, {missed} found nothing to strike",)


def _arrivals(traffic: Traffic, users: UserPool, seed: int, traces: TraceSource) -> Iterator[Arrival]:
    """Open arrivals, and the first request of every user."""
    return heapq.merge(open_arrivals(traffic, seed, traces), users.first(seed), key=lambda arrival: arrival.at)


class _Tenants:
    """Names the tenant of each request: it is known when the request is offered and asked for when it arrives."""

    def __init__(self, traffic: Traffic) -> None:
        self._names = [stream.tenant for stream in traffic.streams]
        self._on_its_way: dict[int, str] = {}

    def __bool__(self) -> bool:
        return any(self._names)

    def offer(self, request: int, arrival: Arrival) -> None:
        """A request is on its way."""
        self._on_its_way[request] = self._names[arrival.stream]

    def of(self, request: int) -> str:
        """Its tenant, once."""
        return self._on_its_way.pop(request)


class _Watch:
    """Holds what happens until it is known when traffic begins, and tells the recorder from then on."""

    def __init__(self, on_request: Callable[[RequestRow], None] | None, tenant_of: Callable[[int], str] | None) -> None:
        self.simulation: Simulation
        self._on_request = on_request
        self._tenant_of = tenant_of
        self._held: list[tuple[Event, list[Action], Instant]] = []
        self._recorder: RunRecorder | None = None

    def observe(self, event: Event, actions: list[Action], now: Instant) -> None:
        """An observer of the loop."""
        if self._recorder is not None:
            self._recorder.observe(event, actions, now)
        elif not self.simulation.origin:
            self._held.append((event, actions, now))
        else:
            self.recorder().observe(event, actions, now)

    def recorder(self) -> RunRecorder:
        """The recorder, with everything that has happened."""
        if self._recorder is None:
            warmup_us = self.simulation.origin - START
            self._recorder = RunRecorder(
                "simulated", on_request=self._on_request, start=START, warmup_us=warmup_us, tenant_of=self._tenant_of
            )
            for held in self._held:
                self._recorder.observe(*held)
            self._held.clear()
        return self._recorder


class _DeferredLog:
    """Opens the log once it is known when traffic begins, so that its header says so; until then it keeps the entries."""

    def __init__(self, trial: Trial) -> None:
        self.simulation: Simulation
        self._trial = trial
        self._held: list[tuple[int, Instant, Event, list[Action]]] = []
        self._file: LogFile | None = None

    def append(self, seq: int, now: Instant, event: Event, actions: list[Action], controller: Controller) -> None:
        """Takes entries of the loop."""
        if self._file is not None:
            self._file.append(seq, now, event, actions, controller)
            return
        self._held.append((seq, now, event, actions))
        if self.simulation.origin:
            self._begin()

    def _begin(self) -> None:
        trial = self._trial
        if trial.log is None:
            return
        origin = self.simulation.origin
        tenants = sorted({stream.tenant for stream in trial.traffic.streams if stream.tenant})
        self._file = LogFile(
            trial.log,
            seed=trial.scenario.seed,
            note=f"grainwise simulate, {trial.policy} on {trial.scenario.cluster.name}, {trial.traffic.name}",
            digests={
                **trial.digests,
                **({NOTES: "\n".join(trial.notes)} if trial.notes else {}),
                **({TENANTS: ", ".join(tenants)} if tenants else {}),
                "kind": "simulated",
                "hardware": trial.hardware,
                "policy": trial.policy,
                "cluster": trial.scenario.cluster.name,
                "workload": trial.traffic.name,
                ORIGIN: str(origin),
                END: str(origin + trial.scenario.duration_us if origin else 0),
            },
        )
        for held in self._held:
            self._file.append(*held, None)
        self._held.clear()

    def __enter__(self) -> "_DeferredLog":
        return self

    def __exit__(self, *_: object) -> None:
        # What an app did that never became ready is worth a log as well.
        if self._file is None:
            self._begin()
        if self._file is not None:
            self._file.close()
