"""Cluster files: a cluster as people write it, in milliseconds, GiB and USD per hour, machines that are alike together."""

from collections import Counter
from typing import Annotated, Literal

from msgspec import Meta, Struct

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.machine import Capabilities, Device, HopModel, Node, Prices
from grainwise.domain.time import from_ms
from grainwise.simulation.cluster import SIMULATED, Cluster, ClusterNode, DoorModel, Network, PlannerModel
from grainwise.simulation.declared import read_declared

MAX_NODES = 10_000

_Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", description="letters, digits, dot, dash, underscore")]
_Text = Annotated[str, Meta(max_length=4000)]


class _DeviceGroup(Struct, frozen=True, forbid_unknown_fields=True):
    """Devices of one kind on a node."""

    kind: Annotated[
        str, Meta(pattern=r"^(?!cpu$)[a-z0-9][a-z0-9._-]{0,30}$", description="the device's kind, such as l4; not cpu")
    ]
    memory_gib: Annotated[float, Meta(gt=0, le=4096, description="memory of one device")]
    count: Annotated[int, Meta(ge=1, le=64, description="how many of them a node has")] = 1
    slots: Annotated[Literal[0, 7], Meta(description="0: shared softly; 7: cut into seven hard slices")] = 0
    speed: Annotated[float, Meta(gt=0, le=1000, description="relative to the device that the profile was measured on")] = 1.0


class _NodeGroup(Struct, frozen=True, forbid_unknown_fields=True):
    """Machines that are alike."""

    name: _Name
    cpu_cores: Annotated[float, Meta(gt=0, le=4096, description="cores of one machine")]
    memory_gib: Annotated[float, Meta(gt=0, le=65536, description="memory of one machine")]
    count: Annotated[int, Meta(ge=1, le=MAX_NODES, description="how many such machines there are")] = 1
    reserve_cores: Annotated[float, Meta(ge=0, le=4096, description="cores that instances may not have")] = 0.0
    devices: Annotated[tuple[_DeviceGroup, ...], Meta(max_length=64)] = ()
    speed: Annotated[float, Meta(gt=0, le=1000, description="of one core, relative to the profile's machine")] = 1.0
    provision_ms: Annotated[float, Meta(ge=0, le=3.6e6, description="what every cold start here takes in addition")] = 0.0
    interference_fraction: Annotated[
        float, Meta(ge=0, le=100, description="slowdown when all other cores are busy; 0 where it was not measured")
    ] = 0.0
    signal_ms: (
        Annotated[float, Meta(ge=0, le=3.6e6, description="age of what the controller hears; by default the network's latency")]
        | None
    ) = None


class _NetworkPart(Struct, frozen=True, forbid_unknown_fields=True):
    """Between machines."""

    latency_ms: Annotated[float, Meta(ge=0, le=3.6e6, description="one way")] = 0.1
    gbit_per_s: Annotated[float, Meta(gt=0, le=100_000, description="of one transfer")] = 10.0
    gateway: Annotated[str, Meta(description="the node where requests enter; by default the first")] | None = None


class _PricesPart(Struct, frozen=True, forbid_unknown_fields=True):
    """Rates, with their source."""

    source: Annotated[str, Meta(min_length=1, max_length=4000, description="where the rates come from; nominal if invented")]
    usd_per_core_hour: Annotated[float, Meta(ge=0, le=10_000)]
    usd_per_gib_hour: Annotated[float, Meta(ge=0, le=10_000)]
    usd_per_gpu_hour: Annotated[float, Meta(ge=0, le=10_000)] = 0.0
    usd_per_million_requests: Annotated[float, Meta(ge=0, le=1e6)] = 0.0


class _DoorPart(Struct, frozen=True, forbid_unknown_fields=True):
    """What HTTP adds outside the controller's latency."""

    ingress_ms: Annotated[float, Meta(ge=0, le=60_000, description="on the way in")] = 0.0
    egress_ms: Annotated[float, Meta(ge=0, le=60_000, description="on the way out")] = 0.0
    ms_per_mib: Annotated[float, Meta(ge=0, le=60_000, description="each way, by size")] = 0.0


class _PlannerPart(Struct, frozen=True, forbid_unknown_fields=True):
    """How long a search for a plan takes."""

    fixed_ms: Annotated[float, Meta(ge=0, le=3.6e6, description="of every search")] = 0.0
    us_per_expanded_node: Annotated[float, Meta(ge=0, le=1e6, description="of every node that the search expands")] = 0.0


class _RuntimePart(Struct, frozen=True, forbid_unknown_fields=True):
    """What the runtime of this cluster can do."""

    name: _Name = "simulated"
    share_mechanism: Literal["cgroup2", "cgroup1", "signals", "none"] = "none"
    share_scope: Literal["invocation", "instance"] = "invocation"
    is_share_hard: Annotated[bool, Meta(description="whether a share is charged from start to stop")] = False
    min_cpu_cores: Annotated[float, Meta(gt=0, le=4096, description="the least share of an instance")] = SIMULATED.min_cpu_cores
    payload_limit_mib: Annotated[float, Meta(gt=0, le=1_048_576, description="of one value between instances")] = 1024.0
    reconfigure_ms: Annotated[float, Meta(ge=0, le=3.6e6, description="of a change of a share")] = 0.0


class _HopPart(Struct, frozen=True, forbid_unknown_fields=True):
    """What handing a value to another instance costs; without it each profile's own is used."""

    fixed_ms: Annotated[float, Meta(ge=0, le=3.6e6, description="latency of every hop")]
    ms_per_mib: Annotated[float, Meta(ge=0, le=3.6e6, description="latency by size")]
    cpu_fixed_ms: Annotated[float, Meta(ge=0, le=3.6e6, description="CPU time of every hop")]
    cpu_ms_per_mib: Annotated[float, Meta(ge=0, le=3.6e6, description="CPU time by size")]
    process_mib: Annotated[float, Meta(ge=0, le=1_048_576, description="memory of a process that holds no stage")]


class _ClusterFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A cluster file."""

    name: _Name
    nodes: Annotated[tuple[_NodeGroup, ...], Meta(min_length=1, max_length=MAX_NODES, description="groups of machines")]
    prices: Annotated[_PricesPart, Meta(description="what a core, memory and a GPU cost per hour")]
    description: _Text = ""
    network: _NetworkPart = _NetworkPart()
    door: _DoorPart = _DoorPart()
    planner: _PlannerPart = _PlannerPart()
    runtime: _RuntimePart = _RuntimePart()
    hop: _HopPart | None = None


def read_cluster(data: bytes, name: str) -> Cluster:
    """The cluster that a file declares; ``name`` is what errors call the file.

    A group with ``count`` above 1 becomes nodes ``NAME-1``, ``NAME-2`` and so on, in order.

    Raises:
        ConfigurationError: a key is unknown, missing or out of its range, or two parts of the file contradict each other.
    """
    declared = read_declared(data, name, _ClusterFile)
    total = sum(group.count for group in declared.nodes)
    if total > MAX_NODES:
        raise ConfigurationError(f"{name}: nodes add up to {total} machines: give at most {MAX_NODES}")
    for at, group in enumerate(declared.nodes):
        _check_group(group, f"{name}: nodes[{at}]")
    names = [_node_name(group, index) for group in declared.nodes for index in range(group.count)]
    repeated = [one for one, times in Counter(names).items() if times > 1]
    if repeated:
        raise ConfigurationError(f"{name}: nodes.name gives {repeated[0]} to more than one machine: give each group its own")
    gateway = declared.network.gateway if declared.network.gateway is not None else names[0]
    if gateway not in names:
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise ConfigurationError(f"{name}: network.gateway is {gateway!r}, which is no node here: use one of {shown}")
    latency_ms = declared.network.latency_ms
    return Cluster(
        name=declared.name,
        description=declared.description.strip(),
        nodes=tuple(
            _node(group, _node_name(group, index), gateway, latency_ms)
            for group in declared.nodes
            for index in range(group.count)
        ),
        network=Network(gateway, from_ms(latency_ms), declared.network.gbit_per_s * 1e9 / 8 / 1_048_576),
        prices=Prices(
            source=declared.prices.source.strip(),
            usd_per_core_hour=declared.prices.usd_per_core_hour,
            usd_per_gib_hour=declared.prices.usd_per_gib_hour,
            usd_per_gpu_hour=declared.prices.usd_per_gpu_hour,
            usd_per_million_requests=declared.prices.usd_per_million_requests,
        ),
        door=DoorModel(declared.door.ingress_ms * 1000, declared.door.egress_ms * 1000, declared.door.ms_per_mib * 1000),
        planner=PlannerModel(declared.planner.fixed_ms * 1000, declared.planner.us_per_expanded_node),
        capabilities=_capabilities(declared.runtime),
        hop=_hop(declared.hop),
    )


def _check_group(group: _NodeGroup, where: str) -> None:
    """What no range of a single key can say."""
    if group.reserve_cores >= group.cpu_cores:
        raise ConfigurationError(
            f"{where}.reserve_cores is {group.reserve_cores:g}: give less than cpu_cores, which is {group.cpu_cores:g}, "
            "or no instance can run there"
        )
    speeds: dict[str, float] = {}
    for index, device in enumerate(group.devices):
        if speeds.setdefault(device.kind, device.speed) != device.speed:
            raise ConfigurationError(
                f"{where}.devices[{index}].speed is {device.speed:g}: {device.kind} has {speeds[device.kind]:g} already; "
                "give devices of one kind one speed, or give them two kinds"
            )


def _node_name(group: _NodeGroup, index: int) -> str:
    return group.name if group.count == 1 else f"{group.name}-{index + 1}"


def _node(group: _NodeGroup, name: str, gateway: str, latency_ms: float) -> ClusterNode:
    kinds = [device for device in group.devices for _ in range(device.count)]
    signal_ms = group.signal_ms if group.signal_ms is not None else 0.0 if name == gateway else latency_ms
    return ClusterNode(
        node=Node(
            name,
            group.cpu_cores,
            group.memory_gib * 1024,
            group.reserve_cores,
            devices=tuple(
                Device(
                    name=f"{device.kind}-{index}",
                    kind=device.kind,
                    memory_mib=device.memory_gib * 1024,
                    slots=device.slots,
                )
                for index, device in enumerate(kinds)
            ),
        ),
        speed=group.speed,
        provision_us=from_ms(group.provision_ms),
        interference_fraction=group.interference_fraction,
        signal_us=from_ms(signal_ms),
        device_speed={device.kind: device.speed for device in group.devices},
    )


def _capabilities(part: _RuntimePart) -> Capabilities:
    return Capabilities(
        name=part.name,
        share_mechanism=part.share_mechanism,
        share_scope=part.share_scope,
        is_share_hard=part.is_share_hard,
        min_cpu_cores=part.min_cpu_cores,
        payload_limit_bytes=round(part.payload_limit_mib * 1_048_576),
        reconfigure_us=from_ms(part.reconfigure_ms),
    )


def _hop(part: _HopPart | None) -> HopModel | None:
    if part is None:
        return None
    return HopModel(
        part.fixed_ms * 1000, part.ms_per_mib * 1000, part.cpu_fixed_ms * 1000, part.cpu_ms_per_mib * 1000, part.process_mib
    )
