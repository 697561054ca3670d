"""The DAG of an app: stages, where their inputs come from, and the scopes that ``each`` opens.

``each`` opens a scope: its body runs once for each element of a list. ``choose`` puts guards on the stages of its
branches. Both are part of the graph and not of the stages, so a stage never knows where it stands.
"""

from functools import cached_property

from msgspec import Struct


class Input(Struct, frozen=True, tag="input"):
    """An entry value of the app."""

    index: int


class Output(Struct, frozen=True, tag="output"):
    """What stage number ``stage`` returns."""

    stage: int


class Element(Struct, frozen=True, tag="element"):
    """Inside fan-out number ``each``: the present element of its list."""

    each: int


class Gathered(Struct, frozen=True, tag="gathered"):
    """Outside fan-out number ``each``: the list of its body's results, in the order of the elements."""

    each: int


class Merged(Struct, frozen=True, tag="merged"):
    """The result of a ``choose``: whichever of ``options`` was not skipped."""

    options: "tuple[Source, ...]"


Source = Input | Output | Element | Gathered | Merged


class Guard(Struct, frozen=True):
    """A stage under this guard runs only where the value of ``on`` equals ``equals``; otherwise its output is skipped.

    ``equals=None`` marks the branch that is taken when no other key matches; ``others`` then lists the other keys.
    """

    on: Source
    equals: bool | int | str | None
    others: tuple[bool | int | str, ...] = ()

    def admits(self, key: bool | int | str | None) -> bool:
        """Whether a stage under this guard runs for ``key``."""
        if self.equals is None:
            return key not in self.others
        return key == self.equals and isinstance(key, bool) == isinstance(self.equals, bool)


class StageNode(Struct, frozen=True):
    """A stage at its place in the DAG. ``declared`` names the ``StageSpec``; ``scope`` is the path of fan-outs around it."""

    name: str
    declared: str
    inputs: tuple[Source, ...]
    scope: tuple[int, ...] = ()
    guards: tuple[Guard, ...] = ()


class EachNode(Struct, frozen=True):
    """A fan-out: the list it takes apart, the result of its body, and the scope in which it stands."""

    over: Source
    result: Source
    scope: tuple[int, ...] = ()


class Graph(Struct, frozen=True, dict=True):
    """Stages in a topological order, fan-outs, named entry values and named results."""

    input_names: tuple[str, ...]
    stages: tuple[StageNode, ...]
    eaches: tuple[EachNode, ...]
    outputs: tuple[Source, ...]
    output_names: tuple[str, ...]

    @cached_property
    def index_by_name(self) -> dict[str, int]:
        """Position of each stage by its name."""
        return {node.name: index for index, node in enumerate(self.stages)}

    def mask(self, names: "tuple[str, ...] | list[str]") -> int:
        """The bit mask of a set of stages; bit ``i`` is stage ``i``.

        Raises:
            KeyError: a name is no stage of this graph.
        """
        mask = 0
        for name in names:
            mask |= 1 << self.index_by_name[name]
        return mask

    def names(self, mask: int) -> tuple[str, ...]:
        """The stages of ``mask`` in topological order."""
        return tuple(node.name for index, node in enumerate(self.stages) if mask >> index & 1)

    @property
    def all_mask(self) -> int:
        """The mask of every stage."""
        return (1 << len(self.stages)) - 1

    def reads(self, stage: int) -> tuple[Source, ...]:
        """Every source that stage number ``stage`` waits for: its inputs, then the sources of its guards."""
        node = self.stages[stage]
        return (*node.inputs, *(guard.on for guard in node.guards))

    def producers(self, source: Source) -> tuple[int, ...]:
        """The stages whose results ``source`` is made of, looking through fan-outs, joins and merges."""
        if isinstance(source, Input):
            return ()
        if isinstance(source, Output):
            return (source.stage,)
        if isinstance(source, Element):
            return self.producers(self.eaches[source.each].over)
        if isinstance(source, Gathered):
            each = self.eaches[source.each]
            return (*self.producers(each.result), *self.producers(each.over))
        found: list[int] = []
        for option in source.options:
            found.extend(self.producers(option))
        return tuple(found)

    @cached_property
    def predecessors(self) -> tuple[int, ...]:
        """For each stage the mask of the stages that it waits for directly."""
        masks: list[int] = []
        for index in range(len(self.stages)):
            mask = 0
            for source in self.reads(index):
                for producer in self.producers(source):
                    mask |= 1 << producer
            masks.append(mask)
        return tuple(masks)

    @cached_property
    def body_masks(self) -> tuple[int, ...]:
        """For each fan-out the mask of the stages inside it, nested fan-outs included."""
        masks = [0] * len(self.eaches)
        for index, node in enumerate(self.stages):
            for each in node.scope:
                masks[each] |= 1 << index
        return tuple(masks)

    def scope_of(self, source: Source) -> tuple[int, ...]:
        """The path of fan-outs in which ``source`` has a value of its own."""
        if isinstance(source, Output):
            return self.stages[source.stage].scope
        if isinstance(source, Element):
            return (*self.eaches[source.each].scope, source.each)
        if isinstance(source, Gathered):
            return self.eaches[source.each].scope
        if isinstance(source, Merged):
            return max((self.scope_of(option) for option in source.options), key=len)
        return ()

    def body_guards(self, each: int) -> tuple[Guard, ...]:
        """The guards around the whole of fan-out ``each``: those of all its stages that read a value from outside it.

        Where one of them refuses, ``Gathered(each)`` is skipped, whether its list is empty or not.
        """
        body = [node for node in self.stages if each in node.scope]
        return tuple(
            guard
            for guard in body[0].guards
            if each not in self.scope_of(guard.on) and all(guard in node.guards for node in body[1:])
        )

    def sized_consumers(self, source: Source) -> tuple[int, ...]:
        """The stages whose first input is ``source``: each measures the size of its items on this value.

        An ``Element`` is measured by consumers inside the fan-out on each element of the list that is taken apart, so the
        consumers of ``Element(each)`` are also consumers of ``eaches[each].over``.
        """
        found: list[int] = []
        for index, node in enumerate(self.stages):
            if node.inputs and source in self._origins(node.inputs[0]):
                found.append(index)
        return tuple(found)

    def _origins(self, source: Source) -> tuple[Source, ...]:
        """``source`` and the sources that its references come from."""
        if isinstance(source, Merged):
            found: list[Source] = [source]
            for option in source.options:
                found.extend(self._origins(option))
            return tuple(found)
        if isinstance(source, Element):
            return (source, *self._origins(self.eaches[source.each].over))
        if isinstance(source, Gathered):
            return (source, *self._origins(self.eaches[source.each].result))
        return (source,)
