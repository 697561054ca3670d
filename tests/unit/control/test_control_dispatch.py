"""Who is served first, in which company, and how long anyone waits for it."""

from grainwise.control.actions import Invoke, WakeAt
from grainwise.control.events import InvocationDone, ItemResult
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import Node
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.domain.time import MILLISECOND, SECOND
from grainwise.domain.values import Payload, Ref
from grainwise.policies import batching
from worlds.apps import chain, diamond, fan, listed
from worlds.control import HARD, World, model_of
from worlds.grains import legal_grains, plan_for


def quick(spec):
    return model_of(spec, fixed_us=200.0)


def requests_of(invoke: Invoke) -> list[int]:
    return [item.request for item in invoke.items]


def batch_of(invoke: Invoke) -> str:
    return str(dict(invoke.because.facts)["batch"])


def test_the_earliest_due_goes_first():
    world = World(chain(1), max_batch=1)
    world.ask(1)
    late, soon = world.ask(2, within_us=900 * MILLISECOND), world.ask(3, within_us=300 * MILLISECOND)
    world.drain()
    assert [requests_of(invoke) for invoke in world.seen(Invoke)] == [[1], [soon], [late]]


def test_equals_go_in_the_order_of_arrival():
    world = World(chain(1), max_batch=1)
    for value in range(5):
        world.ask(value)
    world.drain()
    assert [requests_of(invoke)[0] for invoke in world.seen(Invoke)] == [1, 2, 3, 4, 5]


def test_what_piled_up_goes_in_full_batches():
    world = World(chain(4), max_batch=4, model=quick)
    for value in range(9):
        world.ask(value)
    world.drain()
    assert [len(requests_of(invoke)) for invoke in world.seen(Invoke)] == [1, 4, 4]
    assert batch_of(world.seen(Invoke)[1]) == batching.FULL.rule


def test_a_queue_is_shared_out_over_idle_instances():
    plan = plan_for("listed", (("double",),), instances=3, max_batch=8)
    world = World(listed(8), plans=[plan])
    world.run(lambda: sum(each.phase == "ready" for each in world.status().instances) == 3, "three are ready")
    world.ask(list(range(6)))
    assert [invoke.items[0].count for invoke in world.busy] == [2, 2, 2]
    world.drain()


def test_a_batch_waits_for_company_no_longer_than_its_part_of_the_slack():
    config = AppConfig(replan_us=0, wait_bound_fraction=0.01)
    world = World(chain(8), max_batch=8, config=config, service_us=MILLISECOND)
    for value in range(3000):
        world.ask(value)
        world.run_for(MILLISECOND)
    world.drain()
    invokes = world.seen(Invoke)
    assert any(batch_of(invoke) in (batching.WAIT_OVER.rule, batching.FULL.rule) for invoke in invokes)
    waits = [asked.answered_at - asked.at for asked in world.asked.values()]
    assert max(waits) <= 10 * MILLISECOND + 3 * MILLISECOND


def test_a_lone_request_at_a_low_rate_does_not_wait():
    world = World(chain(8), max_batch=8, service_us=MILLISECOND)
    for value in range(5):
        world.ask(value)
        assert world.busy
        world.run_for(SECOND)
    assert all(asked.answered_at - asked.at == MILLISECOND for asked in world.asked.values())


def test_a_range_that_is_larger_than_a_batch_keeps_its_rest_in_the_queue():
    world = World(listed(4), max_batch=4)
    world.ask(list(range(10)))
    assert [invoke.items[0].count for invoke in world.busy] == [4]
    assert world.status().queues[0].items == 6
    world.drain()
    assert world.asked[1].answer == [2 * value for value in range(10)]


def test_cores_bound_what_runs_at_once():
    plan = plan_for("chain", (("plus_one", "double", "negate", "plus_one#2"),), instances=4, max_batch=1, cpu_cores=1.0)
    world = World(chain(1), plans=[plan], nodes=(Node("here", 2.5, 10_000.0),))
    world.run(lambda: sum(each.phase == "ready" for each in world.status().instances) == 4, "four are ready")
    for value in range(6):
        world.ask(value)
    assert len(world.busy) == 2
    world.drain()


def test_hard_shares_are_charged_from_start_to_stop_and_not_again_by_invocations():
    plan = plan_for("chain", (("plus_one", "double", "negate", "plus_one#2"),), instances=2, max_batch=1)
    world = World(chain(1), plans=[plan], nodes=(Node("here", 2.0, 10_000.0),), capabilities=HARD)
    world.run(lambda: sum(each.phase == "ready" for each in world.status().instances) == 2, "two are ready")
    node = world.controller.state.nodes["here"]
    assert node.cores == 2.0
    for value in range(5):
        world.ask(value)
    assert len(world.busy) == 2
    world.drain()
    assert node.cores == 2.0
    world.crash(world.busy[0].instance if world.busy else next(iter(world.instances)))
    world.run_for(SECOND)
    assert node.cores == 1.0


def test_a_function_with_a_large_share_is_not_starved_by_small_ones():
    functions = (
        FunctionPlan(("plus_one", "double"), 1.0, 1, 2, max_instances=2),
        FunctionPlan(("negate", "plus_one#2"), 2.0, 1, 1, max_instances=1),
    )
    world = World(chain(1), plans=[Plan("chain", functions)], nodes=(Node("here", 2.0, 10_000.0),), max_batch=1)
    world.run_for(2 * SECOND)
    for value in range(300):
        world.ask(value, within_us=20 * SECOND)
        world.run_for(9 * MILLISECOND)
    answered = sum(asked.is_over for asked in world.asked.values())
    assert answered > 50
    world.drain()


def test_two_apps_share_the_cores_of_a_node_by_urgency():
    slow, fast = chain(1, name="slow", slo_ms=5000), chain(1, name="fast", slo_ms=100)
    world = World(slow, fast, nodes=(Node("here", 1.0, 10_000.0),), max_batch=1)
    for value in range(4):
        world.ask(value, app="slow")
    for value in range(4):
        world.ask(value, app="fast")
    world.drain()
    order = [world.asked[requests_of(invoke)[0]].app for invoke in world.seen(Invoke)]
    assert order == ["slow"] + ["fast"] * 4 + ["slow"] * 3


def test_the_node_with_free_cores_is_used_when_another_is_full():
    plan = plan_for("chain", (("plus_one", "double", "negate", "plus_one#2"),), instances=4, max_batch=1)
    world = World(chain(1), plans=[plan], nodes=(Node("a", 1.0, 300.0 * 3), Node("b", 2.0, 300.0 * 3)))
    world.run(lambda: sum(each.phase == "ready" for each in world.status().instances) == 4, "four are ready")
    for value in range(4):
        world.ask(value)
    where = sorted(world.instances[invoke.instance].node for invoke in world.busy)
    assert where == ["a", "b", "b"]
    world.drain()


def test_a_late_duplicate_of_a_result_releases_its_handles():
    world = World(diamond())
    world.ask(3)
    action = world.busy[0]
    world.drain()
    world.values[900] = "late"
    result = ItemResult((Payload((Ref(900, 8),)),))
    world.post(InvocationDone(action.invocation, action.instance, (result,), 1))
    assert not world.values
    assert world.outcomes() == ["ok"]


def test_a_wake_that_comes_early_is_asked_for_again():
    world = World(chain(1), max_batch=1)
    world.invoked = lambda action: "hang"
    world.ask(1)
    at = world.wake_at
    assert at > world.now
    from grainwise.control.events import Wake

    world.now = at - 1
    actions = world.post(Wake())
    assert WakeAt(at) in actions


def test_sizes_are_those_that_the_first_stage_of_a_function_measures():
    app = fan(64)
    world = World(app, grains=[legal_grains(app.graph)[-1]], max_batch=64)
    world.ask(4)
    seen: dict[str, float] = {}
    while not world.asked[1].is_over:
        for queue in world.state_of().queues.values():
            seen.setdefault(app.graph.names(queue.mask)[0], 0.0)
            seen[app.graph.names(queue.mask)[0]] = max(seen[app.graph.names(queue.mask)[0]], queue.size_sum)
        world.step()
    assert world.asked[1].code == "ok"


def test_a_declared_limit_is_the_limit_of_an_invocation():
    from grainwise import App, Batch, Slo

    app = App("limited", slo=Slo(latency_ms=100))

    def same(values: Batch[int]) -> Batch[int]:
        return list(values)

    stage = app.stage(same, timeout_ms=250)

    @app.flow
    def flow(value: int) -> int:
        return stage(value)

    world = World(app)
    world.ask(1)
    assert world.busy[0].limit_us == 250 * MILLISECOND
    world.drain()
