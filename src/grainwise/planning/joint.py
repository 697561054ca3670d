"""placeholder"""

from collections.abc import Sequence
from msgspec import Struct


class Step(Struct, frozen=True):
    """One configuration of one group: what it takes and what it costs. ``payload`` is the caller's number for it.

    ``resources`` are amounts that add up over the groups of a plan, in the order of the bounds given to the search.
    """

    mask: int
    time_us: float
    cost: float
    payload: int = 0
    resources: tuple[float, ...] = ()
