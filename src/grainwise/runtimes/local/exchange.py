"""Between values and messages: reading the inputs of an extent where they lie, and publishing its outputs."""

from typing import Any

from grainwise.domain.app import AppSpec
from grainwise.domain.extent import Extent, keyed_sources, make_extent
from grainwise.domain.graph import Gathered, Output, Source
from grainwise.domain.values import SKIPPED, Payload, Ref
from grainwise.runtimes.execute import SKIPPED_VALUE, Resident
from grainwise.runtimes.local.edges import EdgeTypes
from grainwise.runtimes.local.memory import Inputs, InstanceMemory
from grainwise.runtimes.local.wire import MANY, ONE, Published, WirePayload, pack_value, unpack_value
from grainwise.sdk.codec import Codec

HANDLE_BITS = 40
"""Handles of an instance are its serial number, then a count of so many bits."""


class ExtentPlan:
    """An extent with what is needed to read its inputs and to hand on its outputs."""

    __slots__ = ("codecs", "extent", "outputs")

    def __init__(self, extent: Extent, codecs: tuple[Codec, ...], outputs: "tuple[Outlet, ...]") -> None:
        self.extent = extent
        self.codecs = codecs
        self.outputs = outputs


class Outlet:
    """One output of an extent: where it comes from, how it is encoded, and whom to name if it cannot be."""

    __slots__ = ("codec", "edge_type", "is_keyed", "is_many", "is_sized", "source", "stage")

    def __init__(
        self, source: Source, codec: Codec, edge_type: int, stage: str, *, is_many: bool, is_keyed: bool, is_sized: bool
    ) -> None:
        self.source = source
        self.codec = codec
        self.edge_type = edge_type
        self.stage = stage
        self.is_many = is_many
        self.is_keyed = is_keyed
        self.is_sized = is_sized


class Exchange:
    """Decodes and publishes the values of one instance."""

    def __init__(self, spec: AppSpec, resident: Resident, memory: InstanceMemory, serial: int) -> None:
        self._graph = spec.graph
        self._resident = resident
        self._memory = memory
        self._types = EdgeTypes(spec)
        self._keyed = keyed_sources(spec.graph)
        self._plans: dict[int, ExtentPlan] = {}
        self._next_handle = (serial << HANDLE_BITS) + 1
        self._copied_bytes = 0
        self._reported_bytes = 0

    def plan(self, mask: int) -> ExtentPlan:
        """The plan of the extent with this mask, made once."""
        plan = self._plans.get(mask)
        if plan is None:
            extent = make_extent(self._graph, mask)
            codecs = tuple(self._resident.codec(source) for source in extent.inputs)
            outputs = tuple(self.outlet(source, self._producer(source)) for source in extent.outputs)
            plan = self._plans[mask] = ExtentPlan(extent, codecs, outputs)
        return plan

    def outlet(self, source: Source, producer: str) -> Outlet:
        """How values of ``source`` are handed on; ``producer`` is named when one cannot be."""
        resident = self._resident
        edge_type = self._types.number(self._types.stored(source))
        return Outlet(
            source,
            resident.codec(source),
            edge_type,
            producer,
            is_many=resident.is_many(source),
            is_keyed=source in self._keyed,
            is_sized=bool(self._graph.sized_consumers(source)),
        )

    def _producer(self, source: Source) -> str:
        """The stage to name when a value cannot be handed on."""
        if isinstance(source, Output):
            return self._graph.stages[source.stage].name
        assert isinstance(source, Gathered)
        producers = self._graph.producers(source)
        return self._graph.stages[producers[0]].name

    def open(self, plan: ExtentPlan, item: tuple[WirePayload, ...], inputs: Inputs) -> list[object]:
        """The decoded values of one item."""
        values: list[object] = []
        for codec, (shape, refs) in zip(plan.codecs, item, strict=True):
            if shape == ONE:
                values.append(self._decode(codec, refs[0], inputs))
            elif shape == MANY:
                values.append([self._decode(codec, ref, inputs) for ref in refs])
            else:
                values.append(SKIPPED_VALUE)
        return values

    def _decode(self, codec: Codec, ref: Any, inputs: Inputs) -> object:
        wire = unpack_value(ref)
        buffers: list[bytes | memoryview] = []
        for buffer in wire.buffers:
            if isinstance(buffer, bytes):
                buffers.append(buffer)
            else:
                buffers.append(self._memory.open(buffer, inputs))
                if codec.value_type.kind in ("bytes", "text"):
                    self._copied_bytes += buffer.length
        return codec.decode(wire.header, buffers)

    def publish(self, output: Outlet, value: object, inputs: Inputs, values: list[Published]) -> Payload:
        """Make one output of an item readable by others; what is new is added to ``values``.

        Raises:
            InputError: the value does not fit its type, or its size or key cannot be taken.
            MemoryFullError: the arena has no room now; what was added to ``values`` before is to be withdrawn.
        """
        if value is SKIPPED_VALUE:
            return SKIPPED
        if output.is_many:
            assert isinstance(value, list)
            return Payload(tuple([self._ref(output, element, inputs, values) for element in value]), "many")
        key = self._resident.key(output.source, value) if output.is_keyed else None
        return Payload((self._ref(output, value, inputs, values),), "one", key)

    def _ref(self, output: Outlet, value: object, inputs: Inputs, values: list[Published]) -> Ref:
        header, buffers = output.codec.encode(value)
        sizes = self._resident.measure(output.source, value) if output.is_sized else ()
        parts, holds, nbytes = self._memory.publish(buffers, inputs)
        handle = self._next_handle
        self._next_handle = handle + 1
        if not nbytes:
            nbytes = len(header)
        values.append(Published(handle, nbytes, output.edge_type, holds, pack_value(header, parts)))
        return Ref(handle, nbytes, sizes)

    def withdraw(self, values: list[Published], begin: int = 0) -> None:
        """Take back the values from ``begin`` on."""
        for published in values[begin:]:
            self._memory.withdraw(published.holds)
        del values[begin:]

    def take_copied(self) -> int:
        """Bytes that were copied since the last time: results that lay in no arena, and inputs that Python must own."""
        copied = self._memory.copied_bytes + self._copied_bytes - self._reported_bytes
        self._reported_bytes += copied
        return copied
