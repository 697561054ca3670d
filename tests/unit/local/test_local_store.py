"""What the store counts: live bytes return to zero, copies are counted, what is read stays until no one reads it."""

import numpy as np
import pytest
from msgspec import Raw

from grainwise.domain.app import AppSpec, Slo, StageSpec
from grainwise.domain.errors import InputError
from grainwise.domain.graph import Graph, Input, Output, StageNode
from grainwise.domain.values import ValueType
from grainwise.runtimes.local.edges import EdgeTypes
from grainwise.runtimes.local.store import LocalStore
from grainwise.runtimes.local.wire import Hold, Part, Published, pack_value
from grainwise.runtimes.payloads import ArenaFullError
from grainwise.sdk.codec import Codec

TENSOR = ValueType("tensor", "ndarray", "uint8")
TEXT = ValueType("text", "str")


def one_stage() -> AppSpec:
    graph = Graph(("image",), (StageNode("same", "same", (Input(0),)),), (), (Output(0),), ("output",))
    return AppSpec("app", Slo(100), graph, (StageSpec("same", (TENSOR,), TENSOR),), (TENSOR,), (TENSOR,), "", "")


@pytest.fixture
def store():
    made = LocalStore(EdgeTypes(one_stage()), 1 << 20)
    yield made
    made.close()


def test_an_array_filled_by_the_door_is_published_without_a_copy(store):
    reservation = store.reserve(100_012, first_tensor_offset=12)
    reservation.view[12:] = bytes(range(250)) * 400
    stored = reservation.tensor(12, 100_000, "float32", (250, 100))
    reservation.close()
    array = store.get(stored.handle)
    assert array.tobytes() == bytes(range(250)) * 400
    assert not array.flags.writeable
    assert array.__array_interface__["data"][0] % 64 == 0
    assert store.copied_bytes == 0
    assert store.live_bytes >= 100_012
    del array
    store.release((stored.handle,))
    assert store.live_bytes == 0
    assert store.live_handles == 0


def test_several_values_share_one_reservation_and_the_last_one_frees_it(store):
    reservation = store.reserve(20_000)
    first = reservation.tensor(0, 10_000, "uint8", (10_000,))
    second = reservation.raw(10_000, 10_000)
    reservation.close()
    reservation.close()
    store.release((first.handle,))
    assert store.live_bytes == 20_000
    assert store.get(second.handle) == bytes(10_000)
    store.release((second.handle,))
    assert store.live_bytes == 0


def test_a_tensor_at_an_odd_offset_is_copied_and_counted(store):
    reservation = store.reserve(16_001, first_tensor_offset=0)
    reservation.view[:] = bytes(16_001)
    reservation.view[1] = 7
    stored = reservation.tensor(1, 16_000, "int32", (4000,))
    reservation.close()
    assert store.get(stored.handle)[0] == 7
    assert store.copied_bytes == 16_000
    store.release((stored.handle,))
    assert store.live_bytes == 0


def test_small_values_lie_in_no_arena(store):
    reservation = store.reserve(12)
    reservation.view[:] = np.arange(3, dtype=np.int32).tobytes()
    stored = reservation.tensor(0, 12, "int32", (3,))
    reservation.close()
    text = store.put("grain", TEXT)
    assert store.get(stored.handle).tolist() == [0, 1, 2]
    assert store.get(text.handle) == "grain"
    assert store.regions.live_bytes == 0
    assert store.live_bytes > 0
    store.release((stored.handle, text.handle))
    assert store.live_bytes == 0


@pytest.mark.parametrize(("nbytes", "shape"), [(11, (3,)), (12, (4,)), (12, (-3,)), (12, (-1, -3)), (16, (4,))])
def test_a_tensor_whose_length_disagrees_is_refused(store, nbytes, shape):
    reservation = store.reserve(12)
    with pytest.raises(InputError, match="shape"):
        reservation.tensor(0, nbytes, "int32", shape)
    reservation.close()


def test_raw_bytes_outside_the_body_are_refused(store):
    reservation = store.reserve(12)
    with pytest.raises(InputError, match="outside"):
        reservation.raw(8, 8)


def test_a_full_arena_is_backpressure_and_empties_again(store):
    held = [store.reserve(200_000) for _ in range(5)]
    with pytest.raises(ArenaFullError, match="no room"):
        store.reserve(200_000)
    with pytest.raises(ArenaFullError):
        store.put(np.zeros(200_000, np.uint8), TENSOR)
    for reservation in held:
        reservation.close()
    assert store.live_bytes == 0
    store.reserve(900_000).close()


def test_releasing_twice_is_an_error(store):
    stored = store.put("grain", TEXT)
    store.release((stored.handle,))
    with pytest.raises(KeyError):
        store.release((stored.handle,))


def test_a_pinned_value_outlives_its_release(store):
    stored = store.put(np.ones(10_000, np.uint8), TENSOR)
    store.pin(stored.handle)
    store.release((stored.handle,))
    with pytest.raises(KeyError):
        store.release((stored.handle,))
    assert store.live_bytes > 0
    store.unpin(stored.handle)
    assert store.live_bytes == 0


def publish(store: LocalStore, handle: int, arena: int, block: int, *, owned: bool, array: np.ndarray) -> None:
    header, _ = Codec(TENSOR).encode(array)
    part = Part(arena, block, block, array.nbytes)
    hold = Hold(arena, block, array.nbytes if owned else 0)
    store.adopt(Published(handle, array.nbytes, 0, (hold,), Raw(bytes(pack_value(header, (part,))))))


def test_an_alias_keeps_the_block_of_its_input(store):
    array = np.arange(8192, dtype=np.uint8)
    arena = store.regions.make_arena(1 << 20, is_own=False)
    arena.view[4096 : 4096 + 8192] = array.data
    publish(store, 100, arena.number, 4096, owned=True, array=array)
    publish(store, 200, arena.number, 4096, owned=False, array=array)
    assert store.live_bytes == 8192
    store.release((100,))
    assert store.live_bytes == 8192
    assert store.regions.take_freed(arena.number) == ()
    assert (store.get(200) == array).all()
    store.release((200,))
    assert store.live_bytes == 0
    assert store.regions.take_freed(arena.number) == ((4096, 1),)
    assert store.regions.take_freed(arena.number) == ()


def test_a_block_published_twice_is_settled_with_both(store):
    array = np.zeros(8192, np.uint8)
    arena = store.regions.make_arena(1 << 20, is_own=False)
    publish(store, 100, arena.number, 4096, owned=True, array=array)
    publish(store, 101, arena.number, 4096, owned=True, array=array)
    store.release((100, 101))
    assert store.regions.take_freed(arena.number) == ((4096, 2),)


def test_the_arena_of_an_ended_instance_stays_until_its_last_value_goes(store):
    closed: list[int] = []
    store.regions.on_closed = closed.append
    arena = store.regions.make_arena(1 << 20, is_own=False)
    array = np.zeros(8192, np.uint8)
    publish(store, 100, arena.number, 4096, owned=True, array=array)
    store.regions.retire(arena.number)
    assert closed == []
    assert (store.get(100) == 0).all()
    store.release((100,))
    assert closed == [arena.number]
    assert arena.fd == -1


def test_freed_blocks_are_announced_when_many_or_when_the_owner_waits(store):
    told: list[int] = []
    store.regions.on_freed = told.append
    arena = store.regions.make_arena(1 << 16, is_own=False)
    for index in range(3):
        publish(store, 100 + index, arena.number, 4096 + 8192 * index, owned=True, array=np.zeros(8192, np.uint8))
    store.release((100, 101))
    assert told == []
    store.release((102,))
    assert told == [arena.number]
    store.regions.take_freed(arena.number)
    store.regions.arenas[arena.number].is_tight = True
    publish(store, 110, arena.number, 4096, owned=True, array=np.zeros(8192, np.uint8))
    store.release((110,))
    assert told == [arena.number] * 2


def test_a_kept_input_stays_but_no_request_is_charged_for_it(store):
    array = np.zeros(8192, np.uint8)
    arena = store.regions.make_arena(1 << 20, is_own=False)
    publish(store, 100, arena.number, 4096, owned=True, array=array)
    region = store.regions.keep(arena.number, 4096, 0)
    store.release((100,))
    assert store.live_bytes == 0
    assert store.regions.take_freed(arena.number) == ()
    store.regions.drop_kept(region)
    assert store.regions.take_freed(arena.number) == ((4096, 1),)
