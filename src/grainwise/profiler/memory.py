"""Memory that a process alone holds: what ending it would free, shared arenas left out."""

import re
from pathlib import Path

_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ ")


def own_mib(pid: int) -> float:
    """Private memory of a process in MiB, without the payloads in shared memory."""
    kib = 0
    is_counted = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if _MAPPING.match(line):
            is_counted = "memfd:grainwise-" not in line
        elif is_counted and line.startswith(("Private_Clean:", "Private_Dirty:")):
            kib += int(line.split()[1])
    return kib / 1024
