"""Values on their way through the DAG: fan-outs, joins, branches, at every granularity."""

import pytest

from grainwise.control.actions import Invoke, Respond
from grainwise.control.events import InvocationDone
from worlds.apps import SHAPES, chain, choice, choice_of_lists, fan, listed, nested, several
from worlds.control import World
from worlds.grains import legal_grains

CASES = [(name, grain) for name, make in SHAPES.items() for grain in legal_grains(make().graph)]
SPLIT_FAN = (("spread",), ("plus_one", "double"), ("total",))


def arguments(name: str, value: int) -> tuple[object, ...]:
    if name == "outer":
        return (value, value + 1)
    if name in ("listed", "choice_on_element"):
        return (list(range(value % 6)),)
    return (value,)


@pytest.mark.parametrize(
    ("name", "grain"), CASES, ids=lambda case: case if isinstance(case, str) else " ".join("+".join(group) for group in case)
)
def test_every_shape_is_answered_as_the_eager_flow_answers_at_every_granularity(name, grain):
    world = World(SHAPES[name](), grains=[grain])
    for value in range(15):
        world.ask(*arguments(name, value))
        world.run_for(4000)
    world.drain()
    assert set(world.outcomes()) == {"ok"}


@pytest.mark.parametrize("max_batch", [1, 3, 64])
def test_a_nested_fan_out_is_joined_in_order_whatever_the_batch(max_batch):
    app = nested(max_batch)
    world = World(app, grains=[legal_grains(app.graph)[-1]], max_batch=max_batch)
    for value in (4, 9, 14, 0):
        world.ask(value)
    world.drain()
    assert world.asked[4].answer == []
    assert len(world.asked[1].answer) == 4


def test_an_empty_list_completes_its_join_at_once():
    world = World(fan(), grains=[SPLIT_FAN])
    request = world.ask(5)
    world.drain()
    assert world.asked[request].answer == 0
    extents = [invoke.extent for invoke in world.seen(Invoke)]
    graph = world.apps["fan"].spec.graph
    assert [graph.names(extent) for extent in extents] == [("spread",), ("total",)]


def test_an_empty_list_at_the_end_is_answered_by_the_event_that_brings_it():
    world = World(listed())
    request = world.ask([])
    assert world.asked[request].code == "ok"
    assert world.asked[request].answer == []
    assert not world.seen(Invoke)


def test_an_untaken_branch_runs_nothing():
    app = choice()
    world = World(app, grains=[legal_grains(app.graph)[-1]])
    world.ask(0)
    world.drain()
    graph = app.graph
    ran = [graph.names(invoke.extent)[0] for invoke in world.seen(Invoke)]
    assert sorted(ran) == ["double#2", "kind", "plus_one"]


def test_a_list_of_an_untaken_branch_is_skipped_and_not_taken_for_an_empty_one():
    app = choice_of_lists()
    world = World(app, grains=[legal_grains(app.graph)[-1]])
    odd, even, empty = world.ask(13), world.ask(14), world.ask(5)
    world.drain()
    assert [world.asked[number].code for number in (odd, even, empty)] == ["ok"] * 3
    assert world.asked[empty].answer == 0


def test_a_fan_out_costs_events_by_batches_and_not_by_items():
    app = listed(32)
    world = World(app, max_batch=32)
    before = len(world.log)
    world.ask(list(range(320)))
    world.drain()
    events = [entry for entry in world.log[before:] if isinstance(entry.event, InvocationDone)]
    assert len(events) == 10
    assert all(len(invoke.items) == 1 for invoke in world.seen(Invoke))
    assert sum(len(entry.actions) for entry in world.log[before:]) < 40


def test_several_outputs_are_answered_together_and_in_their_order():
    app = several()
    world = World(app, grains=[legal_grains(app.graph)[-1]])
    request = world.ask(3)
    world.drain()
    assert world.asked[request].answer == (93, [60, 62, 64], [30, 31, 32])
    assert len(world.seen(Respond)) == 1


def test_a_request_waits_in_one_queue_and_each_of_its_values_is_released_once_read():
    app = chain()
    world = World(app, grains=[legal_grains(app.graph)[-1]], max_batch=1)
    world.ask(1)
    for _ in range(3):
        world.step()
        assert len(world.values) == 1
    world.drain()
