"""CPU shares by control groups of the kernel: version 2 where its cpu controller may be used, else version 1."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

from grainwise.domain.errors import PlatformError
from grainwise.runtimes.local.mechanism import PERIOD_US, Mechanism

_MIN_QUOTA_US = 1_000
"""The kernel refuses a smaller quota."""

_BURST_US = PERIOD_US // 2
"""What a share of a whole core or more may carry over: without it a busy thread loses up to a tenth at the edges of periods."""

_PREFIX = "grainwise-"


class _Limit:
    """The control group of one process: its directory, the open quota file and what was last written there."""

    __slots__ = ("burst_us", "cpu_cores", "directory", "fd")

    def __init__(self, directory: Path, fd: int) -> None:
        self.directory = directory
        self.fd = fd
        self.cpu_cores = 0.0
        self.burst_us = 0


class CgroupShares:
    """A control group per process below a directory of this server; directories of dead servers are removed."""

    def __init__(self, root: Path, *, version: Literal[1, 2]) -> None:
        self._root = root
        self._version = version
        self._limits: dict[int, _Limit] = {}
        self._machine_cores = float(os.cpu_count() or 1)

    @classmethod
    def try_version2(cls) -> "CgroupShares | None":
        """Version 2, if its cpu controller can be delegated to a directory of ours."""
        mount = _mount_point("cgroup2", None)
        own = _own_group("")
        if mount is None or own is None:
            return None
        group = mount / own.lstrip("/")
        for parent in (group, group.parent):
            if parent.is_relative_to(mount):
                shares = cls._try(parent, version=2)
                if shares is not None:
                    return shares
        return None

    @classmethod
    def try_version1(cls) -> "CgroupShares | None":
        """Version 1, if its cpu hierarchy is writable."""
        mount = _mount_point("cgroup", "cpu")
        own = _own_group("cpu")
        if mount is None or own is None:
            return None
        parent = mount / own.lstrip("/")
        # Inside a container the path may name a group of the host that is not visible here.
        return cls._try(parent if parent.is_dir() else mount, version=1)

    @classmethod
    def _try(cls, parent: Path, *, version: Literal[1, 2]) -> "CgroupShares | None":
        try:
            _remove_stale(parent)
            if version == 2 and "cpu" not in (parent / "cgroup.subtree_control").read_text().split():
                (parent / "cgroup.subtree_control").write_text("+cpu")
            root = _make_root(parent)
        except OSError:
            return None
        shares = cls(root, version=version)
        try:
            if version == 2:
                (root / "cgroup.subtree_control").write_text("+cpu")
            probe = root / "probe"
            probe.mkdir()
            works = (probe / shares._quota_file).exists()
            probe.rmdir()
        except OSError:
            works = False
        if not works:
            shares.close()
            return None
        return shares

    @property
    def _quota_file(self) -> str:
        return "cpu.max" if self._version == 2 else "cpu.cfs_quota_us"

    @property
    def mechanism(self) -> Mechanism:
        """How it is done."""
        return "cgroup2" if self._version == 2 else "cgroup1"

    @property
    def root(self) -> Path:
        """The directory of this server."""
        return self._root

    def set(self, pid: int, cpu_cores: float) -> None:
        """Hold ``pid`` and its threads to ``cpu_cores`` from now on; at or above all cores there is no limit.

        Raises:
            PlatformError: the kernel refused.
        """
        limit = self._limits.get(pid)
        if limit is not None and limit.cpu_cores == cpu_cores:
            return
        try:
            if limit is None:
                limit = self._enter(pid)
            burst_us = _BURST_US if cpu_cores >= 1 else 0
            if burst_us < limit.burst_us:
                self._set_burst(limit, burst_us)
            os.pwrite(limit.fd, self._quota(cpu_cores), 0)
            if burst_us > limit.burst_us:
                self._set_burst(limit, burst_us)
        except ProcessLookupError:
            return
        except OSError as error:
            raise PlatformError(
                f"the kernel refused a CPU share of {cpu_cores:g} cores for process {pid} in {self._root}: {error}"
            ) from error
        limit.cpu_cores = cpu_cores

    def _enter(self, pid: int) -> _Limit:
        directory = self._root / str(pid)
        directory.mkdir(exist_ok=True)
        if self._version == 1:
            (directory / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        fd = os.open(directory / self._quota_file, os.O_WRONLY | os.O_CLOEXEC)
        limit = self._limits[pid] = _Limit(directory, fd)
        (directory / "cgroup.procs").write_text(str(pid))
        return limit

    def _set_burst(self, limit: _Limit, burst_us: int) -> None:
        """Allow unused time to be carried into the next period; kernels before 5.14 have no such file."""
        path = limit.directory / ("cpu.max.burst" if self._version == 2 else "cpu.cfs_burst_us")
        if path.exists():
            path.write_text(str(burst_us))
        limit.burst_us = burst_us

    def _quota(self, cpu_cores: float) -> bytes:
        is_limited = cpu_cores < self._machine_cores
        quota = str(max(_MIN_QUOTA_US, round(cpu_cores * PERIOD_US)))
        if self._version == 2:
            return f"{quota if is_limited else 'max'} {PERIOD_US}".encode()
        return quota.encode() if is_limited else b"-1"

    def lift(self, pid: int) -> None:
        """Let ``pid`` run without a limit, so that it can end quickly."""
        if pid in self._limits:
            self.set(pid, self._machine_cores)

    def forget(self, pid: int) -> None:
        """The process has ended: its group goes."""
        limit = self._limits.pop(pid, None)
        if limit is not None:
            os.close(limit.fd)
            with suppress(OSError):  # a child that the user's code left behind keeps the group until it ends
                limit.directory.rmdir()

    def close(self) -> None:
        """Remove every group of this server. Idempotent."""
        for pid in tuple(self._limits):
            self.forget(pid)
        with suppress(OSError):
            _remove_group(self._root)


def _mount_point(kind: str, controller: str | None) -> Path | None:
    """Where a cgroup hierarchy is mounted, by its type and, in version 1, by its controller."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, found, options = line.split(" ")[:4]
        if found == kind and (controller is None or controller in options.split(",")):
            return Path(where)
    return None


def _own_group(controller: str) -> str | None:
    """The path of this process in a hierarchy; the empty controller is version 2."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    return None


def _make_root(parent: Path) -> Path:
    """A directory of this process; it has one for each of its runtimes."""
    for number in range(1_000):
        root = parent / f"{_PREFIX}{os.getpid()}-{number}"
        with suppress(FileExistsError):
            root.mkdir()
            return root
    raise OSError(f"process {os.getpid()} has a thousand groups in {parent}")


def _remove_stale(parent: Path) -> None:
    """Remove what servers that were killed have left; a group that still holds a process stays."""
    for directory in parent.glob(f"{_PREFIX}*"):
        pid = directory.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            with suppress(OSError):
                _remove_group(directory)


def _remove_group(root: Path) -> None:
    if root.is_dir():
        for child in root.iterdir():
            if child.is_dir():
                child.rmdir()
        root.rmdir()
