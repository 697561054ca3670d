"""A plan after ESG: every stage a function of its own, its configuration that of the cheapest path in time (reconstructed).

ESG (HPDC 2024) decides when it dispatches; what it starts instances with beforehand is not known. Here that is what it would
decide for a request with all of its time left: the SLO is distributed over the functions, and each run of them takes the
cheapest path of ESG_1Q, with as many requests waiting as come within its time. Where no path is in time it takes the fastest.
"""

from collections.abc import Sequence

from msgspec import Struct

from grainwise.domain.errors import InfeasibleError
from grainwise.planning.best import layers_of
from grainwise.planning.devices import gpu_shares
from grainwise.planning.options import batches, powers_up_to, shares, useful_batch
from grainwise.planning.problem import PlanTable, Problem
from grainwise.planning.published.answer import functions_of, table_of
from grainwise.planning.published.esg_1q import Configuration, Layers
from grainwise.planning.published.esg_layers import PATHS, Distribution, Way, configurations, lengths
from grainwise.planning.published.provided import provided
from grainwise.planning.published.sizes import ladders
from grainwise.planning.table import nothing_fits
from grainwise.predictors.groups import GroupFacts, group_facts


class Chosen(Struct, frozen=True):
    """What ESG_1Q makes of all functions: the best combinations of configurations, in the order of the functions.

    ``late`` are the functions of runs of which no path is in time.
    """

    combinations: tuple[tuple[Configuration, ...], ...]
    late: tuple[int, ...]
    expanded: int


def configure(problem: Problem) -> PlanTable:
    """Answer a planning problem after ESG, at split granularity or the one that is forced: a table of one option.

    Raises:
        InfeasibleError: no plan of that granularity fits the nodes, it is none, or a stage wants a GPU and no node has one.
        ConfigurationError: the problem holds a value outside its range.
    """
    groups, masks = functions_of(problem)
    if not all(ladders(problem, groups.facts[mask], 1).cpu for mask in masks):
        raise InfeasibleError(nothing_fits(groups))
    chosen = choose(problem, masks)
    for number, combination in enumerate((*chosen.combinations, _least(problem, masks))):
        plan = provided(groups, tuple(zip(masks, combination, strict=True)))
        if plan is not None:
            return table_of(groups, plan, _how(problem, chosen, number, masks), chosen.expanded)
    raise InfeasibleError(nothing_fits(groups))


def choose(problem: Problem, masks: Sequence[int]) -> Chosen:
    """The configurations of the cheapest paths for a request that has all of its time left.

    Args:
        problem: the planning problem.
        masks: the functions, a granularity of the app.
    """
    order, before = layers_of(problem.app.graph, tuple(masks))
    facts = [group_facts(problem, masks[at]) for at in order]
    predecessors = [_mask(waits) for waits in before]
    layers = [configurations(problem, each, _ways(problem, each), max(1, int(each.items))) for each in facts]
    distribution = Distribution(
        predecessors, lengths(problem, facts, [useful_batch(each) for each in facts], _grid(problem, facts))
    )
    ranked: list[list[Configuration]] = [[] for _ in masks]
    late: list[int] = []
    expanded = 0
    for run in distribution.runs(0, int(problem.app.slo.latency_ms * 1000)):
        ready = Layers([layers[each] for each in run.functions])
        queue = max(1, int(problem.workload.rate_per_s * facts[run.functions[0]].items * run.time_us / 1e6))
        found = ready.search(run.time_us, PATHS, queue)
        expanded += found.expanded
        paths = found.paths
        if not paths:
            fastest = ready.fastest(queue)
            assert fastest is not None
            paths = (fastest,)
            late.extend(order[each] for each in run.functions)
        for rank in range(PATHS):
            for each, place in zip(run.functions, paths[min(rank, len(paths) - 1)].places, strict=True):
                ranked[order[each]].append(layers[each][place])
    combinations = tuple(dict.fromkeys(zip(*ranked, strict=True)))
    return Chosen(combinations, tuple(late), expanded)


def _mask(positions: Sequence[int]) -> int:
    found = 0
    for each in positions:
        found |= 1 << each
    return found


def _ways(problem: Problem, facts: GroupFacts) -> list[Way]:
    return [
        (batch, cores, gpu)
        for batch in batches(facts)
        for gpu in gpu_shares(problem, facts, batch)
        for cores in shares(problem)
    ]


def _grid(problem: Problem, functions: Sequence[GroupFacts]) -> list[Way]:
    """The configurations that lengths are averaged over: all that some function may have."""
    most = max(useful_batch(each) for each in functions)
    parts = sorted({gpu for each in functions for gpu in gpu_shares(problem, each, 1)} - {0.0}) or [0.0]
    return [(batch, cores, gpu) for batch in powers_up_to(most) for gpu in parts for cores in shares(problem)]


def _least(problem: Problem, masks: Sequence[int]) -> tuple[Configuration, ...]:
    """The minimum configuration of every function: one item, the least cores, the smallest share of a device."""
    found: list[Configuration] = []
    for mask in masks:
        facts = group_facts(problem, mask)
        found.append(
            configurations(problem, facts, [min(_ways(problem, facts), key=lambda way: (way[0], way[2], way[1]))], 1)[0]
        )
    return tuple(found)


def _how(problem: Problem, chosen: Chosen, number: int, masks: Sequence[int]) -> str:
    if number == len(chosen.combinations):
        return "after ESG, reconstructed, the minimum configuration of every function, since none of its cheapest paths fits"
    said = "after ESG, reconstructed, the configurations of the cheapest path in time"
    if number:
        said += f" of which instances fit, {number} being cheaper"
    if chosen.late:
        names = ", ".join("+".join(problem.app.graph.names(masks[at])) for at in chosen.late)
        said += f" (none through {names} is in time, so the fastest)"
    return said
