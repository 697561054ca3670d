"""Shared memory as an instance sees it: the arena in which it allocates, and those of others, which it only reads."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainwise.runtimes.local.arena import ALIGNMENT, STATUS_BYTES, Arena, Blocks
from grainwise.runtimes.local.wire import INLINE_BYTES, Freed, Hold, Part

_BYTE = np.dtype(np.uint8)


class MemoryFullError(Exception):
    """The arena has no room for a result now."""


class _Block:
    """A block of our arena: whether an array of this process still lies in it, and publications that are not settled."""

    __slots__ = ("anchor", "outstanding")

    def __init__(self) -> None:
        self.anchor: weakref.ref[NDArray[Any]] | None = None
        self.outstanding = 0


class Inputs:
    """The buffers of one invocation's inputs, and which of them someone still refers to when it is over."""

    __slots__ = ("_roots", "parts")

    def __init__(self) -> None:
        self.parts: dict[tuple[int, int], Part] = {}
        self._roots: list[tuple[Part, weakref.ref[NDArray[Any]]]] = []

    def add(self, part: Part, root: NDArray[Any]) -> None:
        """Note a buffer; every array that is decoded from it keeps ``root`` alive."""
        self.parts[part.arena, part.offset] = part
        self._roots.append((part, weakref.ref(root)))

    def containing(self, arena: int, offset: int, length: int) -> Part | None:
        """The input in which a range lies."""
        exact = self.parts.get((arena, offset))
        if exact is not None and length <= exact.length:
            return exact
        for part in self.parts.values():
            if part.arena == arena and part.offset <= offset and offset + length <= part.offset + part.length:
                return part
        return None

    def referred(self) -> list[tuple[Part, weakref.ref[NDArray[Any]]]]:
        """Those that are still referred to."""
        return [(part, root) for part, root in self._roots if root() is not None]


class InstanceMemory:
    """Allocates results, maps inputs, and finds out what need not be copied."""

    def __init__(self, arena: Arena) -> None:
        self._own = arena
        self._blocks = Blocks(arena.size, STATUS_BYTES)
        self._block_by_offset: dict[int, _Block] = {}
        self._arenas: dict[int, Arena] = {arena.number: arena}
        self._readable: dict[int, memoryview] = {arena.number: arena.view.toreadonly()}
        self._own_begin = _address(arena.view)
        self._begin_by_arena: dict[int, int] = {}
        self._status = arena.view[:8].cast("q")
        self._dropped: list[tuple[int, int]] = []
        self._kept: dict[int, weakref.ref[NDArray[Any]]] = {}
        self.copied_bytes = 0

    @property
    def used_bytes(self) -> int:
        """Bytes of our arena that are given out."""
        return self._blocks.used_bytes

    def enter(self, stage: int) -> None:
        """Note for the server which stage runs now; -1 for none."""
        self._status[0] = stage + 1

    def map(self, number: int, fd: int, size: int) -> None:
        """Map the arena of another process for reading."""
        arena = self._arenas[number] = Arena(number, fd, size, is_writable=False)
        self._readable[number] = arena.view
        self._begin_by_arena[number] = _address(arena.view)

    def unmap(self, number: int) -> None:
        """Give up the arena of another process."""
        self._begin_by_arena.pop(number, None)
        self._readable.pop(number, None)
        arena = self._arenas.pop(number, None)
        if arena is not None:
            arena.close()

    def allocate(self, nbytes: int) -> memoryview | None:
        """Room in which a stage builds a result; it is free again when no array refers to it and no one reads the result."""
        if nbytes <= INLINE_BYTES:
            return None
        offset = self._blocks.allocate(nbytes)
        if offset is None:
            return None
        # Every array over the room, and every view of such an array, refers to this one in the end.
        root: NDArray[Any] = np.ndarray((nbytes,), _BYTE, self._own.view, offset)
        block = self._block_by_offset[offset] = _Block()
        block.anchor = weakref.ref(root, self._on_unreferenced(offset, block))
        return root.data

    def _on_unreferenced(self, offset: int, block: _Block) -> "Callable[[weakref.ref[NDArray[Any]]], None]":
        def free(_: "weakref.ref[NDArray[Any]]") -> None:
            block.anchor = None
            if not block.outstanding:
                self._free(offset)

        return free

    def _free(self, offset: int) -> None:
        del self._block_by_offset[offset]
        self._blocks.free(offset)

    def settle(self, freed: Freed) -> None:
        """Take back what the server says that no one refers to."""
        for offset, publications in freed:
            block = self._block_by_offset[offset]
            block.outstanding -= publications
            if not block.outstanding and block.anchor is None:
                self._free(offset)

    def open(self, part: Part, inputs: Inputs) -> memoryview:
        """The bytes of an input, read-only."""
        root: NDArray[Any] = np.ndarray((part.length,), _BYTE, self._readable[part.arena], part.offset)
        inputs.add(part, root)
        return root.data

    def publish(self, buffers: Sequence[memoryview], inputs: Inputs) -> tuple[tuple[bytes | Part, ...], tuple[Hold, ...], int]:
        """Make the buffers of a result readable by others: where they lie, what they hold, and their length in bytes.

        A buffer in our arena or in an input is passed on as it is; any other is copied, once.

        Raises:
            MemoryFullError: there is no room for a copy now; nothing is published.
        """
        if len(buffers) == 1 and buffers[0].nbytes > INLINE_BYTES:
            only = self._find(buffers[0], inputs)
            if only is not None:
                return (only,), (self._hold(only),), only.length
        total = sum([buffer.nbytes for buffer in buffers])
        if total <= INLINE_BYTES:
            return tuple([bytes(buffer) for buffer in buffers]), (), total
        found = [self._find(buffer, inputs) for buffer in buffers]
        missing = [index for index, part in enumerate(found) if part is None and buffers[index].nbytes]
        if missing:
            self._copy([(index, buffers[index]) for index in missing], found)
        holds: dict[tuple[int, int], Hold] = {}
        for part in found:
            if part is not None and (part.arena, part.block) not in holds:
                holds[part.arena, part.block] = self._hold(part)
        return tuple([b"" if part is None else part for part in found]), tuple(holds.values()), total

    def _find(self, buffer: memoryview, inputs: Inputs) -> Part | None:
        """Where in shared memory a buffer lies, if it may be passed on from there."""
        length = buffer.nbytes
        if not length:
            return None
        address = _address(buffer)
        offset = address - self._own_begin
        if 0 <= offset < self._own.size:
            block = self._blocks.block_at(offset)
            if block is not None and offset + length <= block[0] + block[1]:
                return Part(self._own.number, block[0], offset, length)
            return None
        for number, begin in self._begin_by_arena.items():
            offset = address - begin
            if 0 <= offset < self._arenas[number].size:
                part = inputs.containing(number, offset, length)
                return None if part is None else Part(number, part.block, offset, length)
        return None

    def _copy(self, missing: list[tuple[int, memoryview]], found: list[Part | None]) -> None:
        """Copy buffers into one new block."""
        room = sum((buffer.nbytes + ALIGNMENT - 1) & -ALIGNMENT for _, buffer in missing)
        block = self._blocks.allocate(room)
        if block is None:
            raise MemoryFullError(f"no room for {room} bytes, {self._blocks.used_bytes} of {self._own.size} are in use")
        self._block_by_offset[block] = _Block()
        offset = block
        for index, buffer in missing:
            self._own.view[offset : offset + buffer.nbytes] = buffer.cast("B")
            found[index] = Part(self._own.number, block, offset, buffer.nbytes)
            self.copied_bytes += buffer.nbytes
            offset += (buffer.nbytes + ALIGNMENT - 1) & -ALIGNMENT

    def _hold(self, part: Part) -> Hold:
        if part.arena != self._own.number:
            return Hold(part.arena, part.block, 0)
        self._block_by_offset[part.block].outstanding += 1
        return Hold(part.arena, part.block, self._blocks.size_of(part.block))

    def withdraw(self, holds: Sequence[Hold]) -> None:
        """Take back publications that the server was never told of."""
        self.settle(tuple((hold.block, 1) for hold in holds if hold.arena == self._own.number))

    def keep(self, inputs: Inputs) -> tuple[Hold, ...]:
        """Blocks of inputs that a stage still refers to although the invocation is over; ``take_dropped`` ends this."""
        referred = inputs.referred()
        if not referred:
            return ()
        holds: list[Hold] = []
        for part, root in referred:
            kept = root()
            if kept is not None:
                holds.append(self._hold(part))
                key = id(kept)
                self._kept[key] = weakref.ref(kept, self._on_dropped(key, part))
        return tuple(holds)

    def _on_dropped(self, key: int, part: Part) -> "Callable[[weakref.ref[NDArray[Any]]], None]":
        def note(_: "weakref.ref[NDArray[Any]]") -> None:
            del self._kept[key]
            self._dropped.append((part.arena, part.block))

        return note

    def take_dropped(self) -> tuple[tuple[int, int], ...]:
        """What was kept and is no longer referred to, since the last time."""
        if not self._dropped:
            return ()
        dropped = tuple(self._dropped)
        self._dropped.clear()
        return dropped


def _address(buffer: memoryview) -> int:
    array: Any = buffer.obj
    if not isinstance(array, np.ndarray) or array.nbytes != buffer.nbytes:
        array = np.frombuffer(buffer, _BYTE)
    address: int = array.__array_interface__["data"][0]
    return address
