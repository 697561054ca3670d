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
    """An extent as the controller routes it: a function of a plan, a single stage, or what one invocation runs of a function.

    ``inputs`` and ``outputs`` number the sources of the extent. ``gives`` are the positions of inputs on which each item
    holds references of its own, with their number; the others are held until the request ends. ``uses`` is for each output how
    many references a fresh value holds. ``sized`` gives the positions of the inputs that
    measure an item, each with its place in ``Ref.sizes``. ``limit_us`` is the sum of the limits that stages declare,
    ``all_declared`` whether every stage does. ``always_runs``: no request passes the extent by.

    Where flows go stage by stage, ``hidden`` is the mask of the stages that must not be woken by what the extent hands on,
    since it has run them, and ``closed`` numbers the joins inside it that nobody outside reads.
    """

    index: int
    name: str
    mask: int
    depth: int
    extent: Extent
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    gives: tuple[tuple[int, int], ...]
    uses: tuple[int, ...]
    sized: tuple[tuple[int, int], ...]
    function: FunctionPlan
    limit_us: int
    all_declared: bool
    always_runs: bool
    may_skip: bool
    hidden: int = 0
    closed: tuple[int, ...] = ()


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
    """Everything about one plan that the controller looks up while it routes.

    Args:
        graph: of the app.
        plan: which function each stage belongs to.
        limits_us: the limit that each stage declares, 0 for none.
        is_stagewise: values go from stage to stage, and whoever dispatches decides how many stages an invocation runs
            (``extent``); otherwise they go from function to function.
    """

    def __init__(self, graph: Graph, plan: Plan, limits_us: tuple[int, ...], *, is_stagewise: bool = False) -> None:
        self.graph = graph
        self.plan = plan
        self.is_stagewise = is_stagewise
        self._limits_us = limits_us
        self._inputs = len(graph.input_names)
        self._stages = len(graph.stages)
        parts = [(graph.mask(function.stages), function) for function in plan.functions]
        if is_stagewise:
            parts = [
                (1 << stage, next(function for mask, function in parts if mask >> stage & 1)) for stage in range(self._stages)
            ]
        extents = [make_extent(graph, mask) for mask, _ in parts]
        self._inside = {each for extent in extents for each in extent.eaches}
        total = self._inputs + self._stages + 2 * len(graph.eaches)
        readers: list[list[int]] = [[] for _ in range(total)]
        for index, extent in enumerate(extents):
            for source in extent.inputs:
                readers[self.number(source)].append(index)
        self._readers: tuple[tuple[int, ...], ...] = tuple(tuple(found) for found in readers)
        outer = [each for each in range(len(graph.eaches)) if each not in self._inside]
        self._depths = [len(extent.scope) for extent in extents]
        self._scopes = [extent.scope for extent in extents]
        self.fan_by_each: dict[int, Fan] = {each: self._fan(each, outer) for each in outer}
        self.fan_by_element: dict[int, Fan] = {fan.element: fan for fan in self.fan_by_each.values()}
        self.output_leaves: tuple[tuple[int, ...], ...] = tuple(
            tuple(self.number(leaf) for leaf in leaves(graph, source)) for source in graph.outputs
        )
        self.final: frozenset[int] = frozenset(number for options in self.output_leaves for number in options)
        self.groups: tuple[Group, ...] = tuple(
            self._group(index, extent, function)
            for index, (extent, (_, function)) in enumerate(zip(extents, parts, strict=True))
        )
        self._extents: dict[int, Group] = {group.mask: group for group in self.groups}
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

    def extent(self, mask: int) -> Group:
        """What one invocation that runs the stages of ``mask`` reads and hands on; compiled when it is first asked for.

        Beside the groups only a routing by stages has extents: those that begin at one stage.
        """
        found = self._extents.get(mask)
        if found is None:
            extent = make_extent(self.graph, mask)
            found = self._extents[mask] = self._group(extent.stages[0], extent, self.groups[extent.stages[0]].function)
        return found

    def _group(self, index: int, extent: Extent, function: FunctionPlan) -> Group:
        declared = [self._limits_us[stage] for stage in extent.stages]
        nodes = [self.graph.stages[stage] for stage in extent.stages]
        inputs = tuple(self.number(source) for source in extent.inputs)
        outputs = tuple(self.number(source) for source in extent.outputs)
        depth = len(extent.scope)
        if not self.is_stagewise:
            gives = tuple((at, 1) for at, source in enumerate(extent.inputs) if self._is_counted(source, depth))
            uses, hidden = tuple(self._uses(number) for number in outputs), 0
            closed: tuple[int, ...] = ()
        else:
            gives = tuple(
                (at, self._within(number, extent))
                for at, (number, source) in enumerate(zip(inputs, extent.inputs, strict=True))
                if self._is_counted(source, depth)
            )
            uses = tuple(self._uses(number) - self._within(number, extent) for number in outputs)
            hidden = extent.mask
            joins = [self.number(Gathered(each)) for each in extent.eaches]
            closed = tuple(number for number in joins if number not in outputs)
        return Group(
            index=index,
            name="+".join(self.graph.names(extent.mask)),
            mask=extent.mask,
            depth=depth,
            extent=extent,
            inputs=inputs,
            outputs=outputs,
            gives=gives,
            uses=uses,
            sized=self._sized(extent),
            function=function,
            limit_us=sum(declared),
            all_declared=all(declared),
            always_runs=any(not node.guards for node in nodes),
            may_skip=any(node.guards for node in self.graph.stages),
            hidden=hidden,
            closed=closed,
        )

    def _within(self, number: int, extent: Extent) -> int:
        """How many of the references on a fresh value belong to stages of ``extent``."""
        found = sum(1 for index in self._readers[number] if extent.mask >> index & 1)
        for each in extent.eaches:
            fan = self.fan_by_each[each]
            if number in fan.over:
                found += len(self._readers[fan.element])
        return found

    def part(self, mask: int, index: int) -> Group:
        """What an invocation of ``mask`` ran for an item that waited for group number ``index``."""
        return self.extent(mask) if self.is_stagewise else self.groups[index]

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
            groups=tuple(index for index, scope in enumerate(self._scopes) if scope == (*node.scope, each)),
            guards=guards,
            waits=waits,
            holds=sum(1 for index in self._readers[element] if self._depths[index] == depth + 1) if is_counted else 0,
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
