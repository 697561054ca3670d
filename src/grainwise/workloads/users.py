"""Closed loops: users who wait for their answer, think, and ask again. The load adapts to the system, as real clients do."""

from msgspec import Struct

from grainwise.domain.time import SECOND, Instant, Micros
from grainwise.workloads.integers import SplitMix64, derive_seed, exponential
from grainwise.workloads.processes import Users
from grainwise.workloads.recorded import TraceSource
from grainwise.workloads.sizes import DrawSize, size_drawer
from grainwise.workloads.traffic import Arrival, Traffic, span_us, stream_bounds_us


class _User(Struct):
    stream: int
    app: str
    users: Users
    stop: Instant
    thinking: SplitMix64
    draw_size: DrawSize


class UserPool:
    """The users of all closed streams of a traffic, numbered from 0 in order of the streams.

    Each draws from a stream of numbers of its own, so that what one does never depends on the order of others' answers.
    """

    def __init__(self, traffic: Traffic, traces: TraceSource | None = None) -> None:
        """Args: traces: needed where the traffic's end is that of a trace.

        Raises:
            ConfigurationError: the traffic has no end.
        """
        self._traffic = traffic
        has_users = any(isinstance(stream.arrivals, Users) for stream in traffic.streams)
        self._end_us = span_us(traffic, traces) if has_users else 0
        self._users: list[_User] = []

    def first(self, seed: int) -> list[Arrival]:
        """Starts all over: the first request of each user, in order of time. The first comes after a think time."""
        self._users, found = [], []
        for number, stream in enumerate(self._traffic.streams):
            if not isinstance(stream.arrivals, Users):
                continue
            start, stop = stream_bounds_us(self._traffic, number, self._end_us)
            for index in range(stream.arrivals.count):
                own = derive_seed(seed, "user", number, index)
                draw_size = size_drawer(stream.sizes, derive_seed(own, "sizes"))
                thinking = SplitMix64(derive_seed(own, "thinking"))
                self._users.append(_User(number, stream.app, stream.arrivals, stop, thinking, draw_size))
                arrival = self._ask(len(self._users) - 1, start + self._settle(self._users[-1]))
                if arrival is not None:
                    found.append(arrival)
        return sorted(found, key=lambda arrival: (arrival.at, arrival.user))

    def next(self, user: int, now: Instant) -> Arrival | None:
        """The next request of a user whose answer (or rejection) came at ``now``; ``None`` where its stream is over by then.

        Raises:
            IndexError: there is no such user, or ``first`` was not called.
        """
        if user < 0:
            raise IndexError(f"arrival of user {user} comes from an open stream")
        return self._ask(user, now + self._think(self._users[user]))

    def _ask(self, number: int, at: Instant) -> Arrival | None:
        user = self._users[number]
        return Arrival(at, user.app, user.draw_size(0.0), user.stream, number) if at < user.stop else None

    def _think(self, user: _User) -> Micros:
        mean = round(user.users.think_s * SECOND)
        return mean if user.users.think == "constant" else exponential(user.thinking, mean)

    def _settle(self, user: _User) -> Micros:
        """Before the first request; a fixed think time is entered at a random point, lest all users move in step."""
        mean = round(user.users.think_s * SECOND)
        if user.users.think == "constant":
            return user.thinking.below(mean) if mean else 0
        return exponential(user.thinking, mean)
