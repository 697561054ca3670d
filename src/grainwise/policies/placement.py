"""On which node, and on which part of a device, does a new instance go?

Of those with room, one with free cores. An instance that needs a device goes where there are cores to feed it and where that
leaves most room on sliced devices; another one keeps off the nodes that have any. It goes where the functions that it reads
from or hands on to have more instances than it has itself, in proportion, as long as that promises no more than the cores that
there are: who hands on then finds an idle successor on its own node. Where it has no neighbours, or beside them no room, it
goes where the least of the cores is promised: instances spread, and those that follow find room beside them. Best fit would
fill each node with instances of one function.
"""

from collections.abc import Sequence

from msgspec import Struct

from grainwise.domain.because import Because
from grainwise.policies.slices import EPSILON, DeviceNeed, DeviceView, Grant, grant, lacking, waste

NEAR_NEIGHBOURS = "the node where its neighbours have more instances than it has"
LEAST_PROMISED = "the node of whose cores least is promised"
MOST_ROOM_LEFT = "the part of a device that leaves most room"


class NodeView(Struct, frozen=True):
    """A node and what is free on it; ``devices`` only where the instance needs one.

    ``promised_cores`` are the shares of all its instances, idle ones included, where ``free_cores`` knows only those at work.
    ``lacks`` is by how many instances the function has too few here, were they shared out as those of its neighbours are: see
    ``lacking_beside``. On a node that ``is_crowded`` another instance would promise more than all cores. ``is_home``: see
    ``home_of``.
    """

    name: str
    free_memory_mib: float
    free_cores: float
    usable_cores: float
    devices: tuple[DeviceView, ...] = ()
    promised_cores: float = 0.0
    has_devices: bool = False
    lacks: float = 0.0
    is_crowded: bool = False
    is_home: bool = False

    @property
    def pull(self) -> float:
        """By how many instances neighbours call for another one here; 0 where it would be one too many, or there is no room."""
        return self.lacks if self.lacks > EPSILON and not self.is_crowded else 0.0

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


def lacking_beside(here: int, everywhere: int, neighbours_here: int, neighbours_everywhere: int) -> float:
    """By how many instances a function has too few on a node, were one more shared out over nodes as its neighbours are.

    Args:
        here: instances of the function on the node.
        everywhere: its instances on all nodes.
        neighbours_here: instances on the node of the functions that it reads from or hands on to.
        neighbours_everywhere: those on all nodes.
    """
    if not neighbours_here:
        return 0.0
    return (everywhere + 1) * neighbours_here / neighbours_everywhere - here


def decide(
    nodes: Sequence[NodeView], memory_mib: float, cpu_cores: float, is_share_hard: bool, need: DeviceNeed | None = None
) -> Place | NoRoom:
    """Choose a node, near to neighbours, for an instance that needs ``memory_mib``, ``cpu_cores`` and maybe a device.

    Where shares are soft ``cpu_cores`` is what a start needs at least: a node without them is chosen only when all lack them.
    """
    return _decide(nodes, memory_mib, cpu_cores, is_share_hard, need, is_drawn=True)


def spread(
    nodes: Sequence[NodeView], memory_mib: float, cpu_cores: float, is_share_hard: bool, need: DeviceNeed | None = None
) -> Place | NoRoom:
    """The same wherever the neighbours are: what nearness is worth shows in a comparison with this."""
    return _decide(nodes, memory_mib, cpu_cores, is_share_hard, need, is_drawn=False)


def _decide(
    nodes: Sequence[NodeView],
    memory_mib: float,
    cpu_cores: float,
    is_share_hard: bool,
    need: DeviceNeed | None,
    *,
    is_drawn: bool,
) -> Place | NoRoom:
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

    def rank(node: NodeView) -> tuple[bool, float, bool, bool, float, float, float, float, float, str]:
        """The least is chosen. What is left of a sliced device decides before neighbours do: a slice is scarce.

        A share without cores to feed it is of no use, so a node whose cores are all promised comes late.
        """
        pull = node.pull if is_drawn else 0.0
        excess, left = grants[node.name][0] if need is not None else (0.0, 0.0)
        is_sliced = need is not None and any(view.device.is_hard for view in node.devices)
        is_wrong_kind = need is None and node.has_devices
        is_unfed = need is not None and node.is_crowded
        promised = node.promised_fraction(cpu_cores)
        short = node.free_cores + EPSILON < cpu_cores
        sliced_left = left if is_sliced else 0.0
        return (
            short, excess, is_unfed, is_wrong_kind, sliced_left, -pull, left, promised, -node.free_memory_mib, node.name,
        )  # fmt: skip

    chosen = min(fitting, key=rank)
    pull = chosen.pull if is_drawn else 0.0
    drawn = (("lacking", pull),) if pull else ()
    if need is None:
        facts: tuple[tuple[str, str | float], ...] = (("node", chosen.name), ("promised_cores", chosen.promised_cores), *drawn)
        return Place(chosen.name, Because(NEAR_NEIGHBOURS if pull else LEAST_PROMISED, facts))
    given = grants[chosen.name][1]
    place = (("node", chosen.name), ("device", given.device), ("share", given.share_fraction), ("slot", given.start), *drawn)
    return Place(chosen.name, Because(MOST_ROOM_LEFT, place), given)


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
