"""How long one decision of the fast loop takes: what is on offer at a point of the DAG, and which of it is taken."""

import statistics
import time
from pathlib import Path

from benchmarks.measuring import Check, ForeignLoad, Result, Table, now_text, quantile, this_machine
from grainwise.cli.commands import read_spec
from grainwise.control.extents import Extents
from grainwise.control.routing import Routing
from grainwise.domain.machine import NOMINAL_PRICES, Node
from grainwise.domain.plan import FunctionPlan, Objective, Plan
from grainwise.policies.extent import ExtentView, decide
from grainwise.predictors.effects import Setting
from grainwise.predictors.fit import hop_model, latency_model, workload_of
from grainwise.profiles.artifact import read
from grainwise.simulation.cluster import SIMULATED

EXAMPLES = Path(__file__).parent.parent / "examples"
APPS = ("ocr/app", "vision/expanded_classification", "search/app")
NODES = (Node("box", 4.0, 16_384.0),)
LIMIT_US = 1000.0


def measure(is_quick: bool) -> Result:
    """Time decisions of three apps whose instances hold all stages, by both objectives."""
    count = 2_000 if is_quick else 40_000
    foreign = ForeignLoad()
    rows, worst = [], 0.0
    for name in APPS:
        objectives: tuple[Objective, ...] = ("provisioned", "billed")
        for objective in objectives:
            first_us, times, offers = _decisions(name, objective, count)
            worst = max(worst, quantile(times, 0.99))
            rows.append(
                (
                    f"{name.partition('/')[0]}, {objective}",
                    f"{first_us / 1000:.1f}",
                    str(offers),
                    f"{statistics.median(times):.1f}",
                    f"{quantile(times, 0.99):.1f}",
                )
            )
    foreign.end()
    table = Table(
        "One dispatch decision (measured)",
        ("app, objective", "first one, ms", "most on offer", "median us", "p99 us"),
        tuple(rows),
        f"{count:,} decisions each over all points of the DAG, queues of 1 to 16 items and slacks around what is needed; "
        "the first one builds the staircases",
    )
    check = Check("a dispatch decision, p99 of the worst row", f"{worst:.0f} us", f"<= {LIMIT_US:g} us", worst <= LIMIT_US)
    return Result(
        "dispatch", now_text(), this_machine(), is_quick, round(foreign.median, 3), (table,), (check,)
    )  # fmt: skip


def _decisions(name: str, objective: Objective, count: int) -> tuple[float, list[float], int]:
    """Microseconds of the first decision and of each other one, and the most offers among which one chose."""
    path = EXAMPLES / f"{name}.py"
    spec = read_spec(path)
    profile = read(path.with_suffix(".profile.json").read_bytes())
    stages = tuple(node.name for node in spec.graph.stages)
    plan = Plan(spec.name, (FunctionPlan(stages, 1.0, 16, 4, 1, 4),), objective)
    model, hop, workload = latency_model(profile, spec), hop_model(profile), workload_of(profile, 10.0)
    flows = Routing(spec.graph, plan, (0,) * len(stages), is_stagewise=True)
    extents = Extents(Setting(spec, model, hop, workload, NODES, SIMULATED, NOMINAL_PRICES), plan, flows)
    began = time.perf_counter_ns()
    needed = extents.offers(0, 0, 1, 4)[0].times_us[-1]
    first_us = (time.perf_counter_ns() - began) / 1000
    points = [(head, items, side) for head in range(len(stages)) for items in (1, 2, 5, 16) for side in (1, 2, 4)]
    for head, items, side in points:
        extents.offers(0, head, items, side)
    times: list[float] = []
    most = 0
    for number in range(count):
        head, items, side = points[number * 7919 % len(points)]
        slack = int(needed * (number * 104729 % 1000) / 500)
        began = time.perf_counter_ns()
        offers = extents.offers(0, head, items, side)
        decide(ExtentView(1_000_000 + slack, offers, 0.0, extents.doubt, "cheapest"), 1_000_000)
        times.append((time.perf_counter_ns() - began) / 1000)
        most = max(most, len(offers))
    return first_us, times, most
