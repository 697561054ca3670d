"""What is compared in a cell: every fixed granularity, adaptive, the published sets and ablations, each with its first plan."""

import time
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from grainwise.domain.errors import CapacityError, GrainwiseError, InfeasibleError
from grainwise.domain.graph import Graph
from grainwise.domain.plan import Grain, Plan, render_grain
from grainwise.planning.granularity import granularities
from grainwise.planning.problem import Option, PlanTable
from grainwise.planning.table import compute
from grainwise.policies.published import PUBLISHED
from grainwise.predictors.evaluator import EvaluatorName
from grainwise.simulation.planners import plan as answer
from reproduce.granularity.cells import Point
from reproduce.granularity.records import ADAPTIVE, FUSED, SPLIT, Group
from reproduce.granularity.runs import World

FIXED = "fixed"
PARTIAL, PLANNED = "partial", "planned"
"""In cells with several apps: of each app the best plan that is neither split nor fused, and the best plan of all."""

ABLATIONS = ("residency", "extent", "one_share", "no_batching", "no_locality", "no_prewarm")
CONFIGURATION = "_configuration"
"""Ends the names of published sets whose other parts are ours."""


class Way(Struct, frozen=True):
    """A set of policies from one plan per app on. ``failed`` says why there is none; ``plan_ms`` is what planning took."""

    name: str
    group: Group
    policies: str
    plans: tuple[Plan, ...]
    evaluator: EvaluatorName = "analytic"
    is_fused: bool = False
    is_split: bool = False
    failed: str = ""
    plan_ms: float = 0.0
    attainment: float = 0.0
    usd_per_hour: float = 0.0
    """What the search predicts of the plans."""


def fixed_name(grain: str) -> str:
    """How the way is named that keeps a granularity."""
    return f"{FIXED}:{grain}"


def ways_of(point: Point, world: World) -> tuple[Way, ...]:
    """Everything that a point declares, in the order in which it is reported."""
    found = [*fixed_ways(world), asked(world, ADAPTIVE, "adaptive")]
    if point.has_rollout:
        found += [asked(world, ADAPTIVE, "adaptive", each) for each in ("analytic", "rollout")]
    if point.has_published:
        found += [asked(world, name, group) for name, group in published()]
    if point.has_ablations:
        found += [asked(world, name, "ablation") for name in ABLATIONS]
    return tuple(found)


def published() -> tuple[tuple[str, Group], ...]:
    """Every published set by name, with its group."""
    return tuple((each.name, "configuration" if each.name.endswith(CONFIGURATION) else "reconstructed") for each in PUBLISHED)


def fixed_ways(world: World) -> list[Way]:
    """Every granularity of the app, planned for the true mean rate; of several apps together a few combinations."""
    try:
        tables = [compute(world.problem(at)) for at in range(len(world.samples))]
    except (InfeasibleError, CapacityError) as error:
        return [Way(fixed_name(SPLIT), "fixed", FIXED, (), is_split=True, failed=str(error))]
    if len(tables) == 1:
        # In the order of the granularities' names: the order of the table is by predicted cost, which is no name.
        options = sorted(tables[0].options, key=lambda each: render_grain(each.plan.grain))
        stages = len(world.samples[0].spec.graph.stages)
        return [
            Way(
                fixed_name(render_grain(option.plan.grain)),
                "fixed",
                FIXED,
                (option.plan,),
                is_fused=len(option.plan.functions) == 1,
                is_split=len(option.plan.functions) == stages,
            )
            for option in options
        ]
    return [
        Way(
            fixed_name(name),
            "fixed",
            FIXED,
            tuple(_picked(table, name).plan for table in tables),
            is_fused=name == FUSED,
            is_split=name == SPLIT,
        )
        for name in (SPLIT, FUSED, PARTIAL, PLANNED)
    ]


def granularity_names(graph: Graph) -> tuple[str, ...]:
    """The names of all fixed ways of an app alone, in order."""
    return tuple(sorted(fixed_name(render_grain(_grain(graph, masks))) for masks in granularities(graph)))


def fixed_way(world: World, name: str) -> Way:
    """The way that keeps one granularity of an app alone, by its name, planned for the mean rate."""
    graph = world.samples[0].spec.graph
    grain = next(each for masks in granularities(graph) if fixed_name(render_grain(each := _grain(graph, masks))) == name)
    is_fused, is_split = len(grain) == 1, len(grain) == len(graph.stages)
    try:
        plan = compute(msgspec.structs.replace(world.problem(0), grain=grain)).winner.plan
    except (InfeasibleError, CapacityError) as error:
        return Way(name, "fixed", FIXED, (), is_fused=is_fused, is_split=is_split, failed=str(error))
    return Way(name, "fixed", FIXED, (plan,), is_fused=is_fused, is_split=is_split)


def _grain(graph: Graph, masks: Sequence[int]) -> Grain:
    return tuple(graph.names(mask) for mask in masks)


def _picked(table: PlanTable, name: str) -> Option:
    functions = [len(option.plan.functions) for option in table.options]
    most, least = max(functions), min(functions)
    for count, option in zip(functions, table.options, strict=True):
        if name == PLANNED or (name == SPLIT and count == most) or (name == FUSED and count == least):
            return option
        if name == PARTIAL and least < count < most:
            return option
    return table.options[0]


def asked(world: World, policies: str, group: Group, evaluator: EvaluatorName | None = None) -> Way:
    """A set of policies that begins with the plan that it finds itself.

    Unless an evaluator is named for both, the first plan is judged by rollouts, which a deployment has the time for, and those
    of a run in closed form. Published sets plan by themselves and ask no evaluator.
    """
    name = policies if evaluator is None else f"{policies}@{evaluator}"
    first: EvaluatorName = evaluator or "rollout"
    evaluator = evaluator or "analytic"
    began = time.perf_counter()
    try:
        tables = [answer(world.problem(at, policies, first)) for at in range(len(world.samples))]
    except GrainwiseError as error:
        return Way(name, group, policies, (), evaluator, failed=str(error))
    taken = (time.perf_counter() - began) * 1000 / len(tables)
    winners = [table.winner for table in tables]
    return Way(
        name,
        group,
        policies,
        tuple(winner.plan for winner in winners),
        evaluator,
        plan_ms=round(taken, 3),
        attainment=_mean([winner.predicted.attainment for winner in winners]),
        usd_per_hour=sum(
            winner.predicted.billed_usd_per_hour if world.objective == "billed" else winner.predicted.provisioned_usd_per_hour
            for winner in winners
        ),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
