"""What an instance does with shared memory: what lies there already is not copied, what is referred to is not reused."""

import os

import numpy as np
import pytest

from grainwise.domain.values import ValueType
from grainwise.runtimes.local.arena import Arena
from grainwise.runtimes.local.memory import Inputs, InstanceMemory, MemoryFullError
from grainwise.runtimes.local.wire import Frames, Part, Ping, Run, frame, to_instance
from grainwise.sdk.codec import Codec

CODEC = Codec(ValueType("tensor", "ndarray", "uint8"))


@pytest.fixture
def memory():
    return InstanceMemory(Arena.make(0, 1 << 18))


def make(memory: InstanceMemory, nbytes: int) -> np.ndarray:
    room = memory.allocate(nbytes)
    assert room is not None
    return np.ndarray((nbytes,), np.uint8, buffer=room)


def test_an_array_born_in_the_arena_is_published_without_a_copy_and_freed_when_settled(memory):
    array = make(memory, 10_000)
    parts, holds, nbytes = memory.publish(CODEC.encode(array)[1], Inputs())
    assert memory.copied_bytes == 0
    assert nbytes == 10_000
    assert isinstance(parts[0], Part)
    memory.settle(((holds[0].block, 1),))
    assert memory.used_bytes > 0
    del array
    assert memory.used_bytes == 0


def test_a_part_of_an_array_in_the_arena_is_published_without_a_copy(memory):
    array = make(memory, 40_000)[20_000:30_000]
    parts, holds, _ = memory.publish(CODEC.encode(array)[1], Inputs())
    assert memory.copied_bytes == 0
    assert parts[0].offset == parts[0].block + 20_000
    del array
    assert memory.used_bytes > 0
    memory.settle(((holds[0].block, 1),))
    assert memory.used_bytes == 0


def test_an_unpublished_array_gives_its_room_back(memory):
    array = make(memory, 10_000)
    view = array[10:]
    del array
    assert memory.used_bytes > 0
    del view
    assert memory.used_bytes == 0


def test_an_array_of_the_heap_is_copied_once_and_counted(memory):
    array = np.arange(10_000, dtype=np.uint8)
    parts, holds, _ = memory.publish(CODEC.encode(array)[1], Inputs())
    assert memory.copied_bytes == 10_000
    assert isinstance(parts[0], Part)
    memory.withdraw(holds)
    assert memory.used_bytes == 0


def test_a_full_arena_says_so_and_publishes_nothing(memory):
    make_room = make(memory, 200_000)
    with pytest.raises(MemoryFullError, match="no room"):
        memory.publish(CODEC.encode(np.zeros(100_000, np.uint8))[1], Inputs())
    del make_room
    assert memory.used_bytes == 0
    assert memory.allocate(1 << 20) is None


def test_an_input_handed_on_is_an_alias(memory):
    other = Arena.make(1, 1 << 18)
    memory.map(1, os.dup(other.fd), other.size)
    inputs = Inputs()
    header = CODEC.encode(np.zeros(10_000, np.uint8))[0]
    array = CODEC.decode(header, [memory.open(Part(1, 4096, 4096, 10_000), inputs)])
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    parts, holds, _ = memory.publish(CODEC.encode(array[100:9_000])[1], inputs)
    assert memory.copied_bytes == 0
    assert (parts[0].arena, parts[0].block, parts[0].offset) == (1, 4096, 4196)
    assert holds[0].nbytes == 0


def test_an_input_of_an_earlier_invocation_is_copied(memory):
    other = Arena.make(1, 1 << 18)
    memory.map(1, os.dup(other.fd), other.size)
    inputs = Inputs()
    header = CODEC.encode(np.zeros(10_000, np.uint8))[0]
    array = CODEC.decode(header, [memory.open(Part(1, 4096, 4096, 10_000), inputs)])
    memory.publish(CODEC.encode(array)[1], Inputs())
    assert memory.copied_bytes == 10_000


def test_a_kept_input_is_reported_and_so_is_its_end(memory):
    other = Arena.make(1, 1 << 18)
    memory.map(1, os.dup(other.fd), other.size)
    inputs = Inputs()
    header = CODEC.encode(np.zeros(10_000, np.uint8))[0]
    array = CODEC.decode(header, [memory.open(Part(1, 4096, 4096, 10_000), inputs)])
    kept = array[5:]
    del array
    holds = memory.keep(inputs)
    assert [(hold.arena, hold.block) for hold in holds] == [(1, 4096)]
    assert memory.take_dropped() == ()
    del kept
    assert memory.take_dropped() == ((1, 4096),)
    assert memory.keep(inputs) == ()


def test_frames_survive_any_cut():
    stream = bytes(frame(Ping())) + bytes(frame(Run(7, 3, ()))) + bytes(frame(Ping()))
    for step in (1, 2, 3, 5, 7, len(stream)):
        frames = Frames()
        found = [
            to_instance.decode(body)
            for begin in range(0, len(stream), step)
            for body in frames.feed(stream[begin : begin + step])
        ]
        assert [type(message) for message in found] == [Ping, Run, Ping]
