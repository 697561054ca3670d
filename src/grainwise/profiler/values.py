"""The values of some samples as the flow makes them, stage by stage, and the items that each stage gets from them."""

from collections.abc import Iterator

from msgspec import Struct

from grainwise.domain.extent import is_skipped, leaves, make_extent
from grainwise.domain.graph import Element, Gathered, Graph, Input, Output, Source
from grainwise.domain.values import SKIPPED, Payload

Path = tuple[int, ...]


class Place(Struct, frozen=True):
    """One item of a stage: the sample it belongs to, the indices of the fan-outs around it, and what the stage reads."""

    sample: int
    path: Path
    inputs: tuple[Payload, ...]


class Values:
    """What is known of each sample so far. Samples on which a stage fails are dropped: nothing after it can run."""

    def __init__(self, graph: Graph, samples: list[tuple[Payload, ...]]) -> None:
        self.graph = graph
        self.samples = samples
        self.alive = list(range(len(samples)))
        self._made: dict[tuple[int, int, Path], Payload] = {}

    def drop(self, sample: int) -> None:
        """A stage has failed on this sample."""
        if sample in self.alive:
            self.alive.remove(sample)

    def put(self, stage: int, sample: int, path: Path, output: Payload) -> None:
        """What a stage has made."""
        self._made[stage, sample, path] = output

    def places(self, stage: int) -> list[Place]:
        """The items of ``stage`` in the samples that are alive; those that are skipped get their token here."""
        extent = make_extent(self.graph, 1 << stage)
        found: list[Place] = []
        for sample in self.alive:
            for path in self._paths(sample, self.graph.stages[stage].scope):
                inputs = tuple(self._payload(source, sample, path) for source in extent.inputs)
                if is_skipped(self.graph, extent, dict(zip(extent.inputs, inputs, strict=True))):
                    self.put(stage, sample, path, SKIPPED)
                else:
                    found.append(Place(sample, path, inputs))
        return found

    def _paths(self, sample: int, scope: tuple[int, ...]) -> Iterator[Path]:
        if not scope:
            yield ()
            return
        for outer in self._paths(sample, scope[:-1]):
            over = self._payload(self.graph.eaches[scope[-1]].over, sample, outer)
            for index in range(len(over.refs)):
                yield (*outer, index)

    def _payload(self, source: Source, sample: int, path: Path) -> Payload:
        """The value of ``source`` as someone at ``path``, or further inside, reads it."""
        graph = self.graph
        if isinstance(source, Input):
            return self.samples[sample][source.index]
        if isinstance(source, Output):
            return self._made[source.stage, sample, path[: len(graph.stages[source.stage].scope)]]
        if isinstance(source, Element):
            each = graph.eaches[source.each]
            depth = len(each.scope)
            over = self._payload(each.over, sample, path[:depth])
            return Payload((over.refs[path[depth]],))
        if isinstance(source, Gathered):
            return self._gathered(source.each, sample, path)
        options = [self._payload(option, sample, path) for option in leaves(graph, source)]
        return next((option for option in options if option.shape != "skipped"), SKIPPED)

    def _gathered(self, number: int, sample: int, path: Path) -> Payload:
        each = self.graph.eaches[number]
        outer = path[: len(each.scope)]
        over = self._payload(each.over, sample, outer)
        if over.shape == "skipped":
            return SKIPPED
        results = [self._payload(each.result, sample, (*outer, index)) for index in range(len(over.refs))]
        if any(result.shape == "skipped" for result in results):
            return SKIPPED
        return Payload(tuple(ref for result in results for ref in result.refs), "many")
