"""Memory of an idle server, beside its instances and their zygote."""

import tempfile
import time
from pathlib import Path

from benchmarks.http_peers import profile_of
from benchmarks.measuring import Check, ForeignLoad, Result, Table, now_text, this_machine
from benchmarks.peers.contenders import APP, Running, contenders
from benchmarks.process_memory import Memory, by_role, memory_of

BOUND_MIB = 150.0
NONE = Memory(0.0, 0.0, 0.0)


def measure(is_quick: bool) -> Result:
    """Serve the image application split, answer a few requests, let it rest, and read what each process holds."""
    with tempfile.TemporaryDirectory(prefix="grainwise-bench-") as name:
        folder = Path(name)
        profile = profile_of(APP, folder)
        split = next(each for each in contenders(profile) if each.grain == "split")
        server = Running(split, folder / "server")
        try:
            server.drive(clients=4, seconds=0.5 if is_quick else 2.0)
            foreign = ForeignLoad()
            time.sleep(1.0 if is_quick else 5.0)
            foreign.end()
            found = {role: [memory_of(pid) for pid in pids] for role, pids in by_role(server.pid).items()}
        finally:
            server.close()
    rows = tuple(
        (role, str(len(each)), *(f"{value:.1f}" for value in (total.own, total.pss, total.rss)))
        for role, each in found.items()
        for total in (sum(each, NONE),)
    )
    counted = sum((memory for role in ("server", "planner", "supervisor") for memory in found.get(role, [])), NONE)
    table = Table(
        "Memory of an idle server, MiB",
        ("process", "count", "own", "PSS", "RSS"),
        rows,
        "own: private pages and a proportional part of files; PSS and RSS have the touched part of the payload arenas too",
    )
    check = Check(
        "idle server and planner, RSS",
        f"{counted.rss:.0f} MiB (own {counted.own:.0f})",
        f"<= {BOUND_MIB:g} MiB",
        counted.rss <= BOUND_MIB,
    )
    data = {
        role: [{"own": each.own, "pss": each.pss, "rss": each.rss} for each in all_found] for role, all_found in found.items()
    }
    return Result("memory", now_text(), this_machine(), is_quick, round(foreign.median, 3), (table,), (check,), dict(data))
