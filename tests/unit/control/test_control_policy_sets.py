"""Every set of policies decides otherwise than the adaptive one somewhere, and alike in a replay and after a snapshot."""

import msgspec
import pytest

from grainwise.control.actions import Invoke, StartInstance, StopInstance
from grainwise.control.controller import Controller
from grainwise.control.events import AppDeployed
from grainwise.control.log import encode_actions
from grainwise.domain.config import AppConfig
from grainwise.domain.errors import ConfigurationError
from grainwise.domain.machine import Node
from grainwise.domain.plan import Prediction
from grainwise.domain.time import MILLISECOND, SECOND
from grainwise.policies import batching
from grainwise.policies.sets import SETS, policy_set
from worlds.apps import chain, fan
from worlds.control import World, model_of
from worlds.grains import legal_grains, plan_for

BAD = Prediction(1.0, 2.0, 3.0, 0.1, 1.0, 0.1, 0.1, 0.1)


def config(policies: str, **more: int) -> AppConfig:
    return AppConfig(policies=policies, **{"replan_us": 0, **more})


def assert_replays(world: World) -> None:
    """A fresh controller says the same, and so does one that is restored at every tenth event."""
    fresh, restored = Controller(), Controller()
    for entry in world.log:
        if entry.seq % 10 == 0:
            restored = Controller.restore(restored.snapshot())
        expected = encode_actions(entry.actions)
        assert encode_actions(fresh.handle(entry.event, entry.now)) == expected
        assert encode_actions(restored.handle(entry.event, entry.now)) == expected


def order_of_service(policies: str) -> list[int]:
    world = World(chain(1), max_batch=1, config=config(policies))
    world.ask(1)
    world.ask(2, within_us=900 * MILLISECOND)
    world.ask(3, within_us=300 * MILLISECOND)
    world.drain()
    assert_replays(world)
    return [invoke.items[0].request for invoke in world.seen(Invoke)]


def test_fifo_serves_in_the_order_of_arrival_and_adaptive_by_what_is_due():
    assert order_of_service("adaptive") == [1, 3, 2]
    assert order_of_service("fifo") == [1, 2, 3]


def reasons_of_batches(policies: str) -> set[str]:
    world = World(chain(8), max_batch=8, config=config(policies), service_us=MILLISECOND)
    for value in range(300):
        world.ask(value)
        world.run_for(MILLISECOND)
    world.drain()
    assert_replays(world)
    return {str(dict(invoke.because.facts)["batch"]) for invoke in world.seen(Invoke)}


def test_eager_never_waits_for_a_batch_and_adaptive_does():
    waited = {batching.WAIT_OVER.rule, batching.FULL.rule}
    assert reasons_of_batches("adaptive") & waited
    assert reasons_of_batches("eager") == {batching.NO_WAITING.rule}


def test_no_batching_sends_one_at_a_time():
    assert reasons_of_batches("no_batching") == {batching.ONE.rule}


def regranulations(policies: str) -> tuple[int, int]:
    """How often a plan was asked for by the policy, and how often it was changed, while the rate rises."""
    app = fan()
    world = World(app, config=config(policies, replan_us=2 * SECOND, dwell_us=SECOND))
    better = plan_for(app.name, legal_grains(app.graph)[-1])
    answered = 0
    for value in range(200):
        world.ask(value)
        world.run_for(50 * MILLISECOND)
        if len(world.problems) > answered:
            answered = len(world.problems)
            world.answer(better, current=BAD)
    world.drain()
    assert_replays(world)
    return answered, world.status().regranulations


def test_fixed_never_plans_by_itself_and_adaptive_does():
    asked, changed = regranulations("adaptive")
    assert (asked, changed) == (2, 1), "the first answer is a candidate, the second agrees"
    assert regranulations("fixed") == (0, 0)


def test_fixed_regranulates_on_command():
    app = fan()
    world = World(app, config=config("fixed", replan_us=2 * SECOND))
    world.regranulate(legal_grains(app.graph)[-1])
    world.run_for(5 * SECOND)
    assert world.status().regranulations == 1


def slow(spec):
    return model_of(spec, fixed_us=1.0, item_us=1.0)


def instances_for_a_steady_load(policies: str) -> int:
    """A model that predicts no work at all: what is offered is next to nothing, and what is seen is not."""
    plan = plan_for("chain", (("plus_one", "double", "negate", "plus_one#2"),), max_batch=1, cpu_cores=0.5)
    world = World(
        chain(1),
        plans=[plan],
        config=config(policies),
        model=slow,
        service_us=400 * MILLISECOND,
        nodes=(Node("here", 8.0, 10_000.0),),
    )
    for value in range(60):
        world.ask(value)
        world.run_for(200 * MILLISECOND)
    world.drain()
    assert_replays(world)
    return len(world.seen(StartInstance))


def test_concurrency_scales_by_what_is_seen_and_adaptive_by_what_is_predicted():
    assert instances_for_a_steady_load("adaptive") == 1
    assert instances_for_a_steady_load("concurrency") == 4


def test_concurrency_scales_down_when_a_stable_window_has_passed_and_no_earlier():
    plan = plan_for("chain", (("plus_one", "double", "negate", "plus_one#2"),), max_batch=1, cpu_cores=0.5)
    settings = config("concurrency", keep_alive_us=SECOND)
    nodes = (Node("here", 8.0, 10_000.0),)
    world = World(chain(1), plans=[plan], config=settings, service_us=400 * MILLISECOND, nodes=nodes)
    for value in range(60):
        world.ask(value)
        world.run_for(200 * MILLISECOND)
    world.drain()
    began = world.now
    assert len(world.instances) == 4
    world.run_for(45 * SECOND)
    assert not world.seen(StopInstance), "a burst holds what it brought for the length of a stable window"
    world.run_until(began + 300 * SECOND)
    assert len(world.instances) == 1
    assert not world.next_at, "nothing is reviewed any more when nothing is left to measure"
    assert_replays(world)


def test_concurrency_scales_to_zero_where_the_app_allows_it():
    settings = config("concurrency", keep_alive_us=SECOND)
    settings = msgspec.structs.replace(settings, scale_to_zero=True)
    world = World(chain(1), max_batch=1, config=settings, warm=False)
    world.ask(1)
    world.drain()
    world.run_for(300 * SECOND)
    assert not world.instances
    assert not world.next_at


def test_without_prewarming_nothing_is_started_before_work_waits():
    plan = plan_for("chain", (("plus_one", "double", "negate", "plus_one#2"),), max_batch=1)
    starts = {}
    for policies in ("no_prewarm", "adaptive"):
        world = World(chain(1), plans=[plan], config=config(policies))
        for value in range(200):
            world.ask(value)
            world.run_for(25 * MILLISECOND)
        world.drain()
        assert_replays(world)
        starts[policies] = len(world.seen(StartInstance))
    # Forty requests per second of 24 ms each keep one instance busy without a backlog; headroom asks for a second.
    assert starts == {"no_prewarm": 1, "adaptive": 2}


def test_an_app_may_change_its_set_while_it_is_served():
    world = World(chain(1), max_batch=1, config=config("concurrency"))
    world.ask(1)
    world.run_for(2 * SECOND)
    assert world.state_of().loads
    deployed = world.state_of().deployed
    world.post(msgspec.structs.replace(deployed, config=config("adaptive")))
    world.ask(2)
    world.drain()
    world.run_for(100 * SECOND)
    assert not world.state_of().loads
    assert_replays(world)


def test_an_unknown_set_is_refused_with_those_that_are_known():
    with pytest.raises(ConfigurationError, match=f"choose one of {', '.join(sorted(SETS))}$"):
        policy_set("best")
    world = World(chain(1))
    deployed: AppDeployed = msgspec.structs.replace(world.state_of().deployed, config=config("best"))
    with pytest.raises(ConfigurationError, match="no policy set 'best'"):
        Controller().handle(deployed, SECOND)


def test_the_sets_are_known_by_their_names():
    assert [each.name for each in SETS.values()] == list(SETS)
