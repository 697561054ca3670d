"""A smaller share of a device takes longer in the simulator too, and a profile of shares goes all the way to a run."""

from collections.abc import Sequence

import msgspec
import pytest

from grainwise.control.actions import Invoke, Respond, StartInstance
from grainwise.control.events import InvocationDone
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import Device, HopModel, Node
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.planning.table import compute
from grainwise.predictors.fit import latency_model
from grainwise.profiles.artifact import Profile, read, write
from grainwise.simulation.app import SimulatedApp, simulated_app
from grainwise.simulation.cluster import ClusterNode
from grainwise.simulation.service import DevicePart, ServiceTimes
from worlds import gpu
from worlds.problems import chain_graph
from worlds.simulated import NO_HOP, Seen, cluster

PAIR = (gpu.SUPER_RESOLUTION, gpu.CLASSIFICATION)
NAMES = (("s0",), ("s1",))


@pytest.fixture(scope="module")
def profile() -> Profile:
    return gpu.profile_of(*PAIR)


def machine(devices: Sequence[Device], speed: float = 1.0, device_speed: float = 1.0) -> ClusterNode:
    node = Node("box", 32.0, 262_144.0, 0.0, tuple(devices))
    return ClusterNode(node, speed=speed, device_speed={"a100": device_speed})


def app(
    profile: Profile, shares: Sequence[float], *, on_cpu: tuple[int, ...] = (), hop: HopModel = NO_HOP, max_batch: int = 1
) -> SimulatedApp:
    spec = gpu.spec_of(chain_graph(2), 60_000.0, on_cpu=on_cpu)
    functions = tuple(
        FunctionPlan(
            names, 2.0, max_batch, 1, 1, 1, "cpu" if at in on_cpu else "gpu", 0.0 if at in on_cpu else share, 200.0
        )
        for at, (names, share) in enumerate(zip(NAMES, shares, strict=True))
    )  # fmt: skip
    return simulated_app(profile, spec, Plan("made", functions), rate_per_s=1.0, hop=hop, config=AppConfig(policies="fixed"))


def durations(seen: Seen) -> list[int]:
    return [span.duration_us for event, _ in seen.events(InvocationDone) for span in event.spans]  # type: ignore[attr-defined]


def test_a_call_on_a_share_takes_what_the_model_predicts(profile: Profile) -> None:
    model = latency_model(profile)
    times = ServiceTimes(model, (8, 8), (), 1)
    for share in (1 / 7, 0.3, 1.0):
        for items in (1, 5, 8):
            call = times.calls(0, items, float(items), 2.0, 1.0, part=DevicePart(share, 1.0))[0]
            assert call[3] == pytest.approx(model.stage(0, items, items, 2.0, share).mean_us)
    # On cores nothing has changed, and a stage that stays there is not slowed by a device.
    plain = times.calls(0, 5, 5.0, 2.0, 2.0)
    assert plain[0][3] == pytest.approx(model.stage(0, 5, 5.0, 2.0).mean_us / 2)
    beside = ServiceTimes(model, (8, 8), (), 1, on_host=0b01)
    assert beside.calls(0, 5, 5.0, 2.0, 7.0, part=DevicePart(0.5, 2.0)) == plain


def test_host_and_device_each_run_at_their_own_speed(profile: Profile) -> None:
    model = latency_model(profile)
    device = model.stages[0].device
    assert device is not None
    times = ServiceTimes(model, (8, 8), (), 1)
    whole, fast_host, fast_device = (
        times.calls(0, 1, 1.0, 1.0, speed, part=DevicePart(1.0, host))[0][3] for speed, host in ((1, 1), (1, 2), (4, 1))
    )
    host = device.host_intercept_us + device.host_per_item_us + device.host_per_size_us
    assert whole - fast_host == pytest.approx(host / 2)
    assert whole - fast_device == pytest.approx((whole - host) * 3 / 4)


def test_functions_take_as_long_as_their_shares_say(profile: Profile) -> None:
    for shares in ((1 / 7, 1.0), (3 / 7, 2 / 7)):
        seen = Seen([app(profile, shares)], [(0, "made")], on=cluster(machine(gpu.sliced(2)))).run()
        known = [shape.time_us(1, 2.0, share) for shape, share in zip(PAIR, shares, strict=True)]
        assert durations(seen) == pytest.approx(known, rel=0.01)
        assert [at for _, at in seen.actions(Respond)] == pytest.approx([sum(known)], rel=0.01)


def test_a_slice_that_is_larger_than_asked_is_as_fast_as_it_is(profile: Profile) -> None:
    # Of a sliced device an eighth is a seventh, and a fifth two of them.
    seen = Seen([app(profile, (1 / 8, 1 / 5))], [(0, "made")], on=cluster(machine(gpu.sliced(1)))).run()
    starts = [action for action, _ in seen.actions(StartInstance)]
    granted = sorted(each.gpu_share_fraction for each in starts)  # type: ignore[attr-defined]
    assert granted == pytest.approx([1 / 7, 2 / 7])
    assert durations(seen) == pytest.approx([PAIR[0].time_us(1, 2.0, 1 / 7), PAIR[1].time_us(1, 2.0, 2 / 7)], rel=0.01)


def test_the_stage_on_cores_beside_one_on_a_device_is_left_alone(profile: Profile) -> None:
    on = cluster(machine(gpu.shared(1), speed=2.0, device_speed=4.0))
    mixed = app(profile, (0.0, 0.5), on_cpu=(0,))
    fused = msgspec.structs.replace(mixed, plan=Plan("made", (FunctionPlan(("s0", "s1"), 2.0, 1, 1, 1, 1, "gpu", 0.5, 200.0),)))
    model = mixed.model
    for each in (mixed, fused):
        first, second = durations(Seen([each], [(0, "made")], on=on).run())
        assert first == pytest.approx(model.stage(0, 1, 1.0, 2.0).mean_us / 2, abs=1)
        assert model.stage(1, 1, 1.0, 2.0, 0.5).mean_us / 4 < second < model.stage(1, 1, 1.0, 2.0, 0.5).mean_us / 2


@pytest.mark.parametrize("devices", [gpu.sliced(2), gpu.shared(2)])
def test_a_written_profile_of_shares_is_planned_and_simulated_as_predicted(
    profile: Profile, devices: tuple[Device, ...]
) -> None:
    known = read(write(profile))
    slo_ms = 2.0 * sum(shape.t0_ms for shape in PAIR)
    table = compute(gpu.problem_of(known, slo_ms, devices, rate_per_s=2.0))
    assert table.winner.meets_slo
    plan = table.winner.plan
    assert all(0 < each.gpu_share_fraction < 1 for each in plan.functions)
    made = msgspec.structs.replace(app(known, (1.0, 1.0), hop=gpu.HOP), plan=plan)
    # Far apart, requests meet nobody: the stages take what the model says of their shares, requests what the planner says.
    seen = Seen([made], [(at * 3_000_000, "made") for at in range(20)], on=cluster(machine(devices))).run()
    ends = [at - number * 3_000_000 for number, (_, at) in enumerate(seen.actions(Respond))]
    share_of = {each.instance: each.gpu_share_fraction for each, _ in seen.actions(StartInstance)}  # type: ignore[attr-defined]
    last = [each for each, _ in seen.actions(Invoke)][-1]
    stages = [at for at in range(2) if last.extent >> at & 1]  # type: ignore[attr-defined]
    cores, share = last.cpu_cores, share_of[last.instance]  # type: ignore[attr-defined]
    service = [made.model.stage(at, 1, 1.0, cores, share).mean_us for at in stages]
    assert durations(seen)[-len(stages) :] == pytest.approx(service, abs=1)
    assert ends[-1] / 1000 == pytest.approx(table.winner.predicted.p50_ms, rel=0.05)
