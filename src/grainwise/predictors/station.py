"""One function as a queueing station: the batches that form, the load, the wait for an instance, the cores that it takes.

Shares may be soft: a share is then charged only while an instance loads or runs, so that the node's cores bound how many
invocations run at once and not how many instances exist.
"""

import math

from msgspec import Struct

from grainwise.domain.machine import Capabilities, Node
from grainwise.predictors.groups import GroupFacts, Scenario, stage_times_us
from grainwise.predictors.latency import RESIDUAL_LEVELS, StageModel
from grainwise.predictors.queueing import Waiting, waiting

_BATCH_STEPS = 12
"""Iterations of the effective batch; each raises it towards what arrives during one service."""


class Station(Struct, frozen=True):
    """A function under a load.

    Attributes:
        batch: mean items of an invocation.
        invocations: invocations per request.
        rounds: invocations of one request that must follow one another.
        hop_us: latency of handing one invocation its inputs.
        stage_us: mean run time of each stage in one invocation, in the order of the extent.
        wait: wait for an idle instance, per round of a request.
        concurrency: invocations that can run at once.
        utilisation: load relative to the most that full batches could carry, alone on the node.
        demand_cores: mean cores in use, hops included.
        least_cores: the same if every batch were full.
    """

    batch: float
    invocations: float
    rounds: int
    hop_us: float
    stage_us: tuple[float, ...]
    wait: Waiting
    concurrency: int
    utilisation: float
    demand_cores: float
    least_cores: float

    @property
    def occupancy_us(self) -> float:
        """Time from invoke to result of one invocation."""
        return self.hop_us + sum(self.stage_us)

    @property
    def mean_us(self) -> float:
        """Mean time that the function adds to a request."""
        return self.wait.mean_us + self.rounds * self.occupancy_us


def usable_cores(nodes: tuple[Node, ...]) -> float:
    """Cores of all nodes that instances may use."""
    return sum(node.usable_cores for node in nodes)


def concurrency(nodes: tuple[Node, ...], capabilities: Capabilities, cpu_cores: float, instances: int) -> int:
    """How many of ``instances`` can run at once, if nothing else does."""
    if capabilities.is_share_hard:
        return instances
    room = sum(math.floor(node.usable_cores / cpu_cores + 1e-9) for node in nodes)
    return max(0, min(instances, room))


def factor_moments(model: StageModel) -> tuple[float, float]:
    """Mean and variance of a stage's residual factor, its quantiles being joined by straight lines."""
    levels = (0.0, *RESIDUAL_LEVELS, 1.0)
    tail = 2 * model.residual_quantiles[-1] - model.residual_quantiles[-2]
    values = (model.residual_quantiles[0], *model.residual_quantiles, tail)
    mean = square = 0.0
    for left, right, low, high in zip(levels, levels[1:], values, values[1:], strict=False):
        width = right - left
        mean += width * (low + high) / 2
        square += width * (low * low + low * high + high * high) / 3
    return mean, max(0.0, square - mean * mean)


def make_station(
    scenario: Scenario, facts: GroupFacts, *, cpu_cores: float, max_batch: int, instances: int, rate_per_s: float
) -> Station:
    """Predict one function at ``rate_per_s`` requests per second.

    A fan-out is shared out over the instances; batches of several requests form while all instances are busy. The arrivals of
    every function are taken to vary as those of the app (``Workload.arrival_scv``): the smoothing by functions before it is
    left out, which errs on the side of waiting.
    """
    servers = concurrency(scenario.nodes, scenario.capabilities, cpu_cores, instances)
    if servers < 1:
        raise ValueError(f"a share of {cpu_cores} cores fits no node")
    items_per_us = rate_per_s * facts.items / 1e6

    def hop_us(batch: float) -> float:
        return scenario.hop.latency_us(facts.bytes_in * batch)

    def occupancy_us(batch: float) -> float:
        return hop_us(batch) + sum(stage_times_us(scenario, facts, batch, cpu_cores))

    least = min(float(max_batch), max(1.0, math.ceil(facts.items / servers - 1e-9)))
    batch = least
    for _ in range(_BATCH_STEPS):
        formed = items_per_us * occupancy_us(batch) / servers
        raised = min(float(max_batch), max(least, formed))
        if raised <= batch * 1.001:
            break
        batch = raised
    stages = stage_times_us(scenario, facts, batch, cpu_cores)
    occupied = hop_us(batch) + sum(stages)
    together = max(1, math.ceil(facts.items / batch - 1e-9))
    rounds = max(1, math.ceil(together / servers - 1e-9))
    invocations = facts.items / batch if batch > least or facts.items <= 1 else float(together)
    busy = rate_per_s * invocations * occupied / 1e6 / servers
    saturation = items_per_us * occupancy_us(float(max_batch)) / (max_batch * servers) if batch < max_batch else busy
    units = max(1, servers // together)
    wait = waiting(
        servers=units,
        service_us=rounds * occupied,
        busy_fraction=min(busy, 1.0),
        saturation_fraction=min(busy, saturation) if busy < 1 else saturation,
        arrival_scv=scenario.workload.arrival_scv,
        service_scv=_service_scv(scenario, facts, stages, occupied),
    )
    hop_cores = rate_per_s * invocations * scenario.hop.cpu_us(facts.bytes_in * batch) / 1e6
    demand_cores = busy * servers * cpu_cores + hop_cores
    full_cores = (
        saturation * servers * cpu_cores
        + rate_per_s * facts.items / max_batch * scenario.hop.cpu_us(facts.bytes_in * max_batch) / 1e6
    )
    return Station(
        batch=batch,
        invocations=invocations,
        rounds=rounds,
        hop_us=hop_us(batch),
        stage_us=stages,
        wait=wait,
        concurrency=servers,
        utilisation=saturation,
        demand_cores=demand_cores,
        least_cores=min(demand_cores, full_cores),
    )


def _service_scv(scenario: Scenario, facts: GroupFacts, stages_us: tuple[float, ...], occupied_us: float) -> float:
    if occupied_us <= 0:
        return 0.0
    variance = sum(
        time * time * factor_moments(scenario.model.stages[index])[1]
        for index, time in zip(facts.extent.stages, stages_us, strict=True)
    )
    return variance / (occupied_us * occupied_us)
