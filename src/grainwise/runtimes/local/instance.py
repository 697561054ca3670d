"""An instance: one process that holds stages and runs extents, one invocation after the other.

It reads the bytes of its inputs where they lie, and leaves those of its results where others can read them.
"""

import select
import socket
import time
from collections import deque
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from grainwise.control.events import ItemFailure, ItemResult
from grainwise.domain.app import AppSpec
from grainwise.domain.errors import GrainwiseError, InputError
from grainwise.domain.graph import Input
from grainwise.domain.values import Payload
from grainwise.runtimes.execute import Resident
from grainwise.runtimes.local.arena import Arena
from grainwise.runtimes.local.exchange import Exchange, ExtentPlan
from grainwise.runtimes.local.memory import Inputs, InstanceMemory, MemoryFullError
from grainwise.runtimes.local.wire import (
    Broken,
    Cancel,
    Done,
    Frames,
    Free,
    Load,
    Loaded,
    Map,
    NotDone,
    Ping,
    Pong,
    Progress,
    Published,
    Ready,
    Run,
    Sample,
    Sampled,
    SetUp,
    Stop,
    Tight,
    ToInstance,
    Unmap,
    WirePayload,
    frame,
    to_instance,
)
from grainwise.sdk import arrays

_ROOM_WAIT_S = 0.5
"""How long a result waits for room in a full arena before the invocation is given back."""

_TELL_US = 200_000
"""How often a long invocation says that it goes on."""

_RECEIVE_BYTES = 32_768
_ANCILLARY_BYTES = socket.CMSG_SPACE(64 * 4)


class Instance:
    """Serves one socket until it is told to stop or the server goes."""

    def __init__(self, server: socket.socket, arena: Arena, app: Any, spec: AppSpec, serial: int, main_at_us: int) -> None:
        self._server = server
        self._memory = InstanceMemory(arena)
        self._graph = spec.graph
        self._resident = Resident(app, spec, _clock_us, self._enter)
        self._exchange = Exchange(spec, self._resident, self._memory, serial)
        self._main_at_us = main_at_us
        self._frames = Frames()
        self._fds: deque[int] = deque()
        self._queue: deque[ToInstance] = deque()
        self._is_open = True
        self._last_stage = -1
        self._invocation = 0
        self._told_at_us = 0
        arrays.set_allocator(self._memory.allocate)

    def _enter(self, stage: int) -> None:
        if stage >= 0:
            self._last_stage = stage
            if self._invocation and _clock_us() - self._told_at_us >= _TELL_US:
                self._told_at_us = _clock_us()
                self._send(Progress(self._invocation))
        self._memory.enter(stage)

    def serve(self) -> None:
        """Obey messages in their order; returns when the server has gone or said so."""
        while True:
            self._receive(is_waiting=not self._queue)
            if not self._queue:
                if not self._is_open:
                    return
                continue
            message = self._queue.popleft()
            if isinstance(message, Run):
                self._run(message)
            elif isinstance(message, Ping):
                self._send(Pong())
            elif isinstance(message, Load):
                self._load(message)
            elif isinstance(message, SetUp):
                if not self._set_up(message):
                    return
            elif isinstance(message, Sample):
                self._send(self._sample())
            elif isinstance(message, Stop):
                return

    # Messages

    def _receive(self, *, is_waiting: bool) -> None:
        """Take in what has arrived, and wait for something if ``is_waiting``."""
        if not self._is_open:
            return
        flags = socket.MSG_CMSG_CLOEXEC if is_waiting else socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
        try:
            data, ancillary, _, _ = self._server.recvmsg(_RECEIVE_BYTES, _ANCILLARY_BYTES, flags)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data, ancillary = b"", []
        for _, _, fds in ancillary:
            self._fds.extend(memoryview(fds).cast("i"))
        if not data:
            self._is_open = False
            return
        for body in self._frames.feed(data):
            self._take_in(to_instance.decode(body))

    def _receive_within(self, timeout_s: float) -> None:
        """Take in what arrives, waiting at most so long."""
        if select.select([self._server], [], [], timeout_s)[0]:
            self._receive(is_waiting=False)

    def _take_in(self, message: ToInstance) -> None:
        """Do at once what does not wait for its turn."""
        if isinstance(message, Run):
            if message.freed:
                self._memory.settle(message.freed)
            self._queue.append(message)
        elif isinstance(message, Free):
            self._memory.settle(message.freed)
        elif isinstance(message, Map):
            fd = self._fds.popleft()
            self._memory.map(message.arena, fd, message.size)
        elif isinstance(message, Unmap):
            self._memory.unmap(message.arena)
        elif isinstance(message, Cancel):
            self._cancel(message.invocation)
        else:
            self._queue.append(message)

    def _cancel(self, invocation: int) -> None:
        for message in self._queue:
            if isinstance(message, Run) and message.invocation == invocation:
                self._queue.remove(message)
                self._send(NotDone(invocation, "cancelled", "it had not begun"))
                return

    def _send(self, message: Any) -> None:
        try:
            self._server.sendall(frame(message))
        except (BrokenPipeError, ConnectionResetError):
            self._is_open = False

    # Loading

    def _set_up(self, message: SetUp) -> bool:
        began = _clock_us()
        try:
            self._resident.load(message.stages)
        except GrainwiseError as error:
            stage = self._graph.stages[self._last_stage].name if self._last_stage >= 0 else ""
            self._send(Broken(str(error), stage))
            return False
        load_us = _clock_us() - began
        first_call_us = 0 if message.warm_up is None else self._warm_up(message.stages, message.warm_up)
        self._send(Ready(self._main_at_us, load_us, first_call_us, memory_mib()))
        return True

    def _warm_up(self, stages: int, item: tuple[WirePayload, ...]) -> int:
        """Run one item through all the stages, for nothing but that it has been done; microseconds that it took."""
        plan = self._exchange.plan(stages)
        inputs = Inputs()
        began = _clock_us()
        self._resident.run(plan.extent, [self._exchange.open(plan, item, inputs)])
        return _clock_us() - began

    def _load(self, message: Load) -> None:
        began = _clock_us()
        error = ""
        try:
            self._resident.load(message.stages)
        except GrainwiseError as failure:
            error = str(failure)
        self._send(Loaded(message.stages, _clock_us() - began, memory_mib(), error))

    def _sample(self) -> Sampled:
        """The app's example inputs, left where instances can read them."""
        names = self._graph.input_names
        plans = [self._exchange.outlet(Input(index), f"sample of {name}") for index, name in enumerate(names)]
        values: list[Published] = []
        inputs = Inputs()
        try:
            samples = tuple(
                tuple([self._exchange.publish(plan, value, inputs, values) for plan, value in zip(plans, sample, strict=True)])
                for sample in self._resident.app.sample_values()
            )
        except MemoryFullError as error:
            return Sampled((), (), f"the samples are larger than an arena: {error}; give fewer or smaller ones")
        except GrainwiseError as error:
            return Sampled((), (), str(error))
        return Sampled(samples, tuple(values))

    # Invocations

    def _run(self, message: Run) -> None:
        began = _clock_us()
        self._invocation, self._told_at_us = message.invocation, began
        inputs = Inputs()
        reply = self._perform(message, inputs, began)
        self._invocation = 0
        # Only now, that no frame of the invocation is left, does what still refers to an input belong to a stage.
        kept = self._memory.keep(inputs) if inputs.parts else ()
        dropped = self._memory.take_dropped()
        if kept or dropped:
            reply = replace(reply, kept=kept, dropped=dropped)
        self._send(reply)

    def _perform(self, message: Run, inputs: Inputs, began: int) -> Done | NotDone:
        values: list[Published] = []
        try:
            plan = self._exchange.plan(message.extent)
            items, refused = self._open(plan, message, inputs)
            outcome = self._resident.run(plan.extent, items)
            results = [self._hand_on(plan, result, inputs, values) for result in outcome.results]
        except MemoryFullError as error:
            self._exchange.withdraw(values)
            return NotDone(message.invocation, "backpressure", str(error))
        except GrainwiseError as error:
            self._exchange.withdraw(values)
            return NotDone(message.invocation, "refused", str(error))
        for index, failure in refused:
            results.insert(index, ItemResult((), failure))
        copied = self._exchange.take_copied()
        return Done(message.invocation, tuple(results), _clock_us() - began, outcome.spans, tuple(values), copied)

    def _open(self, plan: ExtentPlan, message: Run, inputs: Inputs) -> tuple[list[list[object]], list[tuple[int, ItemFailure]]]:
        """The items whose inputs can be read; the others are refused one by one."""
        items: list[list[object]] = []
        refused: list[tuple[int, ItemFailure]] = []
        for index, item in enumerate(message.items):
            try:
                items.append(self._exchange.open(plan, item, inputs))
            except InputError as error:
                first = self._graph.stages[plan.extent.stages[0]].name
                refused.append((index, ItemFailure(first, "value", str(error))))
        return items, refused

    def _hand_on(
        self, plan: ExtentPlan, result: tuple[object, ...] | ItemFailure, inputs: Inputs, values: list[Published]
    ) -> ItemResult:
        """Publish the outputs of one item, waiting a while for room."""
        if isinstance(result, ItemFailure):
            return ItemResult((), result)
        deadline = 0.0
        while True:
            already = len(values)
            outputs: list[Payload] = []
            try:
                for output, value in zip(plan.outputs, result, strict=True):
                    outputs.append(self._exchange.publish(output, value, inputs, values))
                return ItemResult(tuple(outputs))
            except InputError as error:
                self._exchange.withdraw(values, already)
                return ItemResult((), ItemFailure(plan.outputs[len(outputs)].stage, "value", str(error)))
            except MemoryFullError:
                self._exchange.withdraw(values, already)
                if deadline == 0.0:
                    deadline = time.monotonic() + _ROOM_WAIT_S
                    self._send(Tight())
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self._is_open:
                    raise
                self._receive_within(remaining)


def memory_mib() -> float:
    """Memory of this process in MiB: its proportional part of private and file pages; shared arenas are not its own."""
    kib = 0
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith(("Pss_Anon:", "Pss_File:")):
            kib += int(line.split()[1])
    return kib / 1024


def _clock_us() -> int:
    return time.monotonic_ns() // 1000


__all__ = ["Instance", "memory_mib"]
