"""The configurations that a function may have, each with its additive time, cost and resources; dominated ones dropped."""

import math

import msgspec
from msgspec import Struct

from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.planning.devices import NodeRoom, device_need, devices_of, gpu_shares, instances_on_devices
from grainwise.planning.problem import Problem
from grainwise.planning.scaled import HEADROOM
from grainwise.predictors.cost import billed_usd_per_hour, provisioned_usd_per_hour
from grainwise.predictors.groups import GroupFacts, stage_times_us
from grainwise.predictors.samples import factor_moments
from grainwise.predictors.station import Station, concurrency, make_station, usable_cores

SHARES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Shares that are tried, where the platform and the largest node permit them."""

MAX_UTILISATION = 0.95
"""Configurations above this load are only looked at where a group has no other, plans above it where nothing else is left."""

_EPSILON = 1e-9


class Choice(Struct, frozen=True):
    """One configuration of one function: times in microseconds, cost in USD per hour.

    ``time_us`` is the mean wait and a run at the problem's quantile: what the search adds up. ``tail_us`` is a mean run after a
    wait that only the requests beyond the SLO's target exceed: a configuration that is no faster may still be late more seldom.
    ``devices`` is the sum of the shares of devices that the instances have.
    """

    function: FunctionPlan
    time_us: float
    tail_us: float
    cost: float
    demand_cores: float
    hard_cores: float
    memory_mib: float
    utilisation: float
    devices: float = 0.0


def shares(problem: Problem) -> tuple[float, ...]:
    """CPU shares worth trying on this platform."""
    largest = max((node.usable_cores for node in problem.nodes), default=0.0)
    least = problem.capabilities.min_cpu_cores
    found = [share for share in SHARES if least - _EPSILON <= share <= largest + _EPSILON]
    if largest >= least and largest not in found:
        found.append(largest)
    return tuple(sorted(found))


def _useful(problem: Problem, facts: GroupFacts) -> list[float]:
    """The CPU shares worth trying: of a group on a device only those where a stage is faster than on the next smaller one."""
    if facts.device != "gpu":
        return list(shares(problem))
    found: list[float] = []
    before: list[float] = []
    for share in shares(problem):
        factors = [problem.model.stages[index].share_factor(share) for index in facts.extent.stages]
        if factors != before:
            found.append(share)
            before = factors
    return found


def useful_batch(facts: GroupFacts) -> int:
    """The largest batch that some stage of a group can use, in items of the group."""
    useful = 1
    for executions, max_batch in zip(facts.executions, facts.max_batches, strict=True):
        useful = max(useful, math.ceil(max_batch / max(executions, 1.0) - _EPSILON))
    return useful


def powers_up_to(most: int) -> tuple[int, ...]:
    """Powers of two from 1 on, and ``most`` at the end."""
    found = [1]
    while found[-1] * 2 <= most:
        found.append(found[-1] * 2)
    if found[-1] < most:
        found.append(most)
    return tuple(found)


def batches(facts: GroupFacts) -> tuple[int, ...]:
    """Batch bounds worth trying: powers of two up to what a stage of the group takes at once, in items of the group.

    Where no stage batches, a bound above one would only make requests wait for one another.
    """
    return powers_up_to(useful_batch(facts))


def choices(problem: Problem, facts: GroupFacts) -> tuple[Choice, ...]:
    """The configurations of a group that no other beats in time, cost and resources at once; cheapest first.

    A group with a stage on a GPU is tried on every share of a device, its other stages on its cores meanwhile.

    There are none where an instance fits no node or a value at the group's border is too long for the platform. There are at
    least as many instances as the autoscaler would start; more are tried while they spread a fan-out or while a wait for one is
    likely enough to decide the SLO.
    """
    if facts.largest_bytes > problem.capabilities.payload_limit_bytes:
        return ()
    memory = facts.memory_mib
    room = sum(math.floor(node.memory_mib / memory) if memory > 0 else 1 << 10 for node in problem.nodes)
    rarely = (1 - problem.app.slo.target) / 10
    parts = [
        (batch, gpu, min(room, instances_on_devices(problem, facts, batch, gpu)))
        for batch in batches(facts)
        for gpu in gpu_shares(problem, facts, batch)
    ]
    all_found: list[Choice] = []
    for share in _useful(problem, facts):
        most = concurrency(problem.nodes, problem.capabilities, share, 1 << 10)
        if problem.capabilities.is_share_hard:
            most = sum(math.floor(node.usable_cores / share + _EPSILON) for node in problem.nodes)
        for batch, gpu, room_for_part in parts:
            if batch > 1 and _is_late(problem, facts, batch, share, gpu) and not _is_late(problem, facts, 1, share, gpu):
                continue
            bound = min(most, room_for_part)
            for instances in range(1, bound + 1):
                station = make_station(
                    problem,
                    facts,
                    cpu_cores=share,
                    max_batch=batch,
                    instances=instances,
                    rate_per_s=problem.workload.rate_per_s,
                    gpu_share=gpu,
                )
                if station.utilisation > HEADROOM and instances < bound:
                    continue
                all_found.append(_choice(problem, facts, share, batch, instances, bound, station, gpu))
                if instances >= facts.items and station.wait.probability < rarely:
                    break
    steady = [choice for choice in all_found if choice.utilisation <= MAX_UTILISATION]
    return _undominated(steady or all_found)


def _is_late(problem: Problem, facts: GroupFacts, batch: int, share: float, gpu: float) -> bool:
    """Whether all of a full batch would miss the SLO for want of time to run: to allow it would be to plan on it."""
    run_us = sum(stage_times_us(problem, facts, batch, share, gpu))
    return problem.hop.latency_us(facts.bytes_in * batch) + run_us > problem.app.slo.latency_ms * 1000


def _choice(
    problem: Problem, facts: GroupFacts, share: float, batch: int, instances: int, most: int, station: Station, gpu: float
) -> Choice:
    function = FunctionPlan(
        stages=problem.app.graph.names(facts.mask),
        cpu_cores=share,
        max_batch=batch,
        instances=instances,
        min_instances=station.side_by_side,
        max_instances=most,
        device=facts.device,
        gpu_share_fraction=gpu,
        memory_mib=round(facts.memory_mib, 3),
    )
    level = problem.quantile
    stage_us = 0.0
    for index, time in zip(facts.extent.stages, station.stage_us, strict=True):
        model = problem.model.stages[index]
        stage_us += time * model.quantile_factor(level) / factor_moments(model.residual_quantiles)[0]
    time_us = station.wait.mean_us + station.rounds * (station.hop_us + stage_us)
    tail_us = station.wait.quantile_us(problem.app.slo.target) + station.rounds * station.occupancy_us
    if problem.objective == "provisioned":
        cost = provisioned_usd_per_hour(
            problem.prices, instances=instances, cpu_cores=share, memory_mib=facts.memory_mib, gpu=gpu
        )
    else:
        cost = billed_usd_per_hour(
            problem.prices,
            invocations_per_s=problem.workload.rate_per_s * station.invocations,
            busy_us=station.occupancy_us,
            cpu_cores=share,
            memory_mib=facts.memory_mib,
            gpu=gpu,
        )
    hard = share * instances if problem.capabilities.is_share_hard else 0.0
    memory_mib = facts.memory_mib * instances
    devices = gpu * instances
    return Choice(function, time_us, tail_us, cost, station.least_cores, hard, memory_mib, station.utilisation, devices)


def _undominated(found: list[Choice]) -> tuple[Choice, ...]:
    ordered = sorted(
        found,
        key=lambda each: (
            each.cost,
            each.time_us,
            each.tail_us,
            each.demand_cores,
            each.memory_mib,
            each.hard_cores,
            each.devices,
            each.function.instances,
            each.function.max_batch,
        ),
    )
    kept: list[Choice] = []
    for choice in ordered:
        is_beaten = any(
            other.time_us <= choice.time_us
            and other.tail_us <= choice.tail_us
            and other.demand_cores <= choice.demand_cores
            and other.memory_mib <= choice.memory_mib
            and other.hard_cores <= choice.hard_cores
            and other.devices <= choice.devices
            for other in kept
        )
        if not is_beaten:
            kept.append(choice)
    return tuple(kept)


def fits(
    problem: Problem,
    demand_cores: float,
    hard_cores: float,
    memory_mib: float,
    devices: float = 0.0,
    *,
    is_overload_allowed: bool = False,
) -> bool:
    """Whether demand, memory and shares of devices fit the nodes taken as one pool; ``explain_misfit`` places them."""
    usable = usable_cores(problem.nodes)
    memory = sum(node.memory_mib for node in problem.nodes)
    return (
        (is_overload_allowed or demand_cores <= MAX_UTILISATION * usable)
        and hard_cores <= usable + _EPSILON
        and memory_mib <= memory + _EPSILON
        and (devices <= 0 or devices <= len(devices_of(problem.nodes)) + 1e-6)
    )


def explain_misfit(problem: Problem, plan: Plan) -> str | None:
    """Why the instances of a plan do not fit the nodes, or ``None`` when they do.

    Instances are placed largest first, those on devices before others, each on the first node with room and there on the part
    of a device that wastes least: exact for one node without devices. Otherwise it may refuse a plan that a cleverer placement
    would fit, but never accepts one that has none.
    """
    return _packed(problem, plan)[1]


def _packed(problem: Problem, plan: Plan) -> tuple[list[NodeRoom], str | None]:
    """The nodes once the instances of a plan are placed, and why one of them could not be."""
    nodes = [NodeRoom(node) for node in problem.nodes]
    instances = [function for function in plan.functions for _ in range(function.instances)]
    for function in sorted(instances, key=lambda each: (-each.device_fraction, -each.memory_mib, -each.cpu_cores)):
        if not _place(problem, nodes, function):
            return nodes, _misfit(problem, function)
    return nodes, None


def _place(problem: Problem, nodes: list[NodeRoom], function: FunctionPlan) -> bool:
    """Take an instance of a function out of the first node with room."""
    cores = function.cpu_cores if problem.capabilities.is_share_hard else 0.0
    need = device_need(problem, function)
    return any(node.take(function.memory_mib, cores, need) for node in nodes)


def _misfit(problem: Problem, function: FunctionPlan) -> str:
    needed = f"{function.memory_mib:.0f} MiB"
    if problem.capabilities.is_share_hard:
        needed += f" and {function.cpu_cores:g} cores"
    need = device_need(problem, function)
    if need is not None:
        needed += f", {need.share_fraction:.2f} of a device and {need.memory_mib:.0f} MiB on it"
    return f"no node has room for an instance of {'+'.join(function.stages)} with {needed}"


def with_spare_room(problem: Problem, plan: Plan) -> Plan:
    """The plan with ``max_instances`` lowered to what the room that the plan leaves free permits each function alone."""
    free = sum(node.memory_mib for node in problem.nodes) - sum(each.instances * each.memory_mib for each in plan.functions)
    room = _packed(problem, plan)[0] if any(each.device == "gpu" for each in plan.functions) else []
    functions = tuple(
        msgspec.structs.replace(
            each,
            max_instances=min(
                each.max_instances,
                each.instances + max(0, math.floor(free / max(each.memory_mib, 1e-3))),
                each.instances + _spare_on_devices(problem, room, each),
            ),
        )
        for each in plan.functions
    )
    return msgspec.structs.replace(plan, functions=functions)


def _spare_on_devices(problem: Problem, room: list[NodeRoom], function: FunctionPlan) -> int:
    """How many more instances of a function the devices hold in what a plan leaves, up to what it may have at most."""
    more = max(0, function.max_instances - function.instances)
    if function.device != "gpu" or not more:
        return more
    nodes = [node.copy() for node in room]
    return next((count for count in range(more) if not _place(problem, nodes, function)), more)
