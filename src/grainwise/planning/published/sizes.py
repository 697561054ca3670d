"""The sizes that a function may be given where a published scheduler sizes it, and the instances that stand by for a size.

A size is a CPU share and, for a function on devices, a share of one. How many instances stand by is no part of a size: it is
what the scheduler's platform would have up, by a rule over the function as a queueing station.
"""

import math
from collections.abc import Callable

import msgspec
from msgspec import Struct

from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.planning.devices import gpu_shares, instances_on_devices
from grainwise.planning.options import explain_misfit, shares, with_spare_room
from grainwise.planning.problem import Problem
from grainwise.planning.scaled import HEADROOM
from grainwise.predictors.groups import GroupFacts
from grainwise.predictors.station import Station, concurrency, make_station

_EPSILON = 1e-9

Enough = Callable[[Station, int], bool]
"""Whether so many instances, which make this station, are enough."""


class Size(Struct, frozen=True):
    """What one instance of a function is given: cores, and a part of a device, 0 on CPUs."""

    cpu_cores: float
    gpu_share_fraction: float = 0.0


class Ladders(Struct, frozen=True):
    """The shares that a function may have, each ladder from the smallest; one of ``gpu`` is 0 on CPUs."""

    cpu: tuple[float, ...]
    gpu: tuple[float, ...]


def ladders(problem: Problem, facts: GroupFacts, batch: int) -> Ladders:
    """The shares with which at least one instance of a function fits the nodes; both ladders are empty where none does.

    CPU shares with which no stage is faster than with the next smaller one are left out.
    """
    if facts.largest_bytes > problem.capabilities.payload_limit_bytes:
        return Ladders((), ())
    gpu = tuple(share for share in gpu_shares(problem, facts, batch) if _most(problem, facts, Size(0.0, share), batch))
    cpu: list[float] = []
    before: list[float] = []
    for share in shares(problem) if gpu else ():
        factors = [problem.model.stages[index].share_factor(share) for index in facts.extent.stages]
        if factors != before and _most(problem, facts, Size(share, gpu[0]), batch):
            cpu.append(share)
            before = factors
    return Ladders(tuple(cpu), gpu) if cpu else Ladders((), ())


def sized(
    problem: Problem, facts: GroupFacts, size: Size, batch: int, enough: Enough, *, at_least: int = 1
) -> FunctionPlan | None:
    """A function of this size with as few instances as are enough, no fewer than ``at_least`` where the nodes hold them.

    ``None`` where the nodes hold none. Where they hold too few to be enough it has those that they do hold.
    """
    most = _most(problem, facts, size, batch)
    if not most:
        return None
    instances = min(at_least, most)
    station = _station(problem, facts, size, batch, instances)
    while instances < most and not enough(station, instances):
        instances += 1
        station = _station(problem, facts, size, batch, instances)
    return FunctionPlan(
        stages=problem.app.graph.names(facts.mask),
        cpu_cores=size.cpu_cores,
        max_batch=batch,
        instances=instances,
        min_instances=station.side_by_side,
        max_instances=most,
        device=facts.device,
        gpu_share_fraction=size.gpu_share_fraction,
        memory_mib=round(facts.memory_mib, 3),
    )


def placed(problem: Problem, functions: tuple[FunctionPlan, ...]) -> Plan | None:
    """The plan of these functions, with fewer instances where the nodes hold no more; ``None`` where not even one of each fits.

    Instances are given up one by one, by the function that has most.
    """
    plan = Plan(problem.app.name, functions, problem.objective)
    while explain_misfit(problem, plan) is not None:
        most = max(range(len(plan.functions)), key=lambda at: (plan.functions[at].instances, -at))
        function = plan.functions[most]
        if function.instances == 1:
            return None
        fewer = msgspec.structs.replace(
            function, instances=function.instances - 1, min_instances=min(function.min_instances, function.instances - 1)
        )
        plan = msgspec.structs.replace(plan, functions=(*plan.functions[:most], fewer, *plan.functions[most + 1 :]))
    return with_spare_room(problem, plan)


def as_ours(station: Station, instances: int) -> bool:
    """Whether instances are as many as our autoscaler would have up."""
    return station.utilisation <= HEADROOM


def mean_concurrency(station: Station, instances: int) -> float:
    """The mean number of busy instances, by Little's law, with the batches that form when they are full."""
    return station.utilisation * instances


def _station(problem: Problem, facts: GroupFacts, size: Size, batch: int, instances: int) -> Station:
    return make_station(
        problem,
        facts,
        cpu_cores=size.cpu_cores,
        max_batch=batch,
        instances=instances,
        rate_per_s=problem.workload.rate_per_s,
        gpu_share=size.gpu_share_fraction,
    )


def _most(problem: Problem, facts: GroupFacts, size: Size, batch: int) -> int:
    """How many instances of a size the empty nodes hold, where shares are soft no more than can run at once."""
    memory, share = facts.memory_mib, size.cpu_cores
    room = sum(math.floor(node.memory_mib / memory) if memory > 0 else 1 << 10 for node in problem.nodes)
    on_devices = instances_on_devices(problem, facts, batch, size.gpu_share_fraction)
    if share <= 0:
        return min(room, on_devices)
    if problem.capabilities.is_share_hard:
        by_cores = sum(math.floor(node.usable_cores / share + _EPSILON) for node in problem.nodes)
    else:
        by_cores = concurrency(problem.nodes, problem.capabilities, share, 1 << 10)
    return min(room, on_devices, by_cores)
