"""Where a request's time went: a vector of parts, carried along its critical path from each producer to its consumers."""

from collections import deque

from grainwise.domain.time import Instant, Micros

Step = tuple[int, Instant, Micros, Micros, Micros, Micros, str]
"""A function that a request has passed: its mask, the instant at which its result was handled, along the critical path up to
there the microseconds of (queue, service, hop, cold), and the node on which it ran."""

MAX_CHANGES = 256


class Flight:
    """A request between arrival and end. ``steps`` has the latest step per mask, ``last`` the latest of all.

    A fan-out keeps the step of its latest element, since the join waits for it.
    """

    __slots__ = ("app", "arrived", "grain", "is_counted", "last", "steps", "tenant")

    def __init__(self, app: str, tenant: str, arrived: Instant, grain: str, is_counted: bool) -> None:
        self.app = app
        self.tenant = tenant
        self.arrived = arrived
        self.grain = grain
        self.is_counted = is_counted
        self.last: Step = (0, arrived, 0, 0, 0, 0, "")
        self.steps: dict[int, Step] = {}

    def base(self, predecessors: int) -> Step:
        """The step that completed the inputs of a function which reads the stages in ``predecessors``: the latest of them."""
        last = self.last
        if last[0] & predecessors:
            return last
        found: Step | None = None
        for step in self.steps.values():
            if step[0] & predecessors and (found is None or step[1] >= found[1]):
                found = step
        return found or (0, self.arrived, 0, 0, 0, 0, "")


class Coverage:
    """Which residencies of an app had a ready instance, over time; the latest 256 changes are kept."""

    __slots__ = ("_changes", "_ready", "changed_at")

    def __init__(self) -> None:
        self.changed_at: Instant = 0
        self._ready: dict[int, int] = {}
        self._changes: deque[tuple[Instant, tuple[int, ...]]] = deque([(0, ())], MAX_CHANGES)

    def add(self, stages: int, now: Instant) -> None:
        """An instance that holds ``stages`` serves from now on."""
        count = self._ready.get(stages, 0)
        self._ready[stages] = count + 1
        if not count:
            self._note(now)

    def remove(self, stages: int, now: Instant) -> None:
        """It serves no longer."""
        count = self._ready[stages] - 1
        if count:
            self._ready[stages] = count
        else:
            del self._ready[stages]
            self._note(now)

    def _note(self, now: Instant) -> None:
        self.changed_at = now
        self._changes.append((now, tuple(self._ready)))

    def uncovered_us(self, extent: int, since: Instant, now: Instant) -> Micros:
        """How much of ``since`` to ``now`` passed while no ready instance held ``extent``."""
        total = 0
        until = now
        for at, residencies in reversed(self._changes):
            begin = at if at > since else since
            if until > begin and not any(held & extent == extent for held in residencies):
                total += until - begin
            if at <= since:
                break
            until = at
        return total
