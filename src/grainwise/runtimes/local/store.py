"""The payload store of one machine: small values inline, large ones in shared memory, never copied on their way."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from grainwise.domain.errors import InputError
from grainwise.domain.values import ValueType
from grainwise.runtimes.local.arena import ALIGNMENT
from grainwise.runtimes.local.edges import EdgeTypes
from grainwise.runtimes.local.regions import Region, Regions
from grainwise.runtimes.local.wire import INLINE_BYTES, Part, Published, pack_value, unpack_value
from grainwise.runtimes.payloads import ArenaFullError, Stored
from grainwise.sdk.codec import Codec


class Entry:
    """A stored value as it travels, and the blocks that it keeps alive. A pinned entry outlives its release."""

    __slots__ = ("edge_type", "holds", "inline_bytes", "is_released", "nbytes", "pins", "value")

    def __init__(self, value: Raw, edge_type: int, nbytes: int, holds: tuple[Region, ...]) -> None:
        self.value = value
        self.edge_type = edge_type
        self.nbytes = nbytes
        self.holds = holds
        self.inline_bytes = 0 if holds else memoryview(value).nbytes
        self.pins = 0
        self.is_released = False


class LocalStore:
    """``PayloadStore`` over memfd arenas. ``copied_bytes`` counts every byte copied beyond the door's own read."""

    def __init__(self, types: EdgeTypes, arena_bytes: int) -> None:
        self.regions = Regions()
        self.copied_bytes = 0
        self._types = types
        self._codecs: dict[int, Codec] = {}
        self._arena = self.regions.make_arena(arena_bytes, is_own=True)
        self._entries: dict[int, Entry] = {}
        self._inline_live_bytes = 0
        self._next_handle = 1

    @property
    def live_bytes(self) -> int:
        """Bytes behind live handles and open reservations; 0 when no request is in flight."""
        return self.regions.live_bytes + self._inline_live_bytes

    @property
    def live_handles(self) -> int:
        """Handles that are not released, or that an invocation still reads."""
        return len(self._entries)

    @property
    def resident_bytes(self) -> int:
        """Memory behind all arenas."""
        return sum(record.arena.resident_bytes() for record in self.regions.arenas.values())

    def codec(self, edge_type: int) -> Codec:
        """The codec of a type of the table."""
        codec = self._codecs.get(edge_type)
        if codec is None:
            codec = self._codecs[edge_type] = Codec(self._types.table[edge_type])
        return codec

    # The door's side

    def reserve(self, nbytes: int, first_tensor_offset: int = 0) -> "LocalReservation":
        """Room for ``nbytes``, placed so that ``first_tensor_offset`` falls on a 64-byte boundary.

        Raises:
            ArenaFullError: there is no room now.
        """
        if nbytes <= INLINE_BYTES:
            return LocalReservation(self, memoryview(bytearray(nbytes)), None, 0)
        padding = -first_tensor_offset % ALIGNMENT
        region = self._allocate(nbytes + padding)
        begin = region.offset + padding
        return LocalReservation(self, self._arena.view[begin : begin + nbytes], region, begin)

    def put(self, value: object, value_type: ValueType) -> Stored:
        """Store a Python value of a declared type.

        Raises:
            InputError: the value does not fit the type.
            ArenaFullError: there is no room now.
        """
        edge_type = self._types.number(value_type)
        header, buffers = self.codec(edge_type).encode(value)
        total = sum(buffer.nbytes for buffer in buffers)
        if total <= INLINE_BYTES:
            inline = tuple(bytes(buffer) for buffer in buffers)
            return self.publish(header, inline, edge_type, total or len(header), ())
        region = self._allocate(sum((buffer.nbytes + ALIGNMENT - 1) & -ALIGNMENT for buffer in buffers))
        parts: list[Part] = []
        offset = region.offset
        for buffer in buffers:
            self._arena.view[offset : offset + buffer.nbytes] = buffer.cast("B")
            parts.append(Part(self._arena.number, region.offset, offset, buffer.nbytes))
            offset += (buffer.nbytes + ALIGNMENT - 1) & -ALIGNMENT
        self.copied_bytes += total
        return self.publish(header, tuple(parts), edge_type, total, (region,))

    def get(self, handle: int) -> object:
        """The value; arrays are read-only views of shared memory that are valid until the handle is released.

        Raises:
            KeyError: the handle is not alive.
        """
        entry = self._entries[handle]
        wire = unpack_value(entry.value)
        buffers = [
            memoryview(buffer)
            if isinstance(buffer, bytes)
            else self.regions.arenas[buffer.arena].arena.view[buffer.offset : buffer.offset + buffer.length].toreadonly()
            for buffer in wire.buffers
        ]
        return self.codec(entry.edge_type).decode(wire.header, buffers)

    def release(self, handles: tuple[int, ...]) -> None:
        """Forget these handles; a region is reused when nothing refers to it any more.

        Raises:
            KeyError: a handle is not alive; those before it are forgotten.
        """
        for handle in handles:
            entry = self._entries[handle]
            if entry.is_released:
                raise KeyError(handle)
            if entry.pins:
                entry.is_released = True
            else:
                del self._entries[handle]
                self._drop(entry)

    # The runtime's side

    def publish(
        self, header: bytes, buffers: tuple[bytes | Part, ...], edge_type: int, nbytes: int, holds: tuple[Region, ...]
    ) -> Stored:
        """A new handle for a value of the server; the reference of each of ``holds`` passes to it."""
        handle = self._next_handle
        self._next_handle = handle + 1
        self._add(handle, Entry(pack_value(header, buffers), edge_type, nbytes, holds))
        return Stored(handle, nbytes)

    def adopt(self, published: Published) -> None:
        """Take up a value that an instance has published under a handle of its own."""
        regions = self.regions
        holds = tuple([regions.refer(hold.arena, hold.block, hold.nbytes) for hold in published.holds])
        self._add(published.handle, Entry(published.value, published.edge_type, published.nbytes, holds))

    def pin(self, handle: int) -> Entry:
        """The entry of a handle, kept until it is unpinned even if it is released meanwhile.

        Raises:
            KeyError: the handle is not alive.
        """
        entry = self._entries[handle]
        entry.pins += 1
        return entry

    def unpin(self, handle: int) -> None:
        """End a pin."""
        entry = self._entries[handle]
        entry.pins -= 1
        if entry.is_released and not entry.pins:
            del self._entries[handle]
            self._drop(entry)

    def type_number(self, value_type: ValueType) -> int:
        """The number of a type in the table of edge types."""
        return self._types.number(value_type)

    def close(self) -> None:
        """Give up all memory. Idempotent."""
        self._entries.clear()
        self.regions.close()

    def _allocate(self, nbytes: int) -> Region:
        region = self.regions.allocate(self._arena.number, nbytes)
        if region is None:
            raise ArenaFullError(
                f"shared memory has no room for {nbytes} bytes now: the server's arena has {self._arena.size} bytes and "
                f"{self.regions.live_bytes} are in use; try again, or serve with larger arenas"
            )
        return region

    def _add(self, handle: int, entry: Entry) -> None:
        self._entries[handle] = entry
        self._inline_live_bytes += entry.inline_bytes

    def _drop(self, entry: Entry) -> None:
        self._inline_live_bytes -= entry.inline_bytes
        for region in entry.holds:
            self.regions.drop(region)


class LocalReservation:
    """Room that the door fills straight from the network; what it publishes are views of it."""

    def __init__(self, store: LocalStore, view: memoryview, region: Region | None, begin: int) -> None:
        self._store = store
        self._view = view
        self._region = region
        self._begin = begin

    @property
    def view(self) -> memoryview:
        """The writable bytes."""
        return self._view

    def tensor(self, offset: int, nbytes: int, dtype: str, shape: Sequence[int]) -> Stored:
        """Publish ``view[offset:offset + nbytes]`` as an array, without a copy where the offset suits the dtype.

        Raises:
            InputError: the length does not agree with dtype and shape.
        """
        wanted = np.dtype(dtype)
        expected = wanted.itemsize
        for dimension in shape:
            if dimension < 0:
                raise InputError(f"shape {list(shape)} has a negative dimension")
            expected *= dimension
        if expected != nbytes or offset < 0 or offset + nbytes > self._view.nbytes:
            raise InputError(
                f"a tensor of {dtype} with shape {list(shape)} has {expected} bytes, but {nbytes} were sent at {offset} "
                f"of {self._view.nbytes}"
            )
        value_type = ValueType("tensor", "ndarray", wanted.name)
        array: NDArray[Any] = np.ndarray(tuple(shape), wanted, buffer=self._view, offset=offset)
        if not array.flags.aligned and nbytes > INLINE_BYTES:
            return self._store.put(array, value_type)
        return self._publish(array, value_type, offset, nbytes)

    def raw(self, offset: int, nbytes: int) -> Stored:
        """Publish ``view[offset:offset + nbytes]`` as a ``bytes`` value, without a copy.

        Raises:
            InputError: the range lies outside the reservation.
        """
        if offset < 0 or offset + nbytes > self._view.nbytes:
            raise InputError(f"{nbytes} bytes at {offset} lie outside a body of {self._view.nbytes} bytes")
        return self._publish(self._view[offset : offset + nbytes], ValueType("bytes", "bytes"), offset, nbytes)

    def _publish(self, value: object, value_type: ValueType, offset: int, nbytes: int) -> Stored:
        edge_type = self._store.type_number(value_type)
        header, buffers = self._store.codec(edge_type).encode(value)
        if self._region is None or nbytes <= INLINE_BYTES:
            inline = tuple(bytes(buffer) for buffer in buffers)
            return self._store.publish(header, inline, edge_type, nbytes, ())
        region = self._region
        part = Part(region.arena, region.offset, self._begin + offset, nbytes)
        return self._store.publish(
            header, (part,), edge_type, nbytes, (self._store.regions.refer(region.arena, region.offset, 0),)
        )

    def close(self) -> None:
        """Give up the reservation's own hold. Idempotent."""
        region, self._region = self._region, None
        self._view = memoryview(b"")
        if region is not None:
            self._store.regions.drop(region)
