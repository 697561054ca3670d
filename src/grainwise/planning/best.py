"""The best plan of one granularity: the cheapest combinations by additive times, judged by the evaluator under queueing."""

import math
from collections.abc import Sequence

from msgspec import Struct

from grainwise.domain.graph import Graph
from grainwise.domain.machine import Node
from grainwise.domain.plan import Plan
from grainwise.planning.dispatched import served_ways
from grainwise.planning.options import Choice, choices, explain_misfit, with_spare_room
from grainwise.planning.problem import Option, Problem
from grainwise.planning.search import cheapest, fastest
from grainwise.predictors.evaluate import Evaluation
from grainwise.predictors.groups import GroupFacts, group_facts
from grainwise.predictors.memo import Memo

LIMIT_FRACTIONS = (1.2, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
"""Parts of the SLO that additive times are searched within. A sum of quantiles lies above the quantile of the sum, hence the
first; waiting for cores and the tail of waiting, which only the evaluator knows, need room, hence the others."""

SAME_ATTAINMENT = 0.01
"""Where nothing meets the SLO, by so much attainment no plan is worth more money."""

KEEP = 4
"""Combinations that are evaluated per part."""


class Groups:
    """The groups of one problem, each derived once however many granularities hold it."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.memo = Memo()
        self._memos: dict[tuple[Node, ...], Memo] = {}
        self._choices: dict[int, tuple[Choice, ...]] = {}

    @property
    def facts(self) -> dict[int, GroupFacts]:
        """By the mask of a group."""
        return self.memo.facts

    def evaluation(self, plan: Plan) -> Evaluation:
        """A plan as it is served: where extents are decided at dispatch and it misses the SLO, the best of its ways."""
        problem = self.problem
        rate = problem.workload.rate_per_s
        best = Evaluation(problem, plan, memo=self.memo)
        if not problem.is_stagewise or best.attainment(rate) >= problem.app.slo.target:
            return best
        for scenario, served in served_ways(problem, plan):
            memo = self._memos.setdefault(scenario.nodes, Memo())
            best = max(best, Evaluation(scenario, served, memo=memo, charged=plan), key=lambda each: each.attainment(rate))
        return best

    def choices(self, mask: int) -> tuple[Choice, ...]:
        """The configurations of a group."""
        if mask not in self._choices:
            self.facts[mask] = group_facts(self.problem, mask)
            self._choices[mask] = choices(self.problem, self.facts[mask])
        return self._choices[mask]


class Best(Struct, frozen=True):
    """The best plan of a granularity with its evaluation, cost by the problem's objective, and how the search went."""

    option: Option
    evaluation: Evaluation
    cost: float
    is_exact: bool


class _Candidate(Struct, frozen=True):
    plan: Plan
    evaluation: Evaluation
    attainment: float
    cost: float
    cores: float


def best_of(groups: Groups, masks: tuple[int, ...], given: Sequence[tuple[Choice, ...]] = ()) -> tuple[Best | None, int]:
    """The cheapest plan of a granularity that meets the SLO, else the one that attains most; and the nodes expanded.

    Combinations of the choices of ``masks`` that are ``given`` are evaluated instead of searched for. Of plans that attain the
    same, such as nothing, the least overloaded is best, then the cheapest. ``None`` where no plan of this granularity fits the
    nodes.
    """
    problem = groups.problem
    target = problem.app.slo.target
    order, before = layers_of(problem.app.graph, masks)
    layers = [groups.choices(masks[at]) for at in order]
    if not all(layers):
        return None, 0
    limit_us = problem.app.slo.latency_ms * 1000
    seen: dict[str, _Candidate] = {}
    expanded = 0
    is_exact = True
    enough = math.inf
    for combination in given:
        _consider(groups, order, tuple(combination[at] for at in order), seen)
    for fraction in () if given else LIMIT_FRACTIONS:
        found = cheapest(problem, layers, before, limit_us * fraction, KEEP)
        expanded += found.expanded
        is_exact = is_exact and found.is_exact
        for combination in found.combinations:
            # What costs more than a plan that meets the SLO is beaten whatever it attains.
            if sum(choice.cost for choice in combination) <= enough:
                enough = min(enough, _consider(groups, order, combination, seen))
        if found.is_exact and (not found.combinations or sum(choice.cost for choice in found.combinations[0]) > enough):
            # With less time a combination costs no less.
            break
    for is_overload_allowed in (False, True):
        if any(candidate.attainment >= target for candidate in seen.values()):
            break
        found = fastest(problem, layers, before, KEEP, is_overload_allowed=is_overload_allowed)
        expanded += found.expanded
        for combination in (*found.combinations, *_carrying(layers)):
            _consider(groups, order, combination, seen)
    if not seen:
        return None, expanded
    meeting = [each for each in seen.values() if each.attainment >= target]
    if meeting:
        best = min(meeting, key=lambda each: (each.cost, each.cores, -each.attainment, each.plan.id))
    else:
        most = max(each.attainment for each in seen.values())
        near = [each for each in seen.values() if each.attainment >= most - SAME_ATTAINMENT]
        best = min(near, key=lambda each: (each.evaluation.overload(), each.cost, -each.attainment, each.plan.id))
    predicted = best.evaluation.predict()
    option = Option(best.plan, predicted, predicted.attainment >= target)
    return Best(option, best.evaluation, best.cost, is_exact), expanded


def layers_of(graph: Graph, masks: tuple[int, ...]) -> tuple[list[int], list[list[int]]]:
    """Positions of the groups in topological order, and for each of them the ones before that it waits for."""
    waits = []
    for mask in masks:
        needed = 0
        for index, predecessors in enumerate(graph.predecessors):
            if mask >> index & 1:
                needed |= predecessors
        waits.append(needed & ~mask)
    order: list[int] = []
    done = 0
    while len(order) < len(masks):
        at = next(at for at in range(len(masks)) if at not in order and not waits[at] & ~done)
        order.append(at)
        done |= masks[at]
    place = {at: number for number, at in enumerate(order)}
    before = [[place[other] for other in range(len(masks)) if waits[at] & masks[other]] for at in order]
    return order, before


def _consider(groups: Groups, order: Sequence[int], combination: tuple[Choice, ...], seen: dict[str, _Candidate]) -> float:
    """Evaluate a combination, unless it was or does not fit; its cost where it meets the SLO, else infinity."""
    problem = groups.problem
    by_position = sorted(zip(order, combination, strict=True), key=lambda each: each[0])
    functions = tuple(choice.function for _, choice in by_position)
    bare = Plan(problem.app.name, functions, problem.objective)
    if explain_misfit(problem, bare) is not None:
        return math.inf
    plan = with_spare_room(problem, bare)
    if plan.id in seen:
        return math.inf
    evaluation = groups.evaluation(plan)
    attainment = evaluation.attainment(problem.workload.rate_per_s)
    cost = evaluation.usd_per_hour(problem.objective)
    cores = sum(function.cpu_cores * function.instances for function in functions)
    seen[plan.id] = _Candidate(plan, evaluation, attainment, cost, cores)
    return cost if attainment >= problem.app.slo.target else math.inf


def _carrying(layers: Sequence[Sequence[Choice]]) -> list[tuple[Choice, ...]]:
    """What to look at besides when nothing meets the SLO: the least demand for cores, and the least load of each function."""
    return [
        tuple(min(layer, key=lambda choice: (choice.demand_cores, choice.utilisation, choice.cost)) for layer in layers),
        tuple(min(layer, key=lambda choice: (choice.utilisation, choice.demand_cores, choice.cost)) for layer in layers),
    ]
