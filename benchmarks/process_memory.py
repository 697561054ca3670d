"""Memory of the processes of a server, by what they are for."""

from pathlib import Path

import psutil
from msgspec import Struct


class Memory(Struct, frozen=True):
    """Memory of one or several processes in MiB. ``own`` is private memory and a proportional part of mapped files; ``pss``
    has a proportional part of shared payload arenas too; ``rss`` counts what several share in each of them. ``anon`` and
    ``arenas`` are the parts of ``rss`` that are heap and payload arenas."""

    own: float
    pss: float
    rss: float
    anon: float = 0.0
    arenas: float = 0.0

    def __add__(self, other: "Memory") -> "Memory":
        return Memory(
            self.own + other.own,
            self.pss + other.pss,
            self.rss + other.rss,
            self.anon + other.anon,
            self.arenas + other.arenas,
        )


def memory_of(pid: int) -> Memory:
    """What the kernel says of a process."""
    kib: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        kib[name.rstrip(":")] = int(value)
    resident: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("Rss"):
            name, value, _ = line.split()
            resident[name.rstrip(":")] = int(value)
    return Memory(
        (kib["Pss_Anon"] + kib["Pss_File"]) / 1024,
        kib["Pss"] / 1024,
        kib["Rss"] / 1024,
        resident["RssAnon"] / 1024,
        resident["RssShmem"] / 1024,
    )


def by_role(pid: int) -> dict[str, list[int]]:
    """The processes of the server ``pid``: ``server``, ``planner``, ``supervisor``, ``zygote`` and ``instance``."""
    roles: dict[str, list[int]] = {"server": [pid]}
    for child in psutil.Process(pid).children():
        command = " ".join(child.cmdline())
        role = next((name for name in ("zygote", "planner", "supervisor") if f"{name}" in command), "other")
        roles.setdefault(role, []).append(child.pid)
        if role == "zygote":
            roles["instance"] = [each.pid for each in child.children()]
    return roles
