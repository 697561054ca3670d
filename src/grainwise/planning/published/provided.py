"""Instances for configurations that somebody else chose: as many as ours get, for a comparison of configurations alone.

There are as many as the autoscaler will hold at the forecast rate. Where the SLO is still missed another one is added where it
helps most, while it helps.
"""

from collections.abc import Sequence

import msgspec

from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.planning.best import Groups
from grainwise.planning.options import explain_misfit, with_spare_room
from grainwise.planning.published.esg_1q import Configuration
from grainwise.planning.published.sizes import Size, as_ours, placed, sized
from grainwise.predictors.groups import group_facts

WORTH_AN_INSTANCE = 0.001
"""The least gain in attainment for which another instance is added."""


def provided(groups: Groups, chosen: Sequence[tuple[int, Configuration]]) -> Plan | None:
    """The plan of functions with these configurations, or ``None`` where not even one instance of each fits the nodes.

    Args:
        groups: of the problem.
        chosen: the mask of each function, in the order of the plan, with its configuration.
    """
    problem = groups.problem
    functions: list[FunctionPlan] = []
    for mask, each in chosen:
        if mask not in groups.facts:
            groups.facts[mask] = group_facts(problem, mask)
        size = Size(each.cpu_cores, each.gpu_share_fraction)
        function = sized(problem, groups.facts[mask], size, each.batch, as_ours)
        if function is None:
            return None
        functions.append(function)
    plan = placed(problem, tuple(functions))
    return None if plan is None else with_spare_room(problem, _raised(groups, plan))


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
