"""The study in miniature: over load, SLO, hop cost and memory no fixed granularity is best everywhere, and adaptive keeps up.

Fixed means the best plan of one granularity for the true rate, scaled but never changed; the best fixed one is chosen in
hindsight, cell by cell, from the same simulated runs. What is attained beyond the target counts for nothing, as in planning.
"""

import statistics
from functools import cache
from itertools import product

import msgspec
import pytest
from msgspec import Struct

from grainwise import App
from grainwise.domain.app import Slo
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import HopModel, Node, Prices
from grainwise.domain.plan import Plan, render_grain
from grainwise.domain.time import SECOND
from grainwise.planning.problem import Problem
from grainwise.planning.table import compute
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.cluster import Cluster, ClusterNode
from grainwise.simulation.planners import plan
from grainwise.simulation.run import Scenario
from grainwise.simulation.trial import Trial, run_trial
from grainwise.workloads.processes import Poisson
from grainwise.workloads.recorded import Recorded
from grainwise.workloads.traffic import Stream, Traffic
from worlds.apps import Stages
from worlds.simulated import cluster, simulated

SERVICE_US = (6_000.0, 24_000.0, 10_000.0)
ALONE_US = sum(SERVICE_US)
NOISE = (0.7, 0.85, 1.0, 1.1, 1.35)
CORES = 6.0
PRICES = Prices("made: a GiB costs half a core", 0.04, 0.02)
TARGET = 0.95
LOADS = (0.15, 0.5)
SLO_FACTORS = (1.4, 2.5)
HOPS_US = (200.0, 8_000.0)
MEMORIES_MIB = (20.0, 500.0)
"""Of the first and the last stage; the one between has a tenth."""
SEEDS = (1, 2)
REQUESTS = 200

MOST_POINTS, MOST_COST = 2.0, 5.0
"""By so many points of attainment and per cent of cost adaptive may be worse than the best fixed granularity of a cell."""


class Cell(Struct, frozen=True):
    """One setting, and what came of it: attainment and USD per hour by granularity, and of the adaptive set."""

    load: float
    slo_factor: float
    hop_us: float
    memory_mib: float
    fixed: dict[str, tuple[float, float]]
    adaptive: tuple[float, float]

    @property
    def best(self) -> str:
        """The cheapest granularity within a point of what the best attains of the target."""
        most = max(counted(attainment) for attainment, _ in self.fixed.values())
        good = [grain for grain, (attainment, _) in self.fixed.items() if counted(attainment) >= most - 0.01]
        return min(good, key=lambda grain: (self.fixed[grain][1], grain))

    def gain(self, over: str) -> tuple[float, float]:
        """Points of attainment that adaptive has more, and per cent of cost that it has less, than a granularity."""
        attainment, usd = self.fixed[over]
        return 100 * (counted(self.adaptive[0]) - counted(attainment)), 100 * (1 - self.adaptive[1] / usd)

    def is_good(self, grain: str) -> bool:
        """Whether a granularity is as good as the best one here: within a point, and 2 % of cost."""
        if grain not in self.fixed:
            return False
        (attainment, usd), (most, least) = self.fixed[grain], self.fixed[self.best]
        return counted(attainment) >= counted(most) - 0.01 and usd <= least * 1.02


def counted(attainment: float) -> float:
    """What of an attainment counts."""
    return min(attainment, TARGET)


@cache
def three() -> App:
    s = Stages("three", 1, 1000)

    @s.app.flow
    def flow(value: int) -> int:
        return s.negate(s.double(s.plus_one(value)))

    return s.app


def machine() -> Cluster:
    return msgspec.structs.replace(cluster(ClusterNode(Node("box", CORES, 3_600.0))), prices=PRICES)


def made(load: float, slo_factor: float, hop_us: float, memory_mib: float) -> tuple[SimulatedApp, Problem]:
    on = machine()
    app = simulated(
        three(), service_us=SERVICE_US, residuals=(NOISE,) * 3, hop=HopModel(hop_us, 0.0, 0.3 * hop_us, 0.0, 20.0)
    )  # fmt: skip
    stages = tuple(
        msgspec.structs.replace(stage, memory_mib=memory_mib * part, residual_quantiles=(0.7, 0.85, 1.0, 1.1, 1.2, 1.35, 1.35))
        for stage, part in zip(app.model.stages, (1.0, 0.1, 1.0), strict=True)
    )
    spec = msgspec.structs.replace(app.spec, slo=Slo(ALONE_US / 1000 * slo_factor, TARGET))
    model = msgspec.structs.replace(app.model, stages=stages)
    workload = msgspec.structs.replace(app.workload, rate_per_s=load * CORES * SECOND / ALONE_US)
    problem = Problem(0, spec, model, app.hop, workload, on.domain_nodes, on.capabilities, on.prices)
    return msgspec.structs.replace(app, spec=spec, model=model, workload=workload), problem


def no_trace(name: str, column: str | None) -> Recorded:
    raise AssertionError(f"{name} is not asked for")


def run(app: SimulatedApp, first: Plan, policies: str) -> tuple[float, float]:
    """Mean attainment and USD per hour, provisioned, over the seeds."""
    rate = app.workload.rate_per_s
    seconds = REQUESTS / rate
    app = app.with_plan(first, AppConfig(policies=policies))
    traffic = Traffic("steady", (Stream(app.spec.name, Poisson(rate)),), seconds)
    found = [
        run_trial(
            Trial(Scenario(machine(), (app,), round(seconds * SECOND), seed), traffic, policies, "a made app"),
            no_trace,
            compute=plan,
        )
        for seed in SEEDS
    ]
    return (
        statistics.fmean(each.apps[0].attainment for each in found),
        statistics.fmean(each.apps[0].cost.provisioned_usd / each.duration_s * 3600 for each in found),
    )


def cell(load: float, slo_factor: float, hop_us: float, memory_mib: float) -> Cell:
    app, problem = made(load, slo_factor, hop_us, memory_mib)
    fixed = {render_grain(each.plan.grain): run(app, each.plan, "fixed") for each in compute(problem).options}
    first = plan(msgspec.structs.replace(problem, policies="adaptive", is_stagewise=True)).winner.plan
    return Cell(load, slo_factor, hop_us, memory_mib, fixed, run(app, first, "adaptive"))


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    return [cell(*setting) for setting in product(LOADS, SLO_FACTORS, HOPS_US, MEMORIES_MIB)]


def line(cell: Cell) -> str:
    points, saved = cell.gain(cell.best)
    fixed = ", ".join(f"{grain}: {attainment:.3f} / {usd:.4f}" for grain, (attainment, usd) in cell.fixed.items())
    return (
        f"load {cell.load:g}, SLO {cell.slo_factor:g}, hop {cell.hop_us:g} us, {cell.memory_mib:g} MiB: {fixed}; "
        f"best {cell.best}; adaptive {cell.adaptive[0]:.3f} / {cell.adaptive[1]:.4f} "
        f"({points:+.1f} points, {saved:+.1f} % saved)"
    )


def report(cells: list[Cell]) -> str:
    """Every cell, and gains over the best fixed granularity of each cell and over each that is the same everywhere."""
    lines = [line(each) for each in cells]
    lines.append(summary("the best of each cell", [each.gain(each.best) for each in cells]))
    for grain in sorted({grain for each in cells for grain in each.fixed}):
        lines += [summary(grain, [each.gain(grain) for each in cells if grain in each.fixed])]
    return "\n".join(lines)


def summary(over: str, gains: list[tuple[float, float]]) -> str:
    points, saved = zip(*gains, strict=True)
    return (
        f"over {over}, {len(gains)} cells: {statistics.fmean(points):+.1f} points and {statistics.fmean(saved):+.1f} % saved "
        f"on the mean, {max(points):+.1f} and {max(saved):+.1f} % at most, {min(points):+.1f} and {min(saved):+.1f} % at least"
    )


def test_no_fixed_granularity_is_best_in_every_cell(cells: list[Cell]) -> None:
    grains = sorted({grain for each in cells for grain in each.fixed})
    assert len(grains) == 4
    everywhere = [grain for grain in grains if all(each.is_good(grain) for each in cells)]
    assert not everywhere, f"{everywhere}\n{report(cells)}"
    assert len({each.best for each in cells}) >= 2, report(cells)


def test_adaptive_is_not_worse_than_the_best_fixed_granularity_of_any_cell(cells: list[Cell]) -> None:
    for each in cells:
        points, saved = each.gain(each.best)
        assert points >= -MOST_POINTS, f"{each}\n{report(cells)}"
        assert saved >= -MOST_COST, f"{each}\n{report(cells)}"


def test_over_any_granularity_that_is_kept_everywhere_it_gains_somewhere(cells: list[Cell]) -> None:
    for grain in sorted({grain for each in cells for grain in each.fixed}):
        gains = [each.gain(grain) for each in cells if grain in each.fixed]
        assert max(points for points, _ in gains) > 1 or max(saved for _, saved in gains) > 2, f"{grain}\n{report(cells)}"
