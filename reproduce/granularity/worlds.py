"""Machines of the study: one, four or sixteen equal nodes, on CPU cores, on softly shared GPUs or on hard slices of them.

A node has 16 cores and a device of seven slices, as the recalled shape has them (grade: recalled, low confidence). What lies
between nodes is an assumption: ``DATACENTRE``, a network of 10 Gbit/s. Hops over a broker, HTTP or a store were measured on one
machine (``hops``); between nodes the network comes on top of them.
"""

from typing import Literal

from msgspec import Struct

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.machine import MIG_SLOTS, NOMINAL_PRICES, Capabilities, Device, HopModel, Node, Prices
from grainwise.domain.time import Micros
from grainwise.simulation.cluster import SIMULATED, Cluster, ClusterNode, Network

Sharing = Literal["cpu", "gpu_soft", "gpu_slices"]
SHARINGS: tuple[Sharing, ...] = ("cpu", "gpu_soft", "gpu_slices")
NODES = (1, 4, 16)

CORES = 16.0
"""Of a node; recalled."""
CPU_CORES = 4.0
"""Of a node without a GPU: the measured apps are small, and their load should not need thousands of requests per second."""
_MEMORY_GIB = 256.0
_CPU_MEMORY_GIB = 16.0
_DEVICE_GIB = 40.0

RECALLED_PRICES = Prices(
    "recalled shape (low confidence): 0.034 USD per vCPU-hour, 0.67 USD per hour for one slice of seven; not a bill",
    usd_per_core_hour=0.034,
    usd_per_gib_hour=0.0,
    usd_per_gpu_hour=MIG_SLOTS * 0.67,
)
CORE_AND_SLICE_PRICES = Prices(
    "recalled shape (low confidence): a core that stands for a core and a slice costs both, 0.704 USD per hour; not a bill",
    usd_per_core_hour=0.034 + 0.67,
    usd_per_gib_hour=0.0,
)


class Wire(Struct, frozen=True):
    """What lies between two nodes. ``says`` tells in a sentence what it stands for."""

    latency_us: Micros
    mib_per_s: float
    says: str


DATACENTRE = Wire(100, 1192.0, "assumed: a network of 10 Gbit/s, 0.1 ms one way")
REMOTE_STORE = Wire(
    15_000, 100 / 1.048576, "assumed: a remote store, 15 ms and 100 MB/s, as the first model of the study had it"
)  # fmt: skip
WIRES = {"datacentre": DATACENTRE, "remote-store": REMOTE_STORE}


def cluster(
    nodes: int, sharing: Sharing, hop: HopModel | None, *, prices: Prices | None = None, wire: Wire = DATACENTRE
) -> Cluster:
    """Equal machines.

    Args:
        nodes: how many, at least one.
        sharing: ``"cpu"``, no devices and cores that are shared softly, chosen per invocation; ``"gpu_soft"``, a device per
            node of which an instance has any part; ``"gpu_slices"``, the same cut into slices as an A100 is.
        hop: what every hop costs; None: as the profile of each app has it, that of the local runtime.
        prices: by default the recalled ones with a device, else those of a laptop.
        wire: between nodes.

    Raises:
        ConfigurationError: no node, or no such sharing.
    """
    if nodes < 1:
        raise ConfigurationError(f"a cluster needs a node, not {nodes}; the study has {', '.join(map(str, NODES))}")
    if sharing not in SHARINGS:
        raise ConfigurationError(f"there is no sharing {sharing!r}: use one of {', '.join(SHARINGS)}")
    is_cpu = sharing == "cpu"
    if prices is None:
        prices = NOMINAL_PRICES if is_cpu else RECALLED_PRICES
    names = [f"n{at}" for at in range(nodes)]
    own = tuple(ClusterNode(_node(name, sharing)) for name in names)
    network = Network(names[0], wire.latency_us if nodes > 1 else 0, wire.mib_per_s)
    return Cluster(
        name=f"{nodes} x {sharing}",
        nodes=own,
        network=network,
        prices=prices,
        capabilities=CAPABILITIES,
        hop=hop,
        description=f"{nodes} equal nodes, {sharing}; between them {wire.says}",
    )


CAPABILITIES: Capabilities = SIMULATED
"""CPU shares are soft in all worlds and may change with every invocation; a part of a device stays with its instance."""


def _node(name: str, sharing: Sharing) -> Node:
    if sharing == "cpu":
        return Node(name, CPU_CORES, 1024 * _CPU_MEMORY_GIB)
    slots = MIG_SLOTS if sharing == "gpu_slices" else 0
    return Node(name, CORES, 1024 * _MEMORY_GIB, 0.0, (Device("gpu0", "a100", 1024 * _DEVICE_GIB, slots),))
