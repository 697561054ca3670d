"""The granularities worth planning of an app with too many stages to enumerate them all.

Groups are grown stage by stage; where there are too many, only those of few stages. The joint search takes the best
granularities of these groups within each part of the SLO that is searched; where its tables would grow too large or it is cut
off, the app is also planned piece by piece (``split``), and the gap of that to a bound is said. Fused, split and the present
granularity are always looked at.
"""

from itertools import islice

from msgspec import Struct

from grainwise.domain.graph import Graph
from grainwise.planning.additive import cheapest_jointly, steps_of
from grainwise.planning.best import LIMIT_FRACTIONS, Groups
from grainwise.planning.granularity import MAX_STAGES, explain_illegal, granularities
from grainwise.planning.lattice import bits, descendants, successors
from grainwise.planning.options import Choice
from grainwise.planning.split import split_search
from grainwise.planning.steps import Step

MAX_GRANULARITIES = 1024
"""Granularities up to which each is planned: those of a chain of 11 stages."""

MAX_GROUPS = 320
"""Groups up to which all are looked at: those of a chain of 24 stages."""

_LEAST_STAGES = 3
"""Groups of up to this many stages are looked at however many there are."""

KEEP = 3
"""Combinations that the joint search takes per part of the SLO."""


class Shortlist(Struct, frozen=True):
    """Granularities with combinations of configurations of their groups, in the order of the groups.

    ``groups``: all that were looked at. ``because``: what was left out and how good that is; empty where nothing was.
    """

    combinations: dict[tuple[int, ...], list[tuple[Choice, ...]]]
    groups: tuple[int, ...]
    because: str
    expanded: int


def is_large(graph: Graph) -> bool:
    """Whether an app has too many stages or granularities for all of them to be planned."""
    if len(graph.stages) > MAX_STAGES:
        return True
    return sum(1 for _ in islice(granularities(graph), MAX_GRANULARITIES + 1)) > MAX_GRANULARITIES


def shortlist(groups: Groups) -> Shortlist:
    """The granularities of a large app that are worth evaluating."""
    problem = groups.problem
    graph = problem.app.graph
    masks, most = grown_groups(graph)
    steps = steps_of(groups, masks)
    found: dict[tuple[int, ...], list[tuple[Choice, ...]]] = {}
    expanded = 0
    is_exact = True
    for fraction in LIMIT_FRACTIONS:
        jointly = cheapest_jointly(problem, steps, fraction, KEEP)
        expanded += jointly.expanded
        for combination in jointly.combinations:
            _add(found, groups, combination.steps)
        if not jointly.is_exact:
            is_exact = False
            break
    gap = 0.0
    if not is_exact:
        for fraction in LIMIT_FRACTIONS:
            pieces = split_search(graph.predecessors, steps, problem.app.slo.latency_ms * 1000 * fraction)
            expanded += pieces.expanded
            if pieces.combination is not None:
                gap = max(gap, pieces.gap)
                _add(found, groups, pieces.combination.steps)
    always = [tuple(1 << stage for stage in range(len(graph.stages))), (graph.all_mask,)]
    if problem.current is not None:
        always.append(tuple(graph.mask(function.stages) for function in problem.current.functions))
    for plain in always:
        found.setdefault(plain, [])
    said = f"its {len(graph.stages)} stages are too many to plan every granularity: {len(found)} were taken by additive times"
    if most < len(graph.stages):
        said += f" from groups of at most {most} stages"
    if not is_exact:
        said += f", also piece by piece, which costs at most {gap:.1%} more than the best of them"
    return Shortlist(found, masks, said, expanded)


def grown_groups(graph: Graph) -> tuple[tuple[int, ...], int]:
    """Legal groups by size, all or those of few stages, with everything in one; and the most stages of the others."""
    before = graph.predecessors
    after, reached = successors(before), descendants(before)
    neighbours = [before[stage] | after[stage] for stage in range(len(before))]
    layer = {1 << stage: None for stage in range(len(before))}
    found = list(layer)
    size = 1
    is_cut = False
    while layer and size < len(before):
        grown: dict[int, None] = {}
        for mask in layer:
            around = 0
            for stage in bits(mask):
                around |= neighbours[stage]
            for stage in bits(around & ~mask):
                grown[_closed(before, reached, mask | 1 << stage)] = None
        fresh = {mask: None for mask in grown if mask not in found}
        if size >= _LEAST_STAGES and len(found) + len(fresh) > MAX_GROUPS:
            is_cut = True
            break
        found += fresh
        layer = fresh
        size += 1
    legal = [mask for mask in dict.fromkeys([*found, graph.all_mask]) if explain_illegal(graph, mask) is None]
    most = max((mask.bit_count() for mask in legal if mask != graph.all_mask), default=1)
    return tuple(sorted(legal)), most if is_cut else len(before)


def _closed(before: tuple[int, ...], reached: tuple[int, ...], mask: int) -> int:
    """The least convex group that holds ``mask``."""
    from_mask = 0
    for stage in bits(mask):
        from_mask |= reached[stage]
    between = [stage for stage in bits(from_mask & ~mask) if reached[stage] & mask]
    for stage in between:
        mask |= 1 << stage
    return mask


def _add(found: dict[tuple[int, ...], list[tuple[Choice, ...]]], groups: Groups, steps: tuple[Step, ...]) -> None:
    ordered = sorted(steps, key=lambda step: step.mask & -step.mask)
    masks = tuple(step.mask for step in ordered)
    combination = tuple(groups.choices(step.mask)[step.payload] for step in ordered)
    listed = found.setdefault(masks, [])
    if combination not in listed:
        listed.append(combination)
