"""The controller's memory: a snapshot in mid-flight goes on alike, and a log replays byte for byte."""

import msgspec
import pytest

from grainwise.control.controller import Controller
from grainwise.control.invariants import InvariantError, Monitor, check_state
from grainwise.control.log import LOG_SCHEMA, Entry, Gap, Header, decode, encode, encode_actions
from grainwise.control.replay import replay
from grainwise.domain.errors import ArtifactError
from grainwise.domain.time import MILLISECOND
from worlds.apps import SHAPES, chain
from worlds.control import World
from worlds.grains import legal_grains

HEADER = Header(LOG_SCHEMA, "0", 0, 0, 0)


def busy_world(name: str) -> World:
    """A world with failures and changes in it, in mid-flight."""
    app = SHAPES[name]()
    grains = legal_grains(app.graph)
    world = World(app)
    fates = iter(["done", "crash", "done", "backpressure", "hang"] * 3)
    world.invoked = lambda action: next(fates, "done")
    for value in range(30):
        world.ask(*((value, 3) if name == "outer" else (value % 9,)))
        world.run_for(3 * MILLISECOND)
        if value % 6 == 2:
            world.regranulate(grains[(value * 5) % len(grains)])
    return world


NAMES = [name for name in SHAPES if name not in ("listed", "choice_on_element")]


@pytest.mark.parametrize("name", NAMES)
def test_a_controller_restored_in_mid_flight_goes_on_with_the_same_actions(name):
    world = busy_world(name)
    assert world.controller.state.requests
    twin = Controller.restore(world.controller.snapshot())
    assert twin.snapshot() == world.controller.snapshot()
    at = len(world.log)
    world.drain()
    for entry in world.log[at:]:
        assert encode_actions(twin.handle(entry.event, entry.now)) == encode_actions(entry.actions)
    assert twin.snapshot() == world.controller.snapshot()


@pytest.mark.parametrize("name", NAMES)
def test_a_log_that_was_written_and_read_replays_byte_for_byte(name):
    world = busy_world(name)
    world.drain()
    data = b"".join(encode(record) for record in (HEADER, *world.log))
    report = replay(decode(data))
    assert report.is_identical
    assert report.entries == len(world.log)


def test_a_segment_replays_from_its_snapshot():
    world = busy_world("fan")
    head = Header(LOG_SCHEMA, "0", 1, len(world.log), 0, "", world.controller.snapshot())
    at = len(world.log)
    world.drain()
    data = b"".join(encode(record) for record in (head, *world.log[at:]))
    assert replay(decode(data)).is_identical


def test_a_replay_says_where_it_differs():
    world = World(chain())
    world.ask(1)
    world.drain()
    broken = [msgspec.structs.replace(entry, actions=[]) if entry.seq == 3 else entry for entry in world.log]
    report = replay([HEADER, *broken])
    assert report.divergence is not None
    assert report.divergence.seq == 3


def test_a_replay_does_not_cross_a_gap_and_needs_a_header():
    world = World(chain())
    with pytest.raises(ArtifactError, match="cannot cross a gap"):
        replay([HEADER, Gap(0, 3)])
    with pytest.raises(ArtifactError, match="does not start with a header"):
        replay(world.log)


def test_a_frame_that_was_cut_off_ends_the_log_and_a_malformed_one_is_named():
    world = World(chain())
    data = encode(HEADER) + encode(world.log[0])
    assert len(list(decode(data[:-3]))) == 1
    with pytest.raises(ArtifactError, match="malformed"):
        list(decode(data[:4] + b"H\xc1" + data[6:]))
    with pytest.raises(ArtifactError, match="schema is 99"):
        list(decode(encode(msgspec.structs.replace(HEADER, schema=99))))


def test_whole_numbers_in_the_place_of_floats_replay_alike():
    app = chain(4, slo_ms=1000)
    world = World(app, grains=[legal_grains(app.graph)[2]])
    world.regranulate(legal_grains(app.graph)[3], cpu_cores=1)
    world.ask(1)
    world.drain()
    entries = list(decode(b"".join(encode(record) for record in (HEADER, *world.log))))
    assert replay(entries).is_identical


def test_state_does_not_grow_with_finished_requests():
    world = World(chain(8), max_batch=8, is_checked=False, service_us=1000)
    sizes = []
    for value in range(9000):
        world.ask(value)
        world.run_for(300)
        if value in (2999, 5999, 8999):
            world.drain()
            world.controller.state.timers[:] = [
                timer for timer in world.controller.state.timers if not world.controller._core.is_stale(timer)
            ]
            sizes.append(len(world.controller.snapshot()))
    assert max(sizes) - min(sizes) < 400


# The monitor itself


def test_the_monitor_sees_an_answer_given_twice():
    world = World(chain())
    world.ask(1)
    world.drain()
    answer = next(entry for entry in world.log if any(type(action).__name__ == "Respond" for action in entry.actions))
    with pytest.raises(InvariantError, match=r"^2: request 1 is answered and was answered before"):
        world.monitor.observe(answer.event, answer.actions[:1], 0)


def test_the_monitor_sees_an_invocation_of_an_instance_that_is_not_ready():
    world = World(chain(), warm=False)
    monitor = Monitor()
    for entry in world.log:
        monitor.observe(entry.event, entry.actions, entry.now)
    other = World(chain())
    other.ask(1)
    last = other.log[-1]
    assert isinstance(last, Entry)
    with pytest.raises(InvariantError, match=r"^3: invocation 1 goes to instance 1, which is starting"):
        monitor.observe(last.event, last.actions, 0)


def test_the_state_check_sees_a_lost_request_and_a_leaked_handle():
    world = World(chain())
    world.ask(1)
    world.ask(2)
    check_state(world.controller, world.monitor)
    request = world.controller.state.requests[2]
    live, request.live = request.live, {}
    with pytest.raises(InvariantError, match=r"^6: handles .* have leaked"):
        check_state(world.controller, world.monitor)
    request.live = live
    del world.controller.state.requests[2]
    with pytest.raises(InvariantError, match=r"^1: requests \[2\] are lost"):
        check_state(world.controller, world.monitor)
