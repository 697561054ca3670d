"""The local runtime: instances are real processes of this machine, payloads lie in shared memory, CPU shares are enforced."""

import asyncio
import time
from pathlib import Path

from msgspec import Raw

from grainwise.control.actions import CancelInvocation, Invoke, KillInstance, LoadStages, StartInstance, StopInstance
from grainwise.control.events import (
    InstanceFailed,
    InstanceReady,
    InstanceStopped,
    InvocationDone,
    InvocationFailed,
    InvocationProgressed,
    StagesLoaded,
)
from grainwise.control.performers import Post
from grainwise.domain.app import AppSpec
from grainwise.domain.because import Because
from grainwise.domain.errors import DeclarationError
from grainwise.domain.machine import Capabilities
from grainwise.domain.values import Payload
from grainwise.runtimes.local.arena import STATUS_BYTES, Arena
from grainwise.runtimes.local.edges import EdgeTypes
from grainwise.runtimes.local.fleet import Fleet
from grainwise.runtimes.local.machine import require_linux
from grainwise.runtimes.local.process import Process
from grainwise.runtimes.local.shares import Mechanism, Shares, capabilities, make_shares
from grainwise.runtimes.local.store import LocalStore
from grainwise.runtimes.local.wire import (
    MANY,
    ONE,
    SKIP,
    Broken,
    Cancel,
    Done,
    Free,
    Load,
    Loaded,
    Map,
    NotDone,
    Progress,
    Ready,
    Run,
    Sample,
    Sampled,
    SetUp,
    Tight,
    Unmap,
    WirePayload,
    from_instance,
)

ARENA_MIB = 256
"""Default size of an arena. Only what is touched takes memory."""


class LocalRuntime:
    """``Runtime`` of one app on this machine. Made by ``open``; everything runs on the loop that it was opened on."""

    def __init__(self, app_path: Path, post: Post, arena_bytes: int, shares: Shares, start_limit_s: float) -> None:
        self._app_path = app_path
        self._post = post
        self._arena_bytes = arena_bytes
        self._start_limit_s = start_limit_s
        self._loop = asyncio.get_running_loop()
        self._fleet = Fleet(app_path, shares, start_limit_s, self)
        self._warm_ups: dict[int, tuple[Payload, ...]] = {}
        self._sampling: dict[int, asyncio.Future[Sampled]] = {}
        self._is_closing = False
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
            PlatformError: this is not Linux, the share mechanism is not possible here, or the zygote ended.
        """
        require_linux()
        runtime = cls(app_path, post, arena_mib << 20, make_shares(share_mechanism), start_limit_s)
        try:
            runtime.spec, runtime.import_us = await runtime._fleet.import_app()
        except BaseException:
            await runtime._fleet.close()
            raise
        runtime.store = LocalStore(EdgeTypes(runtime.spec), arena_mib << 20)
        runtime.store.regions.on_freed = runtime._on_freed
        runtime.store.regions.on_closed = runtime._on_arena_closed
        return runtime

    # Actions

    def start(self, action: StartInstance) -> None:
        """Begin a start; ``InstanceReady`` or ``InstanceFailed(starting)`` follows."""
        if action.app != self.spec.name:
            why = f"this server has imported app {self.spec.name!r}, not {action.app!r}"
            self._loop.call_soon(self._post, InstanceFailed(action.instance, "starting", why))
            return
        try:
            self._fleet.begin(action.instance, action.stages, action.cpu_cores, self._make_arena, action.share)
        except OSError as error:
            why = f"the server could not make what an instance needs: {error}; raise its limits of files, processes or memory"
            self._loop.call_soon(self._post, InstanceFailed(action.instance, "starting", why))

    def stop(self, action: StopInstance) -> None:
        """Let an instance end; ``InstanceStopped`` follows."""
        process = self._fleet.get(action.instance)
        if process is not None:
            self._fleet.stop(process)

    def kill(self, action: KillInstance) -> None:
        """End an instance now; ``InstanceStopped`` follows."""
        process = self._fleet.get(action.instance)
        if process is not None:
            self._fleet.end(process, "stopping")

    def load(self, action: LoadStages) -> None:
        """Load stages into an idle instance; ``StagesLoaded`` follows."""
        process = self._fleet.get(action.instance)
        if process is None or process.state != "ready":
            error = f"instance {action.instance} is not ready"
            self._loop.call_soon(self._post, StagesLoaded(action.instance, action.stages, 0, 0.0, error))
            return
        process.is_loading = True
        process.send(Load(action.stages))

    def invoke(self, action: Invoke) -> None:
        """Run an extent; ``InvocationDone``, ``InvocationFailed`` or ``InstanceFailed`` follows."""
        process = self._fleet.get(action.instance)
        if process is None or process.state != "ready":
            why = f"instance {action.instance} is not ready"
            failed = InvocationFailed(action.invocation, action.instance, "refused", why)
            self._loop.call_soon(self._post, failed)
            return
        self._fleet.set_share(process, action.cpu_cores)
        pins: list[int] = []
        items = tuple([tuple([self._wire(process, payload, pins) for payload in item]) for item in action.inputs])
        process.running[action.invocation] = pins
        freed = self.store.regions.take_freed(process.arena.number)
        process.send(Run(action.invocation, action.extent, items, freed))

    def cancel(self, action: CancelInvocation) -> None:
        """Drop an invocation that has not begun; one of invoke's events follows all the same."""
        process = self._fleet.get(action.instance)
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
        instance = -self._fleet.next_serial
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
        process = self._fleet.get(instance)
        if process is None or not process.pid:
            raise KeyError(instance)
        return process.pid

    def stage_of(self, instance: int) -> str:
        """The stage that an instance is in, empty where none or where there is no such instance."""
        process = self._fleet.get(instance)
        return "" if process is None else self._stage_of(process)

    @property
    def zygote_pid(self) -> int:
        """The process that instances are forked from, 0 when there is none."""
        return self._fleet.zygote_pid

    async def close(self) -> None:
        """End every instance and the zygote and give up all memory. Posts nothing more. Idempotent."""
        if self._is_closing:
            return
        self._is_closing = True
        await self._fleet.close()
        self.store.close()

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

    def _make_arena(self) -> Arena:
        return self.store.regions.make_arena(self._arena_bytes, is_own=False)

    def _on_freed(self, arena: int) -> None:
        process = self._fleet.owner(arena)
        if process is not None:
            process.send(Free(self.store.regions.take_freed(arena)))

    def _on_arena_closed(self, arena: int) -> None:
        for process in self._fleet:
            if arena in process.mapped:
                process.mapped.discard(arena)
                process.send(Unmap(arena))

    # What becomes of instances

    def on_forked(self, process: Process) -> None:
        """A process has begun: tell it what to load."""
        warm_up = self._warm_ups.get(process.stages)
        pins: list[int] = []
        item = None if warm_up is None else tuple([self._wire(process, payload, pins) for payload in warm_up])
        self._unpin(pins)
        process.send(SetUp(process.stages, item))

    def on_gone(self, process: Process, how: str) -> None:
        """A process has ended: free what belongs to it; what it has published stays until it is released."""
        stage = process.stage or self._stage_of(process)
        for handles in process.running.values():
            self._unpin(handles)
        for regions in process.kept.values():
            for region in regions:
                self.store.regions.drop_kept(region)
        self.store.regions.retire(process.arena.number)
        if process.state == "stopping":
            self._tell(InstanceStopped(process.instance))
        elif process.state == "starting":
            self._tell(InstanceFailed(process.instance, "starting", process.detail or how, stage))
        elif process.state == "hung":
            self._tell(InstanceFailed(process.instance, "hung", process.detail, stage))
        else:
            self._tell(InstanceFailed(process.instance, "lost", how, stage))

    def on_frame(self, process: Process, body: memoryview) -> None:
        """An instance has said something."""
        message = from_instance.decode(body)
        process.heard_at = time.monotonic()
        process.pinged_at = 0.0
        if isinstance(message, Done):
            self._on_done(process, message)
        elif isinstance(message, NotDone):
            self._note_kept(process, message)
            self._unpin(process.running.pop(message.invocation, []))
            self.store.regions.arenas[process.arena.number].is_tight = False
            self._tell(InvocationFailed(message.invocation, process.instance, message.kind, message.detail))
        elif isinstance(message, Progress):
            self._tell(InvocationProgressed(message.invocation, process.instance))
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
        if message.kept or message.dropped:
            self._note_kept(process, message)
        store.regions.arenas[process.arena.number].is_tight = False
        pins = process.running.pop(message.invocation)
        self._tell(InvocationDone(message.invocation, process.instance, message.results, message.busy_us, message.spans))
        self._unpin(pins)

    def _note_kept(self, process: Process, message: Done | NotDone) -> None:
        """Blocks of inputs that a stage still refers to stay, those that it no longer refers to go."""
        regions = self.store.regions
        for hold in message.kept:
            region = regions.keep(hold.arena, hold.block, hold.nbytes)
            process.kept.setdefault((hold.arena, hold.block), []).append(region)
        for key in message.dropped:
            regions.drop_kept(process.kept[key].pop())

    def _unpin(self, handles: list[int]) -> None:
        for handle in handles:
            self.store.unpin(handle)

    def _stage_of(self, process: Process) -> str:
        number = process.status() - 1
        return self.spec.graph.stages[number].name if 0 <= number < len(self.spec.graph.stages) else ""

    def _tell(self, event: "_Told") -> None:
        if event.instance < 0:
            self._on_sampling(event)
        elif not self._is_closing:
            self._post(event)

    def _on_sampling(self, event: "_Told") -> None:
        process = self._fleet.get(event.instance)
        answer = self._sampling.get(event.instance)
        if isinstance(event, InstanceReady) and process is not None:
            process.is_loading = True
            process.send(Sample())
        elif isinstance(event, InstanceFailed) and answer is not None and not answer.done():
            answer.set_exception(
                DeclarationError(f"{self._app_path}: the process that made the samples of its app failed: {event.detail}")
            )


_Told = (
    InstanceReady | InstanceFailed | InstanceStopped | InvocationDone | InvocationProgressed | InvocationFailed | StagesLoaded
)


__all__ = ["ARENA_MIB", "LocalRuntime"]
