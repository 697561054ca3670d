"""FaST-GShare in use: one request at a time, instances by the rate, and the fullest device that has room."""

from random import Random

import pytest

from grainwise.control.actions import Invoke, Respond, StartInstance
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import Device, Node
from grainwise.domain.time import SECOND
from grainwise.planning.published import fast_gshare
from grainwise.policies import autoscale_rate, placement_best_fit
from grainwise.policies.autoscale import ScaleView
from grainwise.policies.own_sets import FIXED
from grainwise.policies.placement import NodeView, NoRoom, Place
from grainwise.policies.placement_best_fit import LEAST_LEFT
from grainwise.policies.published.fast_gshare import FAST_GSHARE, FAST_GSHARE_CONFIGURATION
from grainwise.policies.sets import policy_set
from grainwise.policies.slices import DeviceNeed, DeviceView
from grainwise.simulation.app import simulated_app
from grainwise.simulation.cluster import ClusterNode
from worlds import gpu
from worlds.problems import chain_graph
from worlds.simulated import Seen, cluster

SHAPES = (gpu.SUPER_RESOLUTION, gpu.CLASSIFICATION)
SLO_MS = 3000.0


def scaled(offered: float, instances: int, least: int = 0, most: int = 20) -> int:
    return autoscale_rate.decide(ScaleView(offered, 9e9, 1.0, instances, least, most)).instances


def test_there_are_as_many_instances_as_the_rate_needs_and_no_more() -> None:
    found = [(scaled(offered, 5), scaled(offered, 1)) for offered in (0.0, 0.9, 1.0, 4.01, 7.5, 99.0)]
    assert found == [(0, 0), (1, 1), (1, 1), (5, 5), (8, 8), (20, 20)]
    assert scaled(0.0, 5, least=2) == 2
    assert scaled(7.5, 5, least=1, most=6) == 6


def cpu_node(name: str, promised: float, memory: float = 1000.0, **more: object) -> NodeView:
    crowded = promised + 1.0 > 8.0
    return NodeView(name, memory, 8.0, 8.0, (), promised, is_crowded=crowded, **more)  # type: ignore[arg-type]


def put(nodes: tuple[NodeView, ...], need: DeviceNeed | None = None, cores: float = 1.0) -> Place:
    found = placement_best_fit.decide(nodes, 400.0, cores, False, need)
    assert isinstance(found, Place)
    assert found.because.rule == LEAST_LEFT
    return found


def test_without_a_device_the_fullest_node_is_filled_that_is_not_over_full() -> None:
    nodes = (cpu_node("empty", 0.0), cpu_node("half", 4.0), cpu_node("nearly", 7.0), cpu_node("full", 7.5))
    assert put(nodes).node == "nearly"
    assert put(nodes[::-1]).node == "nearly"
    # Where all are promised to more than there are, the least of them.
    assert put((cpu_node("more", 12.0), cpu_node("less", 9.0))).node == "less"
    assert put((cpu_node("nearly", 7.0, memory=399.0), cpu_node("half", 4.0))).node == "half"
    assert put((cpu_node("nearly", 7.0, has_devices=True), cpu_node("empty", 0.0))).node == "empty"
    # Neighbours draw nothing.
    assert put((cpu_node("half", 4.0), cpu_node("empty", 0.0, lacks=3.0))).node == "half"


def soft(name: str, shares: dict[str, float], free_cores: float = 8.0) -> NodeView:
    devices = tuple(DeviceView(Device(each, "a100", 1000.0), 0, share, 1000.0 * share) for each, share in shares.items())
    return NodeView(name, 1000.0, free_cores, 8.0, devices, 0.0, True)


def test_the_fullest_device_with_room_for_the_share_is_filled() -> None:
    nodes = (soft("one", {"gpu0": 0.0, "gpu1": 0.5}), soft("two", {"gpu0": 0.7, "gpu1": 0.9}))
    for share, expected in ((0.1, ("two", "gpu1")), (0.25, ("two", "gpu0")), (0.4, ("one", "gpu1")), (0.8, ("one", "gpu0"))):
        place = put(nodes, DeviceNeed(share, 100.0 * share))
        assert place.grant is not None
        assert (place.node, place.grant.device, place.grant.share_fraction) == (*expected, share)
        assert put(nodes[::-1], DeviceNeed(share, 100.0 * share)) == place
    # A start needs cores too.
    busy = (soft("one", {"gpu0": 0.0}), soft("two", {"gpu0": 0.7}, free_cores=0.0))
    assert put(busy, DeviceNeed(0.1, 10.0)).node == "one"


def test_on_slices_the_one_that_is_just_enough() -> None:
    cut = gpu.sliced(2)
    taken = cut[0].slices[3].mask(0)
    nodes = (
        NodeView("one", 1000.0, 8.0, 8.0, (DeviceView(cut[1]),), 0.0, True),
        NodeView("two", 1000.0, 8.0, 8.0, (DeviceView(cut[0], taken, 4 / 7, 100.0),), 0.0, True),
    )
    assert put(nodes, DeviceNeed(2 / 7, 100.0)).node == "two"
    assert put(nodes, DeviceNeed(4 / 7, 100.0)).node == "one"


def test_without_room_it_says_what_is_missing() -> None:
    known = (
        (placement_best_fit.decide((cpu_node("one", 0.0, memory=100.0),), 400.0, 1.0, False), "300 MiB of memory are missing"),
        (placement_best_fit.decide((cpu_node("one", 0.0),), 400.0, 9.0, True), "1.00 cores are missing"),
        (placement_best_fit.decide((soft("one", {"gpu0": 0.9}),), 1.0, 1.0, False, DeviceNeed(0.2, 1.0)), "no device has room"),
        (placement_best_fit.decide((), 400.0, 1.0, False), "400 MiB of memory are missing"),
    )
    for found, said in known:
        assert isinstance(found, NoRoom)
        assert said in found.render()


def test_the_configuration_set_is_ours_but_for_the_configuration() -> None:
    assert policy_set("fast_gshare") is FAST_GSHARE
    assert policy_set("fast_gshare_configuration") is FAST_GSHARE_CONFIGURATION
    for name in ("batch_now", "batch_or_wait", "rank", "route", "scale", "keep", "place", "admit", "extent"):
        assert getattr(FAST_GSHARE_CONFIGURATION, name) is getattr(FIXED, name)
    assert FAST_GSHARE_CONFIGURATION.configure is fast_gshare.configure_as_ours


def run(name: str, devices: tuple[Device, ...], arrivals: list[int]) -> Seen:
    profile = gpu.profile_of(*SHAPES)
    plan = fast_gshare.configure(gpu.problem_of(profile, SLO_MS, devices, rate_per_s=2.0)).winner.plan
    app = simulated_app(
        profile, gpu.spec_of(chain_graph(2), SLO_MS), plan, rate_per_s=2.0, config=AppConfig(policies=name)
    )  # fmt: skip
    box = ClusterNode(Node("box", 32.0, 262_144.0, 0.0, devices))
    return Seen([app], [(at, "made") for at in arrivals], on=cluster(box)).run()


def rising() -> list[int]:
    draws, at, found = Random(5), 0, []
    for number in range(200):
        at += int(draws.expovariate(2.0 if number < 20 else 16.0) * SECOND)
        found.append(at)
    return found


@pytest.mark.parametrize("devices", [gpu.sliced(4), gpu.shared(4)])
@pytest.mark.parametrize("name", ["fast_gshare", "fast_gshare_configuration"])
def test_in_a_run_requests_go_one_by_one_and_devices_are_filled_one_after_the_other(
    name: str, devices: tuple[Device, ...]
) -> None:
    seen = run(name, devices, rising())
    assert len(seen.actions(Respond)) == 200
    assert {len(each.inputs) for each, _ in seen.actions(Invoke)} == {1}  # type: ignore[attr-defined]
    if name == "fast_gshare":
        given: dict[str, float] = {}
        starts = [each for each, _ in seen.actions(StartInstance)]
        assert len(starts) > 4
        for each in starts:
            share, known = each.gpu_share_fraction, given.get(each.device, 0.0)  # type: ignore[attr-defined]
            # No device that has more left while one that is fuller has room.
            assert all(known >= other or other + share > 1 + 1e-6 for other in given.values())
            given[each.device] = known + share  # type: ignore[attr-defined]


def test_the_same_run_has_the_same_actions() -> None:
    first, second = ([actions for _, actions, _ in run("fast_gshare", gpu.shared(2), rising()[:60]).entries] for _ in range(2))
    assert first == second
