"""Capacity at 99 % attainment: the highest rate that a way carries, planned anew for every rate that is tried."""

from msgspec import Struct

from grainwise.domain.errors import CapacityError, InfeasibleError
from grainwise.simulation.capacity import bisect_rate
from reproduce.granularity.asking import Answers
from reproduce.granularity.cells import CellMaker, Point
from reproduce.granularity.grid import Grid, Size
from reproduce.granularity.records import ADAPTIVE, Capacity
from reproduce.granularity.runs import World, run
from reproduce.granularity.ways import Way, asked, fixed_way, granularity_names, published

_MOST = 4.0
"""No rate above this many times the saturation of split is tried."""


class CapacityPlace(Struct, frozen=True):
    """Where capacities are found: a point at the headline hop and billing, whose load does not count."""

    point: Point


def places(grid: Grid, size: Size) -> tuple[CapacityPlace, ...]:
    """Of a size: every app and SLO factor that it declares, under each kind of sharing of the rule."""
    rule, study = grid.capacity, grid.study
    return tuple(
        CapacityPlace(Point(app, rule.hop, slo, 1.0, study.headline_billing, "normal", "steady", rule.nodes, sharing))
        for sharing in size.capacity_sharing
        for app in size.capacity_apps
        for slo in size.capacity_slo_factors
    )


def ways_at(maker: CellMaker, size: Size, place: CapacityPlace) -> tuple[str, ...]:
    """The ways whose capacity is found there: every fixed one, adaptive, and the published ones that the size names."""
    app = maker.app(place.point, place.point.app, place.point.slo_factor)
    wanted = size.capacity_published
    theirs = [name for name, _ in published() if "all" in wanted or name in wanted]
    return (*granularity_names(app.spec.graph), ADAPTIVE, *theirs)


def capacity_of(maker: CellMaker, grid: Grid, size: Size, place: CapacityPlace, name: str) -> Capacity:
    """The capacity of a way at a place; 0 where it attains too little at any rate."""
    point, rule = place.point, grid.capacity
    app = maker.app(point, point.app, point.slo_factor)
    groups = dict(published())
    seen: list[Way] = []

    def way_at(world: World) -> Way:
        if name == ADAPTIVE or name in groups:
            return asked(world, name, groups.get(name, "adaptive"))
        return fixed_way(world, name)

    def attains(rate: float) -> bool:
        world = maker.world(point, (app,), (rate,), requests=size.capacity_requests, least_s=0.0)
        way = way_at(world)
        if way.failed:
            return False
        seen.append(way)
        try:
            answers = Answers(grid.planning, [(app.spec.name, world.samples[0].workload)])
            return run(world, way.plans, way.policies, rule.seed, way.evaluator, answers).attainment >= rule.attainment
        except (CapacityError, InfeasibleError):
            return False

    saturation = maker.highest_rate(point, point.app, maker.easiest)
    found = 0.0
    if saturation > 0:
        found = bisect_rate(attains, saturation / 2, resolution=rule.resolution, most=_MOST * saturation)
    known = seen[-1] if seen else None
    return Capacity(
        profiles=grid.profiles[point.sharing],
        app=app.spec.name,
        slo_factor=point.slo_factor,
        hop=point.hop,
        billing=point.billing,
        way=name,
        group=known.group if known is not None else groups.get(name, "adaptive" if name == ADAPTIVE else "fixed"),
        seed=rule.seed,
        per_s=round(found, 4),
        is_split=known is not None and known.is_split,
        is_fused=known is not None and known.is_fused,
    )
