"""What the pretend world is made of while it runs: machines, instances, and what is known of the app inside them."""

from collections.abc import Sequence
from typing import Literal

from grainwise.control.actions import Invoke
from grainwise.domain.time import Micros
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.cluster import ClusterNode
from grainwise.simulation.contents import Contents, Work
from grainwise.simulation.service import Call, DevicePart, ServiceTimes, residual_table


class AppInside:
    """What the runtime knows of one app, ready to be drawn from."""

    __slots__ = ("contents", "hop", "hop_residuals", "is_calibrated", "model", "name", "service", "simulated", "single")

    def __init__(self, simulated: SimulatedApp, seed: int) -> None:
        spec = simulated.spec
        declared = [spec.spec(index) for index in range(len(spec.graph.stages))]
        self.name = spec.name
        self.simulated = simulated
        self.model = simulated.model
        self.hop = simulated.hop
        self.hop_residuals = residual_table(simulated.hop_residuals) if simulated.hop_residuals else ()
        self.contents = Contents(spec.graph, simulated.kinds)
        self.is_calibrated = all(kind.factors and kind.splits for kind in simulated.kinds)
        batches = [stage.max_batch for stage in declared]
        on_host = sum(1 << index for index, stage in enumerate(declared) if stage.device == "cpu")
        self.service = ServiceTimes(simulated.model, batches, simulated.residuals, seed, on_host)
        self.single: dict[tuple[object, ...], tuple[Sequence[Work], Sequence[Call], Micros]] = {}
        """Answers for invocations of one item, which are most; the hop is right where there is one node."""

    def holds(self, stages: int, name: str) -> bool:
        """Whether a stage of this name is among the stages of a mask."""
        index = self.simulated.spec.graph.index_by_name.get(name)
        return index is not None and bool(stages >> index & 1)


class Machine:
    """A machine: what runs on it now, and how slow it is."""

    __slots__ = (
        "_kinds",
        "busy_cores",
        "cluster_node",
        "index",
        "is_contended",
        "is_up",
        "name",
        "signal_us",
        "slowness",
        "speed",
    )

    def __init__(self, index: int, cluster_node: ClusterNode) -> None:
        self.index = index
        self.cluster_node = cluster_node
        self.name = cluster_node.node.name
        self.speed = cluster_node.speed
        self.signal_us = cluster_node.signal_us
        self.is_contended = cluster_node.interference_fraction > 0
        self.is_up = True
        self.slowness = 1.0
        self.busy_cores = 0.0
        self._kinds = {device.name: device.kind for device in cluster_node.node.devices}

    def speed_on(self, device: str) -> float:
        """Speed on a device of this machine by its name, or on its cores where the name is empty."""
        return self.cluster_node.speed_on(self._kinds[device] if device else "cpu")


class SimulatedInstance:
    """One instance between its start and its end."""

    __slots__ = ("app", "cold", "invocation", "node", "number", "part", "phase", "slowness", "speed", "stages", "will_hang")

    def __init__(
        self, number: int, app: AppInside, node: Machine, stages: int, speed: float, part: DevicePart | None = None
    ) -> None:
        self.number = number
        self.app = app
        self.node = node
        self.stages = stages
        self.speed = speed
        """Relative to what the profile was measured on: of the node's cores, or of the device that it has a part of."""
        self.part = part
        """What it has of a device; ``None`` on cores alone."""
        self.phase: Literal["starting", "ready", "loading"] = "starting"
        self.invocation: Invoke | None = None
        self.will_hang = False
        self.slowness = 1.0
        self.cold = 0
        """Stages whose first call is still to come and takes longer."""
