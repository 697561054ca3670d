"""The types of the values that travel: a table that the server and every instance derive alike from the declaration."""

from grainwise.domain.app import AppSpec
from grainwise.domain.extent import exploded_sources
from grainwise.domain.graph import Element, Gathered, Input, Output, Source
from grainwise.domain.values import ValueType


class EdgeTypes:
    """Numbers the types of what is stored: entry values, stage results, and elements of lists that are taken apart."""

    def __init__(self, app: AppSpec) -> None:
        self._app = app
        self._exploded = exploded_sources(app.graph)
        self._number_by_type: dict[ValueType, int] = {}
        self.table: list[ValueType] = []
        for index in range(len(app.inputs)):
            self.number(self.stored(Input(index)))
        for index in range(len(app.graph.stages)):
            self.number(self.stored(Output(index)))
        for each in range(len(app.graph.eaches)):
            self.number(self.stored(Gathered(each)))

    def number(self, value_type: ValueType) -> int:
        """The number of a type; a type that is not in the table is added to it."""
        number = self._number_by_type.get(value_type)
        if number is None:
            number = self._number_by_type[value_type] = len(self.table)
            self.table.append(value_type)
        return number

    def is_exploded(self, source: Source) -> bool:
        """Whether the list of ``source`` is stored with a reference per element."""
        return isinstance(source, Gathered) or source in self._exploded

    def of(self, source: Source) -> ValueType:
        """The declared type of a source."""
        if isinstance(source, Input):
            return self._app.inputs[source.index]
        if isinstance(source, Output):
            return self._app.spec(source.stage).output
        if isinstance(source, Element):
            return self.element(self.of(self._app.graph.eaches[source.each].over))
        if isinstance(source, Gathered):
            inner = self.of(self._app.graph.eaches[source.each].result)
            return ValueType("list", f"list[{inner.annotation}]", element=inner)
        return self.of(source.options[0])

    def stored(self, source: Source) -> ValueType:
        """The type of one reference of a source: of an element where the list is taken apart."""
        value_type = self.of(source)
        return self.element(value_type) if self.is_exploded(source) else value_type

    @staticmethod
    def element(value_type: ValueType) -> ValueType:
        """The type of a list's elements."""
        assert value_type.element is not None, f"{value_type.annotation} is no list"
        return value_type.element
