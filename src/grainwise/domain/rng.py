"""The only source of randomness that the pure layers accept: an argument of this type."""

from typing import Protocol


class Rng(Protocol):
    """A documented integer generator, so that one seed gives one run on every interpreter."""

    def below(self, bound: int) -> int:
        """A uniform integer in ``[0, bound)``."""
        ...
