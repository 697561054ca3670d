"""Where ESG runs a function and starts an instance: the predecessor's machine, a warm one, the home, the best fit."""

from dataclasses import dataclass

import pytest

from grainwise.control.actions import Invoke, StartInstance
from grainwise.control.controller import Controller
from grainwise.control.log import encode_actions
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import Device, Node
from grainwise.domain.time import MILLISECOND, SECOND
from grainwise.policies.autoscale import ScaleView
from grainwise.policies.home import home_of
from grainwise.policies.placement import NodeView, NoRoom, Place
from grainwise.policies.published.esg_dispatch import (
    BEST_FIT,
    HOME,
    LEAST_PROMISED,
    PREDECESSOR,
    WARM,
    Invoker,
    choose,
    place,
    route,
    scale,
)
from grainwise.policies.published.esg_offers import BEST_EFFORT, CHEAP_EFFORT, FORCED, RECHECKS
from grainwise.policies.slices import DeviceNeed, DeviceView
from worlds.apps import chain
from worlds.control import World
from worlds.grains import plan_for

CHAIN = (("double",), ("negate",), ("plus_one",), ("plus_one#2",))


@dataclass
class Idle:
    number: int
    node: str
    stages: int = 1
    idle_since: int = 0


def invokers(*full: str) -> list[Invoker]:
    """A machine for every step, and two that fit best; those that are ``full`` have no room."""
    return [
        Invoker("predecessor", "predecessor" not in full, is_predecessor=True, left=(9.0,)),
        Invoker("warm", "warm" not in full, is_warm=True, left=(8.0,)),
        Invoker("home", "home" not in full, is_home=True, left=(7.0,)),
        Invoker("tight", "tight" not in full, left=(1.0,)),
        Invoker("roomy", "roomy" not in full, left=(5.0,)),
    ]


def test_without_room_on_one_the_choice_moves_to_the_next():
    order = [
        ("predecessor", PREDECESSOR), ("warm", WARM), ("home", HOME), ("tight", BEST_FIT), ("roomy", BEST_FIT),
    ]  # fmt: skip
    full: list[str] = []
    for name, step in order:
        found = choose(invokers(*full))
        assert found is not None
        assert (found[0].name, found[1]) == (name, step)
        full.append(name)
    assert choose(invokers(*full)) is None


def test_an_invocation_goes_to_its_inputs_else_to_the_instance_used_last():
    idle = [Idle(1, "a", idle_since=5), Idle(2, "b", idle_since=9), Idle(3, "a", idle_since=7), Idle(4, "a", 2, 99)]
    assert (found := route(1, idle, "a")) is not None and found.number == 3
    assert (found := route(1, idle, "b")) is not None and found.number == 2
    assert (found := route(1, idle)) is not None and found.number == 2
    assert (found := route(1, idle, "elsewhere")) is not None and found.number == 2
    assert route(4, idle, "a") is None


def node(name: str, **more: object) -> NodeView:
    return NodeView(**{"name": name, "free_memory_mib": 1000.0, "free_cores": 4.0, "usable_cores": 4.0, **more})  # type: ignore[arg-type]


def placed(*nodes: NodeView, memory_mib: float = 100.0, cores: float = 1.0, is_hard: bool = False) -> tuple[str, str]:
    found = place(nodes, memory_mib, cores, is_hard)
    assert isinstance(found, Place)
    return found.node, found.because.rule


def test_an_instance_is_started_beside_its_predecessors_else_at_home_else_where_it_fits_best():
    near, home = node("near", lacks=2.0), node("home", is_home=True)
    tight, roomy = node("tight", promised_cores=2.5), node("roomy")
    assert placed(roomy, tight, home, near) == ("near", PREDECESSOR)
    assert placed(roomy, tight, home, node("near", lacks=2.0, is_crowded=True)) == ("home", HOME)
    assert placed(roomy, tight, node("home", is_home=True, free_memory_mib=50.0)) == ("tight", BEST_FIT)
    assert placed(roomy, node("nearer", lacks=3.0), near) == ("nearer", PREDECESSOR)
    full = [node(name, promised_cores=cores, is_crowded=True, is_home=cores > 6) for name, cores in (("a", 7.0), ("b", 6.0))]
    assert placed(*full) == ("b", LEAST_PROMISED)
    assert placed(node("busy", free_cores=0.5, is_home=True), roomy, is_hard=True) == ("roomy", BEST_FIT)


def test_where_nothing_has_room_it_is_said_what_is_missing():
    assert place([node("a")], 1100.0, 1.0, False) == NoRoom(100.0)
    assert place([node("a", free_cores=0.5)], 100.0, 1.0, True) == NoRoom(0.0, 0.5)
    found = place([node("a")], 100.0, 1.0, False, DeviceNeed(0.5, 10.0))
    assert isinstance(found, NoRoom) and found.device


def test_on_devices_the_best_fit_is_the_one_that_wastes_least():
    device = Device("gpu0", "made", 8000.0)
    empty, half = DeviceView(device), DeviceView(device, share_fraction=0.5)
    views = [node("empty", devices=(empty,)), node("half", devices=(half,))]
    found = place(views, 100.0, 1.0, False, DeviceNeed(0.5, 100.0))
    assert isinstance(found, Place) and found.grant is not None
    assert (found.node, found.grant.share_fraction) == ("half", 0.5)
    found = place(views, 100.0, 1.0, False, DeviceNeed(0.75, 100.0))
    assert isinstance(found, Place) and found.node == "empty"


def test_the_home_of_a_function_is_the_same_whoever_asks():
    nodes = ("n0", "n1", "n2", "n3")
    homes = {stage: home_of("app", (stage,), nodes) for stage in ("a", "b", "c", "d", "e", "f")}
    assert homes == {"a": "n3", "b": "n1", "c": "n3", "d": "n1", "e": "n1", "f": "n1"}
    assert home_of("app", ("a",), nodes[::-1]) == homes["a"]
    assert home_of("app", ("a",), ()) == ""


@pytest.mark.parametrize(
    ("offered", "backlog_ms", "wanted"),
    [(0.0, 0.0, 0), (0.1, 0.0, 1), (0.99, 0.0, 1), (1.0, 0.0, 2), (1.5, 0.0, 2), (1.5, 50.0, 3), (9.0, 0.0, 5)],
)
def test_one_instance_is_warm_beside_those_that_are_busy(offered: float, backlog_ms: float, wanted: int):
    view = ScaleView(offered, backlog_ms * 1000, 100_000.0, 1, 0, 5)
    assert scale(view).instances == wanted


def assert_replays(world: World) -> None:
    fresh = Controller()
    for entry in world.log:
        assert encode_actions(fresh.handle(entry.event, entry.now)) == encode_actions(entry.actions)


def test_a_queue_is_re_checked_so_often_and_then_gets_the_minimum():
    # Only on whole cores is a request in time, so nothing else is offered; one of 1.25 is taken already.
    app = chain(1, slo_ms=28)
    spec = app.spec(b"chain")
    plan = plan_for("chain", tuple((name,) for name in spec.graph.names(spec.graph.all_mask)), cpu_cores=1.0, instances=2)
    world = World(
        app, plans=(plan,), nodes=(Node("here", 1.25, 10_000.0),), config=AppConfig(policies="esg", replan_us=0), max_batch=1
    )
    world.run_for(5 * SECOND)
    world.invoked = lambda action: "hang"
    world.ask(1, within_us=10 * SECOND)
    world.ask(2, within_us=20 * SECOND)
    first, *others = world.seen(Invoke)
    assert first.cpu_cores == 1.0 and not others
    queue = world.state_of().queues[1]
    while queue.tries < RECHECKS:
        before = queue.tries
        world.ask(3, within_us=20 * SECOND)
        assert queue.tries == before + 1
        assert len(world.seen(Invoke)) == 1
    world.ask(3, within_us=20 * SECOND)
    _, second = world.seen(Invoke)
    assert (second.cpu_cores, len(second.inputs)) == (0.25, 1)
    assert second.because.rule == FORCED
    assert_replays(world)


def test_a_late_request_runs_as_best_effort_and_the_log_says_so():
    for late, rule in (("fastest", BEST_EFFORT), ("cheapest", CHEAP_EFFORT)):
        config = AppConfig(policies="esg", replan_us=0, late=late)
        world = World(chain(1, slo_ms=10), config=config, max_batch=1, service_us=30 * MILLISECOND)
        world.ask(1)
        world.drain()
        assert world.outcomes() in (["ok"], ["late"])
        assert world.seen(Invoke)[0].because.rule == rule
        assert_replays(world)


@pytest.mark.parametrize("policies", ["esg", "esg_configuration"])
def test_both_sets_serve_and_replay_alike_on_several_nodes(policies: str):
    app = chain(4)
    spec = app.spec(b"chain")
    plan = plan_for("chain", tuple((name,) for name in spec.graph.names(spec.graph.all_mask)), instances=2)
    nodes = tuple(Node(f"n{at}", 4.0, 10_000.0) for at in range(3))
    world = World(app, plans=(plan,), nodes=nodes, config=AppConfig(policies=policies, replan_us=0))
    for value in range(60):
        world.ask(value)
        world.run_for(4 * MILLISECOND)
    world.drain()
    assert world.outcomes() == ["ok"] * 60
    assert len({start.node for start in world.seen(StartInstance)}) > 1
    assert_replays(world)


def test_an_invocation_takes_the_batch_of_its_configuration_and_no_more():
    app = chain(8)
    spec = app.spec(b"chain")
    plan = plan_for("chain", tuple((name,) for name in spec.graph.names(spec.graph.all_mask)), max_batch=8)
    world = World(app, plans=(plan,), config=AppConfig(policies="esg", replan_us=0), max_batch=8)
    world.run_for(5 * SECOND)
    for value in range(8):
        world.ask(value)
    first, second, *_ = [invoke for invoke in _drained(world) if invoke.extent == 1]
    # Seven wait when the one that came alone is over: four are the most that a configuration takes of them.
    assert (len(first.inputs), len(second.inputs)) == (1, 4)
    assert_replays(world)


def _drained(world: World) -> list[Invoke]:
    world.drain()
    return world.seen(Invoke)
