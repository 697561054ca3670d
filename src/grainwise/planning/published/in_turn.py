"""Plans of functions that each chose by itself: they are given room one after another, in topological order.

A function that finds no room for what it prefers, beside those before it and the least of those after it, takes the next.
Where no configuration has room for as many instances as the rate needs, it gets the one that carries most in the room there is.
"""

from collections.abc import Sequence

from msgspec import Struct

from grainwise.domain.errors import InfeasibleError
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.planning.best import Groups, layers_of
from grainwise.planning.options import MAX_UTILISATION, explain_misfit, with_spare_room
from grainwise.planning.problem import PlanTable, Problem
from grainwise.planning.published.answer import functions_of, table_of
from grainwise.planning.published.esg_1q import Configuration as Step
from grainwise.planning.published.function_by_function import Configuration, Function, System, by_function, ranked, total
from grainwise.planning.published.provided import provided
from grainwise.planning.table import nothing_fits
from grainwise.predictors.station import usable_cores


class Given(Struct, frozen=True):
    """What a function gets. ``lacks`` says what it does without, empty where it has what it prefers."""

    function: Function
    configuration: Configuration
    instances: int
    lacks: str = ""


def configure(problem: Problem, system: System, *, as_ours: bool = False) -> PlanTable:
    """Answer a planning problem after a system, at split granularity or the one that is forced: a table of one option.

    Args:
        problem: the planning problem.
        system: whose choice it is.
        as_ours: have as many instances of the configurations as ours would get, see ``provided``, instead of the system's.

    Raises:
        InfeasibleError: no plan of that granularity fits the nodes, it is none, or a stage wants a GPU and no node has one.
        ConfigurationError: the problem holds a value outside its range.
    """
    groups, masks = functions_of(problem)
    given = choose(groups, masks, system)
    plan = provided(groups, [(mask, _step(each)) for mask, each in zip(masks, given, strict=True)]) if as_ours else None
    if plan is None:
        functions = tuple(_planned(problem, each.function, each.configuration, each.instances) for each in given)
        plan = with_spare_room(problem, Plan(problem.app.name, functions, problem.objective))
    return table_of(groups, plan, _how(problem, system, given), sum(len(each.function.configurations) for each in given))


def choose(groups: Groups, masks: tuple[int, ...], system: System) -> tuple[Given, ...]:
    """What each function gets, in the order of ``masks``, of which ``groups`` has the facts.

    Raises:
        InfeasibleError: not even the least of each function fits the nodes.
    """
    problem = groups.problem
    order, before = layers_of(problem.app.graph, masks)
    functions = by_function(problem, [groups.facts[masks[at]] for at in order], before, system)
    if not all(function.configurations for function in functions):
        raise InfeasibleError(nothing_fits(groups))
    given: list[Given] = []
    for number, function in enumerate(functions):
        found = _given(problem, system, function, given, functions[number + 1 :])
        if found is None:
            raise InfeasibleError(nothing_fits(groups))
        given.append(found)
    by_place = dict(zip(order, given, strict=True))
    return tuple(by_place[at] for at in range(len(masks)))


def _given(
    problem: Problem, system: System, function: Function, before: Sequence[Given], after: Sequence[Function]
) -> Given | None:
    """The first configuration for which there is room beside those before and the least of those after, with all instances."""
    order = ranked(problem, system, function)
    in_time = len(function.in_time())
    for is_overload_allowed in (False, True):
        for place, each in enumerate(order):
            count = function.instances(each)
            if count <= each.most and _has_room(problem, function, each, count, before, after, is_overload_allowed):
                return Given(function, each, count, _lacks(place, in_time, function))
    best: Given | None = None
    for each in order:
        count = _most_instances(problem, function, each, before, after)
        if count and (best is None or count * each.items_per_s > best.instances * best.configuration.items_per_s):
            said = f"room for {count} of {function.instances(each)} instances"
            best = Given(function, each, count, said)
    return best


def _lacks(place: int, in_time: int, function: Function) -> str:
    part = f"its part of {function.part_us / 1000:.0f} ms"
    if not in_time:
        return f"nothing is within {part}, so about the fastest" + (" of those with room" if place else "")
    if place >= in_time:
        return f"nothing within {part} has room, so about the fastest that has"
    return f"{place} that it prefers {'have' if place > 1 else 'has'} no room" if place else ""


def _most_instances(
    problem: Problem, function: Function, each: Configuration, before: Sequence[Given], after: Sequence[Function]
) -> int:
    """How many instances there is room for, up to what the rate needs."""
    low, high = 0, min(each.most, function.instances(each))
    while low < high:
        middle = (low + high + 1) // 2
        if _has_room(problem, function, each, middle, before, after, is_overload_allowed=True):
            low = middle
        else:
            high = middle - 1
    return low


def _has_room(
    problem: Problem,
    function: Function,
    configuration: Configuration,
    count: int,
    before: Sequence[Given],
    after: Sequence[Function],
    is_overload_allowed: bool,
) -> bool:
    if not is_overload_allowed:
        busy = function.busy_cores(configuration)
        busy += total(each.function.busy_cores(each.configuration) for each in before)
        busy += total(min(each.busy_cores(other) for other in each.configurations) for each in after)
        if busy > MAX_UTILISATION * usable_cores(problem.nodes):
            return False
    functions = [_planned(problem, each.function, each.configuration, each.instances) for each in before]
    functions.append(_planned(problem, function, configuration, count))
    functions.extend(_planned(problem, each, _smallest(each), 1) for each in after)
    return explain_misfit(problem, Plan(problem.app.name, tuple(functions), problem.objective)) is None


def _smallest(function: Function) -> Configuration:
    return min(function.configurations, key=lambda each: (each.batch, each.gpu_share_fraction, each.cpu_cores))


def _planned(problem: Problem, function: Function, configuration: Configuration, instances: int) -> FunctionPlan:
    facts = function.facts
    return FunctionPlan(
        stages=problem.app.graph.names(facts.mask),
        cpu_cores=configuration.cpu_cores,
        max_batch=configuration.batch,
        instances=instances,
        min_instances=min(function.batches(configuration), instances),
        max_instances=configuration.most,
        device=facts.device,
        gpu_share_fraction=configuration.gpu_share_fraction,
        memory_mib=round(facts.memory_mib, 3),
    )


def _step(given: Given) -> Step:
    configuration = given.configuration
    return Step(
        configuration.run_us,
        configuration.usd_per_s / configuration.items_per_s,
        configuration.batch,
        cpu_cores=configuration.cpu_cores,
        gpu_share_fraction=configuration.gpu_share_fraction,
    )


def _how(problem: Problem, system: System, given: Sequence[Given]) -> str:
    said = f"after {system.name}, reconstructed: each function by itself {system.looks_for}"
    for each in given:
        if each.lacks:
            said += f"; {'+'.join(problem.app.graph.names(each.function.facts.mask))}: {each.lacks}"
    return said
