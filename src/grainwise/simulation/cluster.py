"""What the pretend world consists of: machines, the network between them, the door, the planner, prices. Data, no policy."""

from msgspec import Struct

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.machine import NOMINAL_PRICES, Capabilities, HopModel, Node, Prices
from grainwise.domain.time import Micros

_MIB = 1_048_576

SIMULATED = Capabilities(
    name="simulated",
    share_mechanism="none",
    share_scope="invocation",
    is_share_hard=False,
    min_cpu_cores=0.1,
    payload_limit_bytes=1 << 30,
)
"""What a cluster can do unless its file says otherwise: shares as soft as those of the local runtime."""


class ClusterNode(Struct, frozen=True, forbid_unknown_fields=True):
    """One machine and how it differs from the one that the profile was measured on.

    ``speed`` divides CPU time (2.0: twice as fast as the profile's machine), ``device_speed`` that on a device of a kind.
    ``provision_us`` is added to every cold start here. ``interference_fraction`` slows an invocation by the factor
    ``1 + interference_fraction * busy cores of others / cores``; 0 means that it was not measured. ``signal_us`` is how old
    everything is that the controller hears from this node.
    """

    node: Node
    speed: float = 1.0
    provision_us: Micros = 0
    interference_fraction: float = 0.0
    signal_us: Micros = 0
    device_speed: dict[str, float] = {}

    def speed_on(self, kind: str) -> float:
        """Speed on ``"cpu"`` or on a kind of device, relative to the one that the profile was measured on."""
        return self.speed if kind == "cpu" else self.device_speed.get(kind, 1.0)

    def interference_factor(self, busy_cores: float) -> float:
        """Slowdown, at least 1, of an invocation beside which ``busy_cores`` of this node work for others."""
        return 1.0 + self.interference_fraction * busy_cores / self.node.cpu_cores


class Network(Struct, frozen=True, forbid_unknown_fields=True):
    """Between machines: ``latency_us`` one way, then the bytes at ``mib_per_s``. Requests enter on the node ``gateway``."""

    gateway: str
    latency_us: Micros = 0
    mib_per_s: float = 1192.0

    def transfer_us(self, source: str, target: str, nbytes: int) -> Micros:
        """Microseconds that ``nbytes`` take from one node to another; 0 on the same node."""
        if source == target:
            return 0
        return self.latency_us + round(nbytes / _MIB / self.mib_per_s * 1_000_000)


class DoorModel(Struct, frozen=True, forbid_unknown_fields=True):
    """What HTTP adds on the way in and on the way out, outside the latency that the controller sees."""

    ingress_us: float = 0.0
    egress_us: float = 0.0
    us_per_mib: float = 0.0

    def way_in_us(self, nbytes: int) -> Micros:
        """Microseconds from a client's send until the controller hears of a request of ``nbytes``."""
        return round(self.ingress_us + self.us_per_mib * nbytes / _MIB)

    def way_out_us(self, nbytes: int) -> Micros:
        """Microseconds from the controller's answer of ``nbytes`` until the client has it."""
        return round(self.egress_us + self.us_per_mib * nbytes / _MIB)


class PlannerModel(Struct, frozen=True, forbid_unknown_fields=True):
    """How long a search for a plan takes, by the nodes of the search that it expands."""

    fixed_us: float = 0.0
    us_per_expanded_node: float = 0.0

    def duration_us(self, expanded_nodes: int) -> Micros:
        """Microseconds of a search that expanded ``expanded_nodes``."""
        return round(self.fixed_us + self.us_per_expanded_node * expanded_nodes)


class Cluster(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a simulation assumes about where it runs. ``hop`` None: each profile's own, as it was measured.

    ``warms_up``: an instance makes the first call of each stage before it is ready; otherwise the first request pays for it.
    """

    name: str
    nodes: tuple[ClusterNode, ...]
    network: Network
    prices: Prices = NOMINAL_PRICES
    door: DoorModel = DoorModel()
    planner: PlannerModel = PlannerModel()
    capabilities: Capabilities = SIMULATED
    hop: HopModel | None = None
    description: str = ""
    warms_up: bool = True

    def node(self, name: str) -> ClusterNode:
        """The node of this name.

        Raises:
            ConfigurationError: there is none.
        """
        for one in self.nodes:
            if one.node.name == name:
                return one
        names = [one.node.name for one in self.nodes]
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise ConfigurationError(f"cluster {self.name} has no node {name}: use one of {shown}")

    @property
    def domain_nodes(self) -> tuple[Node, ...]:
        """The machines as the controller and the planner see them."""
        return tuple(one.node for one in self.nodes)


def this_machine(
    node: Node,
    *,
    capabilities: Capabilities = SIMULATED,
    prices: Prices = NOMINAL_PRICES,
    hop: HopModel | None = None,
    door: DoorModel | None = None,
    planner: PlannerModel | None = None,
    warms_up: bool = True,
) -> Cluster:
    """The cluster of one machine that a simulation uses when no cluster file is given."""
    return Cluster(
        name=node.name,
        description="this machine",
        nodes=(ClusterNode(node),),
        network=Network(gateway=node.name),
        prices=prices,
        door=door if door is not None else DoorModel(),
        planner=planner if planner is not None else PlannerModel(),
        capabilities=capabilities,
        hop=hop,
        warms_up=warms_up,
    )
