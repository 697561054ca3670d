"""Blocks of an arena never overlap and everything given back can be given out again."""

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from grainwise.runtimes.local.arena import ALIGNMENT, STATUS_BYTES, Arena, Blocks

SIZE = 1 << 16


@given(st.lists(st.one_of(st.integers(1, 9000), st.integers(-1000, -1)), max_size=120))
def test_blocks_never_overlap_and_all_room_comes_back(steps):
    blocks = Blocks(SIZE, STATUS_BYTES)
    live: list[tuple[int, int]] = []
    for step in steps:
        if step > 0:
            offset = blocks.allocate(step)
            if offset is None:
                continue
            assert offset % ALIGNMENT == 0
            assert offset >= STATUS_BYTES
            assert offset + step <= SIZE
            assert all(offset + step <= other or other + size <= offset for other, size in live)
            live.append((offset, step))
        elif live:
            blocks.free(live.pop(step % len(live))[0])
        for offset, size in live:
            found = blocks.block_at(offset + size - 1)
            assert found is not None
            assert found[0] == offset
    for offset, _ in live:
        blocks.free(offset)
    assert blocks.used_bytes == 0
    assert blocks.allocate(blocks.capacity_bytes) == STATUS_BYTES


def test_the_lowest_gap_is_used_first():
    blocks = Blocks(SIZE)
    first, second, _ = blocks.allocate(128), blocks.allocate(128), blocks.allocate(128)
    blocks.free(second)
    blocks.free(first)
    assert blocks.allocate(256) == first


def test_a_range_outside_every_block_is_in_none():
    blocks = Blocks(SIZE)
    offset = blocks.allocate(64)
    assert blocks.block_at(offset + 64) is None
    blocks.free(offset)
    assert blocks.block_at(offset) is None


def test_an_arena_is_sparse_and_closes_its_file():
    arena = Arena.make(3, 1 << 24)
    arena.view[STATUS_BYTES] = 1
    assert arena.resident_bytes() <= 1 << 16
    other = Arena(3, os.dup(arena.fd), arena.size, is_writable=False)
    assert other.view[STATUS_BYTES] == 1
    assert other.view.readonly
    fd = arena.fd
    arena.close()
    arena.close()
    assert not Path(f"/proc/self/fd/{fd}").exists()
    assert other.view[STATUS_BYTES] == 1
    other.close()
