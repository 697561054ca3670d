"""Which requests are taken, how long they may take, and what becomes of those that no one awaits."""

from grainwise.control.actions import CancelInvocation, Invoke
from grainwise.control.queues import FunctionQueue, Waiting
from grainwise.domain.config import AppConfig
from grainwise.domain.time import MILLISECOND, SECOND
from worlds.apps import chain, listed
from worlds.control import World


def test_above_the_bound_a_request_is_a_429_that_says_when_to_come_back():
    world = World(chain(1), max_batch=1, config=AppConfig(max_requests=3, replan_us=0))
    for value in range(5):
        world.ask(value)
    assert world.outcomes() == ["open"] * 3 + ["queue_full"] * 2
    assert world.asked[5].reject.retry_after_us >= MILLISECOND
    world.drain()
    assert world.ask(9) and world.outcomes()[-1] == "open"
    world.drain()


def test_an_app_that_asks_for_it_refuses_what_cannot_meet_its_deadline():
    world = World(chain(1, name="picky", slo_ms=100, reject_late=True), max_batch=1)
    for value in range(60):
        world.ask(value)
    assert world.outcomes()[0] == "open"
    assert world.outcomes()[-1] == "too_late"
    assert world.asked[60].reject.retry_after_us > 0
    world.drain()


def test_past_its_deadline_a_request_is_a_504_and_what_no_one_awaits_is_cancelled():
    world = World(chain(1), max_batch=1)
    world.invoked = lambda action: "hang"
    running, waiting = world.ask(1, within_us=50 * MILLISECOND), world.ask(2, within_us=60 * MILLISECOND)
    world.run_for(100 * MILLISECOND)
    assert world.asked[running].code == world.asked[waiting].code == "deadline"
    assert world.asked[running].answered_at - world.asked[running].at == 50 * MILLISECOND
    assert [action.invocation for action in world.seen(CancelInvocation)] == [world.busy[0].invocation]
    world.fail(world.busy[0], "cancelled")
    assert not world.values


def test_without_a_deadline_the_patience_of_the_app_ends_a_request():
    world = World(chain(1), max_batch=1, config=AppConfig(patience_us=SECOND, replan_us=0))
    world.invoked = lambda action: "hang"
    request = world.ask(1)
    world.run_for(2 * SECOND)
    assert world.asked[request].code == "deadline"
    assert world.asked[request].answered_at - world.asked[request].at == SECOND


def test_a_request_whose_deadline_has_passed_runs_nothing():
    world = World(chain())
    request = world.ask(1, within_us=-5)
    assert world.asked[request].code == "deadline"
    assert not world.seen(Invoke)
    assert not world.values


def test_a_cancelled_request_leaves_its_queue_and_its_batch_neighbours_are_answered():
    world = World(chain(4))
    for value in range(5):
        world.ask(value)
    world.cancel(3)
    world.drain()
    assert [asked.code for asked in world.asked.values() if not asked.is_cancelled] == ["ok"] * 4
    ran = [item.request for invoke in world.seen(Invoke) for item in invoke.items]
    assert ran == [1, 2, 4, 5]


def test_an_invocation_is_cancelled_only_when_all_of_its_items_are_unawaited():
    world = World(chain(4))
    for value in range(5):
        world.ask(value)
    world.run(lambda: world.asked[1].is_over, "the first is answered")
    assert [item.request for item in world.busy[0].items] == [2, 3, 4, 5]
    for request in (2, 3, 4):
        world.cancel(request)
    assert not world.seen(CancelInvocation)
    world.cancel(5)
    assert len(world.seen(CancelInvocation)) == 1
    world.drain()


def test_an_unknown_app_is_a_404_that_keeps_nothing():
    world = World(chain())
    request = world.ask(app="nobody")
    assert world.asked[request].code == "unknown_app"


def test_mass_time_outs_empty_the_queues_and_the_timers_do_not_pile_up():
    world = World(listed(1), max_batch=1, config=AppConfig(max_requests=10_000, replan_us=0), is_checked=False)
    world.invoked = lambda action: "hang"
    for _ in range(3000):
        world.ask([1, 2], within_us=100 * MILLISECOND)
    world.run_for(200 * MILLISECOND)
    queue = next(iter(world.state_of().queues.values()))
    assert queue.items == 0
    assert not queue.waiting
    assert len(queue.heap) <= 64
    assert set(world.outcomes()) == {"deadline"}


def test_timers_of_finished_requests_are_swept_away():
    world = World(chain(64), max_batch=64, service_us=10, is_checked=False)
    for value in range(12_000):
        world.ask(value)
        world.run_for(20)
    world.drain()
    assert len(world.controller.state.timers) < 5000


def waiting(sequence: int, lo: int, hi: int, due: int = 0, is_alone: bool = False) -> Waiting:
    return Waiting(sequence, due, sequence, "plan", 0, (), lo, hi, 1, is_alone, 0, float(hi - lo))


def test_a_queue_counts_what_it_holds_through_push_take_and_drop():
    queue = FunctionQueue(1)
    for sequence, count in enumerate((3, 5, 2)):
        queue.push((0, sequence), waiting(sequence, 0, count))
    taken = queue.take(4)
    assert [(part.sequence, part.lo, part.hi) for part in taken] == [(0, 0, 3), (1, 0, 1)]
    assert (queue.items, queue.size_sum) == (6, 6.0)
    queue.drop(1)
    assert (queue.items, queue.size_sum) == (2, 2.0)
    queue.drop(1)
    assert [part.sequence for part in queue.take(9)] == [2]
    assert queue.head() is None
    assert queue.size_sum == 0.0


def test_an_item_that_must_run_alone_is_taken_by_itself():
    queue = FunctionQueue(1)
    queue.push((1, 1), waiting(1, 0, 1))
    queue.push((2, 2), waiting(2, 0, 1, is_alone=True))
    queue.push((3, 3), waiting(3, 0, 1))
    assert [part.sequence for part in queue.take(3)] == [1]
    assert [part.sequence for part in queue.take(3)] == [2]
    assert [part.sequence for part in queue.take(3)] == [3]
