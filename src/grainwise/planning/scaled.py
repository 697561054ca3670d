"""What the autoscaler makes of a plan at a rate: it holds every function below a headroom, within the plan's bounds.

A plan is only as dear as the instances that will be up. So configurations that would be scaled at once are not offered as
they are, and the present plan is judged with the instances that it has by then.
"""

import math

import msgspec

from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.planning.problem import Problem
from grainwise.predictors.groups import GroupFacts, group_facts
from grainwise.predictors.station import held_cores, make_station

HEADROOM = 0.75
"""The load with full batches above which the autoscaler starts another instance (``policies.autoscale``)."""


def as_scaled(problem: Problem, plan: Plan, facts_by_mask: dict[int, GroupFacts]) -> Plan:
    """``plan`` with the instances that the problem's rate asks for; facts that are missing are added."""
    return msgspec.structs.replace(
        plan, functions=tuple(_scaled(problem, function, facts_by_mask) for function in plan.functions)
    )


def _scaled(problem: Problem, function: FunctionPlan, facts_by_mask: dict[int, GroupFacts]) -> FunctionPlan:
    mask = problem.app.graph.mask(function.stages)
    if mask not in facts_by_mask:
        facts_by_mask[mask] = group_facts(problem, mask)
    alone = make_station(
        problem,
        facts_by_mask[mask],
        cpu_cores=held_cores(problem, function.cpu_cores),
        max_batch=function.max_batch,
        instances=1,
        rate_per_s=problem.workload.rate_per_s,
        gpu_share=function.device_fraction,
    )
    wanted = math.ceil(alone.utilisation / HEADROOM - 1e-9)
    most = max(function.max_instances, function.instances, 1)
    return msgspec.structs.replace(function, instances=max(1, function.min_instances, min(wanted, most)))
