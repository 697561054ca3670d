"""What a scenario does not say and the closed form can take into account where somebody knows it: each is off unless given."""

import math
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from grainwise.domain.app import AppSpec
from grainwise.domain.machine import Capabilities, HopModel, Node, Prices
from grainwise.predictors.groups import Scenario
from grainwise.predictors.latency import LatencyModel, StageModel
from grainwise.predictors.samples import Samples, levels
from grainwise.predictors.workload import Workload


class Effects(Struct, frozen=True):
    """Data that a cluster file or a forecast has and a planning problem has not.

    Attributes:
        remote: what a hop costs more when it crosses to another machine: a network's latency as ``fixed_us``, its bytes as
            ``us_per_mib``. Counts on several nodes only.
        starts_per_hour: cold starts of each function that are expected beside those before the plan is up.
        interference_fraction: an invocation beside which all cores of its node work for others takes this much longer, as a
            part of its time; 0 unless measured.
    """

    remote: HopModel | None = None
    starts_per_hour: float = 0.0
    interference_fraction: float = 0.0


NO_EFFECTS = Effects()


class Setting(Struct, frozen=True):
    """A scenario as plain data, of which single parts can be replaced."""

    app: AppSpec
    model: LatencyModel
    hop: HopModel
    workload: Workload
    nodes: tuple[Node, ...]
    capabilities: Capabilities
    prices: Prices


def setting(scenario: Scenario) -> Setting:
    """The same scenario."""
    return Setting(
        scenario.app,
        scenario.model,
        scenario.hop,
        scenario.workload,
        scenario.nodes,
        scenario.capabilities,
        scenario.prices,
    )


def slowed(stage: StageModel, factor: float, *, is_device_too: bool = True) -> StageModel:
    """A stage that takes ``factor`` times as long, on cores and, unless told otherwise, on a device."""
    device = stage.device
    if device is not None and is_device_too:
        device = msgspec.structs.replace(
            device,
            fixed_factors=tuple(each * factor for each in device.fixed_factors),
            item_factors=tuple(each * factor for each in device.item_factors),
        )
    return msgspec.structs.replace(stage, share_factors=tuple(each * factor for each in stage.share_factors), device=device)


def crossing_fraction(nodes: int, instances: int) -> float:
    """The part of hops to a function that cross to another node.

    Instances are spread over the nodes one by one, values lie on any node alike, and whoever has an instance where its inputs
    lie uses it.
    """
    return max(0.0, 1 - instances / nodes) if nodes > 1 else 0.0


def hop_across(hop: HopModel, remote: HopModel, fraction: float) -> HopModel:
    """The mean hop where ``fraction`` of them cross to another node."""
    return HopModel(
        hop.fixed_us + fraction * remote.fixed_us,
        hop.us_per_mib + fraction * remote.us_per_mib,
        hop.cpu_fixed_us + fraction * remote.cpu_fixed_us,
        hop.cpu_us_per_mib + fraction * remote.cpu_us_per_mib,
        hop.process_mib,
    )


def interference_factors(fraction: float, demand_cores: Sequence[float], cores: float) -> list[float]:
    """For each function by how much the others slow it down, by the mean of the cores in which they work."""
    total = sum(demand_cores)
    return [1 + fraction * min(1.0, (total - own) / cores) if cores > 0 else 1.0 for own in demand_cores]


def cold_waits_us(starts_per_hour: float, rate_per_s: float, cold_us: float, instances: int, column: int) -> Samples | float:
    """What starts of a function add to a request.

    A start delays the request that it is for and, where there is no other instance, all that come meanwhile: each by an
    even part of the start.
    """
    if starts_per_hour <= 0 or rate_per_s <= 0 or cold_us <= 0:
        return 0.0
    delayed = 1 + (rate_per_s * cold_us / 1e6 if instances == 1 else 0.0)
    part = min(1.0, starts_per_hour / 3600 * delayed / rate_per_s)
    place = (levels(column) - 1) / part + 1
    waits: Samples = cold_us * place.clip(0.0, math.inf)
    return waits
