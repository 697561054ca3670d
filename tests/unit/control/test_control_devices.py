"""Parts of devices: who gets one, until when, and what happens where there is none."""

import msgspec
import pytest

from grainwise.control.actions import LoadStages, StartInstance, StopInstance
from grainwise.control.events import CapacityChanged
from grainwise.control.invariants import InvariantError, Monitor
from grainwise.domain.because import Because
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import Device, Node
from grainwise.domain.time import SECOND
from grainwise.policies.placement import NoRoom, Place
from grainwise.telemetry.recorder import Recorder
from worlds.apps import chain, fan
from worlds.control import HARD, NOMINAL_PRICES, World
from worlds.grains import legal_grains, on_gpu, plan_for

FUSED = (("plus_one", "double", "negate", "plus_one#2"),)
FAN = legal_grains(fan().graph)[0]
SPLIT = (("plus_one", "double"), ("negate", "plus_one#2"))


def devices(count: int = 1, slots: int = 0, memory_mib: float = 10_000.0) -> tuple[Device, ...]:
    return tuple(Device(f"gpu{index}", "A100", memory_mib, slots) for index in range(count))


def node(*has: Device, name: str = "here", memory_mib: float = 10_000.0) -> Node:
    return Node(name, 8.0, memory_mib, devices=has)


def world(share: float, *has: Device, instances: int = 1, grain=FUSED, **more) -> World:
    plan = on_gpu(plan_for("chain", grain, instances=instances, cpu_cores=0.5), share)
    return World(chain(), plans=[plan], nodes=(node(*has),), on_gpu=True, **more)


def given(seen: World) -> list[tuple[str, float, int]]:
    return [(each.device, round(each.gpu_share_fraction * 7, 3), each.slice_start) for each in seen.seen(StartInstance)]


def test_a_function_on_cpus_gets_no_device_where_there_are_some():
    seen = World(chain(), nodes=(node(*devices()),))
    [start] = seen.seen(StartInstance)
    assert (start.device, start.gpu_share_fraction, start.slice_start, start.device_memory_mib) == ("", 0.0, -1, 0.0)


def test_soft_shares_fill_a_device_before_the_next():
    seen = world(0.5, *devices(2), instances=3)
    assert [each.device for each in seen.seen(StartInstance)] == ["gpu0", "gpu0", "gpu1"]
    assert {each.gpu_share_fraction for each in seen.seen(StartInstance)} == {0.5}
    assert {each.device_memory_mib for each in seen.seen(StartInstance)} == {400.0}


def test_a_plan_that_names_no_share_gets_whole_devices():
    seen = world(0.0, *devices(2), instances=3)
    assert sorted(each.device for each in seen.seen(StartInstance)) == ["gpu0", "gpu1"]
    assert {each.gpu_share_fraction for each in seen.seen(StartInstance)} == {1.0}


def test_hard_slices_have_a_place_and_cost_what_they_are():
    seen = world(0.4, *devices(slots=7), instances=3)
    assert given(seen) == [("gpu0", 3, 4), ("gpu0", 3, 0)], "three slots each, and slot 3 is of no use to anyone"
    assert world(0.5, *devices(slots=7), instances=2).seen(StartInstance)[0].slice_start == 0


def test_a_slot_that_a_slice_blocks_is_given_to_no_one():
    plans = [on_gpu(plan_for("chain", FUSED, instances=2), 0.4), on_gpu(plan_for("fan", FAN), 0.1)]
    seen = World(chain(), fan(), plans=plans, nodes=(node(*devices(slots=7)),), on_gpu=True, warm=False)
    assert given(seen) == [("gpu0", 3, 4), ("gpu0", 3, 0)]
    verdict = seen.controller._fleet.place(seen.state_of("fan"), 1, 0.5, 0.1)
    assert isinstance(verdict, NoRoom)
    assert "0 of 7 slots free" in verdict.render()


def test_a_slice_is_charged_until_the_instance_has_stopped():
    config = AppConfig(scale_to_zero=True, keep_alive_us=SECOND, replan_us=0)
    seen = world(1.0, *devices(slots=7), config=config, warm=False)
    fleet, app = seen.controller._fleet, seen.state_of()
    seen.ask(1)
    seen.run(lambda: bool(seen.seen(StopInstance)), "the idle instance is told to stop")
    assert given(seen) == [("gpu0", 7, 0)]
    verdict = fleet.place(app, 15, 0.5, 0.1)
    assert isinstance(verdict, NoRoom)
    assert "0 of 7 slots free" in verdict.render()
    seen.run(lambda: not seen.controller.state.instances, "it has stopped")
    assert isinstance(fleet.place(app, 15, 0.5, 0.1), Place)


def test_a_request_is_refused_where_no_device_has_room():
    seen = world(0.5, warm=False)
    seen.ask(1)
    seen.drain()
    assert seen.outcomes() == ["no_capacity"]
    assert "no node has a device" in seen.asked[1].reject.because.render()


def test_the_memory_of_a_device_bounds_what_is_put_on_it():
    seen = world(0.1, *devices(memory_mib=900.0), instances=3)
    assert len(seen.seen(StartInstance)) == 2
    sliced = world(0.1, *devices(slots=7, memory_mib=1600.0), instances=3)
    assert given(sliced) == [("gpu0", 2, 4), ("gpu0", 2, 2), ("gpu0", 2, 0)], "a slot has 200 MiB and 400 are needed"


def test_a_device_comes_back_with_what_it_carried():
    seen = world(0.5, *devices(), instances=2)
    seen.post(CapacityChanged(()))
    seen.post(CapacityChanged((node(*devices()),)))
    fleet, app = seen.controller._fleet, seen.state_of()
    assert fleet.place(app, 15, 0.5, 0.1).device.startswith("no device has room")
    seen.crash(1)
    assert isinstance(fleet.place(app, 15, 0.5, 0.5), Place)


def test_a_device_that_was_shared_gives_no_slices_until_it_is_empty():
    seen = world(0.1, *devices(), instances=1)
    seen.post(CapacityChanged((node(*devices(slots=7)),)))
    assert "0 of 7 slots free" in seen.controller._fleet.place(seen.state_of(), 15, 0.5, 0.1).render()
    seen.crash(1)
    assert given(seen)[1] == ("gpu0", 1, 6)


@pytest.mark.parametrize(("slots", "share", "enough_mib", "short_mib"), [(0, 0.25, 800.0, 700.0), (7, 1 / 7, 3200.0, 1600.0)])
def test_a_load_takes_memory_of_the_part_that_the_instance_has(slots, share, enough_mib, short_mib):
    """Of three instances one can be spared; what it lacks of the fused function takes 200 MiB beside the 200 that it has."""
    for memory_mib, loaded in ((enough_mib, [200.0]), (short_mib, [])):
        split = plan_for("chain", SPLIT, cpu_cores=0.5)
        twice = msgspec.structs.replace(split.functions[0], instances=2)
        plan = on_gpu(msgspec.structs.replace(split, functions=(twice, split.functions[1])), share)
        has = devices(slots=slots, memory_mib=memory_mib)
        seen = World(chain(), plans=[plan], nodes=(node(*has),), on_gpu=True, capabilities=HARD)
        seen.run(lambda seen=seen: all(each.phase == "ready" for each in seen.status().instances), "all are ready")
        assert [each.device_memory_mib for each in seen.seen(StartInstance)] == [200.0] * 3
        seen.regranulate(on_gpu(plan_for("chain", FUSED, cpu_cores=0.5), share))
        assert [each.device_memory_mib for each in seen.seen(LoadStages)] == loaded


def test_a_change_that_no_device_can_carry_is_refused_at_once():
    seen = world(0.5, *devices(), grain=SPLIT)
    seen.regranulate(on_gpu(plan_for("chain", FUSED, cpu_cores=0.5), 0.5))
    assert "no device has room for 0.50 of a device with 400 MiB" in seen.status().last_refusal
    assert len(seen.seen(StartInstance)) == 2


def test_an_instance_that_holds_the_stages_counts_whatever_its_part_is():
    seen = world(0.3, *devices(slots=7))
    seen.regranulate(on_gpu(plan_for("chain", SPLIT, cpu_cores=0.5), 0.5))
    seen.run_for(SECOND)
    assert seen.status().regranulations == 1
    assert len(seen.seen(StartInstance)) == 1


def test_stages_for_a_device_are_not_loaded_into_an_instance_without_one():
    cpu = World(chain(), grains=[SPLIT], nodes=(node(*devices()),), on_gpu=True)
    cpu.regranulate(on_gpu(plan_for("chain", FUSED), 0.5))
    cpu.run_for(60 * SECOND)
    assert not cpu.seen(LoadStages)
    assert [each.device for each in cpu.seen(StartInstance)][2:] == ["gpu0"]


def test_a_part_that_can_be_spared_is_given_up_for_a_function_that_needs_another():
    """The spare instance has too small a part to load into, and its end makes room."""
    split = plan_for("chain", SPLIT, cpu_cores=0.5)
    twice = msgspec.structs.replace(split.functions[0], instances=2)
    plan = on_gpu(msgspec.structs.replace(split, functions=(twice, split.functions[1])), 0.3)
    seen = World(chain(), plans=[plan], nodes=(node(*devices()),), on_gpu=True)
    seen.run(lambda: sum(each.phase == "ready" for each in seen.status().instances) == 3, "all are ready")
    seen.regranulate(on_gpu(plan_for("chain", FUSED, cpu_cores=0.5), 0.4))
    seen.run(lambda: seen.status().regranulations == 1, "the change is made")
    assert [each.gpu_share_fraction for each in seen.seen(StartInstance)] == [0.3, 0.3, 0.3, 0.4]
    assert not seen.seen(LoadStages)


def test_both_costs_have_the_part_of_a_device():
    prices = msgspec.structs.replace(NOMINAL_PRICES, usd_per_core_hour=0.0, usd_per_gib_hour=0.0, usd_per_gpu_hour=3600.0)
    prices = msgspec.structs.replace(prices, usd_per_million_requests=0.0)
    seen = world(0.5, *devices(), warm=False, config=AppConfig(policies="fixed"))
    recorder = Recorder()
    for entry in seen.log:
        event = entry.event
        if hasattr(event, "prices"):
            event = msgspec.structs.replace(event, prices=prices)
        recorder.observe(event, entry.actions, entry.now)
    seen.before = lambda event, actions: recorder.observe(event, actions, seen.now)
    began = seen.now
    seen.run(lambda: seen.status().is_ready, "it is ready")
    seen.ask(1)
    seen.drain()
    sums = recorder.apps["chain"]
    assert sums.billed_usd == pytest.approx(0.5 * seen.service_us / SECOND)
    assert recorder.provisioned_usd(sums, seen.now) == pytest.approx(0.5 * (seen.now - began) / SECOND)


def start(number: int, share: float, at: int = -1, device: str = "gpu0", memory: float = 100.0) -> StartInstance:
    return StartInstance(number, "app", 1, "here", 0.5, 10.0, Because("a test"), 0.5, device, share, at, memory)


@pytest.mark.parametrize(
    ("slots", "starts", "message"),
    [
        (0, [start(1, 0.6), start(2, 0.5)], "1.100 of gpu0 on here is given"),
        (0, [start(1, 0.1, memory=600.0), start(2, 0.1, memory=600.0)], "1200.0 MiB are held on gpu0"),
        (0, [start(1, 0.5, 2)], "names no part of a shared device"),
        (0, [start(1, 0.5, device="gpu7")], "here has no such device"),
        (0, [start(1, 0.5, device="")], "names no device and has a share of one"),
        (7, [start(1, 1 / 7, 3), start(2, 3 / 7, 0)], r"slots \[3\] of gpu0 on here are given twice"),
        (7, [start(1, 0.5, 0)], "there is no such slice"),
        (7, [start(1, 4 / 7, 1)], "there is no such slice"),
        (7, [start(1, 1 / 7, 1, memory=200.0)], "200.0 MiB are held in a slice of 1 slots"),
    ],
)
def test_the_monitor_sees_what_is_given_twice(slots, starts, message):
    monitor = Monitor()
    here = CapacityChanged((node(*devices(slots=slots, memory_mib=1000.0)),))
    with pytest.raises(InvariantError, match="4: .*" + message):
        monitor.observe(here, starts, 1)
