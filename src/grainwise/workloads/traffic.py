"""What is asked of a cluster and when: the one definition that drives the simulator and the live load generator.

A traffic is a set of streams, each with an app, an arrival process and sizes. Open streams do not care about answers; closed
ones (``Users``) ask again after theirs, see ``users.UserPool``.
"""

from collections.abc import Iterator
from heapq import merge
from typing import Annotated

from msgspec import Meta, Struct

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import SECOND, Instant, Micros
from grainwise.workloads.integers import derive_seed
from grainwise.workloads.processes import (
    Constant,
    Diurnal,
    Gamma,
    Modulated,
    OnOff,
    Poisson,
    Steps,
    Users,
    draw_instants,
    expected_count,
)
from grainwise.workloads.ranges import Offset, Seconds
from grainwise.workloads.recorded import TraceSource
from grainwise.workloads.replaying import Counts, Recalled, Replay, Tape, expected_replays, load_tape, play
from grainwise.workloads.sizes import Sizes, TraceSize, size_drawer

Arrivals = Constant | Poisson | Gamma | Modulated | OnOff | Diurnal | Steps | Replay | Counts | Users
"""Any arrival process; ``process: NAME`` in a file says which."""


class Arrival(Struct, frozen=True, array_like=True, gc=False):
    """A request that is due.

    ``size`` is relative to the app's mean profiled request; 0.0 leaves the choice to the profile's own samples. ``stream`` is
    the index of its stream; ``user`` that of its user over all streams, -1 where it comes from an open one.
    """

    at: Instant
    app: str
    size: float = 0.0
    stream: int = 0
    user: int = -1


class Stream(Struct, frozen=True, forbid_unknown_fields=True):
    """Requests of one tenant for one app, from ``start_s`` on, for ``duration_s`` or until the traffic ends."""

    app: Annotated[str, Meta(min_length=1)]
    arrivals: Arrivals
    sizes: Sizes | None = None
    tenant: str = ""
    start_s: Offset = 0.0
    duration_s: Seconds | None = None

    def __post_init__(self) -> None:
        if isinstance(self.sizes, TraceSize) and not isinstance(self.arrivals, Replay):
            raise ValueError("sizes of a trace need arrivals of a trace; give another kind of sizes")


class Traffic(Struct, frozen=True, forbid_unknown_fields=True):
    """Several streams at once. Without ``duration_s`` it ends with its last stream, each of which must then have an end."""

    name: str
    streams: Annotated[tuple[Stream, ...], Meta(min_length=1, max_length=100_000)]
    duration_s: Seconds | None = None
    description: str = ""

    @property
    def apps(self) -> tuple[str, ...]:
        """The apps that are asked, each once, in order of first mention."""
        return tuple(dict.fromkeys(stream.app for stream in self.streams))


def span_us(traffic: Traffic, traces: TraceSource | None = None) -> Micros:
    """How long requests are offered.

    Raises:
        ConfigurationError: neither the traffic nor one of its streams says when it ends.
    """
    if traffic.duration_s is not None:
        return max(1, round(traffic.duration_s * SECOND))
    return _end_us(traffic, _load_tapes(traffic, traces))


def open_arrivals(traffic: Traffic, seed: int, traces: TraceSource | None = None) -> Iterator[Arrival]:
    """Arrivals of all open streams in order of time, at equal times by stream; made one at a time, so memory stays flat.

    Streams draw from seeds of their own: adding one, or changing its sizes, leaves the others' arrivals as they were.

    Raises:
        ConfigurationError: a trace is missing, lacks the sizes that are asked for, or the traffic has no end.
        ArtifactError: a trace is malformed.
    """
    tapes = _load_tapes(traffic, traces)
    end_us = _end_us(traffic, tapes)
    streams = [
        _stream_arrivals(traffic, number, seed, tapes.get(number), end_us)
        for number, stream in enumerate(traffic.streams)
        if not isinstance(stream.arrivals, Users)
    ]
    return merge(*streams, key=lambda arrival: arrival.at)


def mean_rate_per_s(traffic: Traffic, app: str, traces: TraceSource | None = None, *, answer_s: float = 1.0) -> float:
    """Requests per second for one app, averaged over the whole traffic: what a planner may expect.

    Known from the process where it is a synthetic one, counted where it is a trace. A user asks once in its think time and
    ``answer_s``, the time that an answer is expected to take.
    """
    tapes = _load_tapes(traffic, traces)
    end_us = _end_us(traffic, tapes)
    total = 0.0
    for number, stream in enumerate(traffic.streams):
        if stream.app != app:
            continue
        length_us = _length_us(stream, end_us)
        if isinstance(stream.arrivals, Users):
            total += stream.arrivals.count * length_us / SECOND / max(1e-6, stream.arrivals.think_s + answer_s)
        elif number in tapes:
            total += expected_replays(tapes[number], length_us)
        elif not isinstance(stream.arrivals, Replay | Counts):
            total += expected_count(stream.arrivals, length_us / SECOND)
    return total * SECOND / end_us


def stream_bounds_us(traffic: Traffic, number: int, end_us: Micros) -> tuple[Instant, Instant]:
    """From when until when a stream offers requests in a traffic that ends at ``end_us``."""
    stream = traffic.streams[number]
    start = min(round(stream.start_s * SECOND), end_us)
    return start, start + _length_us(stream, end_us)


def _length_us(stream: Stream, end_us: Micros) -> Micros:
    left = max(0, end_us - round(stream.start_s * SECOND))
    return left if stream.duration_s is None else min(left, max(1, round(stream.duration_s * SECOND)))


def _load_tapes(traffic: Traffic, traces: TraceSource | None) -> dict[int, Tape]:
    tapes: dict[int, Tape] = {}
    for number, stream in enumerate(traffic.streams):
        if isinstance(stream.arrivals, Replay | Counts):
            tape = tapes[number] = load_tape(stream.arrivals, traces)
            if isinstance(stream.sizes, TraceSize) and not tape.recorded.sizes:
                raise ConfigurationError(
                    f"stream {number} of {traffic.name!r} takes sizes from its trace, but {tape.recorded.name} has none"
                )
    return tapes


def _end_us(traffic: Traffic, tapes: dict[int, Tape]) -> Micros:
    if traffic.duration_s is not None:
        return max(1, round(traffic.duration_s * SECOND))
    return max(_stop_us(traffic, number, tapes.get(number)) for number in range(len(traffic.streams)))


def _stop_us(traffic: Traffic, number: int, tape: Tape | None) -> Micros:
    stream = traffic.streams[number]
    start = round(stream.start_s * SECOND)
    if stream.duration_s is not None:
        return start + max(1, round(stream.duration_s * SECOND))
    if tape is not None and not tape.repeat:
        return start + tape.span_us
    if isinstance(stream.arrivals, Steps) and not stream.arrivals.repeat:
        return start + max(1, round(stream.arrivals.period_s * SECOND))
    raise ConfigurationError(
        f"stream {number} ({stream.app}) of {traffic.name!r} has no end: give duration_s to it or the traffic"
    )


def _stream_arrivals(traffic: Traffic, number: int, seed: int, tape: Tape | None, end_us: Micros) -> Iterator[Arrival]:
    stream = traffic.streams[number]
    start, stop = stream_bounds_us(traffic, number, end_us)
    draw_size = size_drawer(stream.sizes, derive_seed(seed, "sizes", number))
    own_seed, app = derive_seed(seed, "arrivals", number), stream.app
    for at, recorded in _recalled(stream, tape, own_seed, stop - start):
        yield Arrival(start + at, app, draw_size(recorded), number)


def _recalled(stream: Stream, tape: Tape | None, seed: int, length_us: Micros) -> Iterator[Recalled]:
    if tape is not None:
        mean = tape.recorded.mean_size or 1.0
        return ((at, size / mean) for at, size in play(tape, seed, length_us))
    if isinstance(stream.arrivals, Replay | Counts | Users):
        return iter(())
    return ((at, 0.0) for at in draw_instants(stream.arrivals, seed, length_us))
