"""Where instances stand and which is taken: a hop finds an idle successor on its own node where there is room for one."""

import pytest

from grainwise.control.actions import StartInstance
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import Device, Node
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.domain.time import MILLISECOND
from worlds.apps import chain, diamond
from worlds.control import HARD, SOFT, World
from worlds.grains import plan_for
from worlds.runs import watched

SPLIT = (("plus_one",), ("double",), ("negate",), ("plus_one#2",))
FUSED = (SPLIT[0] + SPLIT[1] + SPLIT[2] + SPLIT[3],)
NAMES = ("a", "b", "c", "d", "e", "f", "g", "h")


def nodes(count: int = 8, cores: float = 8.0, memory: float = 10_000.0, **more) -> tuple[Node, ...]:
    return tuple(Node(name, cores, memory, **more) for name in NAMES[:count])


def config(policies: str = "extent") -> AppConfig:
    return AppConfig(policies=policies, replan_us=0)


def residencies(world: World) -> dict[str, list[int]]:
    """What the instances hold that were started on each node."""
    found: dict[str, list[int]] = {}
    for start in world.seen(StartInstance):
        found.setdefault(start.node, []).append(start.stages)
    return {node: sorted(stages) for node, stages in found.items()}


def of_each(count: int, grain=SPLIT, app: str = "chain") -> Plan:
    return plan_for(app, grain, instances=count, max_batch=1)


def placed(policies: str = "extent", plan: Plan | None = None, app=chain, **more) -> dict[str, list[int]]:
    more = {"nodes": nodes(), **more}
    return residencies(World(app(1), plans=[plan or of_each(2)], config=config(policies), **more))


def test_the_functions_of_an_app_stand_together_and_its_instances_apart():
    assert placed() == {"a": [1, 2, 4, 8], "b": [1, 2, 4, 8]}
    assert placed(app=diamond, plan=of_each(2, (("plus_one",), ("double",), ("negate",), ("add",)), "diamond")) == {
        "a": [1, 2, 4, 8],
        "b": [1, 2, 4, 8],
    }


def test_without_locality_they_stand_wherever_least_is_promised():
    assert placed("no_locality") == {name: [1 << at // 2] for at, name in enumerate(NAMES)}


def test_a_single_function_has_no_neighbours():
    assert placed(plan=of_each(3, FUSED)) == {"a": [15], "b": [15], "c": [15]}


def test_functions_of_unlike_numbers_stand_in_proportion():
    counts = (2, 4, 6, 2)
    functions = [FunctionPlan(stages, 1.0, 1, each, max_instances=8) for stages, each in zip(SPLIT, counts, strict=True)]
    plan = Plan("chain", tuple(functions))
    expected = [1, 2, 2, 4, 4, 4, 8]
    assert placed(plan=plan) == {"a": expected, "b": expected}


@pytest.mark.parametrize("capabilities", [SOFT, HARD])
def test_a_full_node_draws_nobody(capabilities):
    # Two nodes of three cores: no node has room for all four functions.
    found = placed(plan=of_each(1), nodes=nodes(2, 3.0), capabilities=capabilities)
    assert found == {"a": [1, 2, 4], "b": [8]}


def test_nor_does_one_without_memory():
    # An instance of one function takes 110 MiB.
    assert placed(plan=of_each(1), nodes=nodes(2, memory=250.0)) == {"a": [1, 2], "b": [4, 8]}


def test_nodes_with_devices_are_left_to_those_who_need_them():
    gpu = Node("0", 64.0, 100_000.0, devices=(Device("gpu0", "l4", 24_000.0),))
    assert placed(plan=of_each(1), nodes=(gpu, *nodes(1))) == {"a": [1, 2, 4, 8]}


def local(policies: str) -> float | None:
    """The part of hops that stayed on their node, while two requests are under way at any time."""
    world, recorder = watched(
        chain(1), plans=[of_each(2)], nodes=nodes(), config=config(policies), max_batch=1, is_checked=False
    )  # fmt: skip
    for value in range(40):
        world.ask(value)
        world.run_for(25 * MILLISECOND)
    world.drain()
    return recorder.result().apps[0].local_hops_fraction


def test_hops_stay_on_their_node_where_nothing_hinders_them():
    assert local("extent") == 1.0
    assert local("no_locality") == 0.0


def test_a_run_without_hops_has_no_fraction_of_them():
    world, recorder = watched(chain(1), plans=[of_each(1, FUSED)], nodes=nodes(), config=config("fixed"), max_batch=1)
    world.ask(1)
    world.drain()
    assert recorder.result().apps[0].local_hops_fraction is None


def test_a_successor_elsewhere_is_better_than_none():
    # The one node has room for two functions only, so that every second hop leaves it.
    world, recorder = watched(chain(1), plans=[of_each(1)], nodes=nodes(2, memory=250.0), config=config(), max_batch=1)
    world.ask(1)
    world.drain()
    assert recorder.result().apps[0].local_hops_fraction == pytest.approx(2 / 3)
