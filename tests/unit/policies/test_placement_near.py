"""Near to neighbours while there is room: what draws an instance to a node, and what keeps it from one."""

import msgspec
import pytest

from grainwise.domain.machine import Device
from grainwise.policies import placement
from grainwise.policies.placement import NodeView, Place, lacking_beside
from grainwise.policies.slices import DeviceNeed, DeviceView

HERE = NodeView("here", 1000.0, 8.0, 8.0, promised_cores=3.0, lacks=1.0)
THERE = NodeView("there", 2000.0, 8.0, 8.0)


def chosen(*nodes: NodeView, need: DeviceNeed | None = None, is_hard: bool = False) -> Place:
    found = placement.decide(nodes, 400.0, 1.0, is_hard, need)
    assert isinstance(found, Place)
    return found


def other(node: NodeView, **more: object) -> NodeView:
    return msgspec.structs.replace(node, **more)


def test_it_goes_where_neighbours_lack_it_though_more_is_promised_there():
    found = chosen(THERE, HERE)
    assert found.node == "here"
    assert found.because.rule == placement.NEAR_NEIGHBOURS
    assert dict(found.because.facts)["lacking"] == 1.0


def test_spread_goes_where_least_is_promised_wherever_neighbours_are():
    found = placement.spread((THERE, HERE), 400.0, 1.0, False)
    assert isinstance(found, Place)
    assert found.node == "there"
    assert found.because == placement.spread((THERE, other(HERE, lacks=0.0)), 400.0, 1.0, False).because


def test_where_most_is_lacking_and_among_equals_where_least_is_promised():
    assert chosen(HERE, other(THERE, lacks=1.5)).node == "there"
    assert chosen(HERE, other(THERE, lacks=1.0)).node == "there"
    assert chosen(HERE, other(THERE, lacks=-2.0)).node == "here"
    assert chosen(other(HERE, lacks=-1.0), THERE).node == "there", "one too many keeps nobody away from where all is well"


@pytest.mark.parametrize("less", [{"is_crowded": True}, {"free_memory_mib": 300.0}, {"has_devices": True}, {"free_cores": 0.5}])
def test_never_against_capacity(less):
    assert chosen(other(HERE, **less), THERE).node == "there"


def test_a_hard_share_is_never_promised_twice():
    assert chosen(other(HERE, free_cores=0.5), THERE, is_hard=True).node == "there"


def test_what_is_left_of_devices_decides_before_neighbours_do():
    need = DeviceNeed(1 / 7, 100.0)
    device = Device("a100", "a100", 80_000.0, slots=7)
    whole, begun = DeviceView(device), DeviceView(device, 0b1000000)
    assert chosen(other(HERE, devices=(whole,)), other(THERE, devices=(begun,)), need=need).node == "there"
    assert chosen(other(HERE, devices=(begun,)), other(THERE, devices=(begun,)), need=need).node == "here"


def test_an_order_of_nodes_changes_nothing():
    nodes = [other(HERE, name=name, lacks=lacks) for name, lacks in (("c", 1.0), ("a", 0.5), ("b", 1.0))]
    assert {chosen(*nodes).node, chosen(*nodes[::-1]).node, chosen(nodes[1], nodes[2], nodes[0]).node} == {"b"}


def test_shares_of_instances_follow_those_of_neighbours():
    # Three of four neighbours are here, so that three of the four that there will be belong here too.
    assert lacking_beside(2, 3, 3, 4) == 1.0
    assert lacking_beside(1, 3, 1, 4) == 0.0
    assert lacking_beside(5, 7, 0, 4) == 0.0
    # One upstream, many beside it: all of them lack nothing but a place at its side.
    assert lacking_beside(6, 6, 1, 1) == 1.0


@pytest.mark.parametrize("neighbours", [(1, 0, 0), (2, 1, 1), (3, 3, 3), (1, 4, 0)])
def test_one_after_the_other_they_come_to_stand_in_proportion(neighbours):
    own = [0, 0, 0]
    total = sum(neighbours)
    for count in range(4 * total):
        views = [
            NodeView(name, 1e6, 64.0, 64.0, promised_cores=own[at] + neighbours[at],
                     lacks=lacking_beside(own[at], count, neighbours[at], total))
            for at, name in enumerate("abc")
        ]  # fmt: skip
        own["abc".index(chosen(*views).node)] += 1
    assert own == [4 * each for each in neighbours]
