"""On which node, and on which part of a device, does a new instance go? Where it leaves least: best fit.

After FaST-GShare (ICPP 2023), which puts the rectangle of an instance, a part of the multiprocessors for a part of the time,
where the least of a GPU is left of those that have room, and INFless (ASPLOS 2022), which prefers the server with the fewest
resources left. Both reconstructed; a device share is one number here, so that the rectangle is as wide as the device, and
without a device the cores are what is filled. Neither looks at where the functions are that exchange values.
"""

from collections.abc import Sequence

from grainwise.domain.because import Because
from grainwise.policies import placement
from grainwise.policies.placement import NodeView, NoRoom, Place
from grainwise.policies.slices import EPSILON, DeviceNeed, waste

LEAST_LEFT = "the node with room on which it leaves least"


def decide(
    nodes: Sequence[NodeView], memory_mib: float, cpu_cores: float, is_share_hard: bool, need: DeviceNeed | None = None
) -> Place | NoRoom:
    """Choose the fullest part of a device, or without one the fullest node, of those with room.

    Soft shares of cores can be promised to more than there are: a node on which they are not comes first, and where they are on
    all of them the one with the least.
    """
    found: list[tuple[tuple[bool | float | str, ...], Place]] = []
    for node in nodes:
        place = placement.spread((node,), memory_mib, cpu_cores, is_share_hard, need)
        if isinstance(place, Place):
            found.append((_rank(node, place, cpu_cores, need), place))
    if not found:
        return placement.spread(nodes, memory_mib, cpu_cores, is_share_hard, need)
    chosen = min(found, key=lambda each: each[0])[1]
    return Place(chosen.node, Because(LEAST_LEFT, chosen.because.facts), chosen.grant)


def _rank(node: NodeView, place: Place, cpu_cores: float, need: DeviceNeed | None) -> tuple[bool | float | str, ...]:
    """The least is chosen. What is left of a device decides before what is left of a node does."""
    wasted = (0.0, 0.0)
    if need is not None and place.grant is not None:
        view = next(each for each in node.devices if each.device.name == place.grant.device)
        wasted = waste(view, place.grant, need)
    left = node.promised_fraction(cpu_cores) if node.is_crowded else node.usable_cores - node.promised_cores
    is_short = node.free_cores + EPSILON < cpu_cores
    is_wrong_kind = need is None and node.has_devices
    return (is_short, *wasted, is_wrong_kind, node.is_crowded, left, node.free_memory_mib, node.name)
