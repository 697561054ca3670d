"""The processes of one app's instances: forked, watched, asked for signs of life, ended, and accounted for."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from grainwise.domain.app import AppSpec
from grainwise.runtimes.local.arena import Arena
from grainwise.runtimes.local.link import Link
from grainwise.runtimes.local.process import Process, State
from grainwise.runtimes.local.shares import Shares
from grainwise.runtimes.local.wire import Fork, Forked, Ping, Reaped, Stop
from grainwise.runtimes.local.zygote_link import ZygoteLink, ending

_IMPORT_LIMIT_S = 300.0
_LOOK_S = 2.5
_SILENT_S = 5.0
_ANSWER_S = 10.0
_STOP_GRACE_S = 10.0


class Watcher(Protocol):
    """Who hears what becomes of processes."""

    def on_forked(self, process: Process) -> None:
        """A process has begun and has its share; it waits for ``SetUp``."""
        ...

    def on_frame(self, process: Process, body: memoryview) -> None:
        """An instance has said something."""
        ...

    def on_gone(self, process: Process, how: str) -> None:
        """A process has ended, after everything that it has still said; it is no longer in the fleet."""
        ...


class Fleet:
    """Every process of one app, by instance.

    Args:
        app_path: the app file.
        shares: how CPU shares are held.
        start_limit_s: a process that is not ready within so many seconds is killed.
        watcher: hears what becomes of them.
    """

    def __init__(self, app_path: Path, shares: Shares, start_limit_s: float, watcher: Watcher) -> None:
        self._app_path = app_path
        self._shares = shares
        self._start_limit_s = start_limit_s
        self._watcher = watcher
        self._loop = asyncio.get_running_loop()
        self._by_instance: dict[int, Process] = {}
        self._by_serial: dict[int, Process] = {}
        self._by_arena: dict[int, Process] = {}
        self._serial = 0
        self._digest = ""
        self._zygote: ZygoteLink | None = None
        self._all_gone: asyncio.Future[None] | None = None
        self._look = self._loop.call_later(_LOOK_S, self._look_around)

    def __iter__(self) -> Iterator[Process]:
        return iter(tuple(self._by_instance.values()))

    @property
    def next_serial(self) -> int:
        """The serial number that the next process gets; none is given twice."""
        return self._serial + 1

    @property
    def zygote_pid(self) -> int:
        """The process that instances are forked from, 0 when there is none."""
        return self._zygote.pid if self._zygote is not None else 0

    def get(self, instance: int) -> Process | None:
        """The process of an instance."""
        return self._by_instance.get(instance)

    def owner(self, arena: int) -> Process | None:
        """The process that allocates in an arena."""
        return self._by_arena.get(arena)

    async def import_app(self) -> tuple[AppSpec, int]:
        """Import the app in a first zygote: what it declares, and the microseconds that it took.

        Raises:
            DeclarationError: the app file cannot be served.
            PlatformError: the zygote ended.
        """
        zygote = self._zygote = ZygoteLink(self._app_path, self._on_zygote, self._on_zygote_end)
        try:
            declared = await zygote.declared(_IMPORT_LIMIT_S)
        except BaseException:
            await zygote.close()
            raise
        self._digest = declared.app.digest
        return declared.app, declared.import_us

    def begin(self, instance: int, stages: int, cpu_cores: float, make_arena: Callable[[], Arena], share: float = 0.0) -> None:
        """Fork a process for an instance, from a new zygote where the last one has ended.

        It is held to ``cpu_cores`` while it loads and has threads for ``share``, for ``cpu_cores`` where that is 0.

        Raises:
            OSError: there is no memory, or no file or process may be made.
        """
        began_at_us = time.monotonic_ns() // 1000
        if self._zygote is None:
            self._zygote = ZygoteLink(self._app_path, self._on_zygote, self._on_zygote_end, self._digest)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            try:
                arena = make_arena()
            except OSError:
                ours.close()
                raise
            self._serial += 1
            process = Process(instance, self._serial, arena, stages, cpu_cores, began_at_us)
            process.link = Link(ours, lambda body: self._watcher.on_frame(process, body), lambda: self._on_link_end(process))
            self._by_instance[instance] = process
            self._by_serial[process.serial] = process
            self._by_arena[arena.number] = process
            threads = max(1, int(share or cpu_cores))
            self._zygote.fork(Fork(process.serial, arena.number, arena.size, threads), theirs, arena.fd)
        process.set_timer(self._loop.call_later(self._start_limit_s, self._on_start_limit, process))

    def stop(self, process: Process) -> None:
        """Let a process end by itself, within a grace."""
        if process.state == "starting":
            self.end(process, "stopping")
            return
        process.state = "stopping"
        self._shares.lift(process.pid)
        process.send(Stop())
        process.set_timer(self._loop.call_later(_STOP_GRACE_S, self._kill, process))

    def end(self, process: Process, state: State) -> None:
        """End a process now; ``state`` says what its end means."""
        process.state = state
        self._kill(process)

    def set_share(self, process: Process, cpu_cores: float) -> None:
        """Hold a process to a share from now on."""
        if process.cpu_cores != cpu_cores:
            self._shares.set(process.pid, cpu_cores)
            process.cpu_cores = cpu_cores

    async def close(self) -> None:
        """End every process and the zygote. Idempotent."""
        self._look.cancel()
        if self._by_instance:
            self._all_gone = self._loop.create_future()
            for process in self:
                self.end(process, "stopping")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone, _STOP_GRACE_S)
        if self._zygote is not None:
            await self._zygote.close()
            self._zygote = None
        for process in self:
            self._on_gone(process, "did not end in time")
        self._shares.close()

    def _on_zygote(self, message: Forked | Reaped) -> None:
        process = self._by_serial.get(message.serial)
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
        self._watcher.on_forked(process)

    def _on_link_end(self, process: Process) -> None:
        """Its socket is closed: the process is about to end, or the user's code has closed what is not its own."""
        if process.state != "stopping":
            self._kill(process)

    def _on_start_limit(self, process: Process) -> None:
        if process.state == "starting":
            process.detail = f"it was not ready after {self._start_limit_s:g} s"
            self._kill(process)

    def _kill(self, process: Process) -> None:
        if process.pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
            # A process that is held back would need its next turn to die.
            self._shares.lift(process.pid)

    def _on_gone(self, process: Process, how: str) -> None:
        process.link.drain()
        process.link.close()
        process.set_timer(None)
        del self._by_instance[process.instance]
        del self._by_serial[process.serial]
        del self._by_arena[process.arena.number]
        if process.pid:
            self._shares.forget(process.pid)
        if process.pidfd >= 0:
            os.close(process.pidfd)
        self._watcher.on_gone(process, how)
        if self._all_gone is not None and not self._by_instance and not self._all_gone.done():
            self._all_gone.set_result(None)

    def _on_zygote_end(self, why: str) -> None:
        """Without its zygote an instance is killed by the kernel; the next start imports the app again."""
        self._zygote = None
        for process in self:
            process.detail = process.detail or why
            if process.pidfd >= 0:
                self._loop.add_reader(process.pidfd, self._on_orphan_gone, process, why)
            else:
                self._on_gone(process, why)

    def _on_orphan_gone(self, process: Process, why: str) -> None:
        self._loop.remove_reader(process.pidfd)
        self._on_gone(process, why)

    def _look_around(self) -> None:
        """Ask idle instances that have been silent for a sign of life."""
        now = time.monotonic()
        for process in self:
            if process.state != "ready" or process.running or process.is_loading:
                process.pinged_at = 0.0
            elif process.pinged_at:
                if now - process.pinged_at > _ANSWER_S:
                    process.detail = f"it was idle and did not answer within {_ANSWER_S:g} s"
                    self.end(process, "hung")
            elif now - process.heard_at > _SILENT_S:
                process.pinged_at = now
                process.send(Ping())
        self._look = self._loop.call_later(_LOOK_S, self._look_around)
