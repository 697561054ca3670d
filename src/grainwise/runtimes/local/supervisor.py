"""A process that holds others to their CPU share with SIGSTOP and SIGCONT.

Each limited process has a budget of CPU time that grows by its share of every period of 10 ms. The supervisor reads the CPU
clock of the process, stops it when the budget is spent and continues it when there is some again, so a process that
waits is never stopped and one that computes makes its share of progress, whatever else the machine does. It looks next when
the first running process could have spent its budget.

Run as ``python -m grainwise.runtimes.local.supervisor FD``; messages on the socket are ``(pid, cores)``, 0 cores to forget.
"""

import os
import signal
import socket
import sys
import time
from contextlib import suppress

from msgspec.msgpack import Decoder

from grainwise.runtimes.local.mechanism import PERIOD_US

_PERIOD_NS = PERIOD_US * 1_000
_SHORTEST_NS = 200_000
"""Looking more often would cost more than the precision is worth."""


def cpu_time_ns(pid: int) -> int:
    """CPU time of a process with all its threads.

    Raises:
        OSError: there is no such process.
    """
    return time.clock_gettime_ns((~pid << 3) | 2)


class Held:
    """One process with its budget."""

    def __init__(self, pid: int, cpu_cores: float, now_ns: int) -> None:
        self.pid = pid
        self.cpu_cores = cpu_cores
        self.is_stopped = False
        self._seen_ns = cpu_time_ns(pid)
        self._budget_ns = cpu_cores * _PERIOD_NS
        self._filled_ns = now_ns

    def check(self, now_ns: int) -> int:
        """Stop or continue the process; nanoseconds until it should be looked at again.

        Raises:
            OSError: the process has ended.
        """
        used_ns = cpu_time_ns(self.pid)
        self._budget_ns -= used_ns - self._seen_ns
        self._seen_ns = used_ns
        self._budget_ns += self.cpu_cores * (now_ns - self._filled_ns)
        self._budget_ns = min(self._budget_ns, self.cpu_cores * _PERIOD_NS)
        self._filled_ns = now_ns
        if self.is_stopped:
            # It rests until half a period's share has come together, so that it is not switched on for a moment only.
            missing = self.cpu_cores * _PERIOD_NS / 2 - self._budget_ns
            if missing > 0:
                return max(_SHORTEST_NS, int(missing / self.cpu_cores))
            os.kill(self.pid, signal.SIGCONT)
            self.is_stopped = False
        elif self._budget_ns <= 0:
            os.kill(self.pid, signal.SIGSTOP)
            self.is_stopped = True
            return max(_SHORTEST_NS, int((self.cpu_cores * _PERIOD_NS / 2 - self._budget_ns) / self.cpu_cores))
        return max(_SHORTEST_NS, int(min(self._budget_ns, _PERIOD_NS)))


def supervise(control: socket.socket) -> None:
    """Hold processes to their shares until the socket closes, then continue them all."""
    decoder = Decoder(tuple[int, float])
    held: dict[int, Held] = {}
    try:
        wait_ns: int | None = None
        while True:
            control.settimeout(None if wait_ns is None else wait_ns / 1e9)
            message: bytes | None
            try:
                message = control.recv(256)
            except TimeoutError:
                message = None
            if message == b"":
                return
            now_ns = time.monotonic_ns()
            if message is not None:
                _apply(held, *decoder.decode(message), now_ns)
            wait_ns = _check_all(held, now_ns)
    finally:
        for pid in held:
            continue_process(pid)


def _apply(held: dict[int, Held], pid: int, cpu_cores: float, now_ns: int) -> None:
    """Take up a process, change its share, or let it go."""
    if pid in held and 0 < cpu_cores < (os.cpu_count() or 1):
        held[pid].cpu_cores = cpu_cores
        return
    if held.pop(pid, None) is not None:
        continue_process(pid)
    if 0 < cpu_cores < (os.cpu_count() or 1):
        with suppress(OSError):
            held[pid] = Held(pid, cpu_cores, now_ns)


def _check_all(held: dict[int, Held], now_ns: int) -> int | None:
    """Nanoseconds until the next look, None when no process is held."""
    waits: list[int] = []
    for pid, process in tuple(held.items()):
        try:
            waits.append(process.check(now_ns))
        except OSError:
            del held[pid]
    return min(waits, default=None)


def continue_process(pid: int) -> None:
    """Continue ``pid`` if it still exists."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def main() -> None:
    """Serve the socket whose number is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as control:
        supervise(control)


if __name__ == "__main__":
    main()
