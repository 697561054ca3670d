"""The machines of the study."""

import pytest
from reproduce.granularity import worlds

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.machine import HopModel

HOP = HopModel(100.0, 10.0, 50.0, 5.0, 0.0)


@pytest.mark.parametrize("nodes", worlds.NODES)
@pytest.mark.parametrize("sharing", worlds.SHARINGS)
def test_nodes_are_equal_and_have_what_their_sharing_says(nodes: int, sharing: worlds.Sharing) -> None:
    made = worlds.cluster(nodes, sharing, HOP)
    assert len({node.node.name for node in made.nodes}) == nodes
    assert made.hop == HOP
    for node in made.domain_nodes:
        assert node.gpus == (sharing != "cpu")
        assert all(device.is_hard == (sharing == "gpu_slices") for device in node.devices)


def test_a_slice_and_a_core_cost_what_is_recalled() -> None:
    prices = worlds.cluster(1, "gpu_slices", HOP).prices
    assert prices.usd_per_second(1.0, 0.0, 1 / 7) * 3600 == pytest.approx(0.034 + 0.67)
    assert worlds.CORE_AND_SLICE_PRICES.usd_per_second(1.0, 0.0) * 3600 == pytest.approx(0.034 + 0.67)
    assert "recalled" in prices.source


def test_what_lies_between_nodes_is_said() -> None:
    near, far = worlds.cluster(4, "cpu", HOP), worlds.cluster(4, "cpu", HOP, wire=worlds.REMOTE_STORE)
    assert "assumed" in near.description
    assert far.network.transfer_us("n0", "n1", 100_000_000) == pytest.approx(1_015_000, rel=1e-3)
    assert near.network.transfer_us("n0", "n1", 1_000_000) < 1000
    assert far.network.transfer_us("n1", "n1", 1_000_000) == 0


def test_no_node_and_no_such_sharing_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs a node"):
        worlds.cluster(0, "cpu", HOP)
    with pytest.raises(ConfigurationError, match="gpu_soft"):
        worlds.cluster(1, "tpu", HOP)  # type: ignore[arg-type]
