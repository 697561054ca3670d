"""How many instances of a function? What Little's law needs at the present rate, more when work has piled up."""

from msgspec import Struct, structs

from grainwise.domain.because import Because
from grainwise.domain.time import Instant


class Panic(Struct, frozen=True):
    """When a burst was last seen, 0 for none, and the most instances that were wanted since it began."""

    last_at: Instant = 0
    instances: int = 0


class Concurrency(Struct, frozen=True):
    """Mean items that wait or run, over a long and a short window, and how many an instance takes at once.

    ``variance`` is that of the samples of the long window.
    """

    now: Instant
    stable_items: float
    panic_items: float
    per_instance: int
    panic: Panic
    variance: float = 0.0


class ScaleView(Struct, frozen=True):
    """One function. ``offered`` is items per second times seconds of work per item: the mean number of busy instances.

    ``backlog_us`` is the predicted work in its queue, ``patience_us`` the time within which it should be gone.
    ``offered_ahead`` is what the app's arrivals will offer to it, before they have come so far.
    ``concurrency`` is there for a function of an app whose policies measure it.
    """

    offered: float
    backlog_us: float
    patience_us: float
    instances: int
    min_instances: int
    max_instances: int
    concurrency: Concurrency | None = None
    offered_ahead: float = 0.0


class ScaleTo(Struct, frozen=True):
    """Have this many instances. ``panic`` is to be shown to the policy the next time."""

    instances: int
    because: Because
    panic: Panic | None = None


HEADROOM = 0.75
"""The utilisation at which another instance is wanted."""


def decide(view: ScaleView) -> ScaleTo:
    """The least number of instances that keeps utilisation under the headroom and clears the backlog in time."""
    steady = whole_above(view.offered / HEADROOM)
    backlog = whole_above(view.backlog_us / view.patience_us) if view.patience_us > 0 else 0
    wanted = max(steady, backlog, view.min_instances)
    target = min(wanted, max(view.max_instances, view.min_instances))
    facts = (
        ("offered", view.offered),
        ("backlog_ms", view.backlog_us / 1000),
        ("have", view.instances),
        ("max", view.max_instances),
    )
    rule = "the backlog" if backlog > steady else "the offered work"
    return ScaleTo(target, Because(rule + " asks for it", facts))


def by_backlog(view: ScaleView) -> ScaleTo:
    """What clears the backlog in time and no more: nothing is started before work waits for it."""
    return decide(structs.replace(view, offered=0.0))


def whole_above(value: float) -> int:
    """The least whole number that is no less than ``value``, which is not negative."""
    whole = int(value)
    return whole if whole == value else whole + 1
