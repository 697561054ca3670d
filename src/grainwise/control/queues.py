"""The queue of a function: ranges of items by rank, with the count and the predicted work of what waits.

The heap holds ranks only. A range that was dropped leaves a rank behind, which is skipped when it surfaces and swept away when
such ranks are the majority.
"""

import heapq

from msgspec import Struct, field

from grainwise.control.rates import RateMeter
from grainwise.control.routing import Path
from grainwise.domain.time import Instant

SWEEP = 64
"""Below this many ranks a heap is not swept."""


class Waiting(Struct, gc=False):
    """A range of items in a queue. ``sequence`` is unique; ``is_alone`` items are retried by themselves.

    ``size_sum`` is the sum of the sizes of the range, as the first stage of the function measures them.
    """

    sequence: int
    due: Instant
    request: int
    plan: str
    group: int
    outer: Path
    lo: int
    hi: int
    attempt: int
    is_alone: bool
    queued_at: Instant
    size_sum: float


class FunctionQueue(Struct):
    """All ranges that wait for one extent of one app.

    ``wait_until`` is the instant until which a batch is being collected; ``tries`` is how often in a row nothing fitted.
    """

    mask: int
    heap: list[tuple[Instant, int]] = []
    waiting: dict[int, Waiting] = {}
    items: int = 0
    size_sum: float = 0.0
    wait_until: Instant = 0
    tries: int = 0
    rate: RateMeter = field(default_factory=RateMeter)

    def push(self, rank: tuple[Instant, int], waiting: Waiting) -> None:
        """Add a range under its rank, which ends in its sequence number."""
        heapq.heappush(self.heap, rank)
        self.waiting[waiting.sequence] = waiting
        self.items += waiting.hi - waiting.lo
        self.size_sum += waiting.size_sum

    def head(self) -> Waiting | None:
        """The most urgent range."""
        heap, waiting = self.heap, self.waiting
        while heap:
            found = waiting.get(heap[0][1])
            if found is not None:
                return found
            heapq.heappop(heap)
        return None

    def due_by(self, instant: Instant, most: int) -> int:
        """How many of the ranges, up to ``most``, are due by an instant."""
        count = 0
        for each in self.waiting.values():
            if each.due <= instant:
                count += 1
                if count >= most:
                    break
        return count

    def take(self, count: int) -> list[Waiting]:
        """Remove up to ``count`` items in rank order; an item that must run alone is taken by itself.

        Of a range that is larger than what is wanted the rest stays, under the same sequence number.
        """
        taken: list[Waiting] = []
        while count > 0:
            head = self.head()
            if head is None or (head.is_alone and taken):
                break
            wanted = 1 if head.is_alone else count
            if wanted >= head.hi - head.lo:
                heapq.heappop(self.heap)
                del self.waiting[head.sequence]
                part = head
            else:
                part = _split(head, wanted)
            count -= part.hi - part.lo
            self.items -= part.hi - part.lo
            self.size_sum -= part.size_sum
            taken.append(part)
            if part.is_alone:
                break
        if not self.items:
            self.size_sum = 0.0
        return taken

    def drop(self, sequence: int) -> None:
        """Remove a range, wherever it stands."""
        waiting = self.waiting.pop(sequence, None)
        if waiting is None:
            return
        self.items -= waiting.hi - waiting.lo
        self.size_sum = self.size_sum - waiting.size_sum if self.items else 0.0
        if len(self.heap) > SWEEP and len(self.heap) > 2 * len(self.waiting):
            self.heap = [rank for rank in self.heap if rank[1] in self.waiting]
            heapq.heapify(self.heap)


def _split(head: Waiting, wanted: int) -> Waiting:
    """Cut the first ``wanted`` items off a range."""
    share = head.size_sum * wanted / (head.hi - head.lo)
    part = Waiting(
        head.sequence, head.due, head.request, head.plan, head.group, head.outer, head.lo, head.lo + wanted, head.attempt,
        head.is_alone, head.queued_at, share,
    )  # fmt: skip
    head.lo += wanted
    head.size_sum -= share
    return part
