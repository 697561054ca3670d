from itertools import pairwise

import msgspec
import pytest

from grainwise.control.actions import Invoke, StartInstance
from grainwise.control.events import AppDeployed, InstanceReady, RequestArrived
from grainwise.control.log import Entry, decode, encode
from grainwise.domain.config import AppConfig
from grainwise.domain.errors import ArtifactError
from grainwise.domain.machine import NOMINAL_PRICES, Node
from grainwise.domain.plan import render_grain
from grainwise.domain.time import MILLISECOND, SECOND
from grainwise.telemetry.recorder import Recorder
from grainwise.telemetry.request_rows import RequestRow
from grainwise.telemetry.result import RunResult, Shares, read_result
from grainwise.telemetry.run_instances import MAX_INSTANCE_SPANS
from grainwise.telemetry.run_recorder import MAX_TENANTS, RunRecorder
from worlds.apps import SHAPES, chain
from worlds.control import World
from worlds.grains import legal_grains, plan_for
from worlds.runs import watched

SPLIT = (("plus_one",), ("double",), ("negate",), ("plus_one#2",))
FUSED = (("plus_one", "double", "negate", "plus_one#2"),)
PAIRS = (("plus_one", "double"), ("negate", "plus_one#2"))


def again(world: World, **more: object) -> RunRecorder:
    recorder = RunRecorder("measured", **more)  # type: ignore[arg-type]
    for entry in world.log:
        recorder.observe(entry.event, entry.actions, entry.now)
    return recorder


def test_parts_add_up_to_the_latency_of_each_request() -> None:
    for name, make in SHAPES.items():
        if name in ("listed", "choice_on_element"):
            continue
        app = make()
        grains = legal_grains(app.spec(b"").graph)
        for grain in (grains[0], grains[-1]):
            rows: list[RequestRow] = []
            world, recorder = watched(app, grains=(grain,), on_request=rows.append, is_checked=False)
            for value in range(6):
                world.ask(*([value] * (2 if name == "outer" else 1)))
                world.run_for(3 * MILLISECOND)
            world.drain()
            own = recorder.result().apps[0]
            assert own.answered == len(rows) == 6, (name, grain)
            assert own.shares.total_ms == pytest.approx(own.latency.mean_ms)
            assert all(row.queue_us + row.service_us + row.hop_us + row.cold_us == row.latency_us for row in rows)


def test_a_lone_request_waits_for_nothing_and_each_stage_leaves_its_mark() -> None:
    world, recorder = watched(chain(), grains=(SPLIT,))
    world.ask(1)
    world.drain()
    own = recorder.result().apps[0]
    # Each invocation takes 10 ms, of which its stage runs 1 ms.
    assert own.shares == Shares(0.0, 4.0, 36.0, 0.0)
    assert [each.shares for each in own.functions] == [Shares(0.0, 1.0, 9.0, 0.0)] * 4
    assert own.latency.p50_ms == own.latency.max_ms == 40.0


def test_an_invocation_that_waits_for_another_queues() -> None:
    world, recorder = watched(chain(), grains=(FUSED,), max_batch=1)
    world.ask(1)
    world.run_for(4 * MILLISECOND)
    world.ask(2)
    world.drain()
    own = recorder.result().apps[0]
    assert own.shares.queue_ms == pytest.approx(6.0 / 2)
    assert own.shares.cold_ms == 0.0


def test_waiting_for_a_first_instance_is_cold_and_only_while_none_is_ready() -> None:
    rows: list[RequestRow] = []
    config = AppConfig(replan_us=0, policies="fixed")
    world, _ = watched(chain(), grains=(FUSED,), warm=False, max_batch=1, on_request=rows.append, config=config)
    world.run_for(40 * MILLISECOND)
    world.ask(1)
    world.ask(2)
    world.drain()
    first, second = rows
    # The instance takes 100 ms to start, from the deployment on.
    assert (first.cold_us, first.queue_us) == (60 * MILLISECOND, 0)
    assert (second.cold_us, second.queue_us) == (60 * MILLISECOND, 10 * MILLISECOND)


def test_a_join_continues_from_its_latest_producer() -> None:
    world, _ = watched(
        SHAPES["diamond"](), grains=((("plus_one",), ("double",), ("negate",), ("add",)),), on_request=(rows := []).append
    )
    slow = world.state_of().deployed.app.graph.mask(["negate"])

    def held(action: Invoke) -> str:
        if action.extent != slow:
            return "done"
        world.later(25 * MILLISECOND, lambda: world.complete(action))
        return "held"

    world.invoked = held
    world.ask(1)
    world.drain()
    assert rows[0].latency_us == 45 * MILLISECOND
    assert (rows[0].queue_us, rows[0].service_us, rows[0].hop_us) == (0, 3 * MILLISECOND, 42 * MILLISECOND)


def test_attainment_is_of_the_offered_and_every_miss_has_its_code() -> None:
    world, recorder = watched(chain(slo_ms=15), grains=(FUSED,), max_batch=1, config=AppConfig(replan_us=0, max_requests=3))
    for value in range(5):
        world.ask(value)
    world.cancel(3)
    recorder.observe(RequestArrived(99, "nobody", ()), [], world.now)
    world.run_for(15 * MILLISECOND)
    running = recorder.result()
    assert running.apps[0].unfinished == 1
    world.drain()
    found = recorder.result()
    own = found.app("chain")
    assert (own.offered, own.answered, own.met, own.unfinished) == (5, 2, 1, 0)
    assert own.rejected == {"queue_full": 2, "cancelled": 1}
    assert own.attainment == 0.2
    assert not own.meets_slo
    assert found.unknown_app == 1
    with pytest.raises(KeyError):
        found.app("nobody")


def test_costs_are_those_of_the_metrics() -> None:
    world, recorder = watched(chain(), grains=(SPLIT,), is_checked=False)
    for value in range(30):
        world.ask(value)
        world.run_for(7 * MILLISECOND)
    world.crash(min(world.instances))
    world.regranulate(PAIRS)
    world.drain()
    world.run_for(2 * SECOND)
    sums = Recorder()
    for entry in world.log:
        sums.observe(entry.event, entry.actions, entry.now)
    found = recorder.result(end=world.now)
    own, app = found.apps[0], sums.apps["chain"]
    assert own.cost.billed_usd == pytest.approx(app.billed_usd)
    assert own.cost.provisioned_usd == pytest.approx(sums.provisioned_usd(app, world.now))
    assert own.cost.billed_usd == pytest.approx(sum(each.billed_usd for each in own.functions))
    assert own.cold_starts.count == app.cold_starts == sum(each.cold_starts for each in own.functions)
    assert own.cold_starts.load_ms == 0.003
    assert own.failures == {"lost": 1}
    held = sum(node.provisioned_core_s for node in found.nodes)
    assert own.cost.provisioned_usd > held * NOMINAL_PRICES.usd_per_core_hour / 3600
    assert sum(node.busy_core_s for node in found.nodes) == pytest.approx(sum(each.busy_s for each in own.functions))
    assert all(0 <= node.utilisation <= 1 and 0 <= node.allocated_fraction <= 1 for node in found.nodes)


def test_a_change_of_the_granularity_is_seen_with_its_first_invocation() -> None:
    rows: list[RequestRow] = []
    world, recorder = watched(chain(), grains=(SPLIT,), on_request=rows.append, is_checked=False)
    for grain in (PAIRS, SPLIT):
        world.ask(1)
        world.regranulate(grain)
        world.run(lambda grain=grain: world.state_of().plan.grain == grain, "the plan is followed")
        world.ask(2)
        world.drain()
        world.run_for(SECOND)
        world.ask(3)
        world.drain()
    split, pairs = render_grain(SPLIT), render_grain(PAIRS)
    own = recorder.result().apps[0]
    assert [(each.previous, each.grain) for each in own.regranulations] == [(split, pairs), (pairs, split)]
    assert [row.plan for row in rows] == [split, pairs, pairs, pairs, split, split]
    assert own.grain == split
    assert own.timeline.grain[0] == split
    assert pairs in own.timeline.grain


def test_a_plan_that_is_not_followed_is_no_change() -> None:
    world, recorder = watched(chain(), grains=(SPLIT,), nodes=(Node("here", 8.0, 600.0),), is_checked=False)
    world.regranulate(FUSED, instances=9)
    for value in range(4):
        world.ask(value)
    world.drain()
    assert recorder.result().apps[0].regranulations == ()


def test_the_warm_up_counts_for_nothing() -> None:
    rows: list[RequestRow] = []
    app = chain()
    world, recorder = watched(app, grains=(SPLIT,), warmup_us=SECOND, on_request=rows.append)
    world.ask(1)
    world.run_until(2 * SECOND - 20 * MILLISECOND)
    world.ask(2)
    world.run_for(50 * MILLISECOND)
    world.ask(3)
    world.drain()
    found = recorder.result(end=3 * SECOND)
    own = found.apps[0]
    assert (own.offered, own.answered, len(rows)) == (1, 1, 1)
    assert rows[0].arrived_us == 30 * MILLISECOND
    assert found.duration_s == 1.0
    assert own.cold_starts.count == 0
    assert [each.instance_s for each in own.functions] == [1.0] * 4
    assert found.instances[0].started_s == -1.0
    assert sum(own.timeline.offered) == 1


def test_an_instance_whose_readiness_ends_the_warm_up_is_no_cold_start_of_the_run() -> None:
    world, _ = watched(chain(), grains=(SPLIT,))
    world.ask(1)
    world.drain()
    start = world.log[0].now
    became_ready = [entry.now for entry in world.log if isinstance(entry.event, InstanceReady)]
    for warmup_us, count in (
        (max(became_ready) - start, 0),
        (max(became_ready) - start - 1, became_ready.count(max(became_ready))),
    ):
        own = again(world, start=start, warmup_us=warmup_us).result().apps[0]
        assert (own.cold_starts.count, own.offered) == (count, 1)


def test_rates_are_over_the_time_in_which_requests_came_and_costs_over_the_whole() -> None:
    world, _ = watched(chain(), grains=(SPLIT,))
    for _ in range(20):
        world.ask(1)
    world.run_for(5 * MILLISECOND)
    world.drain()
    recorder = again(world, start=world.log[0].now)
    whole, rated = recorder.result(), recorder.result(end=world.log[0].now + 100 * MILLISECOND)
    assert rated.offered_s == 0.1
    assert rated.duration_s == whole.duration_s == whole.offered_s > 0.1
    assert rated.apps[0].offered_per_s == 200
    assert rated.apps[0].goodput_per_s == pytest.approx(rated.apps[0].met / 0.1)
    assert rated.apps[0].cost == whole.apps[0].cost


def test_the_timeline_has_every_request_and_at_most_600_bins() -> None:
    world, recorder = watched(chain(), grains=(SPLIT,), is_checked=False)
    for value in range(200):
        world.ask(value)
        world.run_for(SECOND)
    world.drain()
    for found in (recorder.result(), again(world).result(end=world.now + 10_000 * SECOND)):
        own = found.apps[0]
        line = own.timeline
        assert len(line.end_s) <= 600
        assert line.end_s[-1] == pytest.approx(found.duration_s)
        assert sum(line.offered) == sum(line.answered) == sum(line.met) == 200
        assert all(0 < end - before <= line.width_s + 1e-9 for before, end in pairwise((0.0, *line.end_s)))
        hours = [(end - before) / 3600 for before, end in pairwise((0.0, *line.end_s))]
        spent = sum(rate * each for rate, each in zip(line.provisioned_usd_per_hour, hours, strict=True))
        assert spent == pytest.approx(own.cost.provisioned_usd)
        assert set(line.instances) == {each.name for each in own.functions}


def test_a_log_tells_the_same_as_the_run() -> None:
    world, recorder = watched(chain(), grains=(SPLIT,))
    for value in range(20):
        world.ask(value)
        world.run_for(5 * MILLISECOND)
    world.drain()
    copied = RunRecorder("simulated")
    for entry in decode(b"".join(encode(entry) for entry in world.log)):
        assert isinstance(entry, Entry)
        copied.observe(entry.event, entry.actions, entry.now)
    assert copied.result() == recorder.result()
    assert again(world).result(hardware="a laptop").headline == "measured on a laptop"
    assert again(world).result(kind="emulated").headline == "emulated on hardware that was not named"


def test_tenants_are_told_apart_up_to_a_bound() -> None:
    world, _ = watched(chain(), grains=(SPLIT,), is_checked=False)
    for value in range(MAX_TENANTS + 6):
        world.ask(value)
        world.run_for(20 * MILLISECOND)
    world.drain()
    found = again(world, tenant_of=lambda request: f"tenant {request:03}").result().apps[0].tenants
    assert len(found) == MAX_TENANTS + 1
    assert (found[0].name, found[0].offered) == ("other", 6)
    assert all(each.attainment == 1.0 and each.latency.count == each.offered for each in found)


def test_the_first_instances_are_listed_and_the_others_counted() -> None:
    world, recorder = watched(chain(), grains=(FUSED,), is_checked=False)
    for _ in range(MAX_INSTANCE_SPANS + 5):
        world.crash(max(world.instances))
        world.run(lambda: world.status().is_ready, "it is up again")
    found = recorder.result()
    assert len(found.instances) == MAX_INSTANCE_SPANS
    assert found.instances_left_out == 6
    assert found.instances[0].end == "lost"
    assert found.instances[0].ready_s == pytest.approx(0.1)


def test_loading_further_stages_moves_an_instance_to_another_function() -> None:
    plan = plan_for("chain", SPLIT, instances=3, min_instances=3, max_instances=3)
    world, recorder = watched(chain(), plans=(plan,), is_checked=False)
    world.run_for(SECOND)
    world.regranulate(FUSED)
    world.run(lambda: len(world.state_of().plan.functions) == 1, "the plan is followed")
    world.ask(1)
    world.drain()
    own = recorder.result(end=world.now).apps[0]
    assert own.cold_starts.stage_loads >= 1
    fused = next(each for each in own.functions if each.name == "+".join(FUSED[0]))
    assert fused.max_instances >= 1
    assert own.timeline.instances


def test_a_result_survives_json_and_a_foreign_one_is_refused() -> None:
    world, recorder = watched(chain(), grains=(SPLIT,))
    world.ask(1)
    world.drain()
    found = recorder.result(seed=3, seeds={"arrivals": 4}, versions={"grainwise": "0"}, digests={"app": "x"}, notes=["one"])
    assert read_result(found.to_json()) == found
    assert isinstance(found, RunResult)
    with pytest.raises(ArtifactError, match="no result of a run"):
        read_result(b"[]", "here.json")
    with pytest.raises(ArtifactError, match="schema"):
        read_result(b'{"schema": 1}')


def test_a_run_of_nothing_has_a_result() -> None:
    found = RunRecorder("simulated").result()
    assert (found.duration_s, found.apps, found.nodes) == (0.0, (), ())


def test_a_part_of_a_device_is_paid_for() -> None:
    world, _ = watched(chain(), grains=(FUSED,), is_checked=False)
    world.ask(1)
    world.drain()
    dear = msgspec.structs.replace(NOMINAL_PRICES, usd_per_gpu_hour=3600.0)
    recorder = RunRecorder("simulated")
    for entry in world.log:
        event, actions = entry.event, entry.actions
        if isinstance(event, AppDeployed):
            event = msgspec.structs.replace(event, prices=dear)
        actions = [
            msgspec.structs.replace(action, gpu_share_fraction=0.5) if isinstance(action, StartInstance) else action
            for action in actions
        ]
        recorder.observe(event, actions, entry.now)
    dear_cost, cost = recorder.result().apps[0].cost, again(world).result().apps[0].cost
    # Half a device at 1 USD a second, busy for the 10 ms of one invocation.
    assert dear_cost.provisioned_usd - cost.provisioned_usd == pytest.approx(0.5 * (world.now - SECOND) / SECOND)
    assert dear_cost.billed_usd - cost.billed_usd == pytest.approx(0.5 * 0.010)


def test_nothing_of_a_finished_request_stays() -> None:
    world, recorder = watched(SHAPES["fan"](), grains=(legal_grains(SHAPES["fan"]().spec(b"").graph)[-1],), is_checked=False)
    for value in range(50):
        world.ask(value)
        world.run_for(11 * MILLISECOND)
        if value % 10 == 5:
            world.cancel(value + 1)
    world.drain()
    assert not recorder._flights
    assert not recorder._invocations
    assert all(not instance.invocations for instance in recorder.instances.live.values())


def test_functions_that_ended_in_the_warm_up_are_left_out() -> None:
    world, recorder = watched(chain(), grains=(SPLIT,), warmup_us=100 * SECOND, is_checked=False)
    world.ask(1)
    world.regranulate(FUSED)
    world.drain()
    world.run_until(150 * SECOND)
    world.ask(2)
    world.drain()
    own = recorder.result().apps[0]
    assert [each.name for each in own.functions] == ["+".join(FUSED[0])]
    assert own.grain == render_grain(FUSED)


def test_a_request_between_the_switch_and_its_first_invocation_follows_the_new_plan() -> None:
    rows: list[RequestRow] = []
    world, _ = watched(chain(), grains=(SPLIT,), on_request=rows.append, max_batch=1, is_checked=False)
    world.regranulate(FUSED)
    world.run(lambda: world.state_of().plan.grain == FUSED, "the plan is followed")
    for value in range(3):
        world.ask(value)
    world.drain()
    assert [row.plan for row in rows] == [render_grain(FUSED)] * 3
