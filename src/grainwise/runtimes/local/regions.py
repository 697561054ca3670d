"""Which blocks of which arenas are alive, counted by the server; freed blocks go back to the process that allocates there."""

from collections.abc import Callable

from grainwise.runtimes.local.arena import STATUS_BYTES, Arena, Blocks
from grainwise.runtimes.local.wire import Freed


class Region:
    """A block that is referred to: how often, how often of that by a stage that kept an input, how often it was published."""

    __slots__ = ("arena", "kept", "nbytes", "offset", "publications", "refs")

    def __init__(self, arena: int, offset: int, nbytes: int) -> None:
        self.arena = arena
        self.offset = offset
        self.nbytes = nbytes
        self.refs = 0
        self.kept = 0
        self.publications = 0


class ArenaRecord:
    """One arena as the server knows it. ``blocks`` is there where the server itself allocates."""

    __slots__ = ("arena", "blocks", "freed", "freed_bytes", "is_owner_gone", "is_tight", "regions")

    def __init__(self, arena: Arena, blocks: Blocks | None) -> None:
        self.arena = arena
        self.blocks = blocks
        self.regions: dict[int, Region] = {}
        self.freed: list[tuple[int, int]] = []
        self.freed_bytes = 0
        self.is_tight = False
        self.is_owner_gone = False


class Regions:
    """The live blocks of all arenas of a server.

    ``on_freed(arena)`` is called when freed blocks of an instance's arena should not wait for its next message;
    ``on_closed(arena)`` when an arena whose instance has gone is no longer referred to.
    """

    def __init__(self) -> None:
        self.arenas: dict[int, ArenaRecord] = {}
        self.live_bytes = 0
        self.on_freed: Callable[[int], None] = lambda arena: None
        self.on_closed: Callable[[int], None] = lambda arena: None
        self._next_arena = 0

    def make_arena(self, size: int, *, is_own: bool) -> Arena:
        """A new arena; with ``is_own`` the server allocates in it, else an instance will."""
        arena = Arena.make(self._next_arena, size)
        self._next_arena += 1
        self.arenas[arena.number] = ArenaRecord(arena, Blocks(size, STATUS_BYTES) if is_own else None)
        return arena

    def allocate(self, arena: int, nbytes: int) -> Region | None:
        """A block of the server's own arena with one reference, or None when there is no room."""
        record = self.arenas[arena]
        assert record.blocks is not None, f"arena {arena} belongs to an instance"
        offset = record.blocks.allocate(nbytes)
        if offset is None:
            return None
        region = record.regions[offset] = Region(arena, offset, nbytes)
        region.refs = 1
        self.live_bytes += nbytes
        return region

    def refer(self, arena: int, offset: int, nbytes: int) -> Region:
        """One more reference to a block: a new or known one of its owner (``nbytes`` > 0), or a known one of another arena.

        Raises:
            KeyError: nothing is known of the block.
        """
        regions = self.arenas[arena].regions
        region = regions.get(offset)
        if region is None:
            if nbytes == 0:
                raise KeyError(f"block {offset} of arena {arena} is not alive")
            region = regions[offset] = Region(arena, offset, nbytes)
        if region.refs == region.kept:
            self.live_bytes += region.nbytes
        region.refs += 1
        if nbytes:
            region.publications += 1
        return region

    def drop(self, region: Region) -> None:
        """One reference less; with the last one the block goes back to its owner."""
        region.refs -= 1
        if region.refs == region.kept:
            self.live_bytes -= region.nbytes
        if not region.refs:
            self._free(region)

    def keep(self, arena: int, offset: int, nbytes: int) -> Region:
        """A reference of a stage that kept an input beyond its invocation: its bytes stay, but no request needs them."""
        region = self.refer(arena, offset, nbytes)
        region.kept += 1
        return region

    def drop_kept(self, region: Region) -> None:
        """End what ``keep`` began."""
        region.kept -= 1
        region.refs -= 1
        if not region.refs:
            self._free(region)

    def _free(self, region: Region) -> None:
        record = self.arenas[region.arena]
        del record.regions[region.offset]
        if record.blocks is not None:
            record.blocks.free(region.offset)
        elif record.is_owner_gone:
            self._close_if_unused(record)
        else:
            record.freed.append((region.offset, region.publications))
            record.freed_bytes += region.nbytes
            if record.is_tight or record.freed_bytes > record.arena.size >> 2:
                self.on_freed(region.arena)

    def take_freed(self, arena: int) -> Freed:
        """The freed blocks that the owner of ``arena`` has not been told of; it is told of them now."""
        record = self.arenas[arena]
        if not record.freed:
            return ()
        freed = tuple(record.freed)
        record.freed.clear()
        record.freed_bytes = 0
        return freed

    def retire(self, arena: int) -> None:
        """The owner of ``arena`` has ended: what it has published stays readable, and goes with the last reference."""
        record = self.arenas[arena]
        record.is_owner_gone = True
        record.freed.clear()
        self._close_if_unused(record)

    def _close_if_unused(self, record: ArenaRecord) -> None:
        if not record.regions:
            number = record.arena.number
            del self.arenas[number]
            record.arena.close()
            self.on_closed(number)

    def close(self) -> None:
        """Give up every arena. Idempotent."""
        for record in self.arenas.values():
            record.arena.close()
        self.arenas.clear()
