"""From a problem to its table: every granularity with its best plan, the winner first, and why it won."""

from collections.abc import Sequence

from msgspec import Struct

from grainwise.domain.errors import InfeasibleError
from grainwise.domain.graph import Graph
from grainwise.domain.plan import Plan, render_grain
from grainwise.planning.granularity import check_granularity, granularities
from grainwise.planning.options import Choice, choices
from grainwise.planning.problem import Option, PlanTable, Problem
from grainwise.planning.search import cheapest
from grainwise.predictors.evaluate import Evaluation
from grainwise.predictors.groups import GroupFacts, group_facts

LIMIT_FRACTIONS = (1.0, 0.8, 0.6, 0.4)
"""Parts of the SLO that additive times are searched within: the rest is room for waiting, which only the evaluator knows."""

KEEP = 6
"""Combinations that are evaluated per part."""


class _Candidate(Struct, frozen=True):
    plan: Plan
    evaluation: Evaluation
    attainment: float
    cost: float
    cores: float


class _Ranked(Struct, frozen=True):
    option: Option
    evaluation: Evaluation
    cost: float


def compute(problem: Problem) -> PlanTable:
    """Answer a planning problem.

    Raises:
        InfeasibleError: no configuration of any granularity fits the nodes at all, or the forced one is no granularity.
    """
    facts_by_mask: dict[int, GroupFacts] = {}
    choices_by_mask: dict[int, tuple[Choice, ...]] = {}
    ranked: list[_Ranked] = []
    expanded = 0
    for groups in _wanted(problem):
        for mask in groups:
            if mask not in facts_by_mask:
                facts_by_mask[mask] = group_facts(problem, mask)
                choices_by_mask[mask] = choices(problem, facts_by_mask[mask])
        found, nodes = _best_of(problem, groups, facts_by_mask, choices_by_mask)
        expanded += nodes
        if found is not None:
            ranked.append(found)
    if not ranked:
        raise InfeasibleError(_nothing_fits(problem, facts_by_mask))
    target = problem.app.slo.target
    ranked.sort(key=lambda each: _rank(each, target))
    current = None
    if problem.current is not None:
        current = Evaluation(problem, problem.current, facts_by_mask).predict()
    winner = ranked[0]
    options = (winner.option, *(_with_lacks(winner, each, problem) for each in ranked[1:]))
    is_feasible = winner.option.meets_slo
    return PlanTable(
        problem=problem.number,
        options=options,
        because=_because(problem, ranked),
        is_feasible=is_feasible,
        nearest="" if is_feasible else _nearest(problem, ranked),
        current=current,
        device_class=problem.model.device_class,
        expanded_nodes=expanded,
    )


def _wanted(problem: Problem) -> list[tuple[int, ...]]:
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


def _best_of(
    problem: Problem, groups: tuple[int, ...], facts: dict[int, GroupFacts], found: dict[int, tuple[Choice, ...]]
) -> tuple[_Ranked | None, int]:
    """The best plan of one granularity under queueing, among the cheapest by additive times."""
    order, before = _layers(problem.app.graph, groups)
    layers = [found[groups[at]] for at in order]
    limit = problem.app.slo.latency_ms * 1000
    seen: dict[str, _Candidate] = {}
    expanded = 0
    for fraction in LIMIT_FRACTIONS:
        result = cheapest(problem, layers, before, limit * fraction, KEEP)
        expanded += result.expanded
        for combination in result.combinations:
            _consider(problem, order, combination, facts, seen)
    if not any(candidate.attainment >= problem.app.slo.target for candidate in seen.values()):
        for combination in _last_resorts(layers):
            _consider(problem, order, combination, facts, seen)
    if not seen:
        return None, expanded
    target = problem.app.slo.target
    meeting = [each for each in seen.values() if each.attainment >= target]
    if meeting:
        best = min(meeting, key=lambda each: (each.cost, each.cores, -each.attainment, each.plan.id))
    else:
        best = max(seen.values(), key=lambda each: (each.attainment, -each.cost, each.plan.id))
    predicted = best.evaluation.predict()
    return _Ranked(Option(best.plan, predicted, predicted.attainment >= target), best.evaluation, best.cost), expanded


def _consider(
    problem: Problem,
    order: Sequence[int],
    combination: tuple[Choice, ...],
    facts: dict[int, GroupFacts],
    seen: dict[str, _Candidate],
) -> None:
    by_position = sorted(zip(order, combination, strict=True))
    functions = tuple(choice.function for _, choice in by_position)
    plan = Plan(problem.app.name, functions, problem.objective)
    if plan.id in seen:
        return
    evaluation = Evaluation(problem, plan, facts)
    attainment = evaluation.attainment(problem.workload.rate_per_s)
    cost = sum(choice.cost for choice in combination)
    cores = sum(function.cpu_cores * function.instances for function in functions)
    seen[plan.id] = _Candidate(plan, evaluation, attainment, cost, cores)


def _last_resorts(layers: Sequence[Sequence[Choice]]) -> list[tuple[Choice, ...]]:
    """What to look at when nothing meets the SLO: the fastest, and the one that carries most."""
    if not all(layers):
        return []
    return [
        tuple(min(layer, key=lambda choice: (choice.time_us, choice.cost)) for layer in layers),
        tuple(min(layer, key=lambda choice: (choice.demand_cores, choice.utilisation, choice.cost)) for layer in layers),
        tuple(min(layer, key=lambda choice: (choice.utilisation, choice.demand_cores, choice.cost)) for layer in layers),
    ]


def _layers(graph: Graph, groups: tuple[int, ...]) -> tuple[list[int], list[list[int]]]:
    """Positions of the groups in topological order, and for each of them the ones before that it waits for."""
    waits = []
    for mask in groups:
        needed = 0
        for index, predecessors in enumerate(graph.predecessors):
            if mask >> index & 1:
                needed |= predecessors
        waits.append(needed & ~mask)
    order: list[int] = []
    done = 0
    while len(order) < len(groups):
        at = next(at for at in range(len(groups)) if at not in order and not waits[at] & ~done)
        order.append(at)
        done |= groups[at]
    place = {at: number for number, at in enumerate(order)}
    before = [[place[other] for other in range(len(groups)) if waits[at] & groups[other]] for at in order]
    return order, before


def _rank(each: _Ranked, target: float) -> tuple[float, ...]:
    predicted = each.option.predicted
    functions = len(each.option.plan.functions)
    if each.option.meets_slo:
        return (0.0, round(each.cost, 9), functions, predicted.p95_ms)
    return (1.0, -round(predicted.attainment, 6), round(each.cost, 9), functions)


def _with_lacks(winner: _Ranked, other: _Ranked, problem: Problem) -> Option:
    option, predicted = other.option, other.option.predicted
    if winner.option.meets_slo and not option.meets_slo:
        lacks = f"attains {predicted.attainment:.1%} of {problem.app.slo.target:.1%}"
        if predicted.utilisation >= 1:
            lacks += f"; its load is {predicted.utilisation:.0%} of what it can carry"
    elif winner.option.meets_slo:
        lacks = f"costs {_percent(other.cost, winner.cost)} more" if other.cost > winner.cost * 1.0005 else _tie(winner, other)
    else:
        lacks = f"attains {predicted.attainment:.1%}"
    detail = _difference(winner, other)
    return Option(option.plan, predicted, option.meets_slo, f"{lacks} ({detail})" if detail else lacks)


def _tie(winner: _Ranked, other: _Ranked) -> str:
    more = len(other.option.plan.functions) - len(winner.option.plan.functions)
    if more > 0:
        return f"costs the same with {more} function{'s' if more > 1 else ''} more"
    return f"costs the same and is slower: p95 {other.option.predicted.p95_ms:.1f} ms"


def _difference(winner: _Ranked, other: _Ranked) -> str:
    """The figure in which another plan differs most from the winner."""
    ours, theirs = winner.evaluation.breakdown(), other.evaluation.breakdown()
    parts: list[tuple[float, str]] = []
    for name, unit, own, their in (
        ("cores provisioned", "", ours.provisioned_cores, theirs.provisioned_cores),
        ("memory", " MiB", ours.provisioned_mib, theirs.provisioned_mib),
        ("hops", " ms", ours.hop_ms, theirs.hop_ms),
        ("waiting", " ms", ours.wait_ms, theirs.wait_ms),
        ("run time", " ms", ours.service_ms, theirs.service_ms),
    ):
        change = abs(their - own) / max(abs(own), abs(their), 1e-9)
        if change > 0.02 and abs(their - own) > 0.005:
            parts.append((change, f"{name} {their:.4g}{unit} against {own:.4g}{unit}"))
    parts.sort(key=lambda part: (-part[0], part[1]))
    return "; ".join(text for _, text in parts[:2])


def _because(problem: Problem, ranked: Sequence[_Ranked]) -> str:
    winner = ranked[0]
    predicted = winner.option.predicted
    name = render_grain(winner.option.plan.grain)
    slo = problem.app.slo
    if not winner.option.meets_slo:
        return (
            f"no granularity is predicted to answer {slo.target:.1%} within {slo.latency_ms:g} ms at "
            f"{problem.workload.rate_per_s:g}/s; {name} comes nearest with {predicted.attainment:.1%}"
        )
    said = (
        f"{name} meets the SLO ({predicted.attainment:.1%} within {slo.latency_ms:g} ms) at the least {problem.objective} cost"
    )
    if len(ranked) == 1:
        return said + "; it was the only granularity asked for"
    second = ranked[1]
    other = render_grain(second.option.plan.grain)
    if not second.option.meets_slo:
        return f"{said}; no other does: {other} attains {second.option.predicted.attainment:.1%}"
    detail = _difference(winner, second)
    lead = f"costs {_percent(second.cost, winner.cost)} more" if second.cost > winner.cost * 1.0005 else _tie(winner, second)
    return f"{said}; the runner-up {other} {lead}" + (f", because of {detail}" if detail else "")


def _percent(other: float, own: float) -> str:
    return f"{(other / own - 1):.1%}" if own > 0 else "infinitely"


def _nearest(problem: Problem, ranked: Sequence[_Ranked]) -> str:
    """The nearest SLO that is feasible at this rate, and the highest rate that is feasible at this SLO."""
    slo = problem.app.slo
    latency, at_latency = min((each.evaluation.latency_ms(slo.target), each.option.plan.id, each) for each in ranked)[0::2]
    capacity, at_capacity = max((each.evaluation.capacity_per_s(slo.target), each.option.plan.id, each) for each in ranked)[
        0::2
    ]
    said: list[str] = []
    if latency < float("inf") and at_latency.option.predicted.utilisation < 1:
        said.append(
            f"nearest feasible SLO at {problem.workload.rate_per_s:g}/s: {latency:.0f} ms with "
            f"{render_grain(at_latency.option.plan.grain)}"
        )
    if capacity > 0:
        grain = render_grain(at_capacity.option.plan.grain)
        said.append(f"highest feasible rate at {slo.latency_ms:g} ms: {capacity:.2f}/s with {grain}")
    return "; ".join(said) or f"no SLO is feasible at {problem.workload.rate_per_s:g}/s on these nodes, at any latency"


def _nothing_fits(problem: Problem, facts: dict[int, GroupFacts]) -> str:
    memory = max((node.memory_mib for node in problem.nodes), default=0.0)
    least = min((each.memory_mib for each in facts.values()), default=0.0)
    return (
        f"no granularity of {problem.app.name} fits: its smallest group needs {least:.0f} MiB, "
        f"the largest node has {memory:.0f} MiB"
    )
