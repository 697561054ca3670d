"""From a problem to its table: every granularity with its best plan, the winner first, and why it won."""

import math

from grainwise.domain.errors import InfeasibleError
from grainwise.domain.plan import render_grain
from grainwise.planning.additive import bound_usd_per_hour
from grainwise.planning.best import LIMIT_FRACTIONS, SAME_ATTAINMENT, Best, Groups, best_of
from grainwise.planning.checked import notes, refuse_wrong_input
from grainwise.planning.devices import devices_of
from grainwise.planning.granularity import check_granularity, granularities
from grainwise.planning.large import is_large, shortlist
from grainwise.planning.nearest import describe_nearest
from grainwise.planning.problem import PlanTable, Problem
from grainwise.planning.reasons import because, with_lacks
from grainwise.planning.scaled import as_scaled
from grainwise.predictors.groups import device_memory_mib

_SAME_COST = 1.0005
"""Costs within this factor are called the same."""


def compute(problem: Problem) -> PlanTable:
    """Answer a planning problem. A granularity of which no plan fits the nodes is counted in ``because`` and not listed.

    Raises:
        InfeasibleError: no plan of any granularity fits the nodes at all, the forced one is no granularity, or a stage wants
            a GPU and no node has one.
        ConfigurationError: the problem holds a value outside its range.
    """
    refuse_wrong_input(problem)
    refuse_missing_gpu(problem)
    groups = Groups(problem)
    ranked: list[Best] = []
    expanded = misfits = 0
    large = shortlist(groups) if problem.grain is None and is_large(problem.app.graph) else None
    wanted = list(large.combinations) if large else wanted_granularities(problem)
    for masks in wanted:
        best, nodes = best_of(groups, masks, large.combinations[masks] if large else ())
        expanded += nodes
        if best is None:
            misfits += 1
        else:
            ranked.append(best)
    if not ranked:
        raise InfeasibleError(nothing_fits(groups))
    most = max(each.option.predicted.attainment for each in ranked)
    ranked.sort(key=lambda each: _rank(each, most))
    current = None
    if problem.current is not None:
        current = groups.evaluation(as_scaled(problem, problem.current, groups.facts)).predict()
    winner = ranked[0]
    is_feasible = winner.option.meets_slo
    reason = because(problem, ranked) + notes(problem)
    if misfits:
        reason += f"; {misfits} {'granularities do' if misfits > 1 else 'granularity does'} not fit the nodes"
    if not all(each.is_exact for each in ranked):
        reason += "; the search was cut off, so a cheaper plan may exist"
    if large is not None:
        expanded += large.expanded
        reason += f"; {large.because}"
    looked_at = large.groups if large else tuple(sorted({mask for masks in wanted for mask in masks}))
    bound, nodes = bound_usd_per_hour(problem, groups, looked_at)
    if is_feasible:
        reason += _beside_bound(winner, bound)
    return PlanTable(
        problem=problem.number,
        options=(winner.option, *(with_lacks(winner, each, problem) for each in ranked[1:])),
        because=reason,
        is_feasible=is_feasible,
        nearest="" if is_feasible else describe_nearest(problem, ranked),
        current=current,
        device_class=problem.model.device_class,
        expanded_nodes=expanded + nodes,
        bound_usd_per_hour=bound if math.isfinite(bound) else 0.0,
    )


def _beside_bound(winner: Best, bound: float) -> str:
    """How far the winner is from the least cost of any plan by additive times; nothing where it is not bound by that."""
    if not 0 < bound <= winner.cost * (1 + 1e-9):
        return ""
    said = f"; no plan within {max(LIMIT_FRACTIONS):g} times the SLO by additive times costs less"
    if winner.cost > bound * _SAME_COST:
        said += f" than ${bound:.4f}/h, {1 - bound / winner.cost:.1%} below"
    return said


def refuse_missing_gpu(problem: Problem) -> None:
    """A stage that declares a GPU is never run on a CPU in silence.

    Raises:
        InfeasibleError: a stage declares one and no node has any.
    """
    if any(node.gpus for node in problem.nodes):
        return
    wanting = [stage.name for stage in problem.app.stages if stage.device == "gpu"]
    if wanting:
        raise InfeasibleError(
            f"stage {', '.join(wanting)} of {problem.app.name} declares device='gpu' and no node has one; "
            "plan for nodes with GPUs, or declare device='cpu'"
        )


def wanted_granularities(problem: Problem) -> list[tuple[int, ...]]:
    """The granularity that a problem forces, else all of its app, as masks of their groups.

    Raises:
        InfeasibleError: the forced one is no granularity of this app.
    """
    graph = problem.app.graph
    if problem.grain is None:
        return list(granularities(graph))
    try:
        groups = tuple(graph.mask(group) for group in problem.grain)
    except KeyError as error:
        raise InfeasibleError(
            f"{error} is no stage of {problem.app.name}; its stages: {', '.join(graph.index_by_name)}"
        ) from error
    reason = check_granularity(graph, groups)
    if reason is not None:
        raise InfeasibleError(f"{render_grain(problem.grain)} is no granularity of {problem.app.name}: {reason}")
    return [groups]


def _rank(each: Best, most: float) -> tuple[float, ...]:
    """Plans that meet the SLO by cost, then those that attain about as much as any by cost, then the others by attainment."""
    predicted = each.option.predicted
    functions = len(each.option.plan.functions)
    if each.option.meets_slo:
        return (0.0, round(each.cost, 9), functions, predicted.p95_ms)
    overload = round(max(1.0, predicted.utilisation), 6)
    is_near = predicted.attainment >= most - SAME_ATTAINMENT
    return (1.0, -2.0 if is_near else -round(predicted.attainment, 6), overload, round(each.cost, 9), functions)


def nothing_fits(groups: Groups) -> str:
    """Why no plan of the groups that were looked at fits the nodes, with what the least of them needs."""
    problem = groups.problem
    memory = max((node.memory_mib for node in problem.nodes), default=0.0)
    least = min((facts.memory_mib for facts in groups.facts.values()), default=0.0)
    longest = max((facts.largest_bytes for facts in groups.facts.values()), default=0.0)
    said = f"no plan of {problem.app.name} fits: its least group needs {least:.0f} MiB, the largest node has {memory:.0f} MiB"
    limit = problem.capabilities.payload_limit_bytes
    if longest > limit:
        said += f"; values of up to {longest:.0f} bytes cross an edge, and the platform takes {limit}"
    on_device = [device_memory_mib(problem, mask, 1) for mask, facts in groups.facts.items() if facts.device == "gpu"]
    if on_device:
        largest = max((device.memory_mib for device in devices_of(problem.nodes)), default=0.0)
        said += f"; on a device its least group needs {min(on_device):.0f} MiB, the largest device has {largest:.0f} MiB"
    return f"{said}. Use a larger node, or stages that need less"
