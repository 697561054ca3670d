"""The wait of a function for cores that others hold, where shares are soft.

An invocation runs when its whole share is free on a node. So what matters is not how many cores the others use but how many
of this function's places on the nodes they leave: half a core in use leaves no place at all on a node of two cores for a share
of two. Cores in such a gap are lost to this function while the other runs.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

from grainwise.predictors.groups import Scenario
from grainwise.predictors.queueing import NO_WAIT, Waiting, waiting
from grainwise.predictors.station import Station, concurrency

_EPSILON = 1e-9


@lru_cache(1 << 12)
def places_taken(cores: tuple[float, ...], share: float, other: float) -> float:
    """How many places for invocations of ``share`` cores one of ``other`` cores takes, the mean of nodes with ``cores``."""
    total = taken = 0.0
    for each in cores:
        if each >= max(share, other) - _EPSILON:
            total += each
            taken += each * (math.floor(each / share + _EPSILON) - math.floor((each - other) / share + _EPSILON))
    return taken / total if total > 0 else 0.0


def waits_for_cores(
    scenario: Scenario, shares: Sequence[float], instances: Sequence[int], stations: Sequence[Station]
) -> list[Waiting]:
    """For each function the wait for cores that other functions hold; none where a share is hard or nobody else runs.

    The nodes are a further queue: as many servers as invocations of this share find a place, loaded by everybody; where an
    invocation of another function takes several places at once, those are one server. Of its wait only the part that others
    cause is charged here, since waiting for one's own kind is already in the station; that wait is longer, though, by what the
    others take of the places.
    """
    if scenario.capabilities.is_share_hard:
        return [NO_WAIT] * len(stations)
    demand = sum(station.demand_cores for station in stations)
    cores = tuple(node.usable_cores for node in scenario.nodes)
    usable = sum(cores)
    if demand <= 0 or usable <= 0:
        return [NO_WAIT] * len(stations)
    if len(cores) == 1 and sum(n * share for n, share in zip(instances, shares, strict=True)) <= usable + _EPSILON:
        return [NO_WAIT] * len(stations)
    saturation = sum(station.least_cores for station in stations) / usable
    running = [station.demand_cores / share for station, share in zip(stations, shares, strict=True)]
    found: list[Waiting] = []
    for at, share in enumerate(shares):
        places = concurrency(scenario.nodes, scenario.capabilities, share, 1 << 16)
        taken = block = held_us = 0.0
        for other, their in enumerate(shares):
            if other == at or running[other] <= 0:
                continue
            each = places_taken(cores, share, their)
            busy = min(1.0, running[other] / instances[other])
            some = 1 - (1 - busy) ** instances[other]
            # Small ones share a place while there are several of them.
            by_place = each * max(running[other] / max(1.0, share // their), some) if their < share else each * running[other]
            part = max(running[other] * their / share, by_place)
            taken += part
            block += part * max(each, 1.0)
            held_us += part * stations[other].occupancy_us
        if taken <= 0:
            found.append(NO_WAIT)
            continue
        load = min((running[at] + taken) / places, 1.0)
        node = waiting(
            servers=max(1, math.floor(places * taken / block + _EPSILON)),
            service_us=held_us / taken,
            busy_fraction=load,
            saturation_fraction=max(saturation, load * saturation * usable / demand),
            arrival_scv=scenario.workload.arrival_scv,
            service_scv=1.0,
        )
        part = taken / (running[at] + taken)
        found.append(Waiting(node.probability * part, node.mean_us * part, node.is_growing))
    return found
