"""How many instances of a function? As many as the measured rate needs when each carries what full batches let it carry.

There is no headroom, and work that has piled up asks for nothing: after FaST-GShare (ICPP 2023), which fills the gap between
the rate and the throughput of its instances, and INFless (ASPLOS 2022), which lets instances go only when the rate is well
below what they carry. Both reconstructed, with all instances of a function alike.
"""

from grainwise.domain.because import Because
from grainwise.planning.published.infless import MARGIN
from grainwise.policies.autoscale import ScaleTo, ScaleView, whole_above

ALPHA = 0.8
"""The part of what its instances carry below which a function has too many (recalled, of another formula)."""


def decide(view: ScaleView) -> ScaleTo:
    """The least number of instances that carries the rate."""
    return _within_bounds(view, whole_above(view.offered), view.offered, "the rate asks for it")


def held_above_alpha(view: ScaleView) -> ScaleTo:
    """More where the rate exceeds what the instances carry, fewer where it is below ``ALPHA`` of that, else those there are.

    A run is taken to be longer than predicted by the margin that the plan has.
    """
    offered = view.offered * MARGIN
    if ALPHA * view.instances <= offered <= view.instances:
        return _within_bounds(view, view.instances, offered, "they carry the rate, and not much more")
    return _within_bounds(view, whole_above(offered), offered, "the rate asks for it")


def _within_bounds(view: ScaleView, wanted: int, offered: float, rule: str) -> ScaleTo:
    target = min(max(wanted, view.min_instances), max(view.max_instances, view.min_instances))
    return ScaleTo(target, Because(rule, (("offered", offered), ("have", view.instances), ("max", view.max_instances))))
