"""A plan laid over its graph: which group reads which value, compiled once so that an event costs a few look-ups.

Sources are numbered: inputs, then stage outputs, then joins, then elements. A value of a request is keyed by the number of
its source and the path of fan-out indices at which it lives.
"""

from msgspec import Struct

from grainwise.domain.extent import Extent, exploded_sources, leaves, make_extent
from grainwise.domain.graph import Element, Gathered, Graph, Input, Output, Source
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.domain.values import Payload
from grainwise.planning.problem import Workload
from grainwise.predictors.latency import LatencyModel

Path = tuple[int, ...]


class GroupCost(Struct, frozen=True):
    """Run time of a batch of a group: ``fixed_us + n * item_us + size_sum * size_us``, with factors for p99."""

    fixed_us: float
    item_us: float
    size_us: float
    mean_size: float
    p99_factor: float
    first_call_us: float

    def predict_us(self, items: int, size_sum: float) -> float:
        """Mean run time in microseconds."""
        return self.fixed_us + items * self.item_us + size_sum * self.size_us


class Group(Struct, frozen=True):
    """A function of a plan as the controller routes it.

    ``inputs`` and ``outputs`` number the sources of the extent. ``counted`` are the positions of inputs that live at the
    depth of the group itself: each item holds its own reference on them. ``size_at`` gives, per input position, which entry
    of ``Ref.sizes`` measures the item (-1: none). ``limit_us`` is the declared limit of one invocation, 0 for none.
    """

    index: int
    name: str
    mask: int
    depth: int
    extent: Extent
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    counted: tuple[int, ...]
    size_at: tuple[int, ...]
    function: FunctionPlan
    limit_us: int


class Fan(Struct, frozen=True):
    """A fan-out that the controller itself takes apart and joins, because its body is a function of its own."""

    each: int
    depth: int
    over: tuple[int, ...]
    element: int
    gathered: int
    results: tuple[int, ...]
    groups: tuple[int, ...]


class Routing:
    """Everything about one plan that the controller looks up while it routes. Immutable after construction."""

    def __init__(self, graph: Graph, plan: Plan, limits_us: tuple[int, ...]) -> None:
        self.graph = graph
        self.plan = plan
        self._inputs = len(graph.input_names)
        self._stages = len(graph.stages)
        self.has_guards = any(node.guards for node in graph.stages)
        extents = [make_extent(graph, graph.mask(function.stages)) for function in plan.functions]
        exploded = exploded_sources(graph)
        self.groups: tuple[Group, ...] = tuple(
            self._group(index, extent, function, limits_us)
            for index, (extent, function) in enumerate(zip(extents, plan.functions, strict=True))
        )
        inside = {each for extent in extents for each in extent.eaches}
        self.fans: tuple[Fan, ...] = tuple(self._fan(each) for each in range(len(graph.eaches)) if each not in inside)
        self.fan_by_each: dict[int, Fan] = {fan.each: fan for fan in self.fans}
        self.fan_by_element: dict[int, Fan] = {fan.element: fan for fan in self.fans}
        total = self._inputs + self._stages + 2 * len(graph.eaches)
        readers: list[list[int]] = [[] for _ in range(total)]
        for group in self.groups:
            for source in group.inputs:
                readers[source].append(group.index)
        self.readers: tuple[tuple[int, ...], ...] = tuple(tuple(found) for found in readers)
        self.opens: tuple[tuple[int, ...], ...] = tuple(
            tuple(fan.each for fan in self.fans if number in fan.over) for number in range(total)
        )
        self.results: tuple[tuple[int, ...], ...] = tuple(
            tuple(fan.each for fan in self.fans if number in fan.results) for number in range(total)
        )
        self.depth_by_source: tuple[int, ...] = tuple(self._depth(number) for number in range(total))
        final = [leaf for source in graph.outputs for leaf in leaves(graph, source)]
        self.final: tuple[int, ...] = tuple(self.number(leaf) for leaf in dict.fromkeys(final))
        self.output_leaves: tuple[tuple[int, ...], ...] = tuple(
            tuple(self.number(leaf) for leaf in leaves(graph, source)) for source in graph.outputs
        )
        self.uses: tuple[int, ...] = tuple(self._uses(number) for number in range(total))
        self.root_groups: tuple[tuple[int, int], ...] = tuple(
            (group.index, len(group.inputs)) for group in self.groups if group.depth == 0
        )
        self.exploded = frozenset(self.number(source) for source in exploded)

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

    def _depth(self, number: int) -> int:
        return len(self._scope(number))

    def _group(self, index: int, extent: Extent, function: FunctionPlan, limits_us: tuple[int, ...]) -> Group:
        inputs = tuple(self.number(source) for source in extent.inputs)
        first = extent.stages[0]
        measured = leaves(self.graph, self.graph.stages[first].inputs[0]) if self.graph.stages[first].inputs else ()
        size_at: list[int] = []
        for source in extent.inputs:
            consumers = self.graph.sized_consumers(source)
            size_at.append(consumers.index(first) if source in measured and first in consumers else -1)
        declared = [limits_us[stage] for stage in extent.stages]
        return Group(
            index=index,
            name="+".join(function.stages),
            mask=extent.mask,
            depth=len(extent.scope),
            extent=extent,
            inputs=inputs,
            outputs=tuple(self.number(source) for source in extent.outputs),
            counted=tuple(at for at, number in enumerate(inputs) if self._depth(number) == len(extent.scope)),
            size_at=tuple(size_at),
            function=function,
            limit_us=sum(declared) if all(declared) else 0,
        )

    def _fan(self, each: int) -> Fan:
        node = self.graph.eaches[each]
        return Fan(
            each=each,
            depth=len(node.scope),
            over=tuple(self.number(leaf) for leaf in leaves(self.graph, node.over)),
            element=self.number(Element(each)),
            gathered=self.number(Gathered(each)),
            results=tuple(self.number(leaf) for leaf in leaves(self.graph, node.result)),
            groups=tuple(group.index for group in self.groups if group.extent.scope == (*node.scope, each)),
        )

    def _uses(self, number: int) -> int:
        """How many references a fresh value of a source holds: one per reader at its depth, one per pin until the end."""
        # A reader deeper than the value never gives its reference back singly: it holds the value until the request ends.
        total = len(self.readers[number]) + (1 if number in self.final else 0)
        for fan in self.fans:
            if number in fan.over:
                total += len(self.readers[fan.element])
            if number in fan.results:
                total += len(self.readers[fan.gathered]) + (1 if fan.gathered in self.final else 0)
        return total

    def followers(self, group: Group) -> tuple[int, ...]:
        """The groups that read what ``group`` hands on, directly or through a fan-out or a join."""
        found: list[int] = []
        seeds = list(group.outputs)
        while seeds:
            number = seeds.pop()
            found.extend(self.readers[number])
            for each in self.opens[number]:
                found.extend(self.readers[self.fan_by_each[each].element])
            seeds.extend(self.fan_by_each[each].gathered for each in self.results[number])
        return tuple(dict.fromkeys(index for index in found if index != group.index))

    def group_cost(self, group: Group, model: LatencyModel, workload: Workload) -> GroupCost:
        """What a batch of ``group`` is predicted to take at the function's share; inner stages by their mean sizes."""
        fixed = item = size = first_call = 0.0
        mean_size = workload.item_size[group.extent.stages[0]]
        factor = 1.0
        unit = max(workload.items[group.extent.stages[0]], 1e-9)
        for position, stage in enumerate(group.extent.stages):
            stage_model = model.stages[stage]
            share = stage_model.share_factor(group.function.cpu_cores)
            per_item = workload.items[stage] / unit if position else 1.0
            fixed += stage_model.intercept_us * share * max(1.0, per_item)
            item += stage_model.per_item_us * share * per_item
            if position:
                item += stage_model.per_size_us * share * per_item * workload.item_size[stage]
            else:
                size += stage_model.per_size_us * share
            factor = max(factor, stage_model.residual_quantiles[-1])
            first_call += stage_model.first_call_us
        return GroupCost(fixed, item, size, mean_size, factor, first_call)


def payload_size(payload: Payload, at: int) -> float:
    """The size that a consumer measures on a payload: of its value, or summed over the elements of a list."""
    if at < 0:
        return 0.0
    return sum(ref.sizes[at] for ref in payload.refs if at < len(ref.sizes))
