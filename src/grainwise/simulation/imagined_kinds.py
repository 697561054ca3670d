"""Kinds of requests whose means are those of a forecast: what is inside the requests of which no more is known.

Fan-outs, branches and sizes of a kind belong together. What a forecast does not say is taken to be as even as it can be:
elements of a fan-out differ by one at most, branches are drawn independently of everything else.
"""

import math
from collections.abc import Sequence

from grainwise.domain.app import AppSpec
from grainwise.domain.graph import Graph, Guard, Source
from grainwise.predictors.groups import scope_items
from grainwise.predictors.latency import LatencyModel, StageModel
from grainwise.predictors.workload import Workload
from grainwise.simulation.contents import Kind
from grainwise.workloads.integers import mixed

KINDS = 24
"""So many kinds stand for a mean request whose figures are no whole numbers: a probability comes out to within 1 in 48."""

_EPSILON = 1e-9

Choice = tuple[type, bool | int | str | None]
"""A branch of a ``choose``, told from others of equal value but another type."""


def imagined_kinds(spec: AppSpec, model: LatencyModel, workload: Workload) -> tuple[Kind, ...]:
    """Kinds of requests, equally frequent, whose means are those of the forecast; one for each of its variants at least."""
    graph = spec.graph
    variants = workload.variants or ((1.0,) * len(graph.stages),)
    is_whole = all(abs(items - round(items)) < _EPSILON for items in workload.items)
    repeats = 1 if is_whole else -(-KINDS // len(variants))
    draws = _Draws(graph, workload, repeats * len(variants))
    found: list[Kind] = []
    for number in range(repeats * len(variants)):
        variant = variants[number % len(variants)] if workload.variants else ()
        counts = draws.counts(number, variant)
        sizes, factors = _sizes(model, workload, counts, variant)
        is_plain = all(abs(factor - 1) < _EPSILON for factor in factors)
        found.append(
            Kind(
                counts,
                sizes,
                tuple(max(1, round(nbytes)) for nbytes in workload.output_bytes),
                tuple(max(1, round(nbytes)) for nbytes in workload.input_bytes),
                () if is_plain else factors,
                () if is_plain else (1.0,) * len(factors),
            )
        )
    if any(kind.factors for kind in found):
        # Factors count where every kind has some.
        one = (1.0,) * len(graph.stages)
        found = [Kind(kind.counts, kind.sizes, kind.output_bytes, kind.input_bytes, kind.factors or one, one) for kind in found]
    return tuple(found)


def _sizes(
    model: LatencyModel, workload: Workload, counts: Sequence[int], variant: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per stage the size of an item, and by what factor a call takes longer than its size says, so that the work is right."""
    if not variant:
        return workload.item_size, (1.0,) * len(counts)
    sizes: list[float] = []
    factors: list[float] = []
    for stage, count, relative, items, size in zip(
        model.stages, counts, variant, workload.items, workload.item_size, strict=True
    ):
        found, factor = _size(stage, count, relative, items, size)
        sizes.append(found)
        factors.append(factor)
    return tuple(sizes), tuple(factors)


def _size(stage: StageModel, count: int, relative: float, items: float, size: float) -> tuple[float, float]:
    wanted = relative * (stage.intercept_us * min(1.0, items) + items * (stage.per_item_us + stage.per_size_us * size))
    least = stage.intercept_us + count * stage.per_item_us
    if not count or wanted <= 0:
        return size, 1.0
    if stage.per_size_us > 0 and wanted > least:
        return (wanted - least) / (stage.per_size_us * count), 1.0
    predicted = least + count * stage.per_size_us * size
    return size, wanted / predicted if predicted > 0 else 1.0


class _Draws:
    """How often the stages run in each of some equally frequent kinds of requests."""

    def __init__(self, graph: Graph, workload: Workload, kinds: int) -> None:
        self._graph = graph
        self._items = workload.items
        self._scopes = tuple(dict.fromkeys((*node.scope, each) for each, node in enumerate(graph.eaches)))
        self._totals = {scope: scope_items(graph, workload, scope) for scope in self._scopes}
        self._choices = _choices(graph, workload.items)
        self._inner = tuple(
            dict.fromkeys(
                node.guards[-1].on
                for node in graph.stages
                if node.scope and node.guards and graph.scope_of(node.guards[-1].on) == node.scope
            )
        )
        columns = len(self._scopes) + len(self._choices) + len(self._inner)
        self._levels = [_permuted(column, kinds) for column in range(columns)]

    def counts(self, kind: int, variant: Sequence[float]) -> tuple[int, ...]:
        """Executions of each stage in one request of a kind."""
        levels = [column[kind] for column in self._levels]
        elements, choices = len(self._scopes), len(self._choices)
        drawn = map(_drawn, self._choices.values(), levels[elements : elements + choices])
        taken = dict(zip(self._choices, drawn, strict=True))
        rounding = dict(zip(self._inner, levels[elements + choices :], strict=True))
        totals: dict[tuple[int, ...], int] = {(): 1}
        for scope, level in zip(self._scopes, levels[:elements], strict=True):
            totals[scope] = self._elements(scope, level, totals, taken, variant)
        return tuple(self._count(index, totals, taken, rounding, variant) for index in range(len(self._graph.stages)))

    def _elements(
        self,
        scope: tuple[int, ...],
        level: float,
        totals: dict[tuple[int, ...], int],
        taken: dict[Source, Choice | None],
        variant: Sequence[float],
    ) -> int:
        outer = totals[scope[:-1]]
        inside = [index for index, node in enumerate(self._graph.stages) if node.scope[: len(scope)] == scope]
        if not outer or not inside:
            return 0
        mean = self._totals[scope]
        if variant:
            exact = [index for index in inside if self._graph.stages[index].scope == scope] or inside
            plain = [index for index in exact if not self._graph.stages[index].guards] or exact
            relative = sum(variant[index] for index in plain) / len(plain)
            return math.floor(mean * relative + level) or int(relative > 0 and mean >= 1)
        around = self._graph.body_guards(scope[-1])
        if not all(self._is_taken(guard, taken) for guard in around):
            return 0
        mean /= max(_EPSILON, self._probability(around))
        before = self._totals.get(scope[:-1], 1.0)
        return math.floor(mean * outer / max(_EPSILON, before) + level)

    def _count(
        self,
        index: int,
        totals: dict[tuple[int, ...], int],
        taken: dict[Source, Choice | None],
        rounding: dict[Source, float],
        variant: Sequence[float],
    ) -> int:
        node = self._graph.stages[index]
        total = totals[node.scope]
        if not node.guards or not total:
            return total
        if not node.scope:
            return int(variant[index] > 0 if variant else all(self._is_taken(guard, taken) for guard in node.guards))
        own = node.guards[-1]
        if self._graph.scope_of(own.on) != node.scope:
            return total if variant or all(self._is_taken(guard, taken) for guard in node.guards) else 0
        # The branches of one choice share out its elements: each takes what lies between two rounded sums.
        branches = self._branch_items(node.scope, own.on, variant)
        whole = sum(branches.values())
        if not variant:
            whole = max(whole, self._totals[node.scope])
        scale = total / whole if whole > 0 else 0.0
        below, level = 0.0, rounding[own.on]
        for choice, items in branches.items():
            above = below + items
            if choice == _choice(own):
                return math.floor(above * scale + level) - math.floor(below * scale + level)
            below = above
        return 0

    def _branch_items(self, scope: tuple[int, ...], on: Source, variant: Sequence[float]) -> dict[Choice, float]:
        """Items of each branch of a choice inside a fan-out."""
        found: dict[Choice, float] = {}
        for index, node in enumerate(self._graph.stages):
            if node.scope == scope and node.guards and node.guards[-1].on == on:
                found.setdefault(_choice(node.guards[-1]), self._items[index] * (variant[index] if variant else 1.0))
        return found

    def _is_taken(self, guard: Guard, taken: dict[Source, Choice | None]) -> bool:
        return guard.on not in taken or taken[guard.on] == _choice(guard)

    def _probability(self, guards: Sequence[Guard]) -> float:
        found = 1.0
        for guard in guards:
            found *= dict(self._choices.get(guard.on, ())).get(_choice(guard), 1.0)
        return found


def _choice(guard: Guard) -> Choice:
    return type(guard.equals), guard.equals


def _choices(graph: Graph, items: Sequence[float]) -> dict[Source, tuple[tuple[Choice, float], ...]]:
    """For each choice outside fan-outs its branches with their probability, given that the choice is come to at all."""
    found: dict[Source, dict[Choice, float | None]] = {}
    for index, node in enumerate(graph.stages):
        for depth, guard in enumerate(node.guards):
            if graph.scope_of(guard.on):
                continue
            known = found.setdefault(guard.on, {})
            known.setdefault(_choice(guard), None)
            if node.scope or depth != len(node.guards) - 1:
                continue
            before = 1.0
            for outer in node.guards[:-1]:
                before *= found.get(outer.on, {}).get(_choice(outer)) or 1.0
            known[_choice(guard)] = min(1.0, items[index] / max(before, _EPSILON))
    return {on: _shared_out(known) for on, known in found.items()}


def _shared_out(known: dict[Choice, float | None]) -> tuple[tuple[Choice, float], ...]:
    """Branches of which nothing is known share what the others leave."""
    total = sum(value for value in known.values() if value is not None)
    unknown = sum(value is None for value in known.values())
    rest = max(0.0, 1.0 - total) / max(1, unknown)
    scale = 1.0 / total if total > 1 else 1.0
    return tuple((choice, rest if value is None else value * scale) for choice, value in known.items())


def _drawn(branches: Sequence[tuple[Choice, float]], level: float) -> Choice | None:
    """The branch in which ``level`` falls; none where it falls beyond them all."""
    for choice, probability in branches:
        if level < probability:
            return choice
        level -= probability
    return None


def _permuted(column: int, count: int) -> list[float]:
    """The middle of each of ``count`` equal parts of 0 to 1, in an order of its own for each column."""
    order = sorted(range(count), key=lambda at: mixed((column + 1) * 0xD1B54A32D192ED03 ^ at))
    found = [0.0] * count
    for rank, at in enumerate(order):
        found[at] = (rank + 0.5) / count
    return found
