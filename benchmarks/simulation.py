"""An hour of 50 requests/s through four functions in virtual time, beside a bare SimPy queueing model of the same system.

The SimPy model has no controller, no policies, no payloads: four servers in a row and the same draws. What the simulator needs
beyond the product's controller, its world, is measured as the difference between a run and a replay of its events through a
fresh controller.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import simpy

from benchmarks.measuring import Check, ForeignLoad, Result, Table, now_text, this_machine
from grainwise.control.actions import Action
from grainwise.control.controller import Controller
from grainwise.control.events import Event
from grainwise.domain.app import AppSpec, Slo, StageSpec
from grainwise.domain.config import AppConfig
from grainwise.domain.graph import Graph, Input, Output, StageNode
from grainwise.domain.machine import HopModel, Node
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.domain.time import SECOND, Instant
from grainwise.domain.values import ValueType
from grainwise.predictors.latency import ColdStartModel, LatencyModel, StageModel
from grainwise.predictors.workload import Workload
from grainwise.reports.rows import ParquetRequests
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.cluster import Cluster, ClusterNode, Network
from grainwise.simulation.contents import Kind
from grainwise.simulation.run import Scenario, Simulation
from grainwise.simulation.service import ServiceTimes, duration_us
from grainwise.telemetry.run_recorder import RunRecorder
from grainwise.workloads.arrivals import Phase, arrivals
from grainwise.workloads.traffic import Arrival

STAGES = 4
RATE_PER_S = 50.0
SERVICE_US = 10_000.0
HOUR_S = 3600
LIMIT_S = 40.0
REPLICATIONS = 8
TEXT = ValueType("text", "str")
RESIDUAL_FACTORS = tuple(0.5 + at / 100 for at in range(101))


def simulated_chain(seconds: int, seed: int = 1) -> tuple[Scenario, Iterator[Arrival]]:
    """The scenario and its arrivals: each stage a function of one instance that takes 10 ms on the mean."""
    names = [f"stage{index}" for index in range(STAGES)]
    nodes = tuple(StageNode(name, name, (Input(0) if index == 0 else Output(index - 1),)) for index, name in enumerate(names))
    graph = Graph(("text",), nodes, (), (Output(STAGES - 1),), ("result",))
    stages = tuple(StageSpec(name, (TEXT,), TEXT) for name in names)
    spec = AppSpec("chain", Slo(200.0), graph, stages, (TEXT,), (TEXT,), "", "chain")
    stage = StageModel(SERVICE_US, 0.0, 0.0, (1.0,), (1.0,), (1.0,) * 7, 0.0, 10.0, 1000.0, 1000.0)
    one = (1.0,) * STAGES
    app = SimulatedApp(
        spec,
        LatencyModel((stage,) * STAGES, ColdStartModel(1000.0, 0.0), "bench", "bench"),
        HopModel(100.0, 10.0, 10.0, 0.0, 10.0),
        Workload(RATE_PER_S, one, one, (1000.0,) * STAGES, (1000.0,)),
        (Kind((1,) * STAGES, one, (1000,) * STAGES, (1000,)),),
        Plan("chain", tuple(FunctionPlan((name,), 1.0, 1, 1, 1, 1) for name in names)),
        residuals=(RESIDUAL_FACTORS,) * STAGES,
        config=AppConfig(replan_us=0),
    )
    cluster = Cluster("bench", (ClusterNode(Node("here", float(STAGES), 16_000.0)),), Network("here"))
    scenario = Scenario(cluster, (app,), seconds * SECOND, seed)
    instants = arrivals((Phase(RATE_PER_S, seconds * SECOND),), "poisson", seed)
    return scenario, (Arrival(at, "chain") for at in instants)


def simulate(seconds: int, seed: int = 1, requests: Path | None = None, is_recorded: bool = True) -> tuple[int, int]:
    """Run the scenario; requests and events."""
    scenario, traffic = simulated_chain(seconds, seed)
    if not is_recorded:
        simulation = Simulation(scenario, traffic)
        simulation.run()
    elif requests is None:
        simulation = Simulation(scenario, traffic, observers=(RunRecorder("simulated").observe,))
        simulation.run()
    else:
        with ParquetRequests(requests) as rows:
            recorder = RunRecorder("simulated", on_request=rows.append)
            simulation = Simulation(scenario, traffic, observers=(recorder.observe,))
            simulation.run()
    return simulation.offered, simulation.loop.events


def simpy_model(seconds: int, seed: int = 1) -> int:
    """The same queues, arrivals and draws in SimPy, without a controller; how many requests ended."""
    scenario, traffic = simulated_chain(seconds, seed)
    environment = simpy.Environment()
    servers = [simpy.Resource(environment, 1) for _ in range(STAGES)]
    simulated = scenario.apps[0]
    service = ServiceTimes(simulated.model, (1,) * STAGES, simulated.residuals, seed)
    calls = [service.calls(stage, 1, 1.0, 1.0, 1.0)[0] for stage in range(STAGES)]
    hop = int(simulated.hop.latency_us(1000))
    ended = [0]

    def request(number: int) -> Iterator[object]:
        luck = service.luck(number)
        for stage, server in enumerate(servers):
            with server.request() as turn:
                yield turn
                yield environment.timeout(hop + duration_us(calls[stage], luck))
        ended[0] += 1

    def source() -> Iterator[object]:
        for number, arrival in enumerate(traffic):
            yield environment.timeout(arrival.at - environment.now)
            environment.process(request(number))

    environment.process(source())
    environment.run()
    return ended[0]


class Tape:
    """Keeps the events of a run, to feed them to a fresh controller."""

    def __init__(self) -> None:
        self.entries: list[tuple[Event, Instant]] = []

    def observe(self, event: Event, actions: list[Action], now: Instant) -> None:
        self.entries.append((event, now))


def controller_alone(seconds: int) -> float:
    """CPU seconds that the controller needs for the events of a run."""
    scenario, traffic = simulated_chain(seconds)
    tape = Tape()
    Simulation(scenario, traffic, observers=(tape.observe,)).run()
    controller = Controller()
    handle = controller.handle
    began = time.process_time()
    for event, now in tape.entries:
        handle(event, now)
    return time.process_time() - began


def timed(call: object, *arguments: object) -> float:
    """CPU seconds of a call."""
    began = time.process_time()
    call(*arguments)  # type: ignore[operator]
    return time.process_time() - began


def in_a_process(seconds: int) -> dict[str, float]:
    """One run with requests streamed to Parquet in a process of its own: seconds and peak memory."""
    command = [sys.executable, "-m", "benchmarks.simulation", str(seconds)]
    return dict(json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout))


def replications(seconds: int, processes: int) -> float:
    """Wall seconds of eight replications."""
    began = time.monotonic()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(simulate, [seconds] * REPLICATIONS, range(1, REPLICATIONS + 1)))
    return time.monotonic() - began


def measure(is_quick: bool) -> Result:
    """Shares by turns on a part of the hour, then the whole hour and its tenth in processes of their own, then replications."""
    part, rounds, hour = (20, 3, 120) if is_quick else (300, 5, HOUR_S)
    simulate(5)
    simpy_model(5)
    found: dict[str, list[float]] = {"whole": [], "recorded not": [], "controller": [], "simpy": []}
    foreign = ForeignLoad()
    for _ in range(rounds):
        foreign.begin()
        found["whole"].append(timed(simulate, part))
        found["recorded not"].append(timed(simulate, part, 1, None, False))
        found["controller"].append(controller_alone(part))
        found["simpy"].append(timed(simpy_model, part))
        foreign.end()
    kept = foreign.kept()
    mean = {name: statistics.median(values[at] for at in kept) for name, values in found.items()}
    worlds = [found["recorded not"][at] - found["controller"][at] for at in kept]
    ratios = [world / found["simpy"][at] for world, at in zip(worlds, kept, strict=True)]
    world, ratio = statistics.median(worlds), statistics.median(ratios)
    requests = RATE_PER_S * part
    whole = in_a_process(hour)
    tenth = in_a_process(hour // 10)
    one, two = replications(part, 1), replications(part, 2)
    per = 1e6 / requests
    table = Table(
        f"{part} s of {RATE_PER_S:g} requests/s through {STAGES} functions, CPU time",
        ("what", "s", "us per request"),
        (
            ("simulator with its report", f"{mean['whole']:.2f}", f"{mean['whole'] * per:.0f}"),
            ("of which the product's controller", f"{mean['controller']:.2f}", f"{mean['controller'] * per:.0f}"),
            ("of which the world", f"{world:.2f}", f"{world * per:.0f}"),
            ("of which the report", f"{mean['whole'] - mean['recorded not']:.2f}",
             f"{(mean['whole'] - mean['recorded not']) * per:.0f}"),
            ("bare SimPy model, no policies", f"{mean['simpy']:.2f}", f"{mean['simpy'] * per:.0f}"),
        ),
        f"simulated; median of the quieter of {rounds} rounds, everything in turn",
    )  # fmt: skip
    runs = Table(
        "Whole runs with requests streamed to Parquet, and replications",
        ("run", "requests", "CPU s", "wall s", "peak MiB"),
        (
            (f"{hour} s", f"{whole['requests']:.0f}", f"{whole['cpu_s']:.1f}", f"{whole['wall_s']:.1f}", f"{whole['mib']:.0f}"),
            (f"{hour // 10} s", f"{tenth['requests']:.0f}", f"{tenth['cpu_s']:.1f}", f"{tenth['wall_s']:.1f}",
             f"{tenth['mib']:.0f}"),
            (f"{REPLICATIONS} of {part} s, one process", f"{REPLICATIONS * requests:.0f}", "", f"{one:.1f}", ""),
            (f"{REPLICATIONS} of {part} s, two processes", f"{REPLICATIONS * requests:.0f}", "", f"{two:.1f}", ""),
        ),
    )  # fmt: skip
    checks = (
        Check(f"{hour} s of {RATE_PER_S:g} requests/s, CPU", f"{whole['cpu_s']:.1f} s", f"<= {LIMIT_S * hour / HOUR_S:g} s",
              whole["cpu_s"] <= LIMIT_S * hour / HOUR_S),
        Check("the world against the bare SimPy model", f"{ratio:.2f} x", "<= 1 x", ratio <= 1.0),
        Check("peak memory, ten times the length", f"{whole['mib'] / tenth['mib']:.2f} x", "<= 1.1 x",
              whole["mib"] <= 1.1 * tenth["mib"]),
        Check("eight replications, two processes against one", f"{one / two:.2f} x as fast", ">= 1.5 x", one / two >= 1.5),
    )  # fmt: skip
    data: dict[str, object] = {"cpu_s": found, "whole": whole, "tenth": tenth, "replications_s": [one, two]}
    return Result(
        "simulation", now_text(), this_machine(), is_quick, round(foreign.median, 3), (table, runs), checks, data
    )  # fmt: skip


def main() -> None:
    """One run in this process, for ``in_a_process``."""
    seconds = int(sys.argv[1])
    began, cpu = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        requests, events = simulate(seconds, requests=Path(folder) / "requests.parquet")
    figures = {
        "requests": requests,
        "events": events,
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.monotonic() - began,
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
