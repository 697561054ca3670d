"""The process that imports the app and its libraries once, and forks every instance from that.

It runs a single thread and no stage. It ends with the server, however that ends, and so do the instances with it.

Run as ``python -m grainwise.runtimes.local.zygote FD SERVER_PID APP_FILE``.
"""

import gc
import os
import select
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

from grainwise.domain.app import AppSpec
from grainwise.domain.errors import GrainwiseError
from grainwise.runtimes.loading import load_app
from grainwise.runtimes.local.arena import Arena
from grainwise.runtimes.local.instance import Instance
from grainwise.runtimes.local.lifeline import die_with_parent
from grainwise.runtimes.local.wire import Declared, Fork, Forked, Frames, Reaped, Refused, frame, to_zygote
from grainwise.sdk.app import App

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "GRAINWISE_THREADS")


class Zygote:
    """Forks, watches and reaps the instances of one app."""

    def __init__(self, control: socket.socket, app: App, spec: AppSpec) -> None:
        self._control = control
        self._app = app
        self._spec = spec
        self._frames = Frames()
        self._fds: list[int] = []
        self._instance_by_fd: dict[int, tuple[int, int]] = {}
        self._poll = select.poll()

    def serve(self) -> None:
        """Fork on command until the server goes."""
        self._poll.register(self._control, select.POLLIN)
        while True:
            for fd, _ in self._poll.poll():
                if fd != self._control.fileno():
                    self._reap(fd)
                elif not self._obey():
                    return

    def _obey(self) -> bool:
        data, fds, _, _ = socket.recv_fds(self._control, 65536, 64)
        self._fds.extend(fds)
        for body in self._frames.feed(data):
            message = to_zygote.decode(body)
            own, arena = self._fds[:2]
            del self._fds[:2]
            self._fork(message, own, arena)
        return bool(data)

    def _fork(self, message: Fork, own: int, arena: int) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            main_at_us = time.monotonic_ns() // 1000
            try:
                die_with_parent(parent)
                self._become_instance(message, own, arena, main_at_us)
            except SystemExit:
                os._exit(1)
            except BaseException:  # noqa: BLE001 - whatever escapes must not unwind into the zygote's loop
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        os.close(own)
        os.close(arena)
        pidfd = os.pidfd_open(pid)
        self._instance_by_fd[pidfd] = (message.serial, pid)
        self._poll.register(pidfd, select.POLLIN)
        self._control.sendall(frame(Forked(message.serial, pid)))

    def _become_instance(self, message: Fork, own: int, arena: int, main_at_us: int) -> None:
        self._control.close()
        for fd in self._instance_by_fd:
            os.close(fd)
        for variable in _THREAD_VARIABLES:
            os.environ[variable] = str(message.threads)
        memory = Arena(message.arena, arena, message.arena_bytes, is_writable=True)
        with socket.socket(fileno=own) as server:
            Instance(server, memory, self._app, self._spec, message.serial, main_at_us).serve()
        sys.stdout.flush()
        sys.stderr.flush()

    def _reap(self, pidfd: int) -> None:
        serial, pid = self._instance_by_fd.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        self._control.sendall(frame(Reaped(serial, os.waitstatus_to_exitcode(status))))


def main() -> None:
    """Import the app file, tell the server what it declares, and serve."""
    control_fd, server_pid, path = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(server_pid)
    began = time.monotonic_ns()
    with socket.socket(fileno=control_fd) as control:
        try:
            source = path.read_bytes() if path.is_file() else b""
            app = load_app(path)
            spec = app.spec(source)
        except GrainwiseError as error:
            control.sendall(frame(Refused(type(error).__name__, str(error))))
            return
        import_us = (time.monotonic_ns() - began) // 1000
        gc.collect()
        gc.freeze()
        try:
            # The server may have gone, or given up, while the app was imported.
            control.sendall(frame(Declared(spec, import_us)))
            Zygote(control, app, spec).serve()
        except (BrokenPipeError, ConnectionResetError):
            return


if __name__ == "__main__":
    main()
