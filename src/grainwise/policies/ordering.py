"""Which item first? Earliest due instant, then arrival; or arrival alone."""

from grainwise.domain.time import Instant


def decide(due: Instant, sequence: int) -> tuple[Instant, int]:
    """The rank of an item in its queue, smallest first: earliest due first, in order of arrival among equals."""
    return due, sequence


def by_arrival(due: Instant, sequence: int) -> tuple[Instant, int]:
    """The rank of an item in its queue by when it came to it, whatever it is due."""
    return 0, sequence
