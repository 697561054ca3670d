"""On which node does a new instance go? Of those with room, one with free cores, then the one with most free memory."""

from collections.abc import Sequence

from msgspec import Struct

from grainwise.domain.because import Because

EPSILON = 1e-6
"""Slack for sums that binary fractions cannot hold exactly."""


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
    """It fits nowhere; the roomiest node lacks ``missing_mib`` of memory, or ``missing_cores`` where its memory is enough."""

    missing_mib: float
    missing_cores: float = 0.0

    def render(self) -> str:
        """What is missing, for people."""
        if self.missing_mib > 0:
            return f"{self.missing_mib:.0f} MiB of memory are missing on the roomiest node"
        return f"{self.missing_cores:.2f} cores are missing on the roomiest node"


def decide(nodes: Sequence[NodeView], memory_mib: float, cpu_cores: float, is_share_hard: bool) -> Place | NoRoom:
    """Choose a node for an instance that needs ``memory_mib``, and ``cpu_cores`` where shares are hard.

    Where shares are soft ``cpu_cores`` is what a start needs at least: a node without them is chosen only when all lack them.
    """
    roomy = [node for node in nodes if node.free_memory_mib + EPSILON >= memory_mib]
    fitting = [node for node in roomy if not is_share_hard or node.free_cores + EPSILON >= cpu_cores]
    if not fitting:
        if roomy:
            return NoRoom(0.0, cpu_cores - max(node.free_cores for node in roomy))
        return NoRoom(memory_mib - max((node.free_memory_mib for node in nodes), default=0.0))
    chosen = max(fitting, key=lambda node: (node.free_cores + EPSILON >= cpu_cores, node.free_memory_mib, node.name))
    return Place(chosen.name, Because("the roomiest node", (("node", chosen.name), ("free_mib", chosen.free_memory_mib))))
