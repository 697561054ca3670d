"""The smallest runtime: instances are objects of this process, values stay Python objects, nothing is enforced.

It passes the same conformance suite as the real ones and serves tests, notebooks and the first look at an app. An instance
does one invocation at a time; the event loop is blocked while a stage runs.
"""

import asyncio
import time
from collections.abc import Sequence

import numpy as np

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
        array.flags.writeable = False
        return self._store.hold(array, nbytes)

    def raw(self, offset: int, nbytes: int) -> Stored:
        """Publish a part as bytes."""
        return self._store.hold(bytes(self._bytes[offset : offset + nbytes]), nbytes)

    def close(self) -> None:
        """Nothing to give up: the values keep the region alive."""


class MemoryStore:
    """Values behind handles in a dictionary, up to ``limit_bytes``."""

    def __init__(self, limit_bytes: int = 1 << 30) -> None:
        self._values: dict[int, tuple[object, int]] = {}
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
        codec = self._codecs.get(value_type)
        if codec is None:
            codec = self._codecs[value_type] = Codec(value_type)
        header, buffers = codec.encode(value)
        return self.hold(value, len(header) + sum(len(buffer) for buffer in buffers))

    def hold(self, value: object, nbytes: int) -> Stored:
        """Store a value whose type is known to fit.

        Raises:
            ArenaFullError: the limit would be passed.
        """
        self._check(nbytes)
        handle = self._next
        self._next += 1
        self._values[handle] = (value, nbytes)
        self.live_bytes += nbytes
        return Stored(handle, nbytes)

    def _check(self, nbytes: int) -> None:
        if self.live_bytes + nbytes > self._limit:
            raise ArenaFullError(f"{nbytes} bytes do not fit: {self.live_bytes} of {self._limit} are in use; retry later")

    def get(self, handle: int) -> object:
        """The value behind a handle."""
        return self._values[handle][0]

    def release(self, handles: tuple[int, ...]) -> None:
        """Forget these handles."""
        for handle in handles:
            _, nbytes = self._values.pop(handle)
            self.live_bytes -= nbytes


class InMemoryRuntime:
    """Performs the actions of a controller inside this process. Used on the event loop's thread."""

    capabilities = CAPABILITIES

    def __init__(self, app: App, spec: AppSpec, store: MemoryStore, post: Post) -> None:
        self._app = app
        self._spec = spec
        self._store = store
        self._post = post
        self._residents: dict[int, Resident] = {}
        self._extents: dict[int, Extent] = {}
        self._keyed = frozenset(keyed_sources(spec.graph))
        self._cancelled: set[int] = set()

    def _later(self, call: object, *args: object) -> None:
        asyncio.get_running_loop().call_soon(call, *args)  # type: ignore[arg-type]

    def start(self, action: StartInstance) -> None:
        """Construct the stages on the next turn of the loop."""
        self._later(self._start, action)

    def _start(self, action: StartInstance) -> None:
        resident = Resident(self._app, self._spec, _clock_us)
        began = _clock_us()
        try:
            resident.load(action.stages)
        except GrainwiseError as error:
            self._post(InstanceFailed(action.instance, "starting", str(error)))
            return
        self._residents[action.instance] = resident
        self._post(InstanceReady(action.instance, 0, 0, _clock_us() - began, 0, action.memory_mib))

    def stop(self, action: StopInstance) -> None:
        """Forget an instance."""
        self._residents.pop(action.instance, None)
        self._later(self._post, InstanceStopped(action.instance))

    def kill(self, action: KillInstance) -> None:
        """Forget an instance; what it was told to run is dropped."""
        self._residents.pop(action.instance, None)
        self._later(self._post, InstanceStopped(action.instance))

    def load(self, action: LoadStages) -> None:
        """Construct further stages on the next turn of the loop."""
        self._later(self._load, action)

    def _load(self, action: LoadStages) -> None:
        resident = self._residents.get(action.instance)
        if resident is None:
            return
        began = _clock_us()
        error = ""
        try:
            resident.load(action.stages)
        except GrainwiseError as failure:
            error = str(failure)
        self._post(StagesLoaded(action.instance, action.stages, _clock_us() - began, 0.0, error))

    def invoke(self, action: Invoke) -> None:
        """Run an extent on the next turn of the loop."""
        self._later(self._invoke, action)

    def cancel(self, action: CancelInvocation) -> None:
        """Drop an invocation that has not begun."""
        self._cancelled.add(action.invocation)

    def _invoke(self, action: Invoke) -> None:
        resident = self._residents.get(action.instance)
        if resident is None:
            return
        if action.invocation in self._cancelled:
            self._cancelled.discard(action.invocation)
            self._post(InvocationFailed(action.invocation, action.instance, "cancelled"))
            return
        extent = self._extents.get(action.extent)
        if extent is None:
            extent = self._extents[action.extent] = make_extent(self._spec.graph, action.extent)
        began = _clock_us()
        outcome = resident.run(extent, [[self._value(payload) for payload in inputs] for inputs in action.inputs])
        results = tuple(self._result(resident, extent, result) for result in outcome.results)
        self._cancelled.discard(action.invocation)
        self._post(InvocationDone(action.invocation, action.instance, results, _clock_us() - began, outcome.spans))

    def _value(self, payload: Payload) -> object:
        if payload.shape == "skipped":
            return SKIPPED_VALUE
        if payload.shape == "many":
            return [self._store.get(ref.handle) for ref in payload.refs]
        return self._store.get(payload.refs[0].handle)

    def _result(self, resident: Resident, extent: Extent, result: tuple[object, ...] | ItemFailure) -> ItemResult:
        if isinstance(result, ItemFailure):
            return ItemResult((), result)
        stored: list[int] = []
        try:
            outputs = tuple(
                self._payload(resident, source, value, stored) for source, value in zip(extent.outputs, result, strict=True)
            )
        except GrainwiseError as error:
            self._store.release(tuple(stored))
            names = self._spec.graph.names(extent.mask)
            return ItemResult((), ItemFailure(names[-1], "value", str(error)))
        return ItemResult(outputs)

    def _payload(self, resident: Resident, source: Source, value: object, stored: list[int]) -> Payload:
        if value is SKIPPED_VALUE:
            return SKIPPED
        key = resident.key(source, value) if source in self._keyed else None
        is_many = resident.is_many(source)
        codec = resident.codec(source)
        refs: list[Ref] = []
        for element in value if is_many else (value,):  # type: ignore[attr-defined]
            header, buffers = codec.encode(element)
            held = self._store.hold(element, len(header) + sum(len(buffer) for buffer in buffers))
            stored.append(held.handle)
            refs.append(Ref(held.handle, held.nbytes, resident.measure(source, element)))
        return Payload(tuple(refs), "many" if is_many else "one", key)


def _clock_us() -> Instant:
    return time.perf_counter_ns() // 1000
