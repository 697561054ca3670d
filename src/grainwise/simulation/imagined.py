"""An app and its machines as a planning problem lets one imagine them, where nothing else is known of them."""

from collections.abc import Sequence

import msgspec

from grainwise.domain.app import AppSpec
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import Capabilities, HopModel, Node, Prices
from grainwise.domain.plan import Plan
from grainwise.predictors.latency import RESIDUAL_LEVELS, LatencyModel
from grainwise.predictors.workload import Workload
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.cluster import Cluster, ClusterNode, Network
from grainwise.simulation.imagined_kinds import imagined_kinds

POINTS = 256
"""Residuals of a stage are given as so many equally likely values."""


def imagined(
    spec: AppSpec, model: LatencyModel, hop: HopModel, workload: Workload, plan: Plan, config: AppConfig
) -> SimulatedApp:
    """An app of which a planning problem is all that is known.

    Args:
        spec: the declaration.
        model: run times; its quantiles of residuals are joined by straight lines.
        hop: what handing on costs.
        workload: the forecast, with the means of its kinds of requests.
        plan: served from the first moment on.
        config: how it is controlled.
    """
    return SimulatedApp(
        spec=spec,
        model=model,
        hop=hop,
        workload=workload,
        kinds=imagined_kinds(spec, model, workload),
        plan=plan,
        residuals=tuple(residuals_between(stage.residual_quantiles) for stage in model.stages),
        config=config,
        provenance="a forecast",
    )


def imagined_cluster(
    nodes: Sequence[Node], capabilities: Capabilities, prices: Prices, known: Cluster | None = None
) -> Cluster:
    """The machines of a planning problem.

    Args:
        nodes: at least one.
        capabilities: of the platform.
        prices: rates of the catalogue.
        known: what is known beyond the problem of the machines that have the same names, and of the network between them;
            where it is silent, machines are like the profiled one, do not slow each other, and bytes between them take no time.
    """
    about = {each.node.name: each for each in known.nodes} if known is not None else {}
    names = [node.name for node in nodes]
    network = known.network if known is not None and known.network.gateway in names else Network(gateway=names[0])
    return Cluster(
        name="as imagined",
        nodes=tuple(
            msgspec.structs.replace(about[node.name], node=node) if node.name in about else ClusterNode(node) for node in nodes
        ),
        network=network,
        prices=prices,
        capabilities=capabilities,
        warms_up=known.warms_up if known is not None else True,
    )


def residuals_between(quantiles: Sequence[float]) -> tuple[float, ...]:
    """Equally likely values between the quantiles of a stage; beyond the last one it goes on as it came from the one before."""
    if all(value == quantiles[0] for value in quantiles):
        return (quantiles[0],)
    levels = (0.0, *RESIDUAL_LEVELS, 1.0)
    values = (quantiles[0], *quantiles, 2 * quantiles[-1] - quantiles[-2])
    found: list[float] = []
    at = 0
    for point in range(POINTS):
        level = (point + 0.5) / POINTS
        while levels[at + 1] < level:
            at += 1
        part = (level - levels[at]) / (levels[at + 1] - levels[at])
        found.append(max(0.0, values[at] + part * (values[at + 1] - values[at])))
    return tuple(found)
