"""The smallest runtime: instances are objects of this process, values lie encoded in a dictionary, no share is enforced.

It passes the same conformance suite as the real ones and serves tests, notebooks and the first look at an app. Values go
through the codec as they do between processes, so a stage never sees an object that another one still holds. An instance
does one invocation at a time; the event loop is blocked while a stage runs.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct

from grainwise.control.actions import CancelInvocation, Invoke, KillInstance, LoadStages, StartInstance, StopInstance
from grainwise.control.events import (
    InstanceFailed,
    InstanceReady,
    InstanceStopped,
    InvocationDone,
    InvocationFailed,
    ItemFailure,
    ItemResult,
    StagesLoaded,
)
from grainwise.control.performers import Post
from grainwise.domain.app import AppSpec
from grainwise.domain.errors import GrainwiseError, InputError
from grainwise.domain.extent import Extent, keyed_sources, make_extent
from grainwise.domain.graph import Source
from grainwise.domain.machine import Capabilities, HopModel
from grainwise.domain.time import Instant
from grainwise.domain.values import SKIPPED, Payload, Ref, ValueType
from grainwise.runtimes.columns import SKIPPED_VALUE
from grainwise.runtimes.execute import Resident
from grainwise.runtimes.local.edges import EdgeTypes
from grainwise.runtimes.payloads import ArenaFullError, Stored
from grainwise.sdk.app import App
from grainwise.sdk.codec import Codec

CAPABILITIES = Capabilities(
    name="in-memory",
    share_mechanism="none",
    share_scope="invocation",
    is_share_hard=False,
    min_cpu_cores=0.1,
    payload_limit_bytes=1 << 30,
)
HOP = HopModel(fixed_us=5.0, us_per_mib=0.0, cpu_fixed_us=5.0, cpu_us_per_mib=0.0, process_mib=0.0)
"""An assumption, not a measurement: a hop here is a call on the event loop."""


class Held(Struct, frozen=True):
    """A stored value in its encoded form, with the codec of whoever stored it."""

    header: bytes
    buffers: tuple[bytes | memoryview, ...]
    nbytes: int
    codec: Codec


class MemoryReservation:
    """A writable region of a ``MemoryStore``."""

    def __init__(self, store: "MemoryStore", nbytes: int) -> None:
        self._store = store
        self._bytes = bytearray(nbytes)

    @property
    def view(self) -> memoryview:
        """The writable bytes."""
        return memoryview(self._bytes)

    def tensor(self, offset: int, nbytes: int, dtype: str, shape: Sequence[int]) -> Stored:
        """Publish a part as an array.

        Raises:
            InputError: the length does not agree with dtype and shape.
        """
        kind = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        if count * kind.itemsize != nbytes or offset + nbytes > len(self._bytes):
            raise InputError(f"{nbytes} bytes are no {dtype} array of shape {list(shape)}")
        array = np.frombuffer(self._bytes, kind, count, offset).reshape(tuple(shape))
        return self._store.put(array, ValueType("tensor", "numpy.ndarray", kind.name))

    def raw(self, offset: int, nbytes: int) -> Stored:
        """Publish a part as bytes."""
        return self._store.put(bytes(self._bytes[offset : offset + nbytes]), ValueType("bytes", "bytes"))

    def close(self) -> None:
        """Nothing to give up: what was published is a copy."""


class MemoryStore:
    """Values behind handles in a dictionary, up to ``limit_bytes``."""

    def __init__(self, limit_bytes: int = 1 << 30) -> None:
        self._held: dict[int, Held] = {}
        self._next = 1
        self._limit = limit_bytes
        self._codecs: dict[ValueType, Codec] = {}
        self.live_bytes = 0

    def reserve(self, nbytes: int, first_tensor_offset: int = 0) -> MemoryReservation:
        """Room for ``nbytes``.

        Raises:
            ArenaFullError: the limit would be passed.
        """
        self._check(nbytes)
        return MemoryReservation(self, nbytes)

    def put(self, value: object, value_type: ValueType) -> Stored:
        """Store a value of a declared type.

        Raises:
            InputError: the value does not fit the type.
            ArenaFullError: the limit would be passed.
        """
        codec = self.codec(value_type)
        return self.hold(value, codec, codec)

    def codec(self, value_type: ValueType) -> Codec:
        """The codec of a type as the store reads it, without the classes of the app."""
        codec = self._codecs.get(value_type)
        if codec is None:
            codec = self._codecs[value_type] = Codec(value_type)
        return codec

    def hold(self, value: object, writer: Codec, reader: Codec) -> Stored:
        """Store a value as ``writer`` encodes it; ``get`` reads it with ``reader``.

        Raises:
            InputError: the value does not fit the type.
            ArenaFullError: the limit would be passed.
        """
        header, buffers = writer.encode(value)
        nbytes = len(header) + sum(buffer.nbytes for buffer in buffers)
        self._check(nbytes)
        handle = self._next
        self._next += 1
        self._held[handle] = Held(header, tuple(bytes(buffer) for buffer in buffers), nbytes, reader)
        self.live_bytes += nbytes
        return Stored(handle, nbytes)

    def _check(self, nbytes: int) -> None:
        if self.live_bytes + nbytes > self._limit:
            raise ArenaFullError(f"{nbytes} bytes do not fit: {self.live_bytes} of {self._limit} are in use; retry later")

    def get(self, handle: int) -> object:
        """The value behind a handle; arrays are read-only, records are dictionaries of their fields."""
        held = self._held[handle]
        return held.codec.decode(held.header, held.buffers)

    def read(self, handle: int, codec: Codec) -> object:
        """The value behind a handle, as ``codec`` rebuilds it."""
        held = self._held[handle]
        return codec.decode(held.header, held.buffers)

    def release(self, handles: tuple[int, ...]) -> None:
        """Forget these handles."""
        for handle in handles:
            self.live_bytes -= self._held.pop(handle).nbytes


class Work(Struct, frozen=True):
    """An extent with the codecs of its inputs and, per output, who made it."""

    extent: Extent
    codecs: tuple[Codec, ...]
    producers: tuple[str, ...]


class InMemoryRuntime:
    """Performs the actions of a controller inside this process. Used on the event loop's thread."""

    capabilities = CAPABILITIES

    def __init__(self, app: App, spec: AppSpec, store: MemoryStore, post: Post) -> None:
        self._app = app
        self._spec = spec
        self._store = store
        self._post = post
        self._types = EdgeTypes(spec)
        self._starting: set[int] = set()
        self._residents: dict[int, Resident] = {}
        self._work: dict[int, Work] = {}
        self._keyed = frozenset(keyed_sources(spec.graph))
        self._waiting: dict[int, int] = {}
        self._cancelled: set[int] = set()

    def _later(self, call: Callable[..., None], *args: object) -> None:
        asyncio.get_running_loop().call_soon(call, *args)

    def start(self, action: StartInstance) -> None:
        """Construct the stages on the next turn of the loop."""
        self._starting.add(action.instance)
        self._later(self._start, action)

    def _start(self, action: StartInstance) -> None:
        if action.instance not in self._starting:
            return
        self._starting.discard(action.instance)
        began = _clock_us()
        try:
            resident = Resident(self._app, self._spec, _clock_us)
            resident.load(action.stages)
        except GrainwiseError as error:
            self._post(InstanceFailed(action.instance, "starting", str(error)))
            return
        self._residents[action.instance] = resident
        self._post(InstanceReady(action.instance, 0, 0, _clock_us() - began, 0, action.memory_mib))

    def stop(self, action: StopInstance) -> None:
        """Forget an instance."""
        self._end(action.instance)

    def kill(self, action: KillInstance) -> None:
        """Forget an instance; what it was told to run is dropped."""
        for invocation in [number for number, instance in self._waiting.items() if instance == action.instance]:
            del self._waiting[invocation]
        self._end(action.instance)

    def _end(self, instance: int) -> None:
        if instance in self._starting or instance in self._residents:
            self._starting.discard(instance)
            self._residents.pop(instance, None)
            self._later(self._post, InstanceStopped(instance))

    def load(self, action: LoadStages) -> None:
        """Construct further stages on the next turn of the loop."""
        self._later(self._load, action)

    def _load(self, action: LoadStages) -> None:
        resident = self._residents.get(action.instance)
        began = _clock_us()
        error = ""
        if resident is None:
            error = f"instance {action.instance} is not ready"
        else:
            try:
                resident.load(action.stages)
            except GrainwiseError as failure:
                error = str(failure)
        self._post(StagesLoaded(action.instance, action.stages, _clock_us() - began, 0.0, error))

    def invoke(self, action: Invoke) -> None:
        """Run an extent on the next turn of the loop."""
        self._waiting[action.invocation] = action.instance
        self._later(self._invoke, action)

    def cancel(self, action: CancelInvocation) -> None:
        """Drop an invocation that has not begun."""
        if action.invocation in self._waiting:
            self._cancelled.add(action.invocation)

    def _invoke(self, action: Invoke) -> None:
        is_cancelled = action.invocation in self._cancelled
        self._cancelled.discard(action.invocation)
        if self._waiting.pop(action.invocation, None) is None:
            return
        if is_cancelled:
            self._post(InvocationFailed(action.invocation, action.instance, "cancelled", "it had not begun"))
            return
        resident = self._residents.get(action.instance)
        if resident is None:
            why = f"instance {action.instance} is not ready"
            self._post(InvocationFailed(action.invocation, action.instance, "refused", why))
            return
        self._post(self._perform(resident, action))

    def _perform(self, resident: Resident, action: Invoke) -> InvocationDone | InvocationFailed:
        began = _clock_us()
        stored: list[int] = []
        try:
            work = self._work_of(resident, action.extent)
            rows = [
                [self._value(codec, payload) for codec, payload in zip(work.codecs, inputs, strict=True)]
                for inputs in action.inputs
            ]
            outcome = resident.run(work.extent, rows)
            results = tuple(self._result(resident, work, result, stored) for result in outcome.results)
        except ArenaFullError as error:
            self._store.release(tuple(stored))
            return InvocationFailed(action.invocation, action.instance, "backpressure", str(error))
        except GrainwiseError as error:
            self._store.release(tuple(stored))
            return InvocationFailed(action.invocation, action.instance, "refused", str(error))
        return InvocationDone(action.invocation, action.instance, results, _clock_us() - began, outcome.spans)

    def _work_of(self, resident: Resident, mask: int) -> Work:
        work = self._work.get(mask)
        if work is None:
            graph = self._spec.graph
            extent = make_extent(graph, mask)
            codecs = tuple(resident.codec(source) for source in extent.inputs)
            producers = tuple(graph.stages[graph.producers(source)[0]].name for source in extent.outputs)
            work = self._work[mask] = Work(extent, codecs, producers)
        return work

    def _value(self, codec: Codec, payload: Payload) -> object:
        if payload.shape == "skipped":
            return SKIPPED_VALUE
        if payload.shape == "many":
            return [self._store.read(ref.handle, codec) for ref in payload.refs]
        return self._store.read(payload.refs[0].handle, codec)

    def _result(
        self, resident: Resident, work: Work, result: tuple[object, ...] | ItemFailure, stored: list[int]
    ) -> ItemResult:
        if isinstance(result, ItemFailure):
            return ItemResult((), result)
        fresh: list[int] = []
        outputs: list[Payload] = []
        for source, producer, value in zip(work.extent.outputs, work.producers, result, strict=True):
            try:
                outputs.append(self._payload(resident, source, value, fresh))
            except InputError as error:
                self._store.release(tuple(fresh))
                return ItemResult((), ItemFailure(producer, "value", str(error)))
            except ArenaFullError:
                self._store.release(tuple(fresh))
                raise
        stored.extend(fresh)
        return ItemResult(tuple(outputs))

    def _payload(self, resident: Resident, source: Source, value: object, stored: list[int]) -> Payload:
        if value is SKIPPED_VALUE:
            return SKIPPED
        key = resident.key(source, value) if source in self._keyed else None
        is_many = resident.is_many(source)
        writer, reader = resident.codec(source), self._store.codec(self._types.stored(source))
        refs: list[Ref] = []
        for element in value if is_many else (value,):  # type: ignore[attr-defined]
            held = self._store.hold(element, writer, reader)
            stored.append(held.handle)
            refs.append(Ref(held.handle, held.nbytes, resident.measure(source, element)))
        return Payload(tuple(refs), "many" if is_many else "one", key)


def _clock_us() -> Instant:
    return time.perf_counter_ns() // 1000
