"""The queue of a function: ranges of items by rank, with the count and the predicted work of what waits.

Ranges whose request has ended are dropped lazily: they are counted out at once and skipped when they surface.
"""

import heapq

from msgspec import Struct

from grainwise.control.routing import Path
from grainwise.domain.time import Instant


class Waiting(Struct, order=True):
    """A range of items in a queue. The order is the rank: due instant, then sequence; the rest never ties.

    ``is_alone`` items are retried by themselves. ``size_sum`` is the sum of the sizes of the range.
    """

    due: Instant
    sequence: int
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
    is_dropped: bool = False


class FunctionQueue(Struct):
    """All ranges that wait for one extent of one app."""

    mask: int
    heap: list[Waiting] = []
    items: int = 0
    size_sum: float = 0.0
    dropped: int = 0

    def push(self, waiting: Waiting) -> None:
        """Add a range."""
        heapq.heappush(self.heap, waiting)
        self.items += waiting.hi - waiting.lo
        self.size_sum += waiting.size_sum

    def head(self) -> Waiting | None:
        """The most urgent range."""
        heap = self.heap
        while heap and heap[0].is_dropped:
            heapq.heappop(heap)
            self.dropped -= 1
        return heap[0] if heap else None

    def take(self, count: int) -> list[Waiting]:
        """Remove up to ``count`` items in rank order; an item that must run alone is taken by itself."""
        taken: list[Waiting] = []
        while count > 0:
            head = self.head()
            if head is None or (head.is_alone and taken):
                break
            wanted = 1 if head.is_alone else min(count, head.hi - head.lo)
            if wanted == head.hi - head.lo:
                heapq.heappop(self.heap)
                part = head
            else:
                share = head.size_sum * wanted / (head.hi - head.lo)
                part = Waiting(
                    head.due,
                    head.sequence,
                    head.request,
                    head.plan,
                    head.group,
                    head.outer,
                    head.lo,
                    head.lo + wanted,
                    head.attempt,
                    head.is_alone,
                    head.queued_at,
                    share,
                )
                head.lo += wanted
                head.size_sum -= share
            self.items -= wanted
            self.size_sum -= part.size_sum
            taken.append(part)
            count -= wanted
            if part.is_alone:
                break
        if not self.items:
            self.size_sum = 0.0
        return taken

    def drop(self, request: int) -> None:
        """Count out every range of a request."""
        for waiting in self.heap:
            if waiting.request == request and not waiting.is_dropped:
                waiting.is_dropped = True
                self.items -= waiting.hi - waiting.lo
                self.size_sum -= waiting.size_sum
                self.dropped += 1
        if self.dropped > 64 and self.dropped * 2 > len(self.heap):
            self.heap = [waiting for waiting in self.heap if not waiting.is_dropped]
            heapq.heapify(self.heap)
            self.dropped = 0
