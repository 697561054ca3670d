"""May this idle instance end? After the keep-alive time, if its functions do not need it."""

from msgspec import Struct

from grainwise.domain.because import Because
from grainwise.domain.time import Instant, Micros


class IdleView(Struct, frozen=True):
    """An idle instance. ``spare``: every function that it serves has more instances than it should keep."""

    idle_since: Instant
    keep_alive_us: Micros
    is_spare: bool
    serves_nothing: bool


class Keep(Struct, frozen=True):
    """Leave it up; look again at ``until`` (0: only when something changes)."""

    until: Instant


class End(Struct, frozen=True):
    """Stop it."""

    because: Because


NOTHING_LEFT = Because("no function of the plan or of a request in flight runs on its stages")


def decide(view: IdleView, now: Instant) -> Keep | End:
    """End at once what serves nothing, and after the keep-alive what is spare."""
    if view.serves_nothing:
        return End(NOTHING_LEFT)
    if not view.is_spare:
        return Keep(0)
    until = view.idle_since + view.keep_alive_us
    if now >= until:
        return End(Because("idle past its keep-alive", (("idle_ms", (now - view.idle_since) / 1000),)))
    return Keep(until)
