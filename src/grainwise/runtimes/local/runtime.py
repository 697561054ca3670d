"""The local runtime: instances are real processes of this machine, payloads lie in shared memory, CPU shares are enforced."""

import asyncio
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from msgspec import Raw

from grainwise.control.actions import CancelInvocation, Invoke, KillInstance, LoadStages, StartInstance, StopInstance
from grainwise.control.events import (
    InstanceFailed,
    InstanceReady,
    InstanceStopped,
    InvocationDone,
    InvocationFailed,
    StagesLoaded,
)
from grainwise.control.performers import Post
from grainwise.domain.app import AppSpec
from grainwise.domain.because import Because
from grainwise.domain.errors import DeclarationError
from grainwise.domain.machine import Capabilities
from grainwise.domain.values import Payload
from grainwise.runtimes.local.arena import STATUS_BYTES
from grainwise.runtimes.local.edges import EdgeTypes
from grainwise.runtimes.local.link import Link
from grainwise.runtimes.local.process import Process, State
from grainwise.runtimes.local.shares import Mechanism, Shares, capabilities, make_shares
from grainwise.runtimes.local.store import LocalStore
from grainwise.runtimes.local.wire import (
    MANY,
    ONE,
    SKIP,
    Broken,
    Cancel,
    Done,
    Fork,
    Forked,
    Free,
    Load,
    Loaded,
    Map,
    NotDone,
    Ping,
    Ready,
    Reaped,
    Run,
    Sample,
    Sampled,
    SetUp,
    Stop,
    Tight,
    Unmap,
    WirePayload,
    from_instance,
)
from grainwise.runtimes.local.zygote_link import ZygoteLink, ending

ARENA_MIB = 256
"""Default size of an arena. Only what is touched takes memory."""

_IMPORT_LIMIT_S = 300.0
_LOOK_S = 2.5
_SILENT_S = 5.0
_ANSWER_S = 10.0
_STOP_GRACE_S = 10.0


class LocalRuntime:
    """``Runtime`` of one app on this machine. Made by ``open``; everything runs on the loop that it was opened on."""

    def __init__(self, app_path: Path, post: Post, arena_bytes: int, shares: Shares, start_limit_s: float) -> None:
        self._app_path = app_path
        self._post = post
        self._arena_bytes = arena_bytes
        self._shares = shares
        self._start_limit_s = start_limit_s
        self._loop = asyncio.get_running_loop()
        self._processes: dict[int, Process] = {}
        self._process_by_serial: dict[int, Process] = {}
        self._process_by_arena: dict[int, Process] = {}
        self._serial = 0
        self._warm_ups: dict[int, tuple[Payload, ...]] = {}
        self._sampling: dict[int, asyncio.Future[Sampled]] = {}
        self._is_closing = False
        self._all_gone: asyncio.Future[None] | None = None
        self._look: asyncio.TimerHandle | None = None
        self._zygote: ZygoteLink | None = None
        self.capabilities: Capabilities = capabilities(shares.mechanism, arena_bytes - STATUS_BYTES)
        self.spec: AppSpec
        self.store: LocalStore
        self.import_us = 0

    @classmethod
    async def open(
        cls,
        app_path: Path,
        *,
        post: Post,
        arena_mib: int = ARENA_MIB,
        share_mechanism: Mechanism | None = None,
        start_limit_s: float = 300.0,
    ) -> "LocalRuntime":
        """Import the app file in a zygote and be ready to start instances.

        Args:
            app_path: the app file, imported by the zygote only.
            post: hears what happened, on this loop.
            arena_mib: size of each arena in MiB; it bounds a payload and what may be in flight.
            share_mechanism: how CPU shares are held; None for the best of this machine.
            start_limit_s: an instance that is not ready within so many seconds has failed.

        Raises:
            DeclarationError: the app file cannot be served.
            PlatformError: the share mechanism is not possible here, or the zygote ended.
        """
        runtime = cls(app_path, post, arena_mib << 20, make_shares(share_mechanism), start_limit_s)
        zygote = runtime._zygote = ZygoteLink(app_path, runtime._on_zygote, runtime._on_zygote_end)
        try:
            declared = await zygote.declared(_IMPORT_LIMIT_S)
        except BaseException:
            await zygote.close()
            runtime._shares.close()
            raise
        runtime.spec = declared.app
        runtime.import_us = declared.import_us
        runtime.store = LocalStore(EdgeTypes(declared.app), arena_mib << 20)
        runtime.store.regions.on_freed = runtime._on_freed
        runtime.store.regions.on_closed = runtime._on_arena_closed
        runtime._look = runtime._loop.call_later(_LOOK_S, runtime._look_around)
        return runtime

    # Actions

    def start(self, action: StartInstance) -> None:
        """Begin a start; ``InstanceReady`` or ``InstanceFailed(starting)`` follows."""
        if action.app != self.spec.name:
            why = f"this server has imported app {self.spec.name!r}, not {action.app!r}"
            self._loop.call_soon(self._post, InstanceFailed(action.instance, "starting", why))
            return
        try:
            arena = self.store.regions.make_arena(self._arena_bytes, is_own=False)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            zygote = self._ensure_zygote()
        except OSError as error:
            why = f"the server could not make what an instance needs: {error}; raise its limits of files, processes or memory"
            self._loop.call_soon(self._post, InstanceFailed(action.instance, "starting", why))
            return
        self._serial += 1
        process = Process(action.instance, self._serial, arena, action.stages, action.cpu_cores, _now_us())
        process.link = Link(ours, lambda body: self._on_frame(process, body), lambda: self._on_link_end(process))
        self._processes[action.instance] = process
        self._process_by_serial[self._serial] = process
        self._process_by_arena[arena.number] = process
        threads = max(1, int(action.cpu_cores))
        with theirs:
            zygote.fork(Fork(self._serial, arena.number, arena.size, threads), theirs, arena.fd)
        process.set_timer(self._loop.call_later(self._start_limit_s, self._on_start_limit, process))

    def stop(self, action: StopInstance) -> None:
        """Let an instance end; ``InstanceStopped`` follows."""
        process = self._processes.get(action.instance)
        if process is None:
            return
        if process.state == "starting":
            self._end(process, "stopping")
            return
        process.state = "stopping"
        self._shares.lift(process.pid)
        process.send(Stop())
        process.set_timer(self._loop.call_later(_STOP_GRACE_S, self._kill, process))

    def kill(self, action: KillInstance) -> None:
        """End an instance now; ``InstanceStopped`` follows."""
        process = self._processes.get(action.instance)
        if process is not None:
            self._end(process, "stopping")

    def load(self, action: LoadStages) -> None:
        """Load stages into an idle instance; ``StagesLoaded`` follows."""
        process = self._processes.get(action.instance)
        if process is None or process.state != "ready":
            error = f"instance {action.instance} is not ready"
            self._loop.call_soon(self._post, StagesLoaded(action.instance, action.stages, 0, 0.0, error))
            return
        process.is_loading = True
        process.send(Load(action.stages))

    def invoke(self, action: Invoke) -> None:
        """Run an extent; ``InvocationDone``, ``InvocationFailed`` or ``InstanceFailed`` follows."""
        process = self._processes.get(action.instance)
        if process is None or process.state != "ready":
            why = f"instance {action.instance} is not ready"
            failed = InvocationFailed(action.invocation, action.instance, "refused", why)
            self._loop.call_soon(self._post, failed)
            return
        pins: list[int] = []
        items = tuple([tuple([self._wire(process, payload, pins) for payload in item]) for item in action.inputs])
        if process.cpu_cores != action.cpu_cores:
            process.cpu_cores = action.cpu_cores
            self._shares.set(process.pid, action.cpu_cores)
        process.running[action.invocation] = pins
        freed = self.store.regions.take_freed(process.arena.number)
        process.send(Run(action.invocation, action.extent, items, freed))

    def cancel(self, action: CancelInvocation) -> None:
        """Drop an invocation that has not begun; one of invoke's events follows all the same."""
        process = self._processes.get(action.instance)
        if process is not None and action.invocation in process.running:
            process.send(Cancel(action.invocation))

    # Beyond the protocol

    def warm_up(self, stages: int, inputs: tuple[Payload, ...]) -> None:
        """Have every instance that starts with exactly ``stages`` run one item before it is ready.

        ``inputs`` are the external inputs of the extent of all its stages; the caller keeps their handles alive.
        """
        self._warm_ups[stages] = inputs

    async def samples(self) -> list[tuple[Payload, ...]]:
        """The app's example inputs, made in an instance of their own: per sample a payload for each entry value.

        The caller owns the handles. No event is posted.

        Raises:
            DeclarationError: the app has no samples, or their function failed, ended its process or took too long.
        """
        # A negative number is an instance of ours, of which no controller knows.
        instance = -1 - self._serial
        answer = self._sampling[instance] = self._loop.create_future()
        because = Because("samples")
        self.start(StartInstance(instance, self.spec.name, 0, "local", 1.0, 0.0, because))
        try:
            sampled = await asyncio.wait_for(answer, self._start_limit_s)
        except TimeoutError:
            raise DeclarationError(
                f"{self._app_path}: the samples of app {self.spec.name!r} were not ready after {self._start_limit_s:g} s"
            ) from None
        finally:
            del self._sampling[instance]
            self.kill(KillInstance(instance, because))
        if sampled.error:
            raise DeclarationError(sampled.error)
        return list(sampled.samples)

    def pid(self, instance: int) -> int:
        """The process behind an instance.

        Raises:
            KeyError: there is no such instance, or it has not been forked yet.
        """
        process = self._processes[instance]
        if not process.pid:
            raise KeyError(instance)
        return process.pid

    def stage_of(self, instance: int) -> str:
        """The stage that an instance is in, empty where none or where there is no such instance."""
        process = self._processes.get(instance)
        return "" if process is None else self._stage_of(process)

    @property
    def zygote_pid(self) -> int:
        """The process that instances are forked from, 0 when there is none."""
        return self._zygote.pid if self._zygote is not None else 0

    async def close(self) -> None:
        """End every instance and the zygote and give up all memory. Posts nothing more. Idempotent."""
        if self._is_closing:
            return
        self._is_closing = True
        if self._look is not None:
            self._look.cancel()
        if self._processes:
            self._all_gone = self._loop.create_future()
            for process in tuple(self._processes.values()):
                self._end(process, "stopping")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone, _STOP_GRACE_S)
        if self._zygote is not None:
            await self._zygote.close()
        for process in tuple(self._processes.values()):
            self._forget(process)
        self.store.close()
        self._shares.close()

    # Sending

    def _wire(self, process: Process, payload: Payload, pins: list[int]) -> WirePayload:
        """A payload as the instance reads it: values with where they lie; the arenas of these are mapped there first."""
        if payload.shape == "skipped":
            return (SKIP, ())
        values: list[Raw] = []
        for ref in payload.refs:
            entry = self.store.pin(ref.handle)
            pins.append(ref.handle)
            values.append(entry.value)
            for region in entry.holds:
                if region.arena not in process.mapped:
                    process.mapped.add(region.arena)
                    arena = self.store.regions.arenas[region.arena].arena
                    process.send(Map(arena.number, arena.size), (arena.fd,))
        return (ONE if payload.shape == "one" else MANY, tuple(values))

    def _on_freed(self, arena: int) -> None:
        process = self._process_by_arena.get(arena)
        if process is not None:
            process.send(Free(self.store.regions.take_freed(arena)))

    def _on_arena_closed(self, arena: int) -> None:
        for process in self._processes.values():
            if arena in process.mapped:
                process.mapped.discard(arena)
                process.send(Unmap(arena))

    # What instances say

    def _on_frame(self, process: Process, body: memoryview) -> None:
        message = from_instance.decode(body)
        process.heard_at = time.monotonic()
        process.pinged_at = 0.0
        if isinstance(message, Done):
            self._on_done(process, message)
        elif isinstance(message, NotDone):
            self._unpin(process.running.pop(message.invocation, []))
            self.store.regions.arenas[process.arena.number].is_tight = False
            self._tell(InvocationFailed(message.invocation, process.instance, message.kind, message.detail))
        elif isinstance(message, Ready):
            if process.state == "starting":
                process.state = "ready"
                process.set_timer(None)
                process_us = message.main_at_us - process.started_at_us
                self._tell(
                    InstanceReady(process.instance, process_us, 0, message.load_us, message.first_call_us, message.memory_mib)
                )
        elif isinstance(message, Loaded):
            process.is_loading = False
            self._tell(StagesLoaded(process.instance, message.stages, message.load_us, message.memory_mib, message.error))
        elif isinstance(message, Broken):
            process.detail = message.detail
            process.stage = message.stage
        elif isinstance(message, Sampled):
            for published in message.values:
                self.store.adopt(published)
            answer = self._sampling.get(process.instance)
            if answer is None:
                self.store.release(tuple(published.handle for published in message.values))
            else:
                answer.set_result(message)
        elif isinstance(message, Tight):
            self.store.regions.arenas[process.arena.number].is_tight = True
            freed = self.store.regions.take_freed(process.arena.number)
            if freed:
                process.send(Free(freed))

    def _on_done(self, process: Process, message: Done) -> None:
        store = self.store
        for published in message.values:
            store.adopt(published)
        if message.copied_bytes:
            store.copied_bytes += message.copied_bytes
        for hold in message.kept:
            region = store.regions.keep(hold.arena, hold.block, hold.nbytes)
            process.kept.setdefault((hold.arena, hold.block), []).append(region)
        for key in message.dropped:
            store.regions.drop_kept(process.kept[key].pop())
        store.regions.arenas[process.arena.number].is_tight = False
        pins = process.running.pop(message.invocation)
        self._tell(InvocationDone(message.invocation, process.instance, message.results, message.busy_us, message.spans))
        self._unpin(pins)

    def _unpin(self, handles: list[int]) -> None:
        for handle in handles:
            self.store.unpin(handle)

    # How instances begin and end

    def _ensure_zygote(self) -> ZygoteLink:
        if self._zygote is None:
            self._zygote = ZygoteLink(self._app_path, self._on_zygote, self._on_zygote_end, self.spec.digest)
        return self._zygote

    def _on_zygote(self, message: Forked | Reaped) -> None:
        process = self._process_by_serial.get(message.serial)
        if process is None:
            return
        if isinstance(message, Reaped):
            self._on_gone(process, ending(message.status))
            return
        process.pid = message.pid
        with suppress(ProcessLookupError):
            process.pidfd = os.pidfd_open(message.pid)
        if process.state != "starting":
            self._kill(process)
            return
        self._shares.set(process.pid, process.cpu_cores)
        warm_up = self._warm_ups.get(process.stages)
        pins: list[int] = []
        item = None if warm_up is None else tuple([self._wire(process, payload, pins) for payload in warm_up])
        self._unpin(pins)
        process.send(SetUp(process.stages, item))

    def _on_link_end(self, process: Process) -> None:
        """Its socket is closed: the process is about to end, or the user's code has closed what is not its own."""
        if process.state != "stopping":
            self._kill(process)

    def _on_start_limit(self, process: Process) -> None:
        if process.state == "starting":
            process.detail = f"it was not ready after {self._start_limit_s:g} s"
            process.stage = self._stage_of(process)
            self._kill(process)

    def _end(self, process: Process, state: State) -> None:
        process.state = state
        self._kill(process)

    def _kill(self, process: Process) -> None:
        if process.pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
            # A process that is held back would need its next turn to die.
            self._shares.lift(process.pid)

    def _on_gone(self, process: Process, how: str) -> None:
        """A process has ended: say so after everything that it has still said."""
        process.link.drain()
        stage = process.stage or self._stage_of(process)
        state = process.state
        self._forget(process)
        if state == "stopping":
            self._tell(InstanceStopped(process.instance))
        elif state == "starting":
            self._tell(InstanceFailed(process.instance, "starting", process.detail or how, stage))
        elif state == "hung":
            self._tell(InstanceFailed(process.instance, "hung", process.detail, stage))
        else:
            self._tell(InstanceFailed(process.instance, "lost", how, stage))
        if self._all_gone is not None and not self._processes and not self._all_gone.done():
            self._all_gone.set_result(None)

    def _forget(self, process: Process) -> None:
        """Free what belongs to a process that has ended; what it has published stays until it is released."""
        del self._processes[process.instance]
        del self._process_by_serial[process.serial]
        del self._process_by_arena[process.arena.number]
        process.set_timer(None)
        process.link.close()
        for handles in process.running.values():
            self._unpin(handles)
        for regions in process.kept.values():
            for region in regions:
                self.store.regions.drop_kept(region)
        self.store.regions.retire(process.arena.number)
        if process.pid:
            self._shares.forget(process.pid)
        if process.pidfd >= 0:
            os.close(process.pidfd)

    def _on_zygote_end(self, why: str) -> None:
        """Without its zygote an instance is killed by the kernel; the next start imports the app again."""
        self._zygote = None
        for process in tuple(self._processes.values()):
            if process.pidfd >= 0:
                process.detail = process.detail or why
                self._loop.add_reader(process.pidfd, self._on_orphan_gone, process, why)
            else:
                process.detail = process.detail or why
                self._on_gone(process, why)

    def _on_orphan_gone(self, process: Process, why: str) -> None:
        self._loop.remove_reader(process.pidfd)
        self._on_gone(process, why)

    # Silence

    def _look_around(self) -> None:
        """Ask idle instances that have been silent for a sign of life."""
        now = time.monotonic()
        for process in tuple(self._processes.values()):
            if process.state != "ready" or process.running or process.is_loading:
                process.pinged_at = 0.0
                continue
            if process.pinged_at:
                if now - process.pinged_at > _ANSWER_S:
                    process.detail = f"it was idle and did not answer within {_ANSWER_S:g} s"
                    self._end(process, "hung")
            elif now - process.heard_at > _SILENT_S:
                process.pinged_at = now
                process.send(Ping())
        self._look = self._loop.call_later(_LOOK_S, self._look_around)

    def _stage_of(self, process: Process) -> str:
        number = process.status() - 1
        return self.spec.graph.stages[number].name if 0 <= number < len(self.spec.graph.stages) else ""

    def _tell(self, event: "_Told") -> None:
        if event.instance < 0:
            self._on_sampling(event)
        elif not self._is_closing:
            self._post(event)

    def _on_sampling(self, event: "_Told") -> None:
        process = self._processes.get(event.instance)
        answer = self._sampling.get(event.instance)
        if isinstance(event, InstanceReady) and process is not None:
            process.is_loading = True
            process.send(Sample())
        elif isinstance(event, InstanceFailed) and answer is not None and not answer.done():
            answer.set_exception(
                DeclarationError(f"{self._app_path}: the process that made the samples of its app failed: {event.detail}")
            )


_Told = InstanceReady | InstanceFailed | InstanceStopped | InvocationDone | InvocationFailed | StagesLoaded


def _now_us() -> int:
    return time.monotonic_ns() // 1000


__all__ = ["ARENA_MIB", "LocalRuntime"]
