"""How many items now, or until when to wait for more?

A wait is bounded by a fraction of the slack of the most urgent item, and is only entered where the model says that a
larger batch pays: where calls have a fixed part that items can share, and where the next item is expected in time.
"""

from msgspec import Struct

from grainwise.domain.because import Because
from grainwise.domain.time import SECOND, Instant


class BatchView(Struct, frozen=True, gc=False):
    """What the policy sees of a queue that fills no batch. Times in microseconds; ``oldest`` is when its head was queued.

    A batch of n items is predicted to take ``fixed_us + n * item_us``, and ``hop_us`` to be handed to or on from an instance.
    """

    items: int
    max_batch: int
    oldest: Instant
    due: Instant
    remaining_us: float
    fixed_us: float
    item_us: float
    items_per_s: float
    wait_bound_fraction: float
    hop_us: float = 0.0


class Dispatch(Struct, frozen=True, gc=False):
    """Send this many items now."""

    items: int
    because: Because


class WaitUntil(Struct, frozen=True, gc=False):
    """Hold the queue until this instant unless more items come."""

    at: Instant
    because: Because


FULL = Because("a full batch")
ALL_READY = Because("everything that waits, since a wait would not pay")
SHARED_OUT = Because("shared out over the idle instances")
NO_WAITING = Because("everything that waits, since this app never waits for more")
ONE = Because("one item, since this app never batches")
WAIT_PAYS = Because("more items are expected within the bounded wait")
WAIT_OVER = Because("the bounded wait is over")

WORTH_WAITING = 0.1
"""The least relative saving per item for which a queue waits."""


def without_waiting(items: int, max_batch: int, able: int) -> Dispatch | None:
    """A full batch or a fair share for each of the ``able`` idle instances; None where a wait might pay."""
    if able > 1 and 1 < items < max_batch * able:
        return Dispatch(-(-items // able), SHARED_OUT)
    if items >= max_batch:
        return Dispatch(max_batch, FULL)
    return None


def one_at_a_time(items: int, max_batch: int, able: int) -> Dispatch:
    """One item, however many wait."""
    return Dispatch(1, ONE)


def decide(view: BatchView, now: Instant) -> Dispatch | WaitUntil:
    """Dispatch what there is, or wait while that pays and the slack allows it."""
    one = view.fixed_us + view.item_us
    saving = view.fixed_us / 2 / one if one > 0 else 0.0
    slack_us = view.due - now - view.remaining_us
    if saving < WORTH_WAITING or slack_us <= 0 or view.items_per_s <= 0:
        return Dispatch(view.items, ALL_READY)
    bound_us = slack_us * view.wait_bound_fraction
    until = view.oldest + int(min(bound_us, view.fixed_us))
    if until <= now:
        return Dispatch(view.items, WAIT_OVER)
    if SECOND / view.items_per_s > until - now:
        return Dispatch(view.items, ALL_READY)
    return WaitUntil(until, WAIT_PAYS)


def never_wait(view: BatchView, now: Instant) -> Dispatch:
    """Dispatch what there is, whatever a wait might bring."""
    return Dispatch(view.items, NO_WAITING)
