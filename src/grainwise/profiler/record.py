"""The first pass: every stage alone in a fresh instance, on the real data of the samples.

It gives what a cold start is made of, the memory of each stage, what a mean request looks like, and the items with which
points are measured later; their values stay in the store.
"""

from collections.abc import Callable
from statistics import median

from msgspec import Struct

from grainwise.control.events import InvocationDone, ItemFailure
from grainwise.domain.errors import DeclarationError
from grainwise.domain.values import Payload
from grainwise.profiler.bench import Bench, MeasurementError
from grainwise.profiler.memory import own_mib
from grainwise.profiler.values import Place, Values
from grainwise.profiles.artifact import Point

CALL_LIMIT_S = 60.0
"""A call of a stage that takes longer is ended."""

_REPEATS = 2
"""How often the largest item is run again, so that a hiccup is not taken for its cost."""


class Item(Struct, frozen=True):
    """One real input of a stage: its payloads, its size, and about the microseconds of one call with it alone."""

    inputs: tuple[Payload, ...]
    size: float
    call_us: int


class StageRecord(Struct, frozen=True):
    """What the first pass says of a stage; ``items`` are ordered by size. ``failures`` are points at which it failed.

    ``by_sample`` has (sample, executions, sum of sizes) for each sample that reached the stage.
    """

    load_us: float
    first_call_us: float
    memory_mib: float
    items_per_request: float
    output_bytes: float
    items: tuple[Item, ...]
    failures: tuple[Point, ...]
    by_sample: tuple[tuple[int, int, float], ...] = ()

    @property
    def item_size(self) -> float:
        """The mean size of an item."""
        return sum(item.size for item in self.items) / len(self.items)

    @property
    def call_us(self) -> float:
        """The mean duration of one call with a single item, in microseconds."""
        return sum(item.call_us for item in self.items) / len(self.items)


class Record(Struct, frozen=True):
    """The first pass over all stages."""

    process_us: float
    import_us: float
    process_mib: float
    entry_bytes: tuple[float, ...]
    stages: tuple[StageRecord, ...]
    dropped: frozenset[int] = frozenset()


async def record_samples(bench: Bench, samples: list[tuple[Payload, ...]], entering: Callable[[str], None]) -> Record:
    """Run the samples through all stages, each in an instance of its own; ``entering`` hears the name of each stage.

    Raises:
        DeclarationError: a stage cannot be loaded, fails on every sample, or is reached by none.
    """
    graph = bench.runtime.spec.graph
    empty = await _start(bench, 0, "without a stage")
    process_us = [empty.process_us]
    process_mib = own_mib(bench.runtime.pid(empty.instance))
    await bench.stop(empty.instance)
    values = Values(graph, samples)
    stages: list[StageRecord] = []
    for index, node in enumerate(graph.stages):
        entering(node.name)
        ready = await _start(bench, 1 << index, node.name)
        process_us.append(ready.process_us)
        stages.append(await _Pass(bench, values, index, ready.instance).record(ready.load_us, process_mib))
        await bench.stop(ready.instance)
    return Record(
        process_us=float(median(process_us)),
        import_us=float(empty.import_us),
        process_mib=process_mib,
        entry_bytes=tuple(
            sum(_nbytes(sample[position]) for sample in samples) / len(samples) for position in range(len(graph.input_names))
        ),
        stages=tuple(stages),
        dropped=frozenset(range(len(samples))) - frozenset(values.alive),
    )


class _Started(Struct, frozen=True):
    instance: int
    process_us: int
    import_us: int
    load_us: int


async def _start(bench: Bench, stages: int, name: str) -> _Started:
    try:
        ready = await bench.start(stages, 1.0)
    except MeasurementError as error:
        raise DeclarationError(
            f"app {bench.runtime.spec.name!r}: an instance ({name}) did not become ready: {error.detail}; mend the constructor "
            "of the stage before it is profiled"
        ) from error
    return _Started(ready.instance, ready.process_us, ready.import_us, ready.load_us)


class _Pass:
    """One stage and its items."""

    def __init__(self, bench: Bench, values: Values, stage: int, instance: int) -> None:
        self._bench = bench
        self._values = values
        self._stage = stage
        self._name = bench.runtime.spec.graph.stages[stage].name
        self._instance = instance
        self._items: list[Item] = []
        self._failures: list[Point] = []
        self._by_sample: dict[int, tuple[int, float]] = {}
        self._output_bytes = 0
        self._first_us = 0

    async def record(self, load_us: int, process_mib: float) -> StageRecord:
        samples = len(self._values.alive)
        places = self._values.places(self._stage)
        if not places:
            raise DeclarationError(
                f"app {self._bench.runtime.spec.name!r}: no sample reaches stage {self._name!r}; add one that does, so that it "
                "can be measured"
            )
        await self._first(places[0])
        for place in places:
            try:
                call = await self._bench.invoke(self._instance, 1 << self._stage, [place.inputs], 1.0, CALL_LIMIT_S)
                self._note(place, call)
            except MeasurementError as error:
                self._fail(place, error)
                await self._revive()
        if not self._items:
            detail = self._failures[0].detail
            raise DeclarationError(
                f"app {self._bench.runtime.spec.name!r}: stage {self._name!r} fails on every sample: {detail}; mend the stage "
                "or the samples"
            )
        items = await self._steady()
        memory_mib = own_mib(self._bench.runtime.pid(self._instance)) - process_mib
        return StageRecord(
            load_us=float(load_us),
            first_call_us=float(self._first_us),
            memory_mib=max(0.0, memory_mib),
            items_per_request=len(places) / samples,
            output_bytes=self._output_bytes / len(self._items),
            items=items,
            failures=tuple(self._failures),
            by_sample=tuple((sample, *found) for sample, found in sorted(self._by_sample.items())),
        )

    async def _first(self, place: Place) -> None:
        """The first call of the stage in a fresh process; what comes of it is thrown away."""
        try:
            done = await self._bench.invoke(self._instance, 1 << self._stage, [place.inputs], 1.0, CALL_LIMIT_S)
        except MeasurementError:
            await self._revive()
            return
        self._first_us = sum(span.duration_us for span in done.spans)
        self._bench.release(done.results)

    async def _steady(self) -> tuple[Item, ...]:
        """The items by size, their durations without hiccups of the machine: none takes longer than a larger one."""
        items = sorted(self._items, key=lambda item: item.size)
        least_us = items[-1].call_us
        for _ in range(_REPEATS):
            try:
                done = await self._bench.invoke(self._instance, 1 << self._stage, [items[-1].inputs], 1.0, CALL_LIMIT_S)
            except MeasurementError:
                await self._revive()
                continue
            self._bench.release(done.results)
            if done.spans and not done.spans[0].raised:
                least_us = min(least_us, done.spans[0].duration_us)
        steady: list[Item] = []
        for item in reversed(items):
            least_us = min(least_us, item.call_us)
            steady.append(Item(item.inputs, item.size, least_us))
        return tuple(reversed(steady))

    async def _revive(self) -> None:
        if not self._bench.is_alive(self._instance):
            self._instance = (await _start(self._bench, 1 << self._stage, self._name)).instance

    def _note(self, place: Place, done: InvocationDone) -> None:
        result = done.results[0]
        if result.failure is not None:
            size = done.spans[0].size_sum if done.spans else 0.0
            self._fail(place, outcome_of(result.failure), size)
            return
        span = done.spans[0]
        self._items.append(Item(place.inputs, span.size_sum, span.duration_us))
        count, size_sum = self._by_sample.get(place.sample, (0, 0.0))
        self._by_sample[place.sample] = (count + 1, size_sum + span.size_sum)
        output = result.outputs[0] if result.outputs else Payload()
        self._output_bytes += _nbytes(output)
        self._values.put(self._stage, place.sample, place.path, output)

    def _fail(self, place: Place, error: MeasurementError, size: float = 0.0) -> None:
        self._failures.append(Point(1, size, size, 1.0, (), error.outcome, error.detail))
        self._values.drop(place.sample)


def outcome_of(failure: ItemFailure) -> MeasurementError:
    """What an item's failure is as the result of a measurement."""
    is_memory = failure.kind == "raised" and failure.reason.startswith("MemoryError")
    return MeasurementError("out of memory" if is_memory else "failed", failure.reason)


def _nbytes(payload: Payload) -> int:
    return sum(ref.nbytes for ref in payload.refs)
