"""An arena: a nameless file in memory, mapped by several processes, in which exactly one of them allocates.

The server makes the file with ``memfd_create``; it has no name in any file system, so with the last process that maps it
the memory is gone. ``Blocks`` is the allocator: first fit from the low end, so that pages which were touched once are
touched again and the resident part stays near the peak of what was live.
"""

import mmap
import os
from bisect import bisect_left, bisect_right, insort
from contextlib import suppress

ALIGNMENT = 64
"""Blocks begin on cache lines, which also suits every NumPy dtype."""

STATUS_BYTES = 4096
"""The first page of an arena is no payload: its owner notes there what it is doing."""


class Blocks:
    """Offsets of a range of ``size`` bytes, given out and taken back. Not thread-safe."""

    def __init__(self, size: int, start: int = 0) -> None:
        self._start = start
        self._end = size
        self._free: list[tuple[int, int]] = [(start, size - start)]
        self._sizes: dict[int, int] = {}
        self._taken: list[int] = []
        self._used_bytes = 0

    @property
    def used_bytes(self) -> int:
        """Bytes in blocks that are given out, padding included."""
        return self._used_bytes

    @property
    def capacity_bytes(self) -> int:
        """Bytes that one block could have at most if nothing else were given out."""
        return self._end - self._start

    def allocate(self, nbytes: int) -> int | None:
        """The offset of a block of at least ``nbytes`` (> 0), or None when no gap is large enough."""
        size = (nbytes + ALIGNMENT - 1) & -ALIGNMENT
        for index, (offset, room) in enumerate(self._free):
            if room >= size:
                if room == size:
                    del self._free[index]
                else:
                    self._free[index] = (offset + size, room - size)
                self._sizes[offset] = size
                insort(self._taken, offset)
                self._used_bytes += size
                return offset
        return None

    def free(self, offset: int) -> None:
        """Take the block at ``offset`` back.

        Raises:
            KeyError: no block begins there.
        """
        size = self._sizes.pop(offset)
        del self._taken[bisect_left(self._taken, offset)]
        self._used_bytes -= size
        index = bisect_left(self._free, (offset, 0))
        end = offset + size
        if index < len(self._free) and self._free[index][0] == end:
            end += self._free.pop(index)[1]
        if index > 0:
            before, room = self._free[index - 1]
            if before + room == offset:
                self._free[index - 1] = (before, end - before)
                return
        self._free.insert(index, (offset, end - offset))

    def size_of(self, offset: int) -> int:
        """Bytes of the block at ``offset``, padding included.

        Raises:
            KeyError: no block begins there.
        """
        return self._sizes[offset]

    def block_at(self, offset: int) -> tuple[int, int] | None:
        """The block (offset, size) that contains ``offset``, or None where nothing is given out."""
        index = bisect_right(self._taken, offset) - 1
        if index < 0:
            return None
        begin = self._taken[index]
        size = self._sizes[begin]
        return (begin, size) if offset < begin + size else None


class Arena:
    """One mapping of an arena's file in this process. The file is sparse: only touched pages take memory."""

    def __init__(self, number: int, fd: int, size: int, *, is_writable: bool) -> None:
        self.number = number
        self.fd = fd
        self.size = size
        access = mmap.PROT_READ | mmap.PROT_WRITE if is_writable else mmap.PROT_READ
        self._map = mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=access)
        self.view = memoryview(self._map)

    @classmethod
    def make(cls, number: int, size: int) -> "Arena":
        """A new arena of ``size`` bytes, mapped for writing."""
        fd = os.memfd_create(f"grainwise-{number}", os.MFD_CLOEXEC)
        os.ftruncate(fd, size)
        return cls(number, fd, size, is_writable=True)

    def resident_bytes(self) -> int:
        """Bytes of memory behind the file, whoever mapped it."""
        return os.fstat(self.fd).st_blocks * 512

    def close(self) -> None:
        """Give up the file and this mapping; the mapping itself goes with the last array that views it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self.view.release()
            self.view = memoryview(b"")
            with suppress(BufferError):  # an array still views it
                self._map.close()
