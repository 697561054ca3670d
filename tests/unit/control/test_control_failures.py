"""What goes wrong outside: stages that fail, instances that crash, hang or do not start, memory that is full."""

from itertools import pairwise

from grainwise.control.actions import Invoke, KillInstance, StartInstance
from grainwise.control.dispatch import RETRY_ALONE
from grainwise.control.events import InstanceFailed, InstanceStopped, InvocationProgressed
from grainwise.domain.machine import Node
from grainwise.domain.time import MILLISECOND, SECOND
from worlds.apps import chain, choice, listed
from worlds.control import World
from worlds.grains import legal_grains, plan_for


def fused(instances: int = 1, max_batch: int = 4):
    return plan_for("chain", (("plus_one", "double", "negate", "plus_one#2"),), instances=instances, max_batch=max_batch)


def test_an_item_that_fails_is_a_500_that_names_the_stage_and_its_neighbours_are_answered():
    world = World(chain())
    world.fails = {3}
    for value in range(6):
        world.ask(value)
    world.drain()
    assert world.outcomes() == ["ok", "ok", "stage_failed", "ok", "ok", "ok"]
    assert world.asked[3].reject.stage == "plus_one"
    assert len({invoke.instance for invoke in world.seen(Invoke)}) == 1


def test_one_element_that_fails_ends_its_request_and_frees_everything():
    world = World(listed(2), max_batch=2)
    world.fails = {1}
    world.ask(list(range(9)))
    world.ask([1, 2])
    world.drain()
    assert world.outcomes() == ["stage_failed", "ok"]


def test_the_items_of_a_lost_instance_run_again_alone_and_elsewhere():
    world = World(chain(), plans=[fused(2)])
    fates = iter(["hang", "crash"])
    world.invoked = lambda action: next(fates, "done")
    for value in range(4):
        world.ask(value)
    world.drain()
    assert world.outcomes() == ["ok"] * 4
    crashed = world.seen(Invoke)[1]
    again = [invoke for invoke in world.seen(Invoke) if invoke.because == RETRY_ALONE]
    assert all(len(invoke.items) == 1 and invoke.items[0].attempt == 2 for invoke in again)
    assert all(invoke.instance != crashed.instance for invoke in again)


def test_a_request_that_loses_two_instances_is_a_502_and_its_function_lives_on():
    world = World(chain(1), max_batch=1)
    world.invoked = lambda action: "crash" if action.items[0].request == 2 else "done"
    for value in range(5):
        world.ask(value)
    world.drain()
    assert world.outcomes() == ["ok", "stage_lost", "ok", "ok", "ok"]
    assert len([invoke for invoke in world.seen(Invoke) if invoke.items[0].request == 2]) == 2
    world.run(lambda: world.status().is_ready, "it is ready again")


def test_neighbours_of_a_crash_are_answered_after_one_retry_each():
    world = World(chain(4), plans=[fused(1)])
    world.invoked = lambda action: "crash" if any(item.request == 3 for item in action.items) else "done"
    for value in range(5):
        world.ask(value)
    world.drain()
    assert world.outcomes() == ["ok", "ok", "stage_lost", "ok", "ok"]


def test_an_invocation_past_its_limit_is_hung_its_instance_killed_and_replaced_at_once():
    world = World(chain(1), plans=[fused(1, 1)])
    world.invoked = lambda action: "hang" if action.items[0].attempt == 1 else "done"
    request = world.ask(1)
    limit = world.busy[0].limit_us
    world.drain()
    assert world.asked[request].code == "ok"
    assert len(world.seen(KillInstance)) == 1
    assert world.asked[request].answered_at < world.asked[request].at + limit + 500 * MILLISECOND


def test_an_invocation_that_goes_on_is_not_hung():
    world = World(chain(1), plans=[fused(1, 1)])
    world.invoked = lambda action: "hang"
    request = world.ask(1)
    action = world.busy[0]
    for _ in range(8):
        world.run_for(action.limit_us - MILLISECOND)
        world.post(InvocationProgressed(action.invocation, action.instance))
    world.post(InvocationProgressed(action.invocation + 7, action.instance))
    assert not world.seen(KillInstance)
    world.run_for(action.limit_us + MILLISECOND)
    assert [kill.instance for kill in world.seen(KillInstance)] == [action.instance]
    assert world.asked[request].code == "open"
    world.drain()


def test_a_request_that_hangs_twice_is_a_502():
    world = World(chain(1), plans=[fused(1, 1)])
    world.invoked = lambda action: "hang"
    request = world.ask(1)
    world.drain()
    assert world.asked[request].code == "stage_lost"
    assert len(world.seen(KillInstance)) == 2


def test_a_killed_instance_is_replaced_when_its_memory_is_free():
    world = World(chain(1), plans=[fused(1, 1)], nodes=(Node("here", 4.0, 500.0),))
    world.invoked = lambda action: "hang" if action.items[0].attempt == 1 else "done"
    world.ask(1)
    world.drain()
    assert world.outcomes() == ["ok"]
    assert len(world.seen(StartInstance)) == 2


def test_a_silent_instance_that_the_runtime_has_ended_is_replaced():
    world = World(chain())
    world.crash(next(iter(world.instances)), "hung")
    world.run(lambda: world.status().is_ready, "it is ready again")
    assert not world.seen(KillInstance)


def test_full_memory_is_a_429_that_says_when_to_come_back():
    world = World(chain(1), max_batch=1)
    world.invoked = lambda action: "backpressure"
    request = world.ask(1)
    world.drain()
    assert world.asked[request].code == "backpressure"
    assert world.asked[request].reject.retry_after_us == SECOND


def test_a_refused_invocation_is_tried_again_once():
    world = World(chain(1), max_batch=1)
    fates = iter(["refused"])
    world.invoked = lambda action: next(fates, "done")
    world.ask(1)
    world.drain()
    assert world.outcomes() == ["ok"]
    assert [action.instance for action in world.seen(KillInstance)] == [1]
    assert [invoke.instance for invoke in world.seen(Invoke)] == [1, 2]


def test_a_crash_of_what_only_the_old_plan_uses_loses_none_of_its_requests():
    app = chain()
    split, whole = legal_grains(app.graph)[-1], legal_grains(app.graph)[0]
    world = World(app, grains=[split])
    world.service_us = 2 * SECOND - 1
    old = world.ask(1)
    world.regranulate(whole)
    world.run(lambda: not world.status().regranulating_to, "the change is over")
    for number in [number for number, stages in world.residency.items() if stages in (4, 15)]:
        world.crash(number)
    world.drain()
    assert world.asked[old].code == "ok"
    assert world.asked[old].answered_at < world.asked[old].at + 20 * SECOND


def test_starts_that_fail_back_off_and_after_three_a_request_is_a_503():
    world = World(chain(), warm=False, started=lambda action: "fail")
    world.ask(1)
    world.run_for(20 * SECOND)
    assert world.outcomes() == ["no_capacity"]
    assert "no such model" in world.asked[1].reject.because.render()
    failed_at = [entry.now for entry in world.log if isinstance(entry.event, InstanceFailed)]
    gaps = [later - earlier for earlier, later in pairwise(failed_at)]
    assert len(gaps) >= 4
    assert gaps == sorted(gaps)
    assert len(world.seen(StartInstance)) <= 7
    request = world.ask(2)
    assert world.asked[request].code == "no_capacity"
    assert world.asked[request].reject.retry_after_us > 0


def test_a_start_that_is_never_answered_ends_and_is_tried_again():
    fates = iter(["hang", "hang"])
    world = World(chain(), warm=False, started=lambda action: next(fates, "ok"))
    world.run(lambda: world.status().is_ready, "it is ready", within=1000 * SECOND)
    assert len(world.seen(KillInstance)) == 2
    assert "did not end" in world.state_of().last_start_error


def test_instances_that_start_again_serve_again():
    world = World(chain(), warm=False, started=lambda action: "fail")
    world.run_for(10 * SECOND)
    world.started = lambda action: "ok"
    world.run(lambda: world.status().is_ready, "it is ready")
    request = world.ask(1)
    world.drain()
    assert world.asked[request].code == "ok"


def test_a_function_that_does_not_start_is_a_503_although_others_do():
    app = chain()
    bad = app.graph.mask(["negate"])
    fate = {bad: "fail"}
    world = World(app, grains=[legal_grains(app.graph)[-1]], warm=False, started=lambda action: fate.get(action.stages, "ok"))
    world.ask(1)
    world.run_for(10 * SECOND)
    assert world.outcomes() == ["no_capacity"]
    assert world.ask(2) and world.outcomes()[-1] == "no_capacity"


def test_a_branch_that_does_not_start_leaves_the_other_branches_alone():
    app = choice()
    fate = {app.graph.mask(["double"]): "fail"}
    world = World(app, grains=[legal_grains(app.graph)[-1]], warm=False, started=lambda action: fate.get(action.stages, "ok"))
    world.run_for(10 * SECOND)
    good, lost = world.ask(0), world.ask(1)
    world.drain()
    assert world.asked[good].code == "ok"
    assert world.asked[lost].code == "no_capacity"


def test_an_app_for_which_there_is_no_room_is_a_503_that_says_what_is_missing():
    world = World(chain(), nodes=(Node("here", 4.0, 300.0),), warm=False)
    request = world.ask(1)
    assert world.asked[request].code == "no_capacity"
    assert "110 MiB" in world.asked[request].reject.because.render()


def test_an_instance_that_ends_unasked_gives_its_items_back():
    world = World(chain(1), plans=[fused(2, 1)])
    world.run(lambda: sum(each.phase == "ready" for each in world.status().instances) == 2, "two are ready")
    world.invoked = lambda action: "hang" if action.invocation == 1 else "done"
    world.ask(1)
    number = world.busy[0].instance
    world._forget(number)
    world.post(InstanceStopped(number))
    world.drain()
    assert world.outcomes() == ["ok"]
