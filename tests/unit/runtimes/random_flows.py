"""Random small flows of integers, and a tiny controller that runs any grouping of their stages through the codec."""

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from grainwise import App, Batch, Slo, choose, each
from grainwise.domain.extent import Extent, is_skipped, make_extent
from grainwise.domain.graph import Element, Gathered, Graph, Input, Merged, Output, Source
from grainwise.domain.values import SKIPPED, Payload
from grainwise.runtimes.columns import SKIPPED_VALUE
from grainwise.runtimes.execute import Resident

Op = tuple[Any, ...]


class ThirteenError(Exception):
    """What the stages of these flows raise on an unlucky number."""


def _lucky(value: int) -> int:
    if value % 13 == 12:
        raise ThirteenError(str(value))
    return value


def inc(values: Batch[int]) -> Batch[int]:
    return [_lucky(value + 1) for value in values]


def add(firsts: Batch[int], seconds: Batch[int]) -> Batch[int]:
    return [first + second for first, second in zip(firsts, seconds, strict=True)]


def spread(values: Batch[int]) -> Batch[list[int]]:
    return [[value + step for step in range(abs(value) % 4)] for value in values]


def total(lists: Batch[list[int]]) -> Batch[int]:
    return [sum(values) % 1000 for values in lists]


def parity(values: Batch[int]) -> Batch[bool]:
    return [value % 2 == 0 for value in values]


def _ops(depth: int) -> st.SearchStrategy[list[Op]]:
    at = st.integers(0, 9)
    simple = [
        st.tuples(st.just("inc"), at),
        st.tuples(st.just("add"), at, at),
        st.tuples(st.just("spread"), at),
        st.tuples(st.just("total"), at),
    ]
    if depth:
        body = _ops(depth - 1)
        simple += [
            st.tuples(st.just("each"), at, body, at),
            st.tuples(st.just("choose"), at, body, body, at, st.booleans()),
            st.tuples(st.just("choose_list"), at, at, at),
        ]
    return st.lists(st.one_of(simple), min_size=1, max_size=4)


flows = _ops(2)


class Stages:
    """The stages of one random app, with the batch sizes that the test drew."""

    def __init__(self, app: App, batches: Sequence[int]) -> None:
        self.inc = app.stage(inc, max_batch=batches[0])
        self.add = app.stage(add, max_batch=batches[1])
        self.spread = app.stage(spread, max_batch=batches[2])
        self.total = app.stage(total, max_batch=batches[3])
        self.parity = app.stage(parity, max_batch=batches[4])


class Scope:
    """The values that a flow, a body or a branch may read. In a body only ``add`` may read what was made ``outside``."""

    def __init__(self, ints: list[int], lists: list[list[int]], outside: list[int]) -> None:
        self.ints = ints
        self.lists = lists
        self.outside = outside

    def number(self, at: int) -> int:
        """A number of this scope."""
        return self.ints[at % len(self.ints)]

    def any_number(self, at: int) -> int:
        """A number of this scope or from outside."""
        everything = [*self.outside, *self.ints]
        return everything[at % len(everything)]


def _interpret(stages: Stages, ops: list[Op], scope: Scope) -> None:
    """Extend ``scope`` by the values of ``ops``."""
    ints, lists = scope.ints, scope.lists
    for op in ops:
        kind, at = op[0], op[1]
        value = scope.number(at)
        if kind == "inc":
            ints.append(stages.inc(value))
        elif kind == "add":
            ints.append(stages.add(value, scope.any_number(op[2])))
        elif kind == "spread":
            lists.append(stages.spread(value))
        elif kind == "total" and lists:
            ints.append(stages.total(lists[at % len(lists)]))
        elif kind == "each":
            items = lists[at % len(lists)] if lists else stages.spread(value)
            lists.append(each(_body(stages, op[2], op[3], scope), items))
        elif kind == "choose":
            key = stages.parity(value)
            yes, no = (_branch(stages, branch, op[4], scope) for branch in (op[2], op[3]))
            if op[5]:
                ints.append(choose(key, {True: yes}, value, otherwise=no))
            else:
                ints.append(choose(key, {True: yes, False: no}, value))
        elif kind == "choose_list":
            items = lists[op[2] % len(lists)] if lists else stages.spread(value)
            branches: dict[bool, Callable[[list[int]], list[int]]] = {
                True: lambda found: each(stages.inc, found),
                False: lambda found: stages.spread(stages.total(found)),
            }
            lists.append(choose(stages.parity(scope.number(op[3])), branches, items))


def _body(stages: Stages, ops: list[Op], at: int, outer: Scope) -> Callable[[int], int]:
    outside = [*outer.outside, *outer.ints]

    def body(element: int) -> int:
        scope = Scope([element], [], outside)
        _interpret(stages, ops, scope)
        return stages.add(scope.ints[-1], scope.any_number(at))

    return body


def _branch(stages: Stages, ops: list[Op], at: int, outer: Scope) -> Callable[[int], int]:
    ints, lists = list(outer.ints), list(outer.lists)

    def branch(value: int) -> int:
        scope = Scope([*ints, value], list(lists), outer.outside)
        _interpret(stages, ops, scope)
        return stages.add(scope.ints[-1], scope.any_number(at))

    return branch


def make_app(ops: list[Op], batches: Sequence[int]) -> tuple[App, Callable[[int, list[int]], int]]:
    """An app whose flow is ``ops``; every value of the outermost level flows into its result."""
    app = App("random", slo=Slo(latency_ms=1000))
    stages = Stages(app, batches)

    @app.flow
    def flow(number: int, numbers: list[int]) -> int:
        scope = Scope([number], [numbers], [])
        _interpret(stages, ops, scope)
        result = scope.ints[0]
        for value in scope.ints[1:]:
            result = stages.add(result, value)
        for values in scope.lists:
            result = stages.add(result, stages.total(values))
        return result

    return app, flow


class Chain:
    """Runs one request through the extents of a grouping, as a controller would, with every value going through the codec."""

    def __init__(self, resident: Resident, groups: Sequence[int]) -> None:
        self.resident = resident
        self.graph: Graph = resident.graph
        self.extents = [make_extent(self.graph, mask) for mask in groups]
        self.values: dict[tuple[Source, tuple[int, ...]], object] = {}
        self.failed = False
        self.done = 0

    def run(self, inputs: Sequence[object]) -> tuple[object, ...] | None:
        """The outputs of the flow, None when an item failed."""
        for index, value in enumerate(inputs):
            self.keep(Input(index), (), value)
        waiting = list(self.extents)
        while waiting and not self.failed:
            ready = next(extent for extent in waiting if all(self.is_known(source) for source in extent.inputs))
            waiting.remove(ready)
            self.perform(ready)
        return None if self.failed else tuple(self.get(source, ()) for source in self.graph.outputs)

    def is_known(self, source: Source) -> bool:
        return all(self.done >> stage & 1 for stage in self.graph.producers(source))

    def perform(self, extent: Extent) -> None:
        paths = [path for path in self.paths(extent.scope) if not self.skips(extent, path)]
        skipped = [path for path in self.paths(extent.scope) if path not in paths]
        for path in skipped:
            for source in extent.outputs:
                self.values[source, path] = SKIPPED_VALUE
        if paths:
            items = [[self.get(source, path) for source in extent.inputs] for path in paths]
            for path, result in zip(paths, self.resident.run(extent, items).results, strict=True):
                if not isinstance(result, tuple):
                    self.failed = True
                    return
                for source, value in zip(extent.outputs, result, strict=True):
                    self.keep(source, path, value)
        self.done |= extent.mask

    def skips(self, extent: Extent, path: tuple[int, ...]) -> bool:
        payloads: dict[Source, Payload] = {}
        for source in extent.inputs:
            value = self.get(source, path)
            if value is SKIPPED_VALUE:
                payloads[source] = SKIPPED
            else:
                payloads[source] = Payload(key=value if isinstance(value, bool | int | str) else None)
        return is_skipped(self.graph, extent, payloads)

    def paths(self, scope: tuple[int, ...]) -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = [()]
        for each_ in scope:
            longer: list[tuple[int, ...]] = []
            for path in found:
                over = self.get(self.graph.eaches[each_].over, path)
                if over is not SKIPPED_VALUE:
                    assert isinstance(over, list)
                    longer.extend((*path, index) for index in range(len(over)))
            found = longer
        return found

    def keep(self, source: Source, path: tuple[int, ...], value: object) -> None:
        """Store a value as it is after its journey through the codec."""
        if value is not SKIPPED_VALUE:
            codec = self.resident.codec(source)
            if self.resident.is_many(source):
                assert isinstance(value, list)
                value = [codec.decode(*codec.encode(element)) for element in value]
            else:
                value = codec.decode(*codec.encode(value))
        self.values[source, path] = value

    def get(self, source: Source, path: tuple[int, ...]) -> Any:
        path = path[: len(self.graph.scope_of(source))]
        if (source, path) in self.values:
            return self.values[source, path]
        if isinstance(source, Merged):
            return next((v for option in source.options if (v := self.get(option, path)) is not SKIPPED_VALUE), SKIPPED_VALUE)
        if isinstance(source, Element):
            return self.get(self.graph.eaches[source.each].over, path[:-1])[path[-1]]
        if isinstance(source, Gathered):
            node = self.graph.eaches[source.each]
            over = self.get(node.over, path)
            refused = any(
                (key := self.get(guard.on, path)) is SKIPPED_VALUE or not guard.admits(key)
                for guard in self.graph.body_guards(source.each)
            )
            if over is SKIPPED_VALUE or refused:
                return SKIPPED_VALUE
            parts = [self.get(node.result, (*path, index)) for index in range(len(over))]
            return SKIPPED_VALUE if any(part is SKIPPED_VALUE for part in parts) else parts
        assert isinstance(source, Output)
        raise AssertionError(f"{source} at {path} has not been made")


def run_chain(resident: Resident, groups: Sequence[int], inputs: Sequence[object]) -> tuple[object, ...] | None:
    """Run one request through ``groups``; the outputs, or None when an item failed."""
    return Chain(resident, groups).run(inputs)


def is_legal(graph: Graph, mask: int) -> bool:
    """Whether a group of stages lies inside one body or holds whole fan-outs, and is convex and connected enough to run."""
    extent = make_extent(graph, mask)
    for each_ in extent.eaches:
        if graph.body_masks[each_] & ~mask:
            return False
        over = graph.eaches[each_].over
        if not any(mask >> stage & 1 for stage in graph.producers(over)) and graph.producers(over):
            return False
        readers = [
            index for index in range(len(graph.stages)) if any(_mentions(source, each_) for source in graph.reads(index))
        ]
        if any(not mask >> index & 1 for index in readers):
            return False
    after = 0
    for index in range(len(graph.stages)):
        if not mask >> index & 1 and graph.predecessors[index] & (mask | after):
            after |= 1 << index
    return not any(mask >> index & 1 and graph.predecessors[index] & after for index in range(len(graph.stages)))


def _mentions(source: Source, each_: int) -> bool:
    if isinstance(source, Merged):
        return any(_mentions(option, each_) for option in source.options)
    return source == Gathered(each_)
