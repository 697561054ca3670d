"""This machine as the planner sees it: cores that may really be used, memory, and the class of the device.

What is Linux's own (affinity, quotas and limits of a container) is asked there only, so that plans can be made anywhere.
"""

import os
import platform
import sys
from pathlib import Path

import psutil

from grainwise.domain.errors import PlatformError
from grainwise.domain.machine import Node

_CPUINFO = Path("/proc/cpuinfo")
_CGROUP2_CPU = Path("/sys/fs/cgroup/cpu.max")
_CGROUP1_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_CGROUP1_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
_CGROUP2_MEMORY = Path("/sys/fs/cgroup/memory.max")
_CGROUP1_MEMORY = Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")


def require_linux() -> None:
    """Refuse to start instances elsewhere than on Linux.

    Raises:
        PlatformError: this is another system.
    """
    if not _is_linux():
        raise PlatformError(
            f"instances run on Linux only (WSL2 and containers included) and this is {platform.system() or sys.platform}: "
            "serve and profile there; check, plan and replay run here"
        )


def this_node(name: str = "local", reserve_cores: float = 0.0) -> Node:
    """This machine: cores within affinity and quota, memory within the container's limit.

    ``reserve_cores`` is kept for the server and everything else that is no instance.
    """
    return Node(name, cpu_cores(), memory_mib(), reserve_cores)


def cpu_cores() -> float:
    """Cores that this process may use: its affinity, lowered by a CPU quota of its container."""
    if not _is_linux():
        return float(psutil.cpu_count() or 1)
    cores = float(len(os.sched_getaffinity(0)))
    quota = _quota_cores()
    return min(cores, quota) if quota else cores


def memory_mib() -> float:
    """Memory in MiB: the machine's, lowered by the limit of its container."""
    if not _is_linux():
        return float(psutil.virtual_memory().total / 1_048_576)
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in (_CGROUP2_MEMORY, _CGROUP1_MEMORY):
        text = _read(path)
        if text.isdigit():
            total = min(total, int(text))
    return total / 1_048_576


def device_class() -> str:
    """What profiles are matched by: ``cpu:<model name>:<cores>``."""
    return f"cpu:{_model_name()}:{cpu_cores():g}"


def _is_linux() -> bool:
    return sys.platform == "linux"


def _model_name() -> str:
    if _is_linux():
        for line in _read(_CPUINFO).splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return " ".join(value.split())
    return platform.processor() or platform.machine()


def _quota_cores() -> float | None:
    quota, _, period = _read(_CGROUP2_CPU).partition(" ")
    if not period:
        quota, period = _read(_CGROUP1_QUOTA), _read(_CGROUP1_PERIOD)
    if quota.isdigit() and period.isdigit():
        return int(quota) / int(period)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
