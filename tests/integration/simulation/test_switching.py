"""A square wave around a crossover, planned and re-granulated by the real planner: no request is torn by a change.

At the low rate one function is cheapest; at the high one so many of its instances do not fit into memory. Simulated, with what
a change costs and without.
"""

from collections.abc import Iterator

import msgspec
import pytest
from msgspec import Struct

from grainwise.control.actions import Action, Invoke
from grainwise.control.events import Event, InvocationDone
from grainwise.control.invariants import Monitor, check_state
from grainwise.domain.app import Slo
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import HopModel, Node, Prices
from grainwise.domain.time import SECOND, Instant
from grainwise.planning.problem import Problem
from grainwise.predictors.latency import ColdStartModel
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.cluster import Cluster, ClusterNode
from grainwise.simulation.planners import plan
from grainwise.simulation.run import START, Scenario, Simulation
from grainwise.telemetry.result import AppResult
from grainwise.telemetry.run_recorder import RunRecorder
from grainwise.workloads.processes import StepPhase, Steps
from grainwise.workloads.recorded import Recorded
from grainwise.workloads.traffic import Arrival, Stream, Traffic, open_arrivals
from worlds.apps import Stages
from worlds.simulated import cluster, simulated

SERVICE_US = (24_000.0, 96_000.0, 40_000.0)
MEMORY_MIB = (500.0, 50.0, 500.0)
NOISE = (0.7, 0.85, 1.0, 1.1, 1.35)
CORES = 6.0
RATES = (0.15 * CORES / 0.16, 0.5 * CORES / 0.16)
HALF_S, HALVES, DWELL_S = 60, 3, 30


class Ran(Struct):
    """What a run showed: the plan that each request was given, the stages that ran for it, and the result."""

    plans: dict[int, str]
    stages: dict[int, int]
    followed: set[str]
    result: AppResult


def no_trace(name: str, column: str | None) -> Recorded:
    raise AssertionError(f"{name} is not asked for")


def made(policies: str, *, is_charged: bool) -> tuple[SimulatedApp, Cluster]:
    s = Stages("three", 1, 400.0)

    @s.app.flow
    def flow(value: int) -> int:
        return s.negate(s.double(s.plus_one(value)))

    on = cluster(ClusterNode(Node("box", CORES, 3_600.0)))
    on = msgspec.structs.replace(on, prices=Prices("made: a GiB costs half a core", 0.04, 0.02))
    app = simulated(s.app, service_us=SERVICE_US, residuals=(NOISE,) * 3, hop=HopModel(800.0, 0.0, 240.0, 0.0, 20.0))
    load_us = 500_000.0 if is_charged else 0.0
    stages = tuple(
        msgspec.structs.replace(
            stage, memory_mib=memory, load_us=load_us, first_call_us=0.0,
            residual_quantiles=(0.7, 0.85, 1.0, 1.1, 1.2, 1.35, 1.35),
        )
        for stage, memory in zip(app.model.stages, MEMORY_MIB, strict=True)
    )  # fmt: skip
    cold = ColdStartModel(200_000.0, 300_000.0) if is_charged else ColdStartModel(0.0, 0.0)
    model = msgspec.structs.replace(app.model, stages=stages, cold=cold)
    spec = msgspec.structs.replace(app.spec, slo=Slo(400.0, 0.95))
    workload = msgspec.structs.replace(app.workload, rate_per_s=RATES[0])
    problem = Problem(
        0, spec, model, app.hop, workload, on.domain_nodes, on.capabilities, on.prices,
        policies=policies, is_stagewise=policies == "adaptive",
    )  # fmt: skip
    config = AppConfig(policies=policies, dwell_us=DWELL_S * SECOND)
    app = msgspec.structs.replace(app, spec=spec, model=model, workload=workload, config=config)
    return app.with_plan(plan(problem).winner.plan, config), on


def square_wave() -> Iterator[Arrival]:
    phases = tuple(StepPhase(rate, HALF_S) for rate in RATES)
    return open_arrivals(Traffic("square", (Stream("three", Steps(phases, repeat=True)),), HALF_S * HALVES), 1, no_trace)


def run(policies: str, *, is_charged: bool) -> Ran:
    """One run, each of whose events is checked against the invariants, the whole state at every hundredth."""
    app, on = made(policies, is_charged=is_charged)
    monitor = Monitor()
    held: list[tuple[Event, list[Action], Instant]] = []
    plans: dict[int, str] = {}
    stages: dict[int, int] = {}
    followed: set[str] = set()
    running: dict[int, Invoke] = {}

    def see(event: Event, actions: list[Action], now: Instant) -> None:
        monitor.observe(event, actions, now)
        held.append((event, actions, now))
        state = simulation.controller.state
        if len(held) % 100 == 0:
            check_state(simulation.controller, monitor)
            for number, request in state.requests.items():
                assert plans.setdefault(number, request.plan) == request.plan
        for action in actions:
            if isinstance(action, Invoke):
                running[action.invocation] = action
                for item in action.items:
                    request = state.requests[item.request]
                    assert plans.setdefault(item.request, request.plan) == request.plan
                    followed.add(request.plan)
        if isinstance(event, InvocationDone):
            done = running.pop(event.invocation)
            for item in done.items:
                assert not stages.get(item.request, 0) & done.extent, "a stage ran twice"
                stages[item.request] = stages.get(item.request, 0) | done.extent

    scenario = Scenario(on, (app,), HALF_S * HALVES * SECOND, 1)
    simulation = Simulation(scenario, square_wave(), observers=(see,), compute=plan)
    simulation.run()
    recorder = RunRecorder("simulated", start=START, warmup_us=simulation.origin - START)
    for entry in held:
        recorder.observe(*entry)
    result = recorder.result(end=simulation.origin + HALF_S * HALVES * SECOND).apps[0]
    return Ran(plans, stages, followed, result)


@pytest.fixture(scope="module", params=["adaptive", "residency"])
def charged(request: pytest.FixtureRequest) -> Ran:
    return run(request.param, is_charged=True)


@pytest.fixture(scope="module")
def free() -> Ran:
    return run("adaptive", is_charged=False)


def check(ran: Ran) -> None:
    result = ran.result
    assert result.offered == len(ran.plans) == len(ran.stages) > 1500
    assert result.answered + sum(result.rejected.values()) == result.offered
    assert result.unfinished == 0
    whole = [number for number, stages in ran.stages.items() if stages == 0b111]
    assert len(whole) >= result.answered, "whoever was answered had every stage run once"
    changes = [change.at_s for change in result.regranulations]
    assert changes, "the wave crosses what a change is worth"
    assert len(ran.followed) >= 2
    halves = [int(at // HALF_S) for at in changes]
    assert len(set(halves)) == len(halves), f"more than one change within half a period: {changes}"


def test_every_request_runs_once_under_one_plan_across_changes(charged: Ran) -> None:
    check(charged)


def test_so_it_does_where_changes_are_free(free: Ran) -> None:
    check(free)
    assert free.result.cold_starts.process_ms == free.result.cold_starts.load_ms == 0.0


def test_both_bills_are_there(charged: Ran) -> None:
    assert charged.result.cold_starts.process_ms > 0
    assert charged.result.cold_starts.load_ms > 0
    assert charged.result.cost.provisioned_usd > 0
