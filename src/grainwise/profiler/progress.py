"""What the profiler says while it works."""

from msgspec import Struct


class Progress(Struct, frozen=True):
    """Where a profile stands.

    ``stage`` is the stage that is being measured, empty before the first; ``point`` counts the points that are measured.
    ``elapsed_s`` and ``left_s`` are seconds of the budget. ``detail`` is for people.
    """

    stage: str
    point: int
    elapsed_s: float
    left_s: float
    detail: str
