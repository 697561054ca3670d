"""How many instances of a function? What Little's law needs at the present rate, more when work has piled up."""

from msgspec import Struct

from grainwise.domain.because import Because


class ScaleView(Struct, frozen=True):
    """One function. ``offered`` is items per second times seconds of work per item: the mean number of busy instances.

    ``backlog_us`` is the predicted work in its queue, ``patience_us`` the time within which it should be gone.
    """

    offered: float
    backlog_us: float
    patience_us: float
    instances: int
    min_instances: int
    max_instances: int


class ScaleTo(Struct, frozen=True):
    """Have this many instances."""

    instances: int
    because: Because


HEADROOM = 0.75
"""The utilisation at which another instance is wanted."""


def decide(view: ScaleView) -> ScaleTo:
    """The least number of instances that keeps utilisation under the headroom and clears the backlog in time."""
    steady = _ceil(view.offered / HEADROOM)
    backlog = _ceil(view.backlog_us / view.patience_us) if view.patience_us > 0 else 0
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


def _ceil(value: float) -> int:
    whole = int(value)
    return whole if whole == value else whole + 1
