"""``benchmarks.controller`` as one of the results: microseconds per event, and whether they grow with finished requests."""

import statistics
import tempfile
from pathlib import Path

from benchmarks import controller
from benchmarks.measuring import Check, ForeignLoad, Result, Table, now_text, this_machine

WINDOW = 20_000


def grow(finished: int) -> tuple[list[float], list[int]]:
    """Microseconds per event and length of the snapshot, window by window, in a run of so many requests."""
    us: list[float] = []
    nbytes: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = controller.Bench(1, Path(folder) / "log")
        bench.run(2000)
        for _ in range(finished // WINDOW):
            us.append(bench.run(WINDOW))
            nbytes.append(len(bench.controller.snapshot()))
        bench.close()
    return us, nbytes


def measure(is_quick: bool) -> Result:
    """Time events in a closed loop around one controller, logged and not, then look for growth."""
    repeats, requests, finished = (3, 4_000, 80_000) if is_quick else (9, 8_000, 400_000)
    rows: dict[str, list[float]] = {}
    loads: list[float] = []
    for name, batch, is_logged in (
        ("batch 1, logged", 1, True),
        ("batch 1, not logged", 1, False),
        ("batch 8, logged", 8, True),
    ):
        foreign = ForeignLoad()
        found = []
        for _ in range(repeats):
            foreign.begin()
            found += controller.measure(batch, 1, requests, is_logged)
            foreign.end()
        rows[name] = [found[at] for at in foreign.kept()]
        loads.append(foreign.median)
    rows["batch 1, logged, CPU of the process"] = controller.cpu(1, 3, requests, True)
    us, nbytes = grow(finished)
    # Stale timers are swept now and then, so that the snapshot goes up and down: the peaks of both halves are compared.
    half = len(us) // 2
    early, late = (statistics.median(part) for part in (us[:half], us[half:]))
    first, last = max(nbytes[:half]), max(nbytes[half:])
    table = Table(
        f"Controller.handle: {controller.STAGES} stages, {controller.INSTANCES} instances, {controller.QUEUED} requests queued",
        ("setting", "median us/event", "min", "max"),
        tuple((name, f"{statistics.median(each):.1f}", f"{min(each):.1f}", f"{max(each):.1f}") for name, each in rows.items()),
        f"the quieter of {repeats} runs of {requests:,} requests; the log's thread encodes and writes meanwhile",
    )
    median = statistics.median(rows["batch 1, logged"])
    is_flat = late <= early * 1.1 + 1 and last <= first * 1.1 + 1000
    checks = (
        Check("mean per event, logged", f"{median:.1f} us", f"<= {controller.LIMIT_US:g} us", median <= controller.LIMIT_US),
        Check(
            f"no growth over {finished:,} finished requests, half against half",
            f"{early:.1f} -> {late:.1f} us per event, peak of the snapshot {first:,} -> {last:,} bytes",
            "none",
            is_flat,
        ),
    )
    data: dict[str, object] = {"rows": rows, "us_by_window": us, "bytes_by_window": nbytes}
    return Result(
        "controller", now_text(), this_machine(), is_quick, round(statistics.median(loads), 3), (table,), checks, data
    )
