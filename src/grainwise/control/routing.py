"""A plan laid over its graph: which group reads which value, compiled once so that an event costs a few look-ups.

Sources are numbered: inputs, then stage outputs, then joins, then elements. A value of a request is keyed by the number of
its source and the path of fan-out indices at which it lives.
"""

from msgspec import Struct

from grainwise.domain.extent import Extent, leaves, make_extent
from grainwise.domain.graph import Element, Gathered, Graph, Guard, Input, Output, Source
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.domain.values import Payload

Path = tuple[int, ...]


class Group(Struct, frozen=True):
    """A function of a plan as the controller routes it.

    ``inputs`` and ``outputs`` number the sources of the extent. ``counted`` are the positions of inputs on which each item
    holds its own reference; the others are held until the request ends. ``sized`` gives the positions of the inputs that
    measure an item, each with its place in ``Ref.sizes``. ``limit_us`` is the sum of the limits that stages declare,
    ``all_declared`` whether every stage does.
    ``always_runs``: no request passes the function by.
    """

    index: int
    name: str
    mask: int
    depth: int
    extent: Extent
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    counted: tuple[int, ...]
    sized: tuple[tuple[int, int], ...]
    function: FunctionPlan
    limit_us: int
    all_declared: bool
    always_runs: bool
    may_skip: bool


class Fan(Struct, frozen=True):
    """A fan-out that the controller itself takes apart and joins, because its body is a function of its own.

    ``over`` and ``results`` are the options of its list and of its body's result. ``guards`` stand around the whole of it.
    ``waits`` are the sources that must be known before it opens. ``holds`` is the number of references that its items hold on
    each element. ``eager`` are the fan-outs inside that may open together with it.
    """

    each: int
    depth: int
    scope: tuple[int, ...]
    over: tuple[int, ...]
    element: int
    gathered: int
    results: tuple[int, ...]
    groups: tuple[int, ...]
    guards: tuple[tuple[tuple[int, ...], Guard], ...]
    waits: tuple[int, ...]
    holds: int
    eager: tuple[int, ...]


class SourceUse(Struct, frozen=True):
    """What happens when a source becomes known.

    ``uses`` is how many references a fresh value holds. ``closes`` are the fan-outs whose body results in it, ``readers`` the
    groups that wait for it, ``opens`` the fan-outs.
    """

    depth: int
    uses: int
    is_final: bool
    closes: tuple[int, ...]
    readers: tuple[int, ...]
    opens: tuple[int, ...]


class Routing:
    """Everything about one plan that the controller looks up while it routes. Immutable after construction."""

    def __init__(self, graph: Graph, plan: Plan, limits_us: tuple[int, ...]) -> None:
        self.graph = graph
        self.plan = plan
        self._inputs = len(graph.input_names)
        self._stages = len(graph.stages)
        extents = [make_extent(graph, graph.mask(function.stages)) for function in plan.functions]
        self._inside = {each for extent in extents for each in extent.eaches}
        self.groups: tuple[Group, ...] = tuple(
            self._group(index, extent, function, limits_us)
            for index, (extent, function) in enumerate(zip(extents, plan.functions, strict=True))
        )
        total = self._inputs + self._stages + 2 * len(graph.eaches)
        readers: list[list[int]] = [[] for _ in range(total)]
        for group in self.groups:
            for number in group.inputs:
                readers[number].append(group.index)
        self._readers: tuple[tuple[int, ...], ...] = tuple(tuple(found) for found in readers)
        outer = [each for each in range(len(graph.eaches)) if each not in self._inside]
        self.fan_by_each: dict[int, Fan] = {each: self._fan(each, outer) for each in outer}
        self.fan_by_element: dict[int, Fan] = {fan.element: fan for fan in self.fan_by_each.values()}
        self.output_leaves: tuple[tuple[int, ...], ...] = tuple(
            tuple(self.number(leaf) for leaf in leaves(graph, source)) for source in graph.outputs
        )
        self.final: frozenset[int] = frozenset(number for options in self.output_leaves for number in options)
        self.sources: tuple[SourceUse, ...] = tuple(self._source(number) for number in range(total))
        self.root_groups: tuple[tuple[int, int], ...] = tuple(
            (group.index, len(group.inputs)) for group in self.groups if group.depth == 0
        )
        self.has_guards = any(group.may_skip for group in self.groups)

    def number(self, source: Source) -> int:
        """The number of a leaf source."""
        if isinstance(source, Input):
            return source.index
        if isinstance(source, Output):
            return self._inputs + source.stage
        if isinstance(source, Gathered):
            return self._inputs + self._stages + source.each
        if isinstance(source, Element):
            return self._inputs + self._stages + len(self.graph.eaches) + source.each
        raise TypeError(f"{source} is no leaf")

    def _scope(self, number: int) -> tuple[int, ...]:
        stage = number - self._inputs
        if stage < 0:
            return ()
        if stage < self._stages:
            return self.graph.stages[stage].scope
        each = stage - self._stages
        if each < len(self.graph.eaches):
            return self.graph.eaches[each].scope
        each -= len(self.graph.eaches)
        return (*self.graph.eaches[each].scope, each)

    def depth(self, number: int) -> int:
        """How many fan-outs stand around a source."""
        return len(self._scope(number))

    def _group(self, index: int, extent: Extent, function: FunctionPlan, limits_us: tuple[int, ...]) -> Group:
        declared = [limits_us[stage] for stage in extent.stages]
        nodes = [self.graph.stages[stage] for stage in extent.stages]
        return Group(
            index=index,
            name="+".join(function.stages),
            mask=extent.mask,
            depth=len(extent.scope),
            extent=extent,
            inputs=tuple(self.number(source) for source in extent.inputs),
            outputs=tuple(self.number(source) for source in extent.outputs),
            counted=tuple(at for at, source in enumerate(extent.inputs) if self._is_counted(source, len(extent.scope))),
            sized=self._sized(extent),
            function=function,
            limit_us=sum(declared),
            all_declared=all(declared),
            always_runs=any(not node.guards for node in nodes),
            may_skip=any(node.guards for node in self.graph.stages),
        )

    def _is_counted(self, source: Source, depth: int) -> bool:
        """Whether an item at ``depth`` is the only one at its place to read this value of ``source``."""
        if isinstance(source, Element):
            node = self.graph.eaches[source.each]
            over = [self.number(leaf) for leaf in leaves(self.graph, node.over)]
            return len(node.scope) + 1 == depth and all(self.depth(number) == len(node.scope) for number in over)
        return self.depth(self.number(source)) == depth

    def _sized(self, extent: Extent) -> tuple[tuple[int, int], ...]:
        """Where the size of an item stands: the inputs that its first stage measures, and the place in their ``sizes``."""
        first = extent.stages[0]
        measured: list[Source] = []

        def expand(source: Source) -> None:
            for leaf in leaves(self.graph, source):
                if isinstance(leaf, Element) and leaf.each in extent.eaches:
                    expand(self.graph.eaches[leaf.each].over)
                else:
                    measured.append(leaf)

        for source in self.graph.stages[first].inputs[:1]:
            expand(source)
        found: list[tuple[int, int]] = []
        for position, source in enumerate(extent.inputs):
            consumers = self.graph.sized_consumers(self._measured_as(source))
            if source in measured and first in consumers:
                found.append((position, consumers.index(first)))
        return tuple(found)

    def _measured_as(self, source: Source) -> Source:
        """The source under which the references of a value were measured: elements in their list, joins in their body."""
        if isinstance(source, Element):
            return self._measured_as(leaves(self.graph, self.graph.eaches[source.each].over)[0])
        if isinstance(source, Gathered) and source.each not in self._inside:
            return self._measured_as(leaves(self.graph, self.graph.eaches[source.each].result)[0])
        return source

    def _fan(self, each: int, outer: list[int]) -> Fan:
        node = self.graph.eaches[each]
        depth = len(node.scope)
        over = tuple(self.number(leaf) for leaf in leaves(self.graph, node.over))
        element = self.number(Element(each))
        guards = tuple(
            (tuple(self.number(leaf) for leaf in leaves(self.graph, guard.on)), guard) for guard in self._guards_around(each)
        )
        waits = tuple(dict.fromkeys((*over, *(number for numbers, _ in guards for number in numbers))))
        is_counted = all(self.depth(number) == depth for number in over)
        return Fan(
            each=each,
            depth=depth,
            scope=node.scope,
            over=over,
            element=element,
            gathered=self.number(Gathered(each)),
            results=tuple(self.number(leaf) for leaf in leaves(self.graph, node.result)),
            groups=tuple(group.index for group in self.groups if group.extent.scope == (*node.scope, each)),
            guards=guards,
            waits=waits,
            holds=sum(1 for index in self._readers[element] if self.groups[index].depth == depth + 1) if is_counted else 0,
            eager=tuple(other for other in outer if self.graph.eaches[other].scope == (*node.scope, each)),
        )

    def _guards_around(self, each: int) -> tuple[Guard, ...]:
        """The guards around the whole of a fan-out: those of all its stages that read a value from outside it."""
        body = [node for node in self.graph.stages if each in node.scope]
        outside = len(self.graph.eaches[each].scope)
        return tuple(
            guard
            for guard in body[0].guards
            if all(self.depth(self.number(leaf)) <= outside for leaf in leaves(self.graph, guard.on))
            and all(guard in node.guards for node in body[1:])
        )

    def _source(self, number: int) -> SourceUse:
        fans = self.fan_by_each.values()
        return SourceUse(
            depth=self.depth(number),
            uses=self._uses(number),
            is_final=number in self.final,
            closes=tuple(fan.each for fan in fans if number in fan.results),
            readers=self._readers[number],
            opens=tuple(fan.each for fan in fans if number in fan.waits),
        )

    def _uses(self, number: int) -> int:
        """How many references a fresh value holds: one per reader at its depth, one per pin until the request ends."""
        # A reader deeper than the value never gives its reference back singly: it holds the value until the request ends.
        total = len(self._readers[number]) + (number in self.final)
        for fan in self.fan_by_each.values():
            if number in fan.over:
                total += len(self._readers[fan.element])
            if number in fan.results:
                total += self._uses(fan.gathered)
        return total

    def followers(self, group: Group) -> tuple[int, ...]:
        """The groups that read what ``group`` hands on, directly or through a fan-out or a join."""
        found: list[int] = []
        seeds = list(group.outputs)
        while seeds:
            number = seeds.pop()
            use = self.sources[number]
            found.extend(use.readers)
            seeds.extend(self.fan_by_each[each].element for each in use.opens if number in self.fan_by_each[each].over)
            seeds.extend(self.fan_by_each[each].gathered for each in use.closes)
        return tuple(dict.fromkeys(index for index in found if index != group.index))


def payload_size(payload: Payload, at: int) -> float:
    """The size that a consumer measures on a payload: of its value, or summed over the elements of a list."""
    total = 0.0
    for ref in payload.refs:
        if at < len(ref.sizes):
            total += ref.sizes[at]
    return total
