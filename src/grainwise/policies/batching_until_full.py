"""How many items now? A full batch; or what there is, once the function's part of the time that its request had is over.

After INFless (ASPLOS 2022, reconstructed): the first items of a batch wait for the last as long as the run that follows is
still within the SLO of the function. That is the part of the time left when the item was queued that the function's run is of
all that was to come. So whoever waits may use up its part to the end, whatever the functions after it would rather have had.
"""

from grainwise.domain.because import Because
from grainwise.domain.time import Instant
from grainwise.planning.published.infless import MARGIN
from grainwise.policies.batching import FULL, BatchView, Dispatch, WaitUntil

FILLS = Because("the batch may fill within the function's part of the SLO")
PART_OVER = Because("what waits, since the function's part of the SLO leaves time for the run alone")


def full_batch(items: int, max_batch: int, able: int) -> Dispatch | None:
    """A full batch, however many instances are idle; None where more items are needed for one."""
    return Dispatch(max_batch, FULL) if items >= max_batch else None


def decide(view: BatchView, now: Instant) -> Dispatch | WaitUntil:
    """Wait for a full batch until the part of the SLO leaves no more time than a full batch is taken to run."""
    one_us = view.hop_us + view.fixed_us + view.item_us
    left_us = view.due - view.oldest - view.hop_us
    part_us = left_us * one_us / max(view.hop_us + view.remaining_us, one_us, 1.0)
    run_us = view.hop_us + view.fixed_us + view.max_batch * view.item_us
    until = view.oldest + int(part_us - MARGIN * run_us)
    return WaitUntil(until, FILLS) if until > now else Dispatch(view.items, PART_OVER)
