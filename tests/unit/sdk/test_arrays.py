from collections.abc import Iterator

import numpy as np
import pytest

from grainwise import empty, empty_like
from grainwise.sdk.arrays import set_allocator


@pytest.fixture
def arena() -> Iterator[list[bytearray]]:
    regions: list[bytearray] = []

    def allocate(nbytes: int) -> memoryview | None:
        if nbytes > 1000:
            return None
        regions.append(bytearray(nbytes))
        return memoryview(regions[-1])

    set_allocator(allocate)
    yield regions
    set_allocator(None)


def test_outside_an_instance_an_array_lies_on_the_heap() -> None:
    array = empty((2, 3), np.float32)
    assert (array.shape, array.dtype) == ((2, 3), np.float32)
    assert empty_like(array).shape == (2, 3)


def test_inside_an_instance_an_array_lies_in_the_arena(arena: list[bytearray]) -> None:
    array = empty((2, 3), np.uint16)
    array[:] = 7
    assert np.frombuffer(arena[0], np.uint16).tolist() == [7] * 6
    assert empty(5).shape == (5,)
    assert len(arena) == 2


def test_a_full_arena_an_empty_array_and_objects_fall_back_to_the_heap(arena: list[bytearray]) -> None:
    assert empty(5000).shape == (5000,)
    assert empty((0, 3)).shape == (0, 3)
    assert empty(3, object).tolist() == [None] * 3
    assert arena == []
