"""One function as a queueing station: the batches that form, the load, the wait for an instance, the cores that it takes.

Shares may be soft: a share is then charged only while an instance loads or runs, so that the node's cores bound how many
invocations run at once and not how many instances exist.
"""

import math
from collections.abc import Callable

from msgspec import Struct

from grainwise.domain.machine import Capabilities, Node
from grainwise.predictors.groups import GroupFacts, Scenario, stage_calls, stage_times_us
from grainwise.predictors.queueing import Waiting, waiting
from grainwise.predictors.samples import factor_moments

_BATCH_STEPS = 10
"""Bisections of the mean batch, which is known to a part in a thousand of the range."""


class Station(Struct, frozen=True):
    """A function under a load.

    Attributes:
        batch: mean items of an invocation.
        invocations: invocations per request.
        rounds: invocations of one request that must follow one another.
        side_by_side: invocations of one request that run at the same time.
        hop_us: latency of handing one invocation its inputs.
        stage_us: mean run time of each stage in one invocation, in the order of the extent.
        wait: wait for an idle instance, per round of a request.
        utilisation: load relative to the most that full batches could carry, alone on the node.
        demand_cores: mean cores in use, hops included.
        least_cores: the same if every batch were full.
    """

    batch: float
    invocations: float
    rounds: int
    side_by_side: int
    hop_us: float
    stage_us: tuple[float, ...]
    wait: Waiting
    utilisation: float
    demand_cores: float
    least_cores: float

    @property
    def occupancy_us(self) -> float:
        """Time from invoke to result of one invocation."""
        return self.hop_us + sum(self.stage_us)


def usable_cores(nodes: tuple[Node, ...]) -> float:
    """Cores of all nodes that instances may use."""
    return sum(node.usable_cores for node in nodes)


def held_cores(scenario: Scenario, cpu_cores: float) -> float:
    """The cores that an invocation holds: a soft share is cut to the largest node, as the dispatcher does it."""
    if scenario.capabilities.is_share_hard:
        return cpu_cores
    return min(cpu_cores, max((node.usable_cores for node in scenario.nodes), default=0.0))


def concurrency(nodes: tuple[Node, ...], capabilities: Capabilities, cpu_cores: float, instances: int) -> int:
    """How many of ``instances`` can run at once, if nothing else does."""
    if capabilities.is_share_hard:
        return instances
    room = sum(math.floor(node.usable_cores / cpu_cores + 1e-9) for node in nodes)
    return max(0, min(instances, room))


def make_station(
    scenario: Scenario,
    facts: GroupFacts,
    *,
    cpu_cores: float,
    max_batch: int,
    instances: int,
    rate_per_s: float,
    gpu_share: float = 0.0,
    interference: float = 1.0,
) -> Station:
    """Predict one function at ``rate_per_s`` requests per second.

    ``gpu_share`` is the part of a device that each instance has for as long as it is up, ``interference`` the slowdown by
    neighbours on it. An instance on a device is a server of its own, unless its cores are soft and too few for all at once.

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
        return hop_us(batch) + sum(stage_times_us(scenario, facts, batch, cpu_cores, gpu_share, interference))

    # A request alone: its items are dealt out evenly, at most a full batch at a time.
    alone = min(float(max_batch), max(1.0, math.ceil(facts.items / servers - 1e-9)))
    least = max(1.0, facts.items / math.ceil(max(facts.items, 1.0) / alone - 1e-9))
    most = float(max_batch)
    least_us = occupancy_us(least)
    most_us = occupancy_us(most) if least < most else least_us
    batch = least
    if items_per_us / servers * least_us > least:
        batch = _formed_batch(least, most, items_per_us / servers, occupancy_us)
    stages = stage_times_us(scenario, facts, batch, cpu_cores, gpu_share, interference)
    occupied = hop_us(batch) + sum(stages)
    together = max(1, math.ceil(facts.items / batch - 1e-9))
    rounds = math.ceil(together / servers - 1e-9)
    invocations = facts.items / batch
    busy = rate_per_s * invocations * occupied / 1e6 / servers
    saturation = items_per_us * most_us / (most * servers) if batch < most else busy
    if busy < 1:
        saturation = min(busy, saturation)
    units = max(1, servers // together)
    wait = waiting(
        servers=units,
        service_us=rounds * occupied,
        busy_fraction=min(busy, 1.0),
        saturation_fraction=saturation,
        arrival_scv=scenario.workload.arrival_scv,
        speedup=max(1.0, most * least_us / (least * most_us)) if most_us > 0 else 1.0,
        service_scv=_service_scv(scenario, facts, batch, stages, occupied),
    )
    if batch < most and busy < 1 and wait.probability > 0:
        # Who waits is served together with what comes meanwhile, in a larger batch that takes longer.
        waited_us = wait.mean_us / wait.probability
        larger = min(most, batch + items_per_us / servers * waited_us)
        wait = wait.with_shared(rounds * (occupancy_us(larger) - occupied))
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
        side_by_side=min(together, servers),
        hop_us=hop_us(batch),
        stage_us=stages,
        wait=wait,
        utilisation=saturation,
        demand_cores=demand_cores,
        least_cores=min(demand_cores, full_cores),
    )


def _formed_batch(least: float, most: float, items_per_us: float, occupancy_us: Callable[[float], float]) -> float:
    """The batch above ``least`` in which as many items are served as arrive meanwhile, ``items_per_us`` at each server."""
    if least >= most or items_per_us * occupancy_us(most) >= most:
        return most
    low, high = least, most
    for _ in range(_BATCH_STEPS):
        middle = (low + high) / 2
        if items_per_us * occupancy_us(middle) > middle:
            low = middle
        else:
            high = middle
    return high


def _service_scv(
    scenario: Scenario, facts: GroupFacts, batch: float, stages_us: tuple[float, ...], occupied_us: float
) -> float:
    """Squared coefficient of variation of an invocation: the noise of its stages, and whether a branch is taken."""
    if occupied_us <= 0:
        return 0.0
    variance = 0.0
    for index, executions, max_batch, time in zip(
        facts.extent.stages, facts.executions, facts.max_batches, stages_us, strict=True
    ):
        mean, spread = factor_moments(scenario.model.stages[index].residual_quantiles)
        calls = stage_calls(executions * batch, max_batch)
        noise = spread / (mean * mean)
        if calls < 1:
            variance += time * time * ((1 + noise) / calls - 1) if calls > 0 else 0.0
        else:
            variance += time * time * noise / calls
    variance += _between_requests(scenario, facts, batch, stages_us)
    return variance / (occupied_us * occupied_us)


def _between_requests(scenario: Scenario, facts: GroupFacts, batch: float, stages_us: tuple[float, ...]) -> float:
    """Variance of an invocation's time because requests differ, in square microseconds; a batch of several evens them out."""
    variants = scenario.workload.variants
    if not variants:
        return 0.0
    times = [
        sum(time * variant[index] for index, time in zip(facts.extent.stages, stages_us, strict=True)) for variant in variants
    ]
    mean = sum(times) / len(times)
    together = max(1.0, batch / max(facts.items, 1.0))
    return sum((time - mean) ** 2 for time in times) / len(times) / together
