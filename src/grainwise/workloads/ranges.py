"""Which numbers a workload may hold; every bound is finite, so that no run is endless or empty by a slip."""

from typing import Annotated

from msgspec import Meta

Rate = Annotated[float, Meta(ge=0, le=1e6)]
"""Requests per second."""

Seconds = Annotated[float, Meta(gt=0, le=1e8)]
"""A duration that is not nothing."""

Offset = Annotated[float, Meta(ge=0, le=1e8)]
"""Seconds from a start."""

Factor = Annotated[float, Meta(gt=0, le=1e6)]
"""What a rate, a time or a size is multiplied by."""

Spread = Annotated[float, Meta(ge=0, le=30)]
"""A coefficient of variation: standard deviation over mean."""

Probability = Annotated[float, Meta(ge=0, le=1)]
"""A fraction between 0 and 1."""
