"""A planning problem as the joint search sees it: every group with its configurations, additive times, sums of resources."""

from collections.abc import Iterable

from grainwise.planning.best import LIMIT_FRACTIONS, Groups
from grainwise.planning.devices import devices_of
from grainwise.planning.joint import Found, search
from grainwise.planning.options import MAX_UTILISATION
from grainwise.planning.problem import Problem
from grainwise.planning.steps import Step
from grainwise.predictors.station import usable_cores

MAX_NODES = 20_000
"""Labels that one joint search makes at most."""

_EPSILON = 1e-9


def steps_of(groups: Groups, masks: Iterable[int]) -> dict[int, list[Step]]:
    """The configurations of groups; ``payload`` is the place in ``Groups.choices``, groups without any are left out."""
    found: dict[int, list[Step]] = {}
    kinds = len(resource_limits(groups.problem))
    for mask in masks:
        choices = groups.choices(mask)
        if choices:
            found[mask] = [
                Step(
                    mask,
                    choice.time_us,
                    choice.cost,
                    at,
                    (choice.demand_cores, choice.hard_cores, choice.memory_mib, choice.devices)[:kinds],
                )
                for at, choice in enumerate(choices)
            ]
    return found


def resource_limits(problem: Problem) -> tuple[float, ...]:
    """What the nodes taken as one pool hold, in the order of ``steps_of``, devices if there are any; see ``options.fits``."""
    usable = usable_cores(problem.nodes)
    limits = (MAX_UTILISATION * usable, usable + _EPSILON, sum(node.memory_mib for node in problem.nodes) + _EPSILON)
    devices = len(devices_of(problem.nodes))
    return (*limits, devices + 1e-6) if devices else limits


def cheapest_jointly(problem: Problem, steps: dict[int, list[Step]], fraction: float, keep: int) -> Found:
    """The cheapest granularities with configurations by additive times within a part of the SLO, on the nodes as one pool."""
    return search(
        problem.app.graph.predecessors,
        steps,
        problem.app.slo.latency_ms * 1000 * fraction,
        keep,
        resource_limits=resource_limits(problem),
        max_nodes=MAX_NODES,
    )


def bound_usd_per_hour(problem: Problem, groups: Groups, masks: Iterable[int]) -> tuple[float, int]:
    """What every plan of these groups costs at least whose additive times are within the most generous limit that is searched.

    Infinite where there is no such plan. Also the labels that it took.
    """
    found = cheapest_jointly(problem, steps_of(groups, masks), max(LIMIT_FRACTIONS), 1)
    return found.bound, found.expanded
