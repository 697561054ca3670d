"""ESG_1Q beside the joint search: how long a decision takes and how dear what it finds is, at the same time left.

Both get the chains of five stages of ``planning``: 64 configurations a group, limits anywhere between the fastest plan and the
time of the cheapest. ESG (after its paper, reconstructed) decides for functions of one stage each, in groups of at most three
with a part of the time by their average normalised lengths; it knows no larger functions, so the joint search is shown held to
single stages too, which says what distributing the time costs. Batches are not bound here, so that both may use the same ones.

Then whole decisions of a dispatch, of the example with five stages: what is on offer, which of it is taken, on which instance.
Times are of the CPU: a decision waits for nothing, and so the bound holds beside other load too.
"""

import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random

from msgspec import Struct

from benchmarks.measuring import Check, ForeignLoad, Result, Table, now_text, quantile, this_machine
from benchmarks.planning import CHAIN_5, CONFIGURATIONS, at_random, convex_groups, limit_between, structured
from grainwise.cli.commands import read_spec
from grainwise.control.extents import Extents
from grainwise.control.routing import Routing
from grainwise.domain.machine import NOMINAL_PRICES, Node
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.planning.dominators import normalised_lengths
from grainwise.planning.joint import search
from grainwise.planning.published.esg_1q import Configuration, Layers
from grainwise.planning.published.esg_layers import PATHS, Distribution
from grainwise.planning.steps import Step
from grainwise.policies import extent, routing
from grainwise.policies.extent import ExtentView, OfferSource
from grainwise.policies.published import esg_dispatch, esg_offers
from grainwise.predictors.effects import Setting
from grainwise.predictors.fit import hop_model, latency_model, workload_of
from grainwise.profiles.artifact import read
from grainwise.simulation.cluster import SIMULATED

EXAMPLE = Path(__file__).parent.parent / "examples" / "vision" / "expanded_classification.py"
NODES = tuple(Node(f"n{at}", 4.0, 16_384.0) for at in range(4))
LIMIT_MS = 10.0
STAGES = len(CHAIN_5)


class Idle(Struct, frozen=True):
    """An idle instance as routes see it."""

    number: int
    node: str
    stages: int
    idle_since: int = 0


class Esg:
    """ESG's decision for a chain: the time distributed anew, then a search of the run that begins with the next stage."""

    def __init__(self, steps: dict[int, list[Step]]) -> None:
        layers = [[Configuration(step.time_us, step.cost) for step in steps[1 << stage]] for stage in range(STAGES)]
        self._distribution = Distribution(CHAIN_5, normalised_lengths([[each.time_us for each in layer] for layer in layers]))
        self._layers = layers
        self._ready: dict[tuple[int, ...], Layers] = {}
        self.expanded = 0
        for stage in range(STAGES):
            self.ready(self._distribution.run_from((1 << stage) - 1, stage, 1).functions)

    def ready(self, functions: tuple[int, ...]) -> Layers:
        """The layers of a run, which a controller has from the decisions before."""
        if functions not in self._ready:
            self._ready[functions] = Layers([self._layers[stage] for stage in functions])
        return self._ready[functions]

    def decide(self, stage: int, left_us: float, keep: int) -> tuple[Configuration, bool]:
        """What a stage runs with so much time left, and whether a path of its run is in time."""
        run = self._distribution.run_from((1 << stage) - 1, stage, int(left_us))
        layers = self.ready(run.functions)
        found = layers.search(run.time_us, keep)
        self.expanded = max(self.expanded, found.expanded)
        if found.paths:
            return layers.layers[0][found.paths[0].places[0]], True
        fastest = layers.fastest()
        assert fastest is not None
        return layers.layers[0][fastest.places[0]], False

    def run(self, limit_us: float) -> tuple[float, float]:
        """Cost and time of a request before each of whose stages it is decided anew."""
        left_us, cost = limit_us, 0.0
        for stage in range(STAGES):
            taken, _ = self.decide(stage, left_us, 1)
            left_us, cost = left_us - taken.time_us, cost + taken.cost
        return cost, limit_us - left_us


def _chains(
    instances: int, foreign: ForeignLoad
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]], float, dict[str, object]]:
    """Rows of times and of costs, the p99 of ESG's decisions in milliseconds where it is largest, and the figures as data."""
    masks = convex_groups(CHAIN_5)
    singles = [1 << stage for stage in range(STAGES)]
    times: list[tuple[str, ...]] = []
    costs: list[tuple[str, ...]] = []
    worst_ms = 0.0
    data: dict[str, object] = {}
    for law, make in (("diminishing", structured), ("random", at_random)):
        rng = Random(6)
        taken: dict[str, list[float]] = {"ESG_1Q, K=1": [], f"ESG_1Q, K={PATHS}": [], "joint, single stages": [], "joint": []}
        dearer: dict[str, list[float]] = {"single stages": [], "all groups": []}
        late = expanded = 0
        foreign.begin()
        for _ in range(instances):
            steps = make(rng, masks, STAGES)
            alone = {mask: steps[mask] for mask in singles}
            limit = limit_between(rng, CHAIN_5, alone)
            esg = Esg(steps)
            taken["ESG_1Q, K=1"].append(_milliseconds(partial(esg.decide, 0, limit, 1)))
            taken[f"ESG_1Q, K={PATHS}"].append(_milliseconds(partial(esg.decide, 0, limit, PATHS)))
            taken["joint, single stages"].append(_milliseconds(partial(search, CHAIN_5, alone, limit)))
            taken["joint"].append(_milliseconds(partial(search, CHAIN_5, steps, limit)))
            expanded = max(expanded, esg.expanded)
            cost, needed_us = esg.run(limit)
            if needed_us > limit:
                late += 1
                continue
            dearer["single stages"].append(cost / search(CHAIN_5, alone, limit).combinations[0].cost - 1)
            dearer["all groups"].append(cost / search(CHAIN_5, steps, limit).combinations[0].cost - 1)
        foreign.end()
        worst_ms = max(worst_ms, quantile(taken[f"ESG_1Q, K={PATHS}"], 0.99))
        for name, found in taken.items():
            times.append((name, law, f"{statistics.median(found):.3f}", f"{quantile(found, 0.99):.3f}", f"{max(found):.3f}"))
            data[f"{name}, {law}"] = {"p50_ms": statistics.median(found), "p99_ms": quantile(found, 0.99)}
        for name, found in dearer.items():
            mean = statistics.mean(found)
            costs.append(
                (name, law, f"{mean:.2%}", f"{statistics.median(found):.2%}", f"{max(found):.2%}", f"{late}/{instances}")
            )
            data[f"ESG dearer than {name}, {law}"] = {"mean": mean, "max": max(found), "late": late}
        data[f"ESG_1Q, most expanded, {law}"] = expanded
    return times, costs, worst_ms, data


def _milliseconds(function: partial[object]) -> float:
    """CPU time, the shorter of two runs: what others do to the caches is not the search's."""
    taken = []
    for _ in range(2):
        began = time.thread_time_ns()
        function()
        taken.append((time.thread_time_ns() - began) / 1e6)
    return min(taken)


def _dispatches(count: int, foreign: ForeignLoad) -> tuple[list[tuple[str, ...]], list[float]]:
    """Rows of whole decisions of the example, and the milliseconds of those of ESG that had to search."""
    spec = read_spec(EXAMPLE)
    profile = read(EXAMPLE.with_suffix(".profile.json").read_bytes())
    stages = tuple(node.name for node in spec.graph.stages)
    app = Setting(
        spec, latency_model(profile, spec), hop_model(profile), workload_of(profile, 10.0), NODES, SIMULATED, NOMINAL_PRICES
    )
    split = Plan(spec.name, tuple(FunctionPlan((stage,), 1.0, 4, 2, 1, 4) for stage in stages), "billed")
    flows = Routing(spec.graph, split, (0,) * len(stages), is_stagewise=True)
    slo_us = spec.slo.latency_ms * 1000
    idle = [Idle(at, NODES[at % len(NODES)].name, 1 << at % len(stages), at) for at in range(4 * len(stages))]
    foreign.begin()
    fresh = esg_offers.EsgOffers(app, split)
    for head in range(len(stages)):
        fresh.offers(0, head, 1, 1, slo_us, 0)
    searching = []
    # Another request and another bucket each time, so that no answer is kept yet.
    for number in range(min(count, 16 * len(stages) * esg_offers.BUCKETS // 32)):
        began = time.thread_time_ns()
        _one(fresh, number % len(stages), 1 << number // len(stages) % 3, slo_us * (number % 97 + 1) / 97, idle, is_esg=True)
        searching.append((time.thread_time_ns() - began) / 1e6)
    rows = [("ESG, answers not kept yet", *_figures(searching))]
    sources: tuple[tuple[str, OfferSource, bool], ...] = (("ESG", fresh, True), ("ours", Extents(app, split, flows), False))
    for name, source, is_esg in sources:
        taken = []
        for number in range(count + count // 10):
            began = time.thread_time_ns()
            _one(
                source,
                number % len(stages),
                1 << number // len(stages) % 3,
                slo_us * (number % 97 + 1) / 97,
                idle,
                is_esg=is_esg,
            )
            if number >= count // 10:
                taken.append((time.thread_time_ns() - began) / 1e6)
        rows.append((name, *_figures(taken)))
    foreign.end()
    return rows, searching


def _one(source: OfferSource, head: int, items: int, slack_us: float, idle: Sequence[Idle], *, is_esg: bool) -> object:
    """One decision: what is on offer, which of it is taken, on which instance."""
    offers = source.offers(0, head, items, 2, slack_us, 0)
    view = ExtentView(1_000_000 + int(slack_us), offers, 0.0, source.doubt, "cheapest")
    decision = (esg_offers.decide if is_esg else extent.decide)(view, 1_000_000)
    assert isinstance(decision, extent.Run)
    return (esg_dispatch.route if is_esg else routing.decide)(decision.step.mask, idle, idle[0].node)


def _figures(taken_ms: Sequence[float]) -> tuple[str, str, str]:
    return (
        str(len(taken_ms)),
        f"{statistics.median(taken_ms) * 1000:.1f}",
        f"{quantile(taken_ms, 0.99) * 1000:.1f}",
    )


def measure(is_quick: bool) -> Result:
    """Run the benchmark."""
    foreign = ForeignLoad()
    foreign.rounds.clear()
    times, costs, worst_ms, data = _chains(10 if is_quick else 200, foreign)
    rows, searching = _dispatches(300 if is_quick else 5_000, foreign)
    tables = (
        Table(
            f"One decision with five stages to go, {CONFIGURATIONS} configurations, CPU time (measured)",
            ("search", "configurations", "p50 ms", "p99 ms", "max ms"),
            tuple(times),
            "one app and one limit an instance; the shorter of two runs. ESG_1Q with the time distributed anew, for the next "
            "three stages; joint: the whole chain, and except for single stages all its groups",
        ),
        Table(
            "How much dearer a request is that ESG decides for before each stage, at the same time left (computed)",
            ("than the best of", "configurations", "mean", "median", "max", "late"),
            tuple(costs),
            "late: requests that take longer than the limit although a path of single stages would not; they are left out",
        ),
        Table(
            "One dispatch decision of the example with five functions, CPU time (measured)",
            ("whose", "decisions", "median us", "p99 us"),
            tuple(rows),
            "offers, choice and instance among 20 idle ones on four nodes; queues of 1 to 4 items, any part of the SLO left",
        ),
    )
    checks = [
        Check(f"ESG's decision, {what}, p99", f"{found:.2f} ms", f"<= {LIMIT_MS:g} ms", found <= LIMIT_MS)
        for what, found in (
            ("64 configurations a stage, the worse kind", worst_ms),
            ("the example, answers not kept yet", quantile(searching, 0.99)),
        )
    ]
    return Result(
        "esg", now_text(), this_machine(), is_quick, round(foreign.median, 3), tables, tuple(checks), data
    )  # fmt: skip
