"""Instances for configurations that somebody else chose: as many as ours get, for a comparison of configurations alone.

There are as many as the autoscaler will hold at the forecast rate. Where the SLO is still missed another one is added where it
helps most, while it helps.
"""

import math
from collections.abc import Sequence

import msgspec

from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.planning.best import Groups
from grainwise.planning.devices import instances_on_devices
from grainwise.planning.options import explain_misfit, with_spare_room
from grainwise.planning.published.esg_1q import Configuration
from grainwise.planning.scaled import as_scaled
from grainwise.predictors.groups import group_facts
from grainwise.predictors.station import concurrency, make_station

WORTH_AN_INSTANCE = 0.001
"""The least gain in attainment for which another instance is added."""


def provided(groups: Groups, chosen: Sequence[tuple[int, Configuration]]) -> Plan | None:
    """The plan of functions with these configurations, or ``None`` where not even one instance of each fits the nodes.

    Args:
        groups: of the problem.
        chosen: the mask of each function, in the order of the plan, with its configuration.
    """
    problem = groups.problem
    bare = Plan(problem.app.name, tuple(_function(groups, *each) for each in chosen), problem.objective)
    plan = as_scaled(problem, bare, groups.facts)
    if explain_misfit(problem, plan) is not None:
        plan = bare
        if explain_misfit(problem, plan) is not None:
            return None
    return with_spare_room(problem, _with_floors(groups, _raised(groups, plan)))


def _function(groups: Groups, mask: int, configuration: Configuration) -> FunctionPlan:
    problem = groups.problem
    if mask not in groups.facts:
        groups.facts[mask] = group_facts(problem, mask)
    facts = groups.facts[mask]
    cores, memory = configuration.cpu_cores, facts.memory_mib
    most = concurrency(problem.nodes, problem.capabilities, cores, 1 << 10)
    if problem.capabilities.is_share_hard:
        most = sum(math.floor(node.usable_cores / cores + 1e-9) for node in problem.nodes)
    room = sum(math.floor(node.memory_mib / memory) if memory > 0 else 1 << 10 for node in problem.nodes)
    on_devices = instances_on_devices(problem, facts, configuration.batch, configuration.gpu_share_fraction)
    return FunctionPlan(
        stages=problem.app.graph.names(mask),
        cpu_cores=cores,
        max_batch=configuration.batch,
        instances=1,
        max_instances=max(1, min(most, room, on_devices)),
        device=facts.device,
        gpu_share_fraction=configuration.gpu_share_fraction,
        memory_mib=round(memory, 3),
    )


def _raised(groups: Groups, plan: Plan) -> Plan:
    """With more instances while they bring the SLO nearer."""
    problem = groups.problem
    rate, target = problem.workload.rate_per_s, problem.app.slo.target
    reached = groups.evaluation(plan).attainment(rate)
    while reached < target:
        tried = [
            (groups.evaluation(each).attainment(rate), -number, each)
            for number, each in enumerate(_one_more(plan))
            if explain_misfit(problem, each) is None
        ]
        best = max(tried, key=lambda each: each[:2], default=None)
        if best is None or best[0] < reached + WORTH_AN_INSTANCE:
            break
        reached, _, plan = best
    return plan


def _one_more(plan: Plan) -> list[Plan]:
    """The plan with one instance more of each function that may have one."""
    return [
        _with(plan, number, msgspec.structs.replace(function, instances=function.instances + 1))
        for number, function in enumerate(plan.functions)
        if function.instances < function.max_instances
    ]


def _with(plan: Plan, number: int, function: FunctionPlan) -> Plan:
    return msgspec.structs.replace(plan, functions=(*plan.functions[:number], function, *plan.functions[number + 1 :]))


def _with_floors(groups: Groups, plan: Plan) -> Plan:
    """With the instances that one request's items run on side by side as the least that are kept up."""
    problem = groups.problem
    functions: list[FunctionPlan] = []
    for function in plan.functions:
        station = make_station(
            problem,
            groups.facts[problem.app.graph.mask(function.stages)],
            cpu_cores=function.cpu_cores,
            max_batch=function.max_batch,
            instances=function.instances,
            rate_per_s=problem.workload.rate_per_s,
            gpu_share=function.device_fraction,
        )
        functions.append(msgspec.structs.replace(function, min_instances=station.side_by_side))
    return msgspec.structs.replace(plan, functions=tuple(functions))
