"""An extent as a list of steps over columns, compiled once.

A column holds the values of one source at one level of fan-out: a row per item outside every fan-out of the extent (level
``BASE``), a row per element inside one (its number is the level). Steps take lists apart, spread outer values over inner
rows, join lists again, pick the branch that ran, and call stages.
"""

from enum import Enum
from typing import Literal

from msgspec import Struct

from grainwise.domain.errors import GrainwiseError
from grainwise.domain.extent import Extent
from grainwise.domain.graph import Element, Gathered, Graph, Guard, Merged, Output, Source

BASE = -1
"""The level outside every fan-out of an extent."""


class SkippedValue(Enum):
    """The type of ``SKIPPED_VALUE``."""

    TOKEN = "skipped"


SKIPPED_VALUE: Literal[SkippedValue.TOKEN] = SkippedValue.TOKEN
"""Stands in a column where the branch that would have made the value was not taken."""

GuardSlot = tuple[int, Guard]
"""A guard and the column of the value that it reads."""


class Explode(Struct, frozen=True):
    """Take the lists of column ``over`` apart into the rows of level ``each``."""

    each: int
    parent: int
    over: int
    element: int


class Spread(Struct, frozen=True):
    """Repeat the rows of ``outer`` for the elements of level ``each``."""

    each: int
    outer: int
    inner: int


class Gather(Struct, frozen=True):
    """Join the rows of ``result`` at level ``each`` into lists; skipped where a guard of the whole body refuses."""

    each: int
    parent: int
    over: int
    result: int
    gathered: int
    guards: tuple[GuardSlot, ...]


class Merge(Struct, frozen=True):
    """The first of ``options`` that was not skipped, row by row."""

    options: tuple[int, ...]
    merged: int


class Call(Struct, frozen=True):
    """Call stage number ``stage`` on the rows of ``level``."""

    stage: int
    level: int
    inputs: tuple[int, ...]
    guards: tuple[GuardSlot, ...]
    output: int


Step = Explode | Spread | Gather | Merge | Call


class Program(Struct, frozen=True):
    """The steps of one extent. The first columns are ``extent.inputs``; ``outputs`` are the columns of ``extent.outputs``.

    ``is_linear``: nothing is taken apart and nothing can be skipped, so every column has exactly one row per item.
    """

    columns: int
    inputs: int
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    is_linear: bool
    may_skip: bool


def compile_extent(graph: Graph, extent: Extent) -> Program:
    """The program of ``extent``.

    Raises:
        GrainwiseError: the group is no legal extent: a stage reads something that is neither inside nor an input.
    """
    return _Compiler(graph, extent).program()


class _Compiler:
    def __init__(self, graph: Graph, extent: Extent) -> None:
        self.graph = graph
        self.extent = extent
        self.steps: list[Step] = []
        self.columns = len(extent.inputs)
        self.known: dict[tuple[Source, int], int] = {(source, BASE): slot for slot, source in enumerate(extent.inputs)}
        self.external = frozenset(extent.inputs)
        self.overs: dict[int, int] = {}

    def program(self) -> Program:
        for index in self.extent.stages:
            node = self.graph.stages[index]
            level = self.level(node.scope)
            self.open(level)
            inputs = tuple(self.slot(source, level) for source in node.inputs)
            guards = tuple((self.slot(guard.on, level), guard) for guard in node.guards)
            output = self.new(Output(index), level)
            self.steps.append(Call(index, level, inputs, guards, output))
        outputs = tuple(self.slot(source, BASE) for source in self.extent.outputs)
        may_skip = any(node.guards for node in self.graph.stages)
        is_linear = not self.extent.eaches and not may_skip
        return Program(self.columns, len(self.extent.inputs), tuple(self.steps), outputs, is_linear, may_skip)

    def level(self, scope: tuple[int, ...]) -> int:
        inner = scope[len(self.extent.scope) :]
        return inner[-1] if inner else BASE

    def parent(self, each: int) -> int:
        return self.level(self.graph.eaches[each].scope)

    def new(self, source: Source, level: int) -> int:
        slot = self.columns
        self.columns += 1
        self.known[source, level] = slot
        return slot

    def open(self, level: int) -> None:
        """Make the rows of a level before anything stands in them."""
        if level == BASE or level in self.overs:
            return
        parent = self.parent(level)
        self.open(parent)
        over = self.overs[level] = self.slot(self.graph.eaches[level].over, parent)
        self.steps.append(Explode(level, parent, over, self.new(Element(level), level)))

    def slot(self, source: Source, level: int) -> int:
        """The column of ``source`` at ``level``, with the steps that make it."""
        known = self.known.get((source, level))
        if known is not None:
            return known
        home = BASE if source in self.external else self.level(self.graph.scope_of(source))
        if home != level:
            if level == BASE:
                raise GrainwiseError(
                    f"{self.graph.names(self.extent.mask)} is no group of stages: it would read inside a fan-out"
                )
            outer = self.slot(source, self.parent(level))
            self.open(level)
            inner = self.new(source, level)
            self.steps.append(Spread(level, outer, inner))
            return inner
        if isinstance(source, Merged):
            options = tuple(self.slot(option, level) for option in source.options)
            merged = self.new(source, level)
            self.steps.append(Merge(options, merged))
            return merged
        if isinstance(source, Element) and source.each in self.extent.eaches:
            self.open(source.each)
            return self.known[source, level]
        if isinstance(source, Gathered) and source.each in self.extent.eaches:
            result = self.slot(self.graph.eaches[source.each].result, source.each)
            guards = tuple((self.slot(guard.on, level), guard) for guard in self.graph.body_guards(source.each))
            gathered = self.new(source, level)
            self.steps.append(Gather(source.each, level, self.overs[source.each], result, gathered, guards))
            return gathered
        raise GrainwiseError(
            f"{self.graph.names(self.extent.mask)} is no group of stages: {source} is neither inside nor an input"
        )
