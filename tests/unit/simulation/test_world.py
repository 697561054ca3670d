"""What the pretend world makes of the controller's actions, reckoned by hand."""

import msgspec

from grainwise.control.actions import Reject, Respond, StartInstance
from grainwise.control.events import (
    CapacityChanged,
    InstanceFailed,
    InstanceReady,
    InvocationDone,
    InvocationProgressed,
    RequestArrived,
)
from grainwise.domain.machine import Device, Node
from grainwise.domain.time import SECOND
from grainwise.simulation.cluster import ClusterNode
from grainwise.simulation.failure_plan import parse_failures
from grainwise.simulation.loop import ARRIVAL, COMPLETION
from grainwise.simulation.service import ServiceTimes, another_luck, duration_us
from worlds import apps
from worlds.grains import on_gpu
from worlds.simulated import HOP, NO_HOP, Seen, cluster, simulated


def names(app: object) -> tuple[str, ...]:
    return tuple(node.name for node in app.spec(b"").graph.stages)


def test_a_request_takes_its_services_and_its_hops() -> None:
    seen = Seen([simulated(apps.chain())], [(0, "chain")]).run()
    hop = int(HOP.latency_us(1000))
    assert [at for _, at in seen.actions(Respond)] == [4 * (10_000 + hop)]
    assert seen.simulation.store.live_bytes == 0


def test_a_fused_function_hops_once() -> None:
    app = apps.chain()
    seen = Seen([simulated(app, (names(app),))], [(0, "chain")]).run()
    assert [at for _, at in seen.actions(Respond)] == [4 * 10_000 + int(HOP.latency_us(1000))]
    done = seen.events(InvocationDone)[0][0]
    assert [span.duration_us for span in done.spans] == [10_000] * 4 and done.busy_us == 40_000


def test_a_cold_start_has_parts() -> None:
    app = apps.chain()
    seen = Seen([simulated(app, (names(app),))], [(0, "chain")]).run()
    ready = seen.events(InstanceReady)[0][0]
    assert (ready.process_us, ready.import_us, ready.load_us, ready.first_call_us) == (20_000, 30_000, 20_000, 4_000)


def test_provisioning_and_speed_of_a_node_change_its_cold_start() -> None:
    app = apps.chain()
    on = cluster(ClusterNode(Node("far", 8.0, 16_000.0), speed=2.0, provision_us=500_000))
    seen = Seen([simulated(app, (names(app),))], [(0, "chain")], on=on).run()
    ready = seen.events(InstanceReady)[0][0]
    assert (ready.process_us, ready.load_us) == (510_000, 10_000)
    assert [at for _, at in seen.actions(Respond)] == [4 * 5_000 + int(HOP.latency_us(1000))]


def test_a_function_on_a_device_runs_at_the_speed_of_the_device() -> None:
    app = apps.chain()
    device = Device("l4-0", "L4", 24_000.0)
    on = cluster(ClusterNode(Node("here", 8.0, 16_000.0, devices=(device,)), speed=2.0, device_speed={"L4": 5.0}))
    plain = simulated(app, (names(app),), hop=NO_HOP)
    # The first declaration is for a CPU: its two stages stay on the cores of the node.
    stages = [msgspec.structs.replace(each, device="gpu" if at else "cpu") for at, each in enumerate(plain.spec.stages)]
    spec = msgspec.structs.replace(plain.spec, stages=tuple(stages))
    placed = msgspec.structs.replace(plain, spec=spec, plan=on_gpu(plain.plan, 0.5))
    seen = Seen([placed], [(0, "chain")], on=on).run()
    start = seen.actions(StartInstance)[0][0]
    assert (start.device, start.gpu_share_fraction) == ("l4-0", 0.5)
    assert [at for _, at in seen.actions(Respond)] == [2 * 5_000 + 2 * 2_000]


def test_bytes_between_machines_take_the_network() -> None:
    near = ClusterNode(Node("near", 1.0, 16_000.0))
    far = ClusterNode(Node("far", 8.0, 64_000.0))
    app = apps.chain()
    # Everything is placed on the roomier node, and requests enter on the other one.
    on = cluster(near, far, latency_us=3_000, mib_per_s=1.0)
    seen = Seen([simulated(app, (names(app),), hop=NO_HOP)], [(0, "chain")], on=on).run()
    transfer = 3_000 + round(1000 / 1_048_576 * 1_000_000)
    assert [at for _, at in seen.actions(Respond)] == [40_000 + 3_000 + transfer]


def test_signals_of_a_node_have_an_age() -> None:
    app = apps.chain()
    young = Seen([simulated(app, hop=NO_HOP)], [(0, "chain")]).run()
    old = cluster(ClusterNode(Node("here", 8.0, 16_000.0), signal_us=7_000))
    aged = Seen([simulated(app, hop=NO_HOP)], [(0, "chain")], on=old).run()
    assert aged.actions(Respond)[0][1] - young.actions(Respond)[0][1] == 4 * 7_000


def test_neighbours_slow_each_other_where_the_cluster_says_so() -> None:
    app = apps.chain()
    on = cluster(ClusterNode(Node("here", 8.0, 16_000.0), interference_fraction=0.8))
    seen = Seen([simulated(app, (names(app),), hop=NO_HOP, instances=2)], [(0, "chain"), (0, "chain")], on=on).run()
    ends = [at for _, at in seen.actions(Respond)]
    assert ends == [40_000, 4 * int(10_000 * (1 + 0.8 / 8))]


def test_a_batch_is_called_in_chunks_of_the_stage_and_says_that_it_goes_on() -> None:
    app = apps.fan(max_batch=2)
    spec = app.spec(b"")
    counts = [5 if node.scope else 1 for node in spec.graph.stages]
    config = simulated(app, (names(app),), counts=counts, residuals=[(30.0,)] * len(counts))
    seen = Seen([config], [(0, spec.name)]).run()
    spans = [span for event, _ in seen.events(InvocationDone) for span in event.spans]
    body = [span.items for span in spans if spec.graph.stages[span.stage].scope]
    assert body[:3] == [2, 2, 1]
    assert seen.events(InvocationProgressed)


def test_a_crash_costs_no_request() -> None:
    app = apps.chain()
    failures = parse_failures("crash:at=5ms:on=chain")
    seen = Seen([simulated(app, (names(app),))], [(0, "chain")], failures=failures).run()
    assert len(seen.actions(Respond)) == 1 and not seen.actions(Reject)
    assert [event.cause for event, _ in seen.events(InstanceFailed)] == ["lost"]


def test_a_hang_is_found_and_the_request_runs_elsewhere() -> None:
    app = apps.chain()
    seen = Seen([simulated(app, (names(app),))], [(0, "chain")], failures=parse_failures("hang:at=5ms:on=chain")).run()
    answers = seen.actions(Respond)
    assert len(answers) == 1 and answers[0][1] > 2 * SECOND


def test_a_hang_that_passes_is_only_late() -> None:
    app = apps.chain()
    seen = Seen([simulated(app, (names(app),))], [(0, "chain")], failures=parse_failures("hang:at=5ms:on=chain:for=50ms")).run()
    assert [at for _, at in seen.actions(Respond)] == [55_000 + 40_000 + int(HOP.latency_us(1000))]


def test_a_slow_node_recovers() -> None:
    app = apps.chain()
    failures = parse_failures("slow:at=0s:factor=3:node=here:for=1s")
    seen = Seen([simulated(app, (names(app),), hop=NO_HOP)], [(1, "chain"), (2 * SECOND, "chain")], failures=failures).run()
    assert [at for _, at in seen.actions(Respond)] == [1 + 120_000, 2 * SECOND + 40_000]


def test_the_end_of_one_slowness_does_not_end_a_later_one() -> None:
    app = apps.chain()
    failures = parse_failures("slow:at=0s:factor=3:node=here:for=1s,slow:at=500ms:factor=2:node=here:for=3s")
    arrivals = [(2 * SECOND, "chain"), (4 * SECOND, "chain")]
    seen = Seen([simulated(app, (names(app),), hop=NO_HOP)], arrivals, failures=failures).run()
    assert [at for _, at in seen.actions(Respond)] == [2 * SECOND + 80_000, 4 * SECOND + 40_000]


def test_a_lost_node_comes_back_and_serves() -> None:
    app = apps.chain()
    failures = parse_failures("lose_node:at=5ms:node=here:for=2s")
    seen = Seen([simulated(app, (names(app),))], [(0, "chain"), (9 * SECOND, "chain")], failures=failures).run()
    assert len(seen.events(CapacityChanged)) == 3
    assert len(seen.actions(Respond)) + len(seen.actions(Reject)) == 2
    assert seen.actions(Respond)[-1][1] > 9 * SECOND
    assert seen.simulation.store.live_bytes == 0


def test_at_one_instant_completions_precede_arrivals_and_those_precede_wakes() -> None:
    app = apps.chain()
    # The second request arrives in the very microsecond in which the first leaves.
    seen = Seen([simulated(app, (names(app),), hop=NO_HOP)], [(0, "chain"), (40_000, "chain")]).run()
    at_once = [type(event) for event, _, now in seen.entries if now - seen.simulation.origin == 40_000]
    assert at_once.index(InvocationDone) < at_once.index(RequestArrived)
    assert COMPLETION < ARRIVAL


def test_luck_follows_what_is_called_and_not_when() -> None:
    world = simulated(apps.chain())
    times = ServiceTimes(world.model, (1,) * 4, ((0.5, 1.0, 1.5),) * 4, 7)
    call = times.calls(0, 1, 1.0, 1.0, 1.0)[0]
    other = times.calls(1, 1, 1.0, 1.0, 1.0)[0]
    drawn = [duration_us(call, times.luck(request)) for request in range(3000)]
    assert drawn == [duration_us(call, times.luck(request)) for request in range(3000)]
    assert {round(each / 5000) for each in drawn} == {1, 2, 3}
    assert abs(sum(drawn) / 3000 - 10_000) < 300
    second = [duration_us(other, times.luck(request)) for request in range(3000)]
    mean = 10_000.0
    covariance = sum((a - mean) * (b - mean) for a, b in zip(drawn, second, strict=True)) / 3000
    assert abs(covariance) < 0.05 * 4082**2
    assert another_luck(5, (1,), 1) != another_luck(5, (2,), 1) != another_luck(5, (1,), 2)


def test_one_more_policy_or_failure_moves_no_arrival_and_no_service() -> None:
    app = apps.chain()
    residuals = [(0.5, 1.0, 1.5)] * 4
    arrivals = [(at * 100_000, "chain") for at in range(20)]
    split = Seen([simulated(app, residuals=residuals)], arrivals).run()
    fused = Seen([simulated(app, (names(app),), residuals=residuals)], arrivals).run()

    def durations(seen: Seen) -> dict[tuple[int, int], int]:
        items = {}
        for event, actions, _ in seen.entries:
            for action in actions:
                if hasattr(action, "extent"):
                    items[action.invocation] = action.items[0].request
            if isinstance(event, InvocationDone):
                for span in event.spans:
                    items[(items[event.invocation], span.stage)] = span.duration_us
        return {key: value for key, value in items.items() if isinstance(key, tuple)}

    assert durations(split) == durations(fused)
