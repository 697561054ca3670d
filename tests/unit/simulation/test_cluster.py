"""The models of a cluster: plain arithmetic in integer microseconds."""

import pytest

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.machine import HopModel, Node
from grainwise.simulation.cluster import ClusterNode, DoorModel, Network, PlannerModel, this_machine

NODE = Node("n1", 8.0, 1024.0)


def test_this_machine_is_one_node_that_is_its_own_gateway() -> None:
    hop = HopModel(1.0, 1.0, 1.0, 1.0, 1.0)
    cluster = this_machine(NODE, hop=hop)
    assert cluster.domain_nodes == (NODE,)
    assert cluster.network.gateway == "n1"
    assert cluster.node("n1") == ClusterNode(NODE)
    assert cluster.hop == hop
    assert "nominal" in cluster.prices.source


def test_a_node_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match="cluster n1 has no node n7: use one of n1"):
        this_machine(NODE).node("n7")


def test_a_transfer_takes_latency_and_bandwidth_between_machines_only() -> None:
    network = Network("a", latency_us=100, mib_per_s=1000.0)
    assert network.transfer_us("a", "a", 1 << 30) == 0
    assert network.transfer_us("a", "b", 0) == 100
    assert network.transfer_us("a", "b", 10 << 20) == 100 + 10_000


def test_neighbours_slow_an_invocation_in_proportion_to_the_cores_that_they_use() -> None:
    node = ClusterNode(NODE, interference_fraction=0.4)
    assert node.interference_factor(0.0) == 1.0
    assert node.interference_factor(4.0) == 1.2
    assert ClusterNode(NODE).interference_factor(8.0) == 1.0


def test_a_device_has_a_speed_of_its_own() -> None:
    node = ClusterNode(NODE, speed=0.5, device_speed={"l4": 2.0})
    assert [node.speed_on(kind) for kind in ("cpu", "l4", "a100")] == [0.5, 2.0, 1.0]


def test_door_and_planner_take_what_their_models_say() -> None:
    door = DoorModel(ingress_us=100.0, egress_us=50.0, us_per_mib=1000.0)
    assert (door.way_in_us(0), door.way_in_us(1 << 20), door.way_out_us(1 << 19)) == (100, 1100, 550)
    assert PlannerModel(5000.0, 2.5).duration_us(100) == 5250
