"""On which node does a new instance go? The one with most free memory that has room; fewest instances among equals."""

from collections.abc import Sequence

from msgspec import Struct

from grainwise.domain.because import Because


class NodeView(Struct, frozen=True):
    """A node and what is free on it."""

    name: str
    free_memory_mib: float
    free_cores: float
    usable_cores: float


class Place(Struct, frozen=True):
    """Put it there."""

    node: str
    because: Because


class NoRoom(Struct, frozen=True):
    """It fits nowhere; ``missing_mib`` is what the roomiest node lacks."""

    missing_mib: float


def decide(nodes: Sequence[NodeView], memory_mib: float, cpu_cores: float, is_share_hard: bool) -> Place | NoRoom:
    """Choose a node for an instance that needs ``memory_mib``, and ``cpu_cores`` where shares are hard."""
    fitting = [
        node for node in nodes if node.free_memory_mib >= memory_mib and (not is_share_hard or node.free_cores >= cpu_cores)
    ]
    if not fitting:
        roomiest = max((node.free_memory_mib for node in nodes), default=0.0)
        return NoRoom(memory_mib - roomiest)
    chosen = max(fitting, key=lambda node: (node.free_memory_mib, node.name))
    return Place(chosen.name, Because("the roomiest node", (("node", chosen.name), ("free_mib", chosen.free_memory_mib))))
