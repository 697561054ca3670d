"""On which node, and on which part of a device, does a new instance go?

Of those with room, one with free cores. An instance that needs a device goes where that leaves most room on devices; another
one keeps off the nodes that have any, and goes where the least of the cores is promised, so that instances spread.
"""

from collections.abc import Sequence

from msgspec import Struct

from grainwise.domain.because import Because
from grainwise.policies.slices import EPSILON, DeviceNeed, DeviceView, Grant, grant, lacking, waste


class NodeView(Struct, frozen=True):
    """A node and what is free on it; ``devices`` only where the instance needs one.

    ``promised_cores`` are the shares of all its instances, idle ones included, where ``free_cores`` knows only those at work.
    """

    name: str
    free_memory_mib: float
    free_cores: float
    usable_cores: float
    devices: tuple[DeviceView, ...] = ()
    promised_cores: float = 0.0
    has_devices: bool = False

    def promised_fraction(self, cpu_cores: float) -> float:
        """The part of its cores that would be promised with another instance of this share."""
        return (self.promised_cores + cpu_cores) / max(self.usable_cores, EPSILON)


class Place(Struct, frozen=True):
    """Put it there, and give it this part of a device."""

    node: str
    because: Because
    grant: Grant | None = None


class NoRoom(Struct, frozen=True):
    """It fits nowhere; the roomiest node lacks ``missing_mib`` of memory, or ``missing_cores`` where its memory is enough.

    ``device`` says what devices lack, where none has room for it on any node.
    """

    missing_mib: float
    missing_cores: float = 0.0
    device: str = ""

    def render(self) -> str:
        """What is missing, for people."""
        if self.device:
            return self.device
        if self.missing_mib > 0:
            return f"{self.missing_mib:.0f} MiB of memory are missing on the roomiest node"
        return f"{self.missing_cores:.2f} cores are missing on the roomiest node"


def decide(
    nodes: Sequence[NodeView], memory_mib: float, cpu_cores: float, is_share_hard: bool, need: DeviceNeed | None = None
) -> Place | NoRoom:
    """Choose a node for an instance that needs ``memory_mib``, ``cpu_cores`` where shares are hard, and maybe a device.

    Where shares are soft ``cpu_cores`` is what a start needs at least: a node without them is chosen only when all lack them.
    """
    grants: dict[str, tuple[tuple[float, float], Grant]] = {}
    if need is not None:
        for node in nodes:
            best = _best_grant(node, need)
            if best is not None:
                grants[node.name] = best
        if not grants:
            return NoRoom(0.0, 0.0, lacking(tuple(view for node in nodes for view in node.devices), need))
        nodes = [node for node in nodes if node.name in grants]
    roomy = [node for node in nodes if node.free_memory_mib + EPSILON >= memory_mib]
    fitting = [node for node in roomy if not is_share_hard or node.free_cores + EPSILON >= cpu_cores]
    if not fitting:
        if roomy:
            return NoRoom(0.0, cpu_cores - max(node.free_cores for node in roomy))
        return NoRoom(memory_mib - max((node.free_memory_mib for node in nodes), default=0.0))
    if need is None:
        chosen = min(
            fitting,
            key=lambda node: (
                node.free_cores + EPSILON < cpu_cores,
                node.has_devices,
                node.promised_fraction(cpu_cores),
                -node.free_memory_mib,
                node.name,
            ),
        )
        facts: tuple[tuple[str, str | float], ...] = (("node", chosen.name), ("promised_cores", chosen.promised_cores))
        return Place(chosen.name, Because("the node of whose cores least is promised", facts))
    chosen = min(
        fitting,
        key=lambda node: (node.free_cores + EPSILON < cpu_cores, grants[node.name][0], -node.free_memory_mib, node.name),
    )
    given = grants[chosen.name][1]
    place = (("node", chosen.name), ("device", given.device), ("share", given.share_fraction), ("slot", given.start))
    return Place(chosen.name, Because("the part of a device that leaves most room", place), given)


def _best_grant(node: NodeView, need: DeviceNeed) -> tuple[tuple[float, float], Grant] | None:
    """The part of a node's devices that wastes least, with what it wastes."""
    best: tuple[tuple[float, float], Grant] | None = None
    for view in node.devices:
        given = grant(view, need)
        if given is None:
            continue
        cost = waste(view, given, need)
        if best is None or cost < best[0]:
            best = cost, given
    return best
