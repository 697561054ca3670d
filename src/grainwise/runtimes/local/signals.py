"""CPU shares by a supervisor process that stops and continues, where control groups cannot be used."""

import os
import socket
import sys
from subprocess import DEVNULL, Popen

from msgspec.msgpack import Encoder

from grainwise.domain.errors import PlatformError
from grainwise.runtimes.local.mechanism import Mechanism
from grainwise.runtimes.local.supervisor import continue_process


class SignalShares:
    """A supervisor process that stops and continues; it continues everything when this server ends."""

    def __init__(self) -> None:
        self._cores_by_pid: dict[int, float] = {}
        self._encoder = Encoder()
        self._process, self._socket = self._start()

    @staticmethod
    def _start() -> tuple["Popen[bytes]", socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = Popen(
                [sys.executable, "-m", "grainwise.runtimes.local.supervisor", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=DEVNULL,
                start_new_session=True,
            )
        return process, ours

    @property
    def mechanism(self) -> Mechanism:
        """How it is done."""
        return "signals"

    @property
    def supervisor_pid(self) -> int:
        """The process that does it."""
        return self._process.pid

    def set(self, pid: int, cpu_cores: float) -> None:
        """Hold ``pid`` and its threads to ``cpu_cores`` from now on.

        Raises:
            PlatformError: there can be no supervisor.
        """
        if self._cores_by_pid.get(pid) != cpu_cores:
            self._cores_by_pid[pid] = cpu_cores
            self._send(pid, cpu_cores)

    def lift(self, pid: int) -> None:
        """Let ``pid`` run without a limit, so that it can end quickly."""
        if pid in self._cores_by_pid:
            self.set(pid, float(os.cpu_count() or 1))

    def forget(self, pid: int) -> None:
        """The process has ended."""
        if self._cores_by_pid.pop(pid, None) is not None:
            self._send(pid, 0.0)

    def _send(self, pid: int, cpu_cores: float) -> None:
        try:
            self._socket.send(self._encoder.encode((pid, cpu_cores)))
        except OSError:
            self._restart()

    def _restart(self) -> None:
        """The supervisor has been killed: what it had stopped goes on, and another takes over."""
        self._socket.close()
        self._process.wait()
        self._process, self._socket = self._start()
        for pid, cpu_cores in self._cores_by_pid.items():
            continue_process(pid)
            try:
                self._socket.send(self._encoder.encode((pid, cpu_cores)))
            except OSError as error:
                raise PlatformError(f"the process that holds CPU shares ends as soon as it begins: {error}") from error

    def close(self) -> None:
        """End the supervisor, which continues what it had stopped. Idempotent."""
        self._socket.close()
        self._process.wait()
