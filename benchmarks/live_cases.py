"""What live runs are about: apps with their requests and right answers, their arrivals, and their twins in simulation."""

import json
import math
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from grainwise.cli.calibrate_twin import Twin
from grainwise.cli.load_generator import Call
from grainwise.domain.config import AppConfig
from grainwise.domain.plan import Plan
from grainwise.domain.time import SECOND, Instant
from grainwise.planning.problem import Problem
from grainwise.simulation.run import START, Scenario, Simulation
from grainwise.telemetry.run_recorder import RunRecorder
from grainwise.workloads.arrivals import Phase, arrivals
from grainwise.workloads.traffic import Arrival

NEAR = 1e-3
"""Floats of an answer may differ by so much from those of the flow in plain Python, which runs other batches."""


class Exchange(Struct, frozen=True):
    """A request and the output that is right."""

    body: bytes
    content_type: str
    wanted: object


class Case(Struct, frozen=True):
    """One app with all that its runs have in common. ``plans`` are of every granularity, the planner's first choice first."""

    path: Path
    exchanges: tuple[Exchange, ...]
    problem: Problem
    plans: tuple[Plan, ...]
    twin: Twin
    rate_per_s: float
    capacity_per_s: float
    phases: tuple[tuple[float, float], ...]

    @property
    def name(self) -> str:
        """Of the app."""
        return self.problem.app.name

    def arrivals(self, seed: int) -> list[Instant]:
        """When requests are due in a round, in microseconds."""
        phases = tuple(Phase(load * self.capacity_per_s, round(seconds * SECOND)) for load, seconds in self.phases)
        return list(arrivals(phases, "poisson", seed))


def exchanges_of(path: Path) -> tuple[Exchange, ...]:
    """What is posted and what is right: known text for OCR, for vision what the flow says in plain Python."""
    sys.path.insert(0, str(path.parent))
    if path.parent.name == "ocr":
        from pictures import pictures

        return tuple(Exchange(each.content, each.media_type, list(each.expected)) for each in pictures())
    from scenes import scenes

    flow = runpy.run_path(str(path))[path.stem]
    return tuple(Exchange(each.tobytes(), "application/octet-stream", msgspec.to_builtins(flow(each))) for each in scenes())


def calls_of(exchanges: Sequence[Exchange], server: str, app: str) -> list[Call]:
    """Requests to an app of a server, with a judge of each answer."""
    url = f"{server}/v1/apps/{app}"
    return [Call(url, each.body, each.content_type, _judge(each.wanted)) for each in exchanges]


def _judge(wanted: object) -> Callable[[bytes], bool]:
    return lambda body: _is_alike(next(iter(json.loads(body)["outputs"].values()), None), wanted)


def _is_alike(found: object, wanted: object) -> bool:
    """Whether two JSON values are the same but for the last digits of their floats."""
    match found, wanted:
        case (dict(), dict()):
            return found.keys() == wanted.keys() and all(_is_alike(found[key], wanted[key]) for key in wanted)
        case (list(), list()):
            return len(found) == len(wanted) and all(map(_is_alike, found, wanted))
        case (float(), float()):
            return math.isclose(found, wanted, abs_tol=NEAR)
    return found == wanted


def simulate(case: Case, plan: Plan, config: AppConfig, seeds: Sequence[int]) -> tuple[float, float]:
    """Attainment and provisioned USD per hour of a fixed granularity, simulated under the arrivals of these rounds."""
    met = offered = 0
    usd = hours = 0.0
    kinds = len(case.twin.app.kinds)
    app = case.twin.app.with_plan(plan, config)
    for seed in seeds:
        instants = case.arrivals(seed)
        recorder = RunRecorder("simulated", start=START)
        simulation = Simulation(
            Scenario(case.twin.cluster, (app,), round(sum(seconds for _, seconds in case.phases) * SECOND), seed),
            (Arrival(at, case.name) for at in instants),
            kind_of=lambda number: (number - 1) % kinds,
            observers=(recorder.observe,),
        )
        simulation.run()
        found = recorder.result()
        of = found.app(case.name)
        met, offered = met + of.met, offered + of.offered
        usd, hours = usd + of.cost.provisioned_usd, hours + found.duration_s / 3600
    return round(met / max(1, offered), 5), round(usd / hours, 6)
