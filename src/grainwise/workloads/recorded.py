"""What was recorded: the arrivals of a trace, as data. The loaders make it, traffic replays it."""

from collections.abc import Callable

from msgspec import Struct

from grainwise.domain.time import Instant, Micros


class Recorded(Struct, frozen=True):
    """The arrivals of one trace: either single instants, or how many came in each interval.

    ``instants`` are microseconds from 0, sorted. ``sizes`` are as long as ``instants``, or empty where none were recorded, in
    the trace's own unit. ``span_us`` is the time that the recording covers, at least the last instant. ``note`` says what it
    is: the publisher, or that it is made by a generator.

    A trace of counts has no instants: ``counts`` holds the number of arrivals in each interval of ``interval_us``.
    """

    name: str
    instants: list[Instant]
    sizes: list[float]
    span_us: Micros
    note: str = ""
    counts: list[int] = []
    interval_us: Micros = 0

    @property
    def arrival_count(self) -> int:
        """How many arrivals it holds."""
        return len(self.instants) or sum(self.counts)

    @property
    def mean_size(self) -> float:
        """The mean of the sizes, in the trace's own unit; 0 where there are none."""
        return sum(self.sizes) / len(self.sizes) if self.sizes else 0.0


TraceSource = Callable[[str, str | None], Recorded]
"""Finds a trace by name or path, the whole of it or one app, function or segment.

Raises ``ConfigurationError`` where there is none, ``ArtifactError`` where it is broken.
"""
