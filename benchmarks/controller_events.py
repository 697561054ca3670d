"""``benchmarks.controller`` as one of the results: microseconds per event, and whether they grow with finished requests."""

import statistics

from benchmarks import controller
from benchmarks.measuring import Check, ForeignLoad, Result, Table, now_text, this_machine


def measure(is_quick: bool) -> Result:
    """Time events in a closed loop around one controller, logged and not, then look for growth."""
    repeats, requests, finished = (2, 4_000, 50_000) if is_quick else (5, 10_000, 200_000)
    foreign = ForeignLoad()
    foreign.rounds.clear()
    rows: dict[str, list[float]] = {}
    for name, batch, is_logged in (
        ("batch 1, logged", 1, True),
        ("batch 1, not logged", 1, False),
        ("batch 8, logged", 8, True),
    ):
        foreign.begin()
        rows[name] = controller.measure(batch, repeats, requests, is_logged)
        foreign.end()
    grown = controller.growth(finished)
    table = Table(
        f"Controller.handle: {controller.STAGES} stages, {controller.INSTANCES} instances, {controller.QUEUED} requests queued",
        ("setting", "median us/event", "min", "max"),
        tuple((name, f"{statistics.median(each):.1f}", f"{min(each):.1f}", f"{max(each):.1f}") for name, each in rows.items()),
        f"{repeats} runs of {requests:,} requests; with the log's thread writing meanwhile where logged",
    )
    median = statistics.median(rows["batch 1, logged"])
    is_flat = grown["last_us"] <= grown["first_us"] * 1.1 + 1 and grown["last_bytes"] <= grown["first_bytes"] * 1.1 + 1000
    checks = (
        Check("mean per event, logged", f"{median:.1f} us", f"<= {controller.LIMIT_US:g} us", median <= controller.LIMIT_US),
        Check(
            f"growth over {finished:,} finished requests",
            f"{grown['first_us']:.1f} -> {grown['last_us']:.1f} us, "
            f"{grown['first_bytes']:.0f} -> {grown['last_bytes']:.0f} bytes",
            "none",
            is_flat,
        ),
    )
    data: dict[str, object] = {"rows": rows, "growth": grown}
    return Result("controller", now_text(), this_machine(), is_quick, round(foreign.median, 3), (table,), checks, data)
