"""What else the machine is busy with while something is measured."""

import time

import psutil


class ForeignLoad:
    """Cores that processes outside this process's tree use from now until ``end``, steal by the host included.

    The kernel counts by ticks of some milliseconds, so a third of a second is exact to about 0.1 cores and an idle machine may
    read a little below zero. A child that ends meanwhile is seen through the parent's account of its reaped children.
    """

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._busy = _busy_seconds()
        self._own = _own_seconds()

    def end(self) -> float:
        """Mean cores since the beginning."""
        elapsed = max(time.monotonic() - self._at, 1e-3)
        return (_busy_seconds() - self._busy - (_own_seconds() - self._own)) / elapsed


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


def _own_seconds() -> float:
    own = psutil.Process()
    total = 0.0
    for process in [own, *own.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total
