"""How many instances there are: warm starts, scale to zero, keep-alive, load, and starts that wait."""

from grainwise.control.actions import StartInstance, StopInstance
from grainwise.control.events import CapacityChanged
from grainwise.control.fleet import LOAD_CORES
from grainwise.control.scaling import REPLACE, WARM
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import Node
from grainwise.domain.time import MILLISECOND, SECOND
from worlds.apps import chain, fan
from worlds.control import SOFT, World
from worlds.grains import legal_grains, plan_for

FUSED = (("plus_one", "double", "negate", "plus_one#2"),)
FINE = (("plus_one",), ("double",), ("negate",), ("plus_one#2",))
TO_ZERO = AppConfig(scale_to_zero=True, keep_alive_us=5 * SECOND, replan_us=0)


def ready(world: World) -> int:
    return sum(each.phase == "ready" for each in world.status().instances)


def test_an_idle_app_scales_to_zero_and_its_first_request_warms_the_whole_chain():
    app = chain()
    world = World(app, grains=[legal_grains(app.graph)[-1]], config=TO_ZERO)
    world.run(lambda: not world.instances, "nothing is up")
    assert len(world.seen(StopInstance)) == 4
    before = len(world.actions)
    request = world.ask(1)
    started = world.seen(StartInstance, before)
    assert sorted(action.stages for action in started) == [1, 2, 4, 8]
    assert all(action.because == WARM for action in started)
    world.drain()
    assert world.asked[request].code == "ok"
    assert len(world.seen(StartInstance, before)) == 4


def test_without_scale_to_zero_the_last_instance_stays():
    world = World(chain(), config=AppConfig(keep_alive_us=SECOND, replan_us=0))
    world.run_for(600 * SECOND)
    assert ready(world) == 1


def test_a_spare_instance_ends_after_its_keep_alive_and_not_before():
    plan = plan_for("chain", FUSED, instances=3)
    world = World(chain(), plans=[plan], config=AppConfig(keep_alive_us=20 * SECOND, replan_us=0))
    world.run(lambda: ready(world) == 3, "three are ready")
    since = world.now
    world.run_for(19 * SECOND)
    assert ready(world) == 3
    world.run_for(30 * SECOND)
    assert ready(world) == 1
    ended = [entry.now for entry in world.log if any(isinstance(action, StopInstance) for action in entry.actions)]
    assert min(ended) >= since + 20 * SECOND


def test_a_queue_that_piles_up_brings_more_instances_up_to_the_plan():
    plan = plan_for("chain", FUSED, instances=1, max_batch=1, max_instances=3)
    world = World(chain(1), plans=[plan], service_us=200 * MILLISECOND)
    for value in range(200):
        world.ask(value)
    world.run(lambda: ready(world) == 3, "three are ready", within=10 * SECOND)
    assert any("backlog" in action.because.render() for action in world.seen(StartInstance))
    world.run_for(20 * SECOND)
    assert len(world.instances) == 3


def test_an_adopted_instance_that_serves_several_functions_is_joined_by_others_under_load():
    app = chain(1)
    fused = plan_for("chain", FUSED, instances=1, max_batch=1)
    world = World(app, plans=[fused], service_us=50 * MILLISECOND)
    world.regranulate(legal_grains(app.graph)[-1], max_batch=1, max_instances=4)
    for value in range(300):
        world.ask(value, within_us=200 * SECOND)
        world.run_for(60 * MILLISECOND)
    assert len(world.instances) > 1
    world.drain()
    assert set(world.outcomes()) == {"ok"}


def test_a_lost_instance_is_replaced_at_once():
    world = World(chain())
    before = len(world.actions)
    world.crash(next(iter(world.instances)))
    assert [action.because for action in world.seen(StartInstance, before)] == [REPLACE]


def test_a_start_waits_for_cores_and_says_once_what_it_was_for():
    world = World(chain(1), nodes=(Node("here", 1.0, 10_000.0),), service_us=300 * MILLISECOND, max_batch=1)
    world.ask(1)
    state = world.state_of()
    from grainwise.domain.because import Because

    world.controller._fleet.start(state, 15, 1.0, Because("a test"))
    assert len(state.pending_starts) == 1
    for _ in range(5):
        world.controller._scaler.start_pending(state)
    assert [pending.reason for pending in state.pending_starts] == ["a test"]
    before = len(world.actions)
    world.run(lambda: bool(world.seen(StartInstance, before)), "it starts")
    assert world.seen(StartInstance, before)[0].because.render() == "cores are free now: for a test"
    world.drain()


def test_a_start_that_nothing_needs_any_more_is_dropped():
    app = chain(1)
    world = World(app, nodes=(Node("here", 1.0, 10_000.0),), max_batch=1)
    world.ask(1)
    state = world.state_of()
    from grainwise.domain.because import Because

    world.controller._fleet.start(state, 3, 1.0, Because("a test"))
    before = len(world.actions)
    world.drain()
    assert not state.pending_starts
    assert not world.seen(StartInstance, before)


def test_capacity_that_comes_is_used_and_capacity_that_goes_is_not_built_upon():
    plan = plan_for("chain", FUSED, instances=1, max_batch=1, max_instances=4)
    world = World(chain(1), plans=[plan], nodes=(Node("here", 1.0, 500.0),), service_us=300 * MILLISECOND)
    for value in range(60):
        world.ask(value)
    world.run_for(3 * SECOND)
    assert len(world.instances) == 1
    world.post(CapacityChanged((Node("here", 4.0, 5000.0), Node("there", 4.0, 5000.0))))
    world.run(lambda: ready(world) > 1, "more are ready", within=5 * SECOND)
    world.post(CapacityChanged((Node("here", 4.0, 5000.0),)))
    before = len(world.actions)
    world.run_for(5 * SECOND)
    assert all(action.node == "here" for action in world.seen(StartInstance, before))
    for number in [number for number, action in world.instances.items() if action.node == "there"]:
        world.crash(number)
    assert list(world.controller.state.nodes) == ["here"]
    world.drain()


def test_an_idle_app_is_left_in_peace():
    world = World(fan(), config=AppConfig(replan_us=0))
    world.ask(3)
    world.drain()
    world.run_for(200 * SECOND)
    before = len(world.log)
    world.run_for(3600 * SECOND)
    assert len(world.log) - before <= 1


def test_under_soft_shares_a_start_takes_the_cores_that_are_left():
    world = World(chain(1), nodes=(Node("here", 1.5, 10_000.0),), max_batch=1, service_us=SECOND, capabilities=SOFT)
    world.ask(1)
    from grainwise.domain.because import Because

    number = world.controller._fleet.start(world.state_of(), 15, 1.0, Because("a test"))
    assert isinstance(number, int)
    assert world.controller.state.instances[number].cores == 0.5


def test_an_instance_starts_with_enough_cores_or_waits_for_them():
    plan = plan_for("chain", FINE, max_batch=1, cpu_cores=1.0)
    world = World(chain(), plans=[plan], nodes=(Node("here", 1.3, 10_000.0),), service_us=100 * MILLISECOND)
    world.ask(1)
    before = len(world.actions)
    world.regranulate(plan_for("chain", FUSED, cpu_cores=1.0))
    assert not world.seen(StartInstance, before)
    assert world.state_of().pending_starts
    world.run(lambda: world.status().regranulations == 1, "the change is carried through")
    (started,) = world.seen(StartInstance, before)
    assert started.cpu_cores >= LOAD_CORES
    assert started.share == 1.0
    world.drain()


def test_a_start_asks_for_no_more_cores_than_the_end_of_an_invocation_frees():
    """Else requests that take every core as soon as it is free would keep it waiting for ever."""
    plan = plan_for("chain", FINE, max_batch=1, cpu_cores=0.25)
    world = World(
        chain(),
        plans=[plan],
        nodes=(Node("here", 1.0, 10_000.0),),
        service_us=100 * MILLISECOND,
        config=AppConfig(policies="one_share"),
    )
    for value in range(200):
        world.ask(value)
    world.run(lambda: len(world.busy) == 4, "every core is in use")
    before = len(world.actions)
    world.regranulate(plan_for("chain", FUSED, cpu_cores=1.0))
    assert not world.seen(StartInstance, before)
    world.run(lambda: bool(world.seen(StartInstance, before)), "an instance starts", within=SECOND)
    assert world.busy
    assert world.seen(StartInstance, before)[0].cpu_cores >= 0.25
    world.drain()
