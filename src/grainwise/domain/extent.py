"""An extent: the group of stages that one invocation runs, with what it reads from outside and what it hands on.

The controller, the planner and every instance derive the same ``Extent`` from the graph and a mask, so an invocation need
only carry the mask and its payloads in this order.
"""

from collections.abc import Mapping

from msgspec import Struct

from grainwise.domain.graph import Element, Gathered, Graph, Merged, Output, Source
from grainwise.domain.values import SKIPPED, Payload


class Extent(Struct, frozen=True):
    """A group of stages of a graph.

    ``scope`` is the path of fan-outs around the group: one item per request outside, one per element inside. ``inputs`` are
    the leaves (never ``Merged``) that an item waits for; ``outputs`` the sources (``Output`` or ``Gathered``) that someone
    outside reads, in topological order. ``eaches`` are the fan-outs that run wholly inside.
    """

    mask: int
    scope: tuple[int, ...]
    stages: tuple[int, ...]
    eaches: tuple[int, ...]
    inputs: tuple[Source, ...]
    outputs: tuple[Source, ...]


def leaves(graph: Graph, source: Source) -> tuple[Source, ...]:
    """``source`` with every ``Merged`` replaced by its options."""
    if isinstance(source, Merged):
        return tuple(leaf for option in source.options for leaf in leaves(graph, option))
    return (source,)


def common_scope(graph: Graph, mask: int) -> tuple[int, ...]:
    """The longest path of fan-outs that surrounds every stage of ``mask``."""
    scopes = [node.scope for index, node in enumerate(graph.stages) if mask >> index & 1]
    scope = scopes[0]
    for other in scopes[1:]:
        length = 0
        while length < min(len(scope), len(other)) and scope[length] == other[length]:
            length += 1
        scope = scope[:length]
    return scope


def exploded_sources(graph: Graph) -> tuple[Source, ...]:
    """The lists that some fan-out takes apart: they are stored with a reference per element."""
    found: list[Source] = []
    for each in graph.eaches:
        for leaf in leaves(graph, each.over):
            if leaf not in found:
                found.append(leaf)
    return tuple(found)


def keyed_sources(graph: Graph) -> tuple[Source, ...]:
    """The sources that a ``choose`` reads: their payloads carry the value as ``key``."""
    found: list[Source] = []
    for node in graph.stages:
        for guard in node.guards:
            for leaf in leaves(graph, guard.on):
                if leaf not in found:
                    found.append(leaf)
    return tuple(found)


def make_extent(graph: Graph, mask: int) -> Extent:
    """Derive the extent of a legal group of stages (legality is ``planning.granularity``'s question)."""
    scope = common_scope(graph, mask)
    stages = tuple(index for index in range(len(graph.stages)) if mask >> index & 1)
    inner = tuple(sorted({each for index in stages for each in graph.stages[index].scope if each not in scope}))
    inputs: list[Source] = []

    def need(source: Source) -> None:
        if isinstance(source, Merged):
            for option in source.options:
                need(option)
        elif isinstance(source, Output) and mask >> source.stage & 1:
            return
        elif isinstance(source, Element) and source.each in inner:
            need(graph.eaches[source.each].over)
        elif isinstance(source, Gathered) and source.each in inner:
            return
        elif source not in inputs:
            inputs.append(source)

    for index in stages:
        for source in graph.reads(index):
            need(source)

    read_outside: set[Source] = set()

    def note(source: Source) -> None:
        if isinstance(source, Merged):
            for option in source.options:
                note(option)
        elif isinstance(source, Element):
            note(graph.eaches[source.each].over)
        elif isinstance(source, Gathered) and source.each not in inner:
            note(graph.eaches[source.each].result)
        else:
            read_outside.add(source)

    for index in range(len(graph.stages)):
        if not mask >> index & 1:
            for source in graph.reads(index):
                note(source)
    for source in graph.outputs:
        note(source)
    for each, node in enumerate(graph.eaches):
        # How often a body runs is read from its list, whether a stage of it reads the elements or not.
        if graph.body_masks[each] & ~mask:
            note(node.over)
    outputs: list[Source] = [
        Output(index) for index in stages if graph.stages[index].scope == scope and Output(index) in read_outside
    ]
    outputs.extend(Gathered(each) for each in inner if Gathered(each) in read_outside)
    return Extent(mask, scope, stages, inner, tuple(inputs), tuple(outputs))


def is_skipped(graph: Graph, extent: Extent, payloads: Mapping[Source, Payload]) -> bool:
    """Whether an item of ``extent`` runs no stage at all, its external inputs being ``payloads``."""
    skipped: set[int] = set()

    def absent(source: Source) -> bool:
        if isinstance(source, Merged):
            return all(absent(option) for option in source.options)
        if isinstance(source, Output) and extent.mask >> source.stage & 1:
            return source.stage in skipped
        if isinstance(source, Element) and source.each in extent.eaches:
            return absent(graph.eaches[source.each].over)
        if isinstance(source, Gathered) and source.each in extent.eaches:
            return absent(graph.eaches[source.each].result)
        return payloads[source].shape == "skipped"

    for index in extent.stages:
        node = graph.stages[index]
        refused = any(
            not guard.admits(payloads[leaf].key)
            for guard in node.guards
            for leaf in leaves(graph, guard.on)
            # Without a key (an element of a list that came whole) the instance decides.
            if leaf in payloads and payloads[leaf].shape != "skipped" and payloads[leaf].key is not None
        )
        if refused or any(absent(source) for source in graph.reads(index)):
            skipped.add(index)
    return len(skipped) == len(extent.stages)


__all__ = [
    "SKIPPED",
    "Extent",
    "common_scope",
    "exploded_sources",
    "is_skipped",
    "keyed_sources",
    "leaves",
    "make_extent",
]
