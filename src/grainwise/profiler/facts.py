"""Where measurements come from: the machine, and the versions of the libraries that ran."""

import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from grainwise.profiles.artifact import MachineFacts
from grainwise.runtimes.local.machine import device_class, this_node

_PACKAGE_FOLDERS = ("site-packages", "dist-packages")


def machine_facts() -> MachineFacts:
    """This machine."""
    node = this_node()
    model = device_class().removeprefix("cpu:").rpartition(":")[0]
    return MachineFacts(model, node.cpu_cores, node.memory_mib, platform.platform(), platform.python_version())


def library_versions(pid: int) -> dict[str, str]:
    """Versions of the packages whose native code a process has loaded: those that decide how long its stages take."""
    modules: set[str] = set()
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        parts = Path(line.partition("/")[2]).parts
        for folder in _PACKAGE_FOLDERS:
            if folder in parts[:-1]:
                modules.add(parts[parts.index(folder) + 1].partition(".")[0])
    distributions = metadata.packages_distributions()
    names = {name for module in modules for name in distributions.get(module, ())}
    return {name: metadata.version(name) for name in sorted(names)}


def today() -> str:
    """The present instant as an ISO date with time, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
