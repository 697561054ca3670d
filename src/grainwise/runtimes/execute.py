"""Stages held in memory, and the running of an extent on decoded values: what an instance does, without its process.

A flow's values become columns: one column per source and fan-out level, with a row per item outside every fan-out and a row
per element inside. An extent is compiled once into a list of steps over columns and kept by its mask.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, get_args

from msgspec import Struct

from grainwise.control.events import ItemFailure, StageSpan
from grainwise.domain.app import AppSpec
from grainwise.domain.errors import DeclarationError, GrainwiseError
from grainwise.domain.extent import Extent, exploded_sources
from grainwise.domain.graph import Element, Gathered, Graph, Input, Merged, Output, Source
from grainwise.runtimes.columns import SKIPPED_VALUE, Program, compile_extent
from grainwise.runtimes.held import Keys, acceptor, as_key, key_rules, measured
from grainwise.runtimes.running import HeldStage, Outputs, Run, Watch, run_one, said
from grainwise.sdk.app import App
from grainwise.sdk.codec import Codec
from grainwise.sdk.edges import plain_type

_log = logging.getLogger("grainwise.stage")


class LoadReport(Struct, frozen=True):
    """What a load did: the stages that are new, and the microseconds that each declared stage took to construct."""

    stages: int
    load_us: tuple[tuple[str, int], ...]

    @property
    def total_us(self) -> int:
        """Microseconds over all stages."""
        return sum(duration for _, duration in self.load_us)


class Outcome(Struct, frozen=True):
    """Per item the values of ``extent.outputs`` in their order, or a failure; and every call of a stage that was made.

    An output may be ``SKIPPED_VALUE``; a ``Gathered`` output and one that a fan-out takes apart are lists.
    """

    results: tuple[Outputs | ItemFailure, ...]
    spans: tuple[StageSpan, ...]


class Resident:
    """The stages that one instance holds, and how extents of them run.

    Args:
        app: the imported app.
        spec: its declaration, as the server knows it.
        clock_us: a monotonic clock in whole microseconds.
        entering: told the number of each stage before each call of it, and -1 after an extent, so that whoever watches the
            process knows where it was.
    """

    def __init__(
        self, app: App, spec: AppSpec, clock_us: Callable[[], int], entering: Callable[[int], None] | None = None
    ) -> None:
        if app.graph != spec.graph:
            raise DeclarationError(f"app {app.name!r} is declared otherwise here than at the server; restart the server")
        self.app = app
        self.graph = spec.graph
        self.resident = 0
        self._watch = Watch(clock_us, entering, self._report)
        self._constructed: dict[str, Callable[..., Any]] = {}
        self._held: list[HeldStage | None] = [None] * len(spec.graph.stages)
        self._programs: dict[int, Program] = {}
        self._codecs: dict[Source, Codec] = {}
        self._many = frozenset(exploded_sources(spec.graph))
        self._keys: dict[Source, Keys] = key_rules(app)
        self._measures: dict[Source, tuple[Callable[[Any], float], ...]] = {}
        self._reported: set[tuple[str, type]] = set()

    def load(self, mask: int) -> LoadReport:
        """Construct the stages of ``mask`` that are not resident yet.

        Raises:
            GrainwiseError: a constructor failed; the message names the stage, and the residency is as before.
        """
        watch = self._watch
        fresh: dict[str, Callable[..., Any]] = {}
        durations: list[tuple[str, int]] = []
        for index, name in self._missing(mask):
            began = watch.clock_us()
            if watch.entering is not None:
                watch.entering(index)
            try:
                fresh[name] = self.app.stages[name].construct()
            except BaseException as error:
                self._report(name, error)
                raise GrainwiseError(
                    f"stage {name!r} of app {self.app.name!r} cannot be loaded: {said(error)}; the instance keeps the stages "
                    "that it has"
                ) from error
            finally:
                if watch.entering is not None:
                    watch.entering(-1)
            durations.append((name, watch.clock_us() - began))
        added = mask & ~self.resident
        self._constructed.update(fresh)
        self.resident |= mask
        for index in range(len(self.graph.stages)):
            if added >> index & 1:
                self._held[index] = self._hold(index)
        return LoadReport(added, tuple(durations))

    def is_many(self, source: Source) -> bool:
        """Whether values of ``source`` are lists that are stored with a reference per element."""
        return isinstance(source, Gathered) or source in self._many

    def codec(self, source: Source) -> Codec:
        """The codec of a source's value, of its elements where ``is_many``. Classes are those that the producer declared."""
        codec = self._codecs.get(source)
        if codec is None:
            value_type, annotation = self.app.value_type(source), self.app.annotation(source)
            if self.is_many(source) and value_type.element is not None:
                value_type, annotation = value_type.element, get_args(plain_type(annotation))[0]
            codec = self._codecs[source] = Codec(value_type, annotation, _name_of(self.graph, source))
        return codec

    def measure(self, source: Source, value: object) -> tuple[float, ...]:
        """The sizes of a value for ``graph.sized_consumers(source)``; of one element where ``is_many(source)``.

        Raises:
            InputError: a size function failed, or returned no finite number >= 0; the message names its stage.
        """
        measures = self._measures.get(source)
        if measures is None:
            measures = self._measures[source] = tuple(
                measured(self.app.stages[self.graph.stages[stage].declared], self._is_whole_list(stage, source))
                for stage in self.graph.sized_consumers(source)
            )
        return tuple([measure(value) for measure in measures])

    def key(self, source: Source, value: object) -> bool | int | str | None:
        """The key that ``choose`` reads in a value of ``source``; None where no ``choose`` reads it.

        Raises:
            InputError: no branch has this key.
        """
        rule = self._keys.get(source)
        return None if rule is None else rule.checked(as_key(value))

    def run(self, extent: Extent, items: Sequence[Sequence[object]]) -> Outcome:
        """Run ``extent`` for some items.

        Args:
            extent: a group of resident stages.
            items: per item a decoded value for each of ``extent.inputs``: ``SKIPPED_VALUE`` for the token of an untaken
                branch, a list for a list that is taken apart or gathered, the element itself for an ``Element``.

        Raises:
            GrainwiseError: a stage of the extent is not resident.
        """
        program = self._programs.get(extent.mask)
        if program is None:
            if extent.mask & ~self.resident:
                missing = ", ".join(self.graph.names(extent.mask & ~self.resident))
                raise GrainwiseError(f"this instance does not hold {missing}; load it before it is invoked")
            program = self._programs[extent.mask] = compile_extent(self.graph, extent)
        try:
            if program.is_linear and len(items) == 1:
                result, spans = run_one(program, self._held, items[0], self._watch)
                return Outcome((result,), tuple(spans))
            results, spans = Run(program, self._held, items, self._watch).finish()
            return Outcome(results, tuple(spans))
        finally:
            if self._watch.entering is not None:
                self._watch.entering(-1)

    def _missing(self, mask: int) -> list[tuple[int, str]]:
        """The declared stages of ``mask`` that have yet to be constructed, each with its first place in the graph."""
        found: dict[str, int] = {}
        for index, node in enumerate(self.graph.stages):
            if mask >> index & 1 and node.declared not in self._constructed:
                found.setdefault(node.declared, index)
        return [(index, name) for name, index in found.items()]

    def _hold(self, index: int) -> HeldStage:
        node = self.graph.stages[index]
        stage = self.app.stages[node.declared]
        first = node.inputs[0]
        reads_list = any(self._is_whole_list(index, leaf) for leaf in _leaves(first))
        is_counted = stage.spec.size == "one" and not reads_list
        return HeldStage(
            name=node.name,
            function=self._constructed[node.declared],
            max_batch=stage.spec.max_batch,
            measure=None if is_counted else _summed(measured(stage, reads_list)) if reads_list else measured(stage, False),
            accept=acceptor(stage, self._keys.get(Output(index))),
            shaped=tuple(position for position, value_type in enumerate(stage.spec.inputs) if value_type.kind == "tensor"),
        )

    def _is_whole_list(self, stage: int, source: Source) -> bool:
        """Whether a stage reads as a whole, as its first input, a list that is stored with a reference per element."""
        return self.is_many(source) and source in _leaves(self.graph.stages[stage].inputs[0])

    def _report(self, stage: str, error: BaseException) -> None:
        """Log the traceback of a stage's exception, once for each type: it goes to the operator and not to the client."""
        if (stage, type(error)) not in self._reported:
            self._reported.add((stage, type(error)))
            _log.warning("stage %s of app %s raised", stage, self.app.name, exc_info=error)


def _leaves(source: Source) -> tuple[Source, ...]:
    if isinstance(source, Merged):
        return tuple(leaf for option in source.options for leaf in _leaves(option))
    return (source,)


def _summed(measure: Callable[[Any], float]) -> Callable[[Any], float]:
    return lambda values: sum([measure(value) for value in values])


def _name_of(graph: Graph, source: Source) -> str:
    """What messages call the value behind a source."""
    if isinstance(source, Input):
        return graph.input_names[source.index]
    if isinstance(source, Output):
        return f"result of {graph.stages[source.stage].name}"
    if isinstance(source, Element):
        return f"element of {_name_of(graph, graph.eaches[source.each].over)}"
    if isinstance(source, Gathered):
        return f"list of each {_name_of(graph, graph.eaches[source.each].result)}"
    return " or ".join(_name_of(graph, option) for option in source.options)


__all__ = ["SKIPPED_VALUE", "LoadReport", "Outcome", "Outputs", "Resident"]
