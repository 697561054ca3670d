"""From points of the grid to cells that can be run: which points a size has, their apps, machines, SLO, rates and arrivals."""

from collections.abc import Mapping, Sequence
from itertools import pairwise, product

import msgspec
from msgspec import Struct

from grainwise.domain.errors import CapacityError, GrainwiseError, InfeasibleError
from grainwise.domain.machine import MIG_SLOTS
from grainwise.domain.time import SECOND
from grainwise.planning.problem import Problem
from grainwise.planning.table import compute
from grainwise.simulation.capacity import bisect_rate
from grainwise.simulation.made_apps import Sample
from grainwise.workloads.integers import SplitMix64, derive_seed
from grainwise.workloads.processes import Poisson, StepPhase, Steps, draw_instants
from reproduce.granularity import hops
from reproduce.granularity.grid import MIXED, Burstiness, Grid, Load, Sharing, Size
from reproduce.granularity.profile_sets import base_latency_ms, load, with_hop, with_rate, with_slo, with_weights
from reproduce.granularity.records import Billing, Cell
from reproduce.granularity.runs import World, run, split_plan
from reproduce.granularity.worlds import cluster

TOGETHER = 4
"""How many apps a cell with several has."""


_LEAST = 16
"""What split does not attain at so small a part of the rate that one would begin with, it attains at none."""


class Point(Struct, frozen=True):
    """A combination of levels, with what is run in it beside the fixed ways and ours."""

    app: int
    hop: str
    slo_factor: float
    weights: float
    billing: Billing
    load: Load
    burstiness: Burstiness
    nodes: int
    sharing: Sharing
    has_published: bool = False
    has_ablations: bool = False
    has_rollout: bool = False


def points(grid: Grid, size: Size) -> tuple[Point, ...]:
    """The cells of a size: its map, then its part of the sample; a point that is in both comes once."""
    wanted, study = size.map, grid.study
    mapped = [
        Point(app, study.headline_hop, slo, weights, study.headline_billing, load, burstiness, nodes, sharing)
        for sharing, nodes, weights, burstiness, app, load, slo in product(
            wanted.sharing, wanted.nodes, wanted.weights, wanted.burstiness, wanted.app, wanted.load, wanted.slo_factor
        )
    ]
    # What is run in a few cells only is spread evenly over the map, which is in order, and takes the first of the sample.
    found = [*_declared(_spread(mapped), size), *_declared(_sample(grid, size.sample), size)]
    unique: dict[tuple[object, ...], Point] = {}
    for point in found:
        unique.setdefault(msgspec.structs.astuple(point)[:9], point)
    return tuple(unique.values())


def _declared(found: Sequence[Point], size: Size) -> list[Point]:
    return [
        msgspec.structs.replace(
            point, has_published=at < size.published, has_ablations=at < size.ablations, has_rollout=at < size.rollout
        )
        for at, point in enumerate(found)
    ]


def _spread(found: Sequence[Point]) -> list[Point]:
    """In an order in which the first few are from everywhere: multiples of a step that shares no factor with the count."""
    count = len(found)
    step = next((each for each in range(max(1, round(count * 0.618)), count + 1) if _are_coprime(each, count)), 1)
    return [found[at * step % count] for at in range(count)]


def _are_coprime(left: int, right: int) -> bool:
    while right:
        left, right = right, left % right
    return left == 1


def _sample(grid: Grid, count: int) -> list[Point]:
    """A Latin hypercube: along each axis every level comes equally often, in an order drawn for each round of its levels."""
    rng = {name: SplitMix64(derive_seed(grid.study.sample_seed, name)) for name in grid.axes.__struct_fields__}
    columns: dict[str, list[object]] = {}
    for name, draws in rng.items():
        levels, column = getattr(grid.axes, name), list[object]()
        while len(column) < count:
            round_of = list(levels)
            while round_of:
                column.append(round_of.pop(draws.below(len(round_of))))
        columns[name] = column
    return [Point(**{name: column[at] for name, column in columns.items()}) for at in range(count)]  # type: ignore[arg-type]


class CellMaker:
    """Makes the cells of a size. Rates that bisection found are kept, since many cells share them.

    Args:
        grid: as it is committed.
        size: whose runs the cells are for.
    """

    def __init__(self, grid: Grid, size: Size) -> None:
        self._grid = grid
        self._size = size
        self._hops = hops.load()
        self._apps: dict[str, tuple[Sample, ...]] = {}
        self._rates: dict[tuple[object, ...], float] = {}

    @property
    def easiest(self) -> float:
        """The SLO factor at which saturation is found."""
        return self._grid.bisection.slo_factor

    def know(self, rates: Mapping[tuple[object, ...], float]) -> None:
        """Take over rates that were found elsewhere."""
        self._rates.update(rates)

    def wanted(self, point: Point) -> tuple[tuple[Point, int, float], ...]:
        """The rates that a point needs, as arguments of ``highest_rate``."""
        found: list[tuple[Point, int, float]] = []
        for each in range(1, TOGETHER + 1) if point.app == MIXED else (point.app,):
            found.append((point, each, self.easiest))
            if _has_cliff(point):
                found.append((point, each, point.slo_factor))
        return tuple(found)

    def app(self, point: Point, number: int, slo_factor: float) -> Sample:
        """An app of a point by its number in the profile set, from 1 on, with its hop, weights and SLO."""
        profiles = self._grid.profiles[point.sharing]
        if profiles not in self._apps:
            self._apps[profiles] = load(profiles)
        sample = self._apps[profiles][number - 1]
        sample = with_weights(with_hop(sample, self._hops[point.hop]), point.weights)
        return with_slo(sample, round(base_latency_ms(sample) * slo_factor, 3))

    def make(self, number: int, point: Point) -> tuple[Cell, World | None]:
        """The cell of a point and its world; no world where split cannot be served even at the easiest SLO."""
        grid = self._grid
        numbers = range(1, TOGETHER + 1) if point.app == MIXED else (point.app,)
        apps = [self.app(point, each, point.slo_factor) for each in numbers]
        rates, fractions = [], []
        for each in numbers:
            saturation = self.highest_rate(point, each, self.easiest)
            reference = saturation
            if _has_cliff(point):
                reference = self.highest_rate(point, each, point.slo_factor) or saturation
            rate = reference * grid.loads.fraction(point.load)
            rates.append(rate / len(apps))
            fractions.append(rate / saturation if saturation else 0.0)
        skipped = self._skipped(point, rates)
        world = None if skipped else self.world(point, apps, rates)
        cell = Cell(
            number=number,
            profiles=grid.profiles[point.sharing],
            apps=tuple(each.spec.name for each in apps),
            hop=point.hop,
            slo_factor=point.slo_factor,
            weights=point.weights,
            billing=point.billing,
            load=point.load,
            load_fraction=round(sum(fractions) / len(fractions), 4),
            burstiness=point.burstiness,
            nodes=point.nodes,
            sharing=point.sharing,
            rates_per_s=tuple(round(rate, 4) for rate in rates),
            slo_ms=tuple(each.spec.slo.latency_ms for each in apps),
            is_feasible=world is not None and all(is_feasible(world.problem(at)) for at in range(len(apps))),
            has_rollout=point.has_rollout,
            skipped=skipped,
        )
        return cell, world

    def _skipped(self, point: Point, rates: Sequence[float]) -> str:
        """Why a point is not run: split carries nothing, or the shortest run has more requests than the size allows."""
        if not all(rate > 0 for rate in rates):
            return f"split attains too little at any rate, even at {self.easiest:g} L"
        needed = round(sum(rates) * self._least_s(point.burstiness))
        most = self._size.most_requests
        return f"a run needs {needed:,} requests and this size has at most {most:,}" if needed > most else ""

    def _least_s(self, burstiness: Burstiness) -> float:
        bursts = self._grid.bursts
        return max(self._size.least_s, 0.0 if burstiness == "steady" else bursts.count * bursts.least_period_s)

    def world(
        self,
        point: Point,
        apps: Sequence[Sample],
        rates: Sequence[float],
        *,
        requests: int = 0,
        least_s: float | None = None,
    ) -> World:
        """Apps on the machines of a point at their rates, with the traffic of a run.

        Args:
            point: whose machines, billing and burstiness hold.
            apps: with their SLOs.
            rates: requests per second of each.
            requests: about how many a run has; the size's own number without it.
            least_s: how long it is at least; the size's own figure without it.
        """
        least = self._least_s(point.burstiness) if least_s is None else least_s
        duration_s = max((requests or self._size.requests) / sum(rates), least)
        arrivals = [self._arrivals(rate, point.burstiness, duration_s) for rate in rates]
        loaded = tuple(
            with_rate(sample, rate, _scv(process, duration_s))
            for sample, rate, process in zip(apps, rates, arrivals, strict=True)
        )
        machines = cluster(point.nodes, point.sharing, None)
        return World(loaded, machines, tuple(arrivals), point.billing, round(duration_s * SECOND))

    def highest_rate(self, point: Point, number: int, slo_factor: float) -> float:
        """The highest rate at which split attains what the bisection rule asks for, planned for that very rate; 0 for none."""
        key = rate_key(point, number, slo_factor)
        if key not in self._rates:
            self._rates[key] = self._bisected(
                msgspec.structs.replace(point, burstiness="steady", billing="provisioned"), number, slo_factor
            )
        return self._rates[key]

    def _bisected(self, point: Point, number: int, slo_factor: float) -> float:
        rule = self._grid.bisection
        app = self.app(point, number, slo_factor)

        def attains(rate: float) -> bool:
            world = self.world(point, (app,), (rate,), requests=rule.requests, least_s=0.0)
            try:
                return run(world, (split_plan(world.problem(0)),), "fixed", rule.seed).attainment >= rule.attainment
            except (CapacityError, InfeasibleError):
                return False

        nodes = cluster(point.nodes, point.sharing, None).domain_nodes
        parts = sum(node.gpus * MIG_SLOTS or node.usable_cores for node in nodes)
        first = parts / (2 * base_latency_ms(app) / 1000)
        if not attains(first) and not attains(first / _LEAST):
            return 0.0
        return bisect_rate(attains, first, resolution=rule.resolution, most=64 * first)

    def _arrivals(self, rate: float, burstiness: Burstiness, duration_s: float) -> Poisson | Steps:
        if burstiness == "steady":
            return Poisson(rate)
        bursts = self._grid.bursts
        period = duration_s / bursts.count
        low = period * (1 - bursts.fraction)
        # A run begins and ends in the low phase, so that every burst is seen whole.
        return Steps(
            (
                StepPhase(rate * bursts.low, low / 2),
                StepPhase(rate * bursts.high, period * bursts.fraction),
                StepPhase(rate * bursts.low, low / 2),
            ),
            repeat=True,
        )


def _has_cliff(point: Point) -> bool:
    """Whether its load is reckoned from the cliff of split, which an app has alone only."""
    return point.load.endswith("cliff") and point.app != MIXED


def rate_key(point: Point, number: int, slo_factor: float) -> tuple[object, ...]:
    """What ``CellMaker.highest_rate`` depends on."""
    return (point.sharing, point.nodes, number, point.hop, point.weights, slo_factor)


def _scv(process: Poisson | Steps, duration_s: float) -> float:
    """Squared coefficient of variation of the gaps: 1 for Poisson arrivals, for others that of one drawn run."""
    if isinstance(process, Poisson):
        return 1.0
    instants = list(draw_instants(process, 0, round(duration_s * SECOND)))
    gaps = [after - before for before, after in pairwise(instants)]
    if len(gaps) < 2:
        return 1.0
    mean = sum(gaps) / len(gaps)
    return sum((gap - mean) ** 2 for gap in gaps) / len(gaps) / (mean * mean)


def is_feasible(problem: Problem) -> bool:
    """Whether some plan answers a lone mean request in time, by the planner's times."""
    rare = msgspec.structs.replace(
        problem, workload=msgspec.structs.replace(problem.workload, rate_per_s=1e-3, arrival_scv=1.0), policies="fixed"
    )
    try:
        table = compute(rare)
    except GrainwiseError:
        return False
    return any(option.predicted.p50_ms <= problem.app.slo.latency_ms for option in table.options)
