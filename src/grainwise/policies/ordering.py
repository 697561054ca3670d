"""Which item first? Earliest due instant, then arrival."""

from grainwise.domain.time import Instant


def decide(due: Instant, sequence: int) -> tuple[Instant, int]:
    """The rank of an item in its queue, smallest first: earliest due first, in order of arrival among equals."""
    return due, sequence
