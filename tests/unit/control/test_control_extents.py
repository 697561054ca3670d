"""The extent of each invocation is decided when it is dispatched, out of what instances hold."""

import itertools
from collections.abc import Iterator

import msgspec
import pytest

from grainwise.control.actions import AdoptPlan, Invoke, LoadStages, StartInstance
from grainwise.control.extents import Extents
from grainwise.control.routing import Routing
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import NOMINAL_PRICES, HopModel, Node
from grainwise.domain.plan import Plan
from grainwise.domain.time import MILLISECOND
from grainwise.predictors.effects import Setting
from grainwise.predictors.latency import RESIDUAL_LEVELS, StageModel
from worlds.apps import chain, diamond, fan, listed
from worlds.control import SOFT, World, model_of, workload_of
from worlds.grains import plan_for

HERE = (Node("here", 4.0, 10_000.0),)
HOP = HopModel(700.0, 0.0, 0.0, 0.0, 10.0)
UNEVEN_US = (3000.0, 11_000.0, 500.0, 7000.0)


def stage(fixed_us: float) -> StageModel:
    residuals = tuple(0.8 + 0.05 * at for at in range(len(RESIDUAL_LEVELS)))
    return StageModel(fixed_us, 100.0, 0.0, (1.0, 2.0), (1.0, 0.6), residuals, 0.0, 50.0, 1000.0, 0.0)


def extents_of(app, plan: Plan, nodes: tuple[Node, ...] = HERE, items: tuple[float, ...] = ()) -> Extents:
    spec = app.spec(b"")
    workload = workload_of(spec)
    workload = msgspec.structs.replace(workload, items=items or workload.items)
    model = msgspec.structs.replace(
        model_of(spec), stages=tuple(stage(UNEVEN_US[at % 4]) for at in range(len(spec.graph.stages)))
    )
    flows = Routing(spec.graph, plan, (0,) * len(spec.graph.stages), is_stagewise=True)
    return Extents(Setting(spec, model, HOP, workload, nodes, SOFT, NOMINAL_PRICES), plan, flows)


def fused(app, **options) -> Plan:
    spec = app.spec(b"")
    return plan_for(spec.name, (tuple(node.name for node in spec.graph.stages),), **options)


def cuts(first: int, last: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Every way to run stages ``first`` to ``last`` of a chain in runs that follow one another."""
    inner = range(first + 1, last + 1)
    for count in range(len(inner) + 1):
        for places in itertools.combinations(inner, count):
            edges = (first, *places, last + 1)
            yield tuple(itertools.pairwise(edges))


@pytest.mark.parametrize("objective", ["provisioned", "billed"])
@pytest.mark.parametrize("head", [0, 1, 3])
def test_offers_are_those_of_brute_force_at_every_slack(objective: str, head: int):
    app = chain(1)
    plan = msgspec.structs.replace(fused(app, max_batch=1), objective=objective)
    offers = extents_of(app, plan).offers(0, head, 1, 1)
    shares = sorted({offer.cpu_cores for offer in offers})
    assert objective == "billed" or shares[0] == plan.functions[0].cpu_cores
    memory = 10.0 + 4 * 50.0
    fee = 0.2e-6 if objective == "billed" else 0.0
    quantile, mean = 1.05, sum(
        width * (low + high) / 2
        for width, low, high in zip(
            (0.05, 0.2, 0.25, 0.25, 0.15, 0.05, 0.04, 0.01),
            (0.8, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1),
            (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15),
            strict=True,
        )
    )  # fmt: skip
    ways: dict[tuple[int, float], list[tuple[float, float]]] = {}
    for runs in cuts(head, 3):
        for cores in itertools.product(shares, repeat=len(runs)):
            time = cost = 0.0
            for (low, high), share in zip(runs, cores, strict=True):
                work = sum(stage(UNEVEN_US[at]).predict(1, 1.0, share).mean_us for at in range(low, high))
                time += 700.0 + work * quantile
                cost += (700.0 + work * mean) / 1e6 * NOMINAL_PRICES.usd_per_second(share, memory) + fee
            first = sum(1 << at for at in range(*runs[0]))
            ways.setdefault((first, cores[0]), []).append((time, cost))
    assert {(offer.mask, offer.cpu_cores) for offer in offers} == set(ways)
    for offer in offers:
        found = ways[(offer.mask, offer.cpu_cores)]
        for slack in sorted({time + more for time, _ in found for more in (-1.0, 0.01, 1.0)}):
            fitting = [cost for time, cost in found if time <= slack]
            assert offer.cost_within(slack) == (pytest.approx(min(fitting)) if fitting else None)


def test_an_extent_begins_at_one_stage_and_stays_in_its_scope():
    spec = fan().spec(b"")
    extents = extents_of(fan(), fused(fan()))
    for head, node in enumerate(spec.graph.stages):
        for offer in extents.offers(0, head, 1, 1):
            stages = [at for at in range(len(spec.graph.stages)) if offer.mask >> at & 1]
            assert stages[0] == head
            inside = [at for at in stages if len(spec.graph.stages[at].scope) < len(node.scope)]
            assert not inside


def test_a_fan_out_is_shared_by_idle_instances_that_hold_all_of_it():
    app = listed(1)
    world = World(app, plans=[fused(app, instances=4, max_batch=4)])
    world.run(lambda: sum(each.phase == "ready" for each in world.status().instances) == 4, "four are ready")
    starts = len(world.seen(StartInstance))
    asked = world.ask([1, 2, 3, 4])
    assert len(world.busy) == 4
    world.drain()
    assert world.asked[asked].answer is not None
    assert len(world.seen(StartInstance)) == starts
    assert not world.seen(LoadStages)


def test_a_wide_fan_out_is_taken_apart_where_time_is_short_and_instances_are_many():
    app = fan(1)
    wide = (1.0, 8.0, 8.0, 1.0)
    alone, shared = (extents_of(app, fused(app, instances=4), items=wide).offers(0, 0, 1, side) for side in (1, 4))
    whole = 0b1111
    assert min(alone, key=lambda offer: offer.times_us[0]).mask == whole
    fastest = min(shared, key=lambda offer: offer.times_us[0])
    assert fastest.mask == 0b0001
    assert fastest.times_us[0] < 0.5 * next(offer.times_us[0] for offer in shared if offer.mask == whole)


@pytest.mark.parametrize("app", [chain(2), diamond(), fan(), listed(4)], ids=lambda app: app.name)
def test_every_extent_says_why(app):
    world = World(app, plans=[fused(app, instances=2)])
    for value in range(6):
        world.ask([value, value + 1] if app.name == "listed" else value)
    world.drain()
    for invoke in world.seen(Invoke):
        facts = dict(invoke.because.facts)
        assert {"slack_ms", "needs_ms", "batch"} <= set(facts)


def test_what_cannot_be_in_time_is_dropped_where_the_app_asks_for_it():
    app = chain(1, slo_ms=30)
    config = AppConfig(late="drop", replan_us=0)
    world = World(app, plans=[fused(app, instances=1, max_batch=1)], config=config, service_us=20 * MILLISECOND)
    world.run(lambda: world.status().is_ready, "it is ready")
    numbers = [world.ask(value) for value in range(5)]
    world.drain()
    codes = [world.asked[number].code for number in numbers]
    assert codes[0] == "ok"
    assert "too_late" in codes
    dropped = next(world.asked[number].reject for number in numbers if world.asked[number].code == "too_late")
    assert dropped is not None
    assert "cannot be in time" in dropped.because.render()


def test_a_change_between_sets_that_route_in_different_ways_is_refused():
    app = chain()
    world = World(app, plans=[fused(app)])
    world.run(lambda: world.status().is_ready, "it is ready")
    known = world.controller.state.apps["chain"].deployed
    world.post(msgspec.structs.replace(known, config=AppConfig(policies="fixed")))
    assert "restart the server" in world.status().last_refusal
    number = world.ask(4)
    world.drain()
    assert world.asked[number].code == "ok"


def test_where_presence_is_paid_for_an_invocation_borrows_what_idle_instances_do_not_use():
    """Four instances of half a core: one request may have up to what they have together, and never more is used at once."""
    plan = fused(chain(), max_batch=1, cpu_cores=0.5, instances=4, max_instances=4)
    world = World(chain(), plans=[plan], nodes=(Node("here", 8.0, 10_000.0),))
    instances = world.controller.state.instances
    world.run(lambda: all(each.phase == "ready" for each in instances.values()), "all are ready")
    world.ask(0)
    assert max(invoke.cpu_cores for invoke in world.seen(Invoke)) > 0.5
    world.drain()
    for value in range(30):
        world.ask(value)
        assert sum(instance.cores for instance in instances.values()) <= 4 * 0.5 + 1e-9
    world.drain()


def test_another_plan_of_the_same_granularity_gives_running_instances_its_share_and_says_so():
    plan = fused(chain(), max_batch=1, cpu_cores=0.5)
    world = World(chain(), plans=[plan], nodes=(Node("here", 8.0, 10_000.0),))
    world.regranulate(fused(chain(), max_batch=1, cpu_cores=2.0))
    [adopted] = world.seen(AdoptPlan)
    assert [share for _, share in adopted.shares] == [2.0]
    assert [instance.share for instance in world.controller.state.instances.values()] == [2.0]
    world.ask(0)
    world.drain()
    assert {invoke.cpu_cores for invoke in world.seen(Invoke)} == {2.0}
