"""One hop: the last byte produced in one instance to the first line of the next stage, controller and log included."""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import uvloop

from benchmarks.hop_floor import Floor
from benchmarks.measuring import (
    LEAST_ROUNDS,
    QUIET_CORES,
    Check,
    ForeignLoad,
    Result,
    Table,
    now_text,
    quantile,
    this_machine,
    wait_for_quiet,
)
from benchmarks.wiring import Wired, wire

APP = Path(__file__).parent / "apps" / "hop.py"
SIZES = {"0.6 MB": 448 * 448 * 3, "4.9 MB": 1280 * 1280 * 3}
SLACK_US = 25.0


async def _ours(wired: Wired, data: memoryview, expected: float, count: int) -> list[float]:
    hops = []
    for _ in range(count):
        hop, checksum = await wired.ask(data, "uint8", (data.nbytes,))  # type: ignore[misc]
        assert checksum == expected, f"wrong answer: {checksum} instead of {expected}"
        hops.append(hop)
    return hops


async def _measure(quiet: int, count: int, limit_s: float) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for title, nbytes in SIZES.items():
            floor = Floor(nbytes)
            array = np.arange(nbytes, dtype=np.uint32).astype(np.uint8)
            expected = float((255 - array)[:-8:4096].sum())
            data = memoryview(array.tobytes())
            async with wire(APP, (("produce",), ("consume",)), Path(folder) / title.replace(" ", "")) as wired:
                await _ours(wired, data, expected, count)
                copied = wired.runtime.store.copied_bytes
                foreign = ForeignLoad()
                ours: list[list[float]] = []
                bare: list[list[float]] = []
                until = time.monotonic() + limit_s
                while (len(ours) < LEAST_ROUNDS or time.monotonic() < until) and foreign.quiet < quiet:
                    foreign.begin()
                    for part in ("ours", "floor") if len(ours) % 2 else ("floor", "ours"):
                        if part == "ours":
                            ours.append(await _ours(wired, data, expected, count))
                        else:
                            bare.append([floor.hop_us() for _ in range(count)])
                    foreign.end()
                kept = foreign.kept()
                found[title] = {
                    "nbytes": nbytes,
                    "rounds": len(ours),
                    "kept": len(kept),
                    "foreign_cores": foreign.median,
                    "ours_p50_us": [statistics.median(ours[at]) for at in kept],
                    "ours_p99_us": [quantile(ours[at], 0.99) for at in kept],
                    "floor_p50_us": [statistics.median(bare[at]) for at in kept],
                    "floor_p99_us": [quantile(bare[at], 0.99) for at in kept],
                    "copied_bytes": wired.runtime.store.copied_bytes - copied,
                    "hops": count * len(ours),
                }
            floor.close()
    return found


def measure(is_quick: bool) -> Result:
    """Run the benchmark: per round ``count`` hops of each side, turns swapped from round to round."""
    quiet, count, limit_s = (3, 100, 3.0) if is_quick else (15, 300, 40.0)
    wait_for_quiet(3 if is_quick else 20)
    found = uvloop.run(_measure(quiet, count, limit_s))
    rows = []
    checks = []
    for title, data in found.items():
        ours, floor, p99, floor_p99 = (
            statistics.median(data[key])  # type: ignore[call-overload]
            for key in ("ours_p50_us", "floor_p50_us", "ours_p99_us", "floor_p99_us")
        )
        bound = 2 * floor + SLACK_US
        rows.append(
            (title, f"{ours:.0f}", f"{p99:.0f}", f"{floor:.0f}", f"{floor_p99:.0f}", f"{ours / floor:.2f}", f"{bound:.0f}",
             f"{data['copied_bytes']} in {data['hops']} hops", f"{data['kept']} of {data['rounds']}")
        )  # fmt: skip
        checks.append(Check(f"hop of {title}, p50", f"{ours:.0f} us", f"<= 2 x floor + 25 us = {bound:.0f} us", ours <= bound))
        checks.append(Check(f"hop of {title}, bytes copied", str(data["copied_bytes"]), "0", data["copied_bytes"] == 0))
    table = Table(
        "One hop between two instances, controller and log in the way",
        ("array", "p50 us", "p99 us", "floor p50 us", "floor p99 us", "ratio", "bound us", "bytes copied", "rounds kept"),
        tuple(rows),
        f"medians over rounds of {count} hops each, turns taken with a bare relay between bare processes; rounds beside more "
        f"than {QUIET_CORES:g} foreign cores are dropped where three others are left, else the quieter half is kept",
    )
    foreign = statistics.median(float(data["foreign_cores"]) for data in found.values())  # type: ignore[arg-type]
    return Result("hop", now_text(), this_machine(), is_quick, round(foreign, 3), (table,), tuple(checks), dict(found))
