"""``Controller.handle`` alone: microseconds per event with 4 stages, 16 instances and 500 queued requests, logging on.

    python benchmarks/controller.py [--requests 200000] [--repeats 5] [--json]

A chain of four stages, each a function of its own with four instances, on 16 cores. Whenever a request ends another arrives, so
500 always wait. What is timed is what the driver does for an event: ``handle`` and ``LogWriter.append``, whose thread encodes
and writes meanwhile. Required: at most 20 µs on the mean, and no growth with the number of finished requests.
"""

import argparse
import gc
import json
import platform
import statistics
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

from grainwise.control.actions import Invoke, Reject, Respond, StartInstance
from grainwise.control.controller import Controller
from grainwise.control.events import (
    AppDeployed,
    CapacityChanged,
    Event,
    InstanceReady,
    InvocationDone,
    ItemResult,
    RequestArrived,
    StageSpan,
)
from grainwise.domain.app import AppSpec, Slo, StageSpec
from grainwise.domain.config import AppConfig
from grainwise.domain.graph import Graph, Input, Output, StageNode
from grainwise.domain.machine import NOMINAL_PRICES, Capabilities, HopModel, Node
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.domain.values import Payload, Ref, ValueType
from grainwise.predictors.latency import ColdStartModel, LatencyModel, StageModel
from grainwise.predictors.workload import Workload
from grainwise.runtimes.log_writer import LogWriter

STAGES = 4
INSTANCES = 16
QUEUED = 500
LIMIT_US = 20.0
WINDOW = 20_000
TEXT = ValueType("text", "str")


def deployment(batch: int) -> AppDeployed:
    names = [f"stage{index}" for index in range(STAGES)]
    nodes = tuple(StageNode(name, name, (Input(0) if index == 0 else Output(index - 1),)) for index, name in enumerate(names))
    graph = Graph(("text",), nodes, (), (Output(STAGES - 1),), ("result",))
    stages = tuple(StageSpec(name, (TEXT,), TEXT, max_batch=batch) for name in names)
    spec = AppSpec("bench", Slo(60_000.0), graph, stages, (TEXT,), (TEXT,), "", "bench")
    stage = StageModel(500.0, 100.0, 0.0, (1.0,), (1.0,), (1.0,) * 7, 0.0, 10.0, 1000.0, 1000.0)
    model = LatencyModel((stage,) * STAGES, ColdStartModel(1000.0, 0.0), "bench", "bench")
    one = (1.0,) * STAGES
    each = INSTANCES // STAGES
    plan = Plan("bench", tuple(FunctionPlan((name,), 1.0, batch, each, each, each) for name in names))
    return AppDeployed(
        spec,
        model,
        HopModel(50.0, 0.0, 10.0, 0.0, 10.0),
        Workload(100.0, one, one, one, (1.0,)),
        plan,
        Capabilities("bench", "none", "invocation", False, 0.1, 1 << 30),
        NOMINAL_PRICES,
        AppConfig(max_requests=1_000_000, replan_us=0, patience_us=3_600_000_000),
    )


class Bench:
    """A closed loop around one controller."""

    def __init__(self, batch: int, folder: Path | None) -> None:
        self.controller = Controller()
        self.log = LogWriter(folder) if folder is not None else None
        self.now = 1_000_000
        self.seq = 0
        self.handles = 0
        self.requests = 0
        self.finished = 0
        self.spent_ns = 0
        self.events = 0
        self.cpu_us = 0.0
        self.queue: deque[Event] = deque()
        self.running: deque[Invoke] = deque()
        self.post(CapacityChanged((Node("here", float(INSTANCES), 100_000.0),)))
        self.post(deployment(batch))
        while self.queue:
            self.post(self.queue.popleft())
        for _ in range(QUEUED + INSTANCES * batch):
            self.arrive()

    def post(self, event: Event) -> None:
        self.now += 20
        seq = self.seq
        self.seq = seq + 1
        began = time.perf_counter_ns()
        actions = self.controller.handle(event, self.now)
        if self.log is not None:
            self.log.append(seq, self.now, event, actions, self.controller)
        self.spent_ns += time.perf_counter_ns() - began
        self.events += 1
        for action in actions:
            kind = type(action)
            if kind is Invoke:
                self.running.append(action)
            elif kind is Respond:
                self.finished += 1
            elif kind is StartInstance:
                self.queue.append(InstanceReady(action.instance, 1, 1, 1, 1, 10.0))
            elif kind is Reject:
                raise AssertionError(action)

    def arrive(self) -> None:
        self.requests += 1
        self.handles += 1
        self.post(RequestArrived(self.requests, "bench", (Payload((Ref(self.handles, 1000, (1.0,)),)),)))

    def complete(self) -> None:
        action = self.running.popleft()
        stage = action.extent.bit_length() - 1
        results = []
        for _ in action.inputs:
            self.handles += 1
            results.append(ItemResult((Payload((Ref(self.handles, 1000, (1.0,) if stage < STAGES - 1 else ()),)),)))
        before = self.finished
        spans = (StageSpan(stage, len(results), float(len(results)), 600),)
        self.post(InvocationDone(action.invocation, action.instance, tuple(results), 600, spans))
        for _ in range(self.finished - before):
            self.arrive()

    def run(self, finished: int) -> float:
        """Finish so many more requests; microseconds per event."""
        until = self.finished + finished
        self.spent_ns = self.events = 0
        began = time.process_time_ns()
        while self.finished < until:
            self.complete()
        self.cpu_us = (time.process_time_ns() - began) / self.events / 1000
        return self.spent_ns / self.events / 1000

    @property
    def queued(self) -> int:
        return sum(queue.items for queue in self.controller.state.apps["bench"].queues.values())

    def close(self) -> None:
        if self.log is not None:
            self.log.close()


def measure(batch: int, repeats: int, requests: int, is_logged: bool) -> list[float]:
    found = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(batch, Path(folder) / "log" if is_logged else None)
            bench.run(2000)
            found.append(bench.run(requests))
            bench.close()
            gc.collect()
    return found


def cpu(batch: int, repeats: int, requests: int, is_logged: bool) -> list[float]:
    """CPU of the whole process per event, the log's thread and this loop included: what other load does not change."""
    found = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(batch, Path(folder) / "log" if is_logged else None)
            bench.run(2000)
            bench.run(requests)
            found.append(bench.cpu_us)
            bench.close()
            gc.collect()
    return found


def growth(requests: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(1, Path(folder) / "log")
        bench.run(2000)
        first = bench.run(WINDOW)
        first_bytes = len(bench.controller.snapshot())
        bench.run(max(0, requests - 2 * WINDOW))
        last = bench.run(WINDOW)
        last_bytes = len(bench.controller.snapshot())
        bench.close()
    return {"first_us": first, "last_us": last, "first_bytes": first_bytes, "last_bytes": last_bytes, "queued": bench.queued}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000, help="finished requests of the growth run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = {
        "batch 1, logged": measure(1, given.repeats, 10_000, True),
        "batch 1, not logged": measure(1, given.repeats, 10_000, False),
        "batch 8, logged": measure(8, given.repeats, 10_000, True),
        "batch 1, logged, CPU": cpu(1, given.repeats, 10_000, True),
    }
    grown = growth(given.requests)
    is_fast = statistics.median(rows["batch 1, logged"]) <= LIMIT_US
    is_flat = grown["last_us"] <= grown["first_us"] * 1.1 + 1 and grown["last_bytes"] <= grown["first_bytes"] * 1.1 + 1000
    machine = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
    if given.json:
        print(json.dumps({"rows": rows, "growth": grown, "limit_us": LIMIT_US, "machine": machine}, indent=2))
    else:
        print(f"Controller.handle: {STAGES} stages, {INSTANCES} instances, {QUEUED} requests queued ({machine})")
        print(f"{'':24}{'median':>9}{'min':>9}{'max':>9}   µs per event, {given.repeats} runs of 10,000 requests")
        for name, found in rows.items():
            print(f"{name:24}{statistics.median(found):9.1f}{min(found):9.1f}{max(found):9.1f}")
        print(
            f"after {given.requests} requests: {grown['first_us']:.1f} -> {grown['last_us']:.1f} µs per event, "
            f"snapshot {grown['first_bytes']} -> {grown['last_bytes']} bytes"
        )
        print(f"at most {LIMIT_US:g} µs: {'yes' if is_fast else 'NO'}; no growth: {'yes' if is_flat else 'NO'}")
    return 0 if is_fast and is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
