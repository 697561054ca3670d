"""Every policy set decides differently from every other on some seeded scenario.

A scenario is a world and a seed. A set plans its app as ``simulation.planners.plan`` does and runs it; what it decided are the
functions of its plans and every action with its instant, without the facts by which actions are explained. No scenario tells
all apart: a set without batches differs only where there is something to batch, one without locality only on several machines.
"""

import importlib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations
from typing import Any, Literal

import msgspec
import pytest
from msgspec import Struct
from reproduce.granularity.recalled_shape import samples
from reproduce.granularity.worlds import Sharing, cluster
from threadpoolctl import threadpool_limits

from grainwise.control.actions import (
    Action,
    AdoptPlan,
    Invoke,
    KillInstance,
    LoadStages,
    Reject,
    StartInstance,
    StopInstance,
)
from grainwise.control.events import Event
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import HopModel
from grainwise.domain.plan import FunctionPlan
from grainwise.domain.time import SECOND, Instant
from grainwise.planning.problem import PlanTable, Problem
from grainwise.policies.sets import SETS
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.made_apps import Sample, made
from grainwise.simulation.planners import plan
from grainwise.simulation.run import Scenario, Simulation
from grainwise.workloads.integers import SplitMix64
from grainwise.workloads.processes import Poisson, StepPhase, Steps
from grainwise.workloads.traffic import Stream, Traffic, open_arrivals

HOP = HopModel(2000.0, 4000.0, 1000.0, 2000.0, 60.0)


class World(Struct, frozen=True):
    """A seeded scenario. ``slo_factor`` is of the time of all stages on one core; ``rates_per_s`` follow each other.

    ``is_split``: sets of our own begin split too, as the published ones always do. ``replan_us``: 0, nothing plans again.
    """

    name: str
    sample: Callable[[], Sample]
    nodes: int
    sharing: Sharing
    slo_factor: float
    rates_per_s: tuple[float, ...]
    objective: Literal["billed", "provisioned"]
    seed: int
    seconds: int = 6
    is_split: bool = False
    replan_us: int = 0


def on_cpu(seed: int) -> Callable[[], Sample]:
    return lambda: made(SplitMix64(seed))


def on_gpu(at: int) -> Callable[[], Sample]:
    return lambda: samples("gpu")[at]


WORLDS = (
    World("cores, split, loose, a burst, billed", on_cpu(2), 2, "cpu", 3.0, (8.0, 50.0), "billed", 2, 4, is_split=True),
    World("shares of devices, loose, provisioned", on_gpu(0), 2, "gpu_soft", 2.5, (3.0, 10.0), "provisioned", 15, 4),
    World("slices of devices, tight, four nodes", on_gpu(0), 4, "gpu_slices", 1.2, (4.0, 12.0), "billed", 14, 4),
    World("cores, looser, a larger burst", on_cpu(2), 2, "cpu", 4.0, (8.0, 60.0), "billed", 2, 4, is_split=True),
    World("a burst is over, planned again", on_cpu(2), 2, "cpu", 4.0, (16.0, 1.0, 1.0), "billed", 2, 18, True, 2 * SECOND),
)


class Decisions(Struct, frozen=True):
    """What a set decided: the functions that it began with, and every action with its instant."""

    plan: tuple[FunctionPlan, ...]
    actions: tuple[Any, ...]


def decided(action: Action) -> tuple[Any, ...] | None:
    """What an action decides, without why; ``None`` for those that carry out what was decided already."""
    match action:
        case Invoke():
            return "invoke", action.instance, action.extent, action.items, action.cpu_cores
        case StartInstance():
            return (
                "start", action.stages, action.node, action.cpu_cores, action.share, action.device, action.gpu_share_fraction,
                action.slice_start,
            )  # fmt: skip
        case StopInstance() | KillInstance():
            return "end", action.instance
        case LoadStages():
            return "load", action.instance, action.stages
        case AdoptPlan():
            return "adopt", action.plan.functions
        case Reject():
            return "reject", action.request, action.code
        case _:
            return None


@cache
def sample_of(at: int) -> Sample:
    world = WORLDS[at]
    sample = world.sample()
    alone_us = sum(stage.predict(1, 1.0, 1.0).mean_us for stage in sample.model.stages)
    slo = msgspec.structs.replace(sample.spec.slo, latency_ms=world.slo_factor * alone_us / 1000)
    workload = msgspec.structs.replace(sample.workload, rate_per_s=world.rates_per_s[0])
    spec = msgspec.structs.replace(sample.spec, slo=slo)
    return msgspec.structs.replace(sample, spec=spec, workload=workload, hop=HOP)


@cache
def _answer(problem: Problem) -> PlanTable:
    return plan(problem)


def answer(problem: Problem) -> PlanTable:
    """Plan as a door does. The search does not ask which set of our own it is for, so their equal questions are one."""
    if SETS[problem.policies].configure is None:
        problem = msgspec.structs.replace(problem, policies="adaptive")
    asked = msgspec.structs.replace(problem, number=0, now=0)
    return msgspec.structs.replace(_answer(asked), problem=problem.number)


@cache
def decisions(at: int, name: str) -> Decisions:
    """Plan and run a world under a set."""
    world, sample, machines = WORLDS[at], sample_of(at), cluster(WORLDS[at].nodes, WORLDS[at].sharing, HOP)
    problem = Problem(
        0, sample.spec, sample.model, sample.hop, sample.workload, machines.domain_nodes, machines.capabilities,
        machines.prices, world.objective, policies=name, is_stagewise=SETS[name].extent is not None,
        grain=tuple((node.name,) for node in sample.spec.graph.stages) if world.is_split else None,
    )  # fmt: skip
    first = msgspec.structs.replace(answer(problem).winner.plan, objective=world.objective)
    config = AppConfig(policies=name, replan_us=world.replan_us, dwell_us=2 * SECOND)
    app = SimulatedApp(
        sample.spec, sample.model, sample.hop, sample.workload, sample.kinds, first, sample.residuals, config, world.name
    )
    width = world.seconds / len(world.rates_per_s)
    arrivals: Poisson | Steps = Steps(tuple(StepPhase(rate, width) for rate in world.rates_per_s))
    traffic = Traffic(world.name, (Stream(sample.spec.name, arrivals),), world.seconds)
    found: list[Any] = []

    def see(event: Event, actions: list[Action], now: Instant) -> None:
        found.extend((now, each) for each in map(decided, actions) if each is not None)

    run = Simulation(
        Scenario(machines, (app,), world.seconds * SECOND, world.seed), open_arrivals(traffic, world.seed),
        observers=(see,), compute=answer,
    )  # fmt: skip
    run.run()
    return Decisions(first.functions, tuple(found))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The matrices of Aquatope's search are small: with a thread per core, threads mostly wait for one another."""
    importlib.import_module("sklearn.gaussian_process")
    with threadpool_limits(1):
        yield


def same_everywhere(one: str, other: str) -> bool:
    return all(decisions(at, one) == decisions(at, other) for at in range(len(WORLDS)))


def test_every_set_decides_differently_from_every_other() -> None:
    """Worlds are looked at in order until one tells two sets apart, so a failure has looked at all."""
    alike = [pair for pair in combinations(SETS, 2) if same_everywhere(*pair)]
    names = "; ".join(world.name for world in WORLDS)
    assert not alike, f"these decide the same in all of {names}: {alike}"


def test_a_set_decides_the_same_twice() -> None:
    again = decisions.__wrapped__
    for name in ("adaptive", "esg", "knative"):
        assert again(0, name) == decisions(0, name)
        assert decisions(0, name).actions
