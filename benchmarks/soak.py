"""Many requests, and the slope of the server's memory over them.

    python -m benchmarks.soak [--requests 100000] [--warm-up 50000] [--side 64] [--json]

The image application runs split, so that every request takes two hops; every eighth part of the run is sent with the full
0.6 MB. Exits 1 when memory grows.
"""

import argparse
import math
import statistics
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from benchmarks.http_peers import profile_of
from benchmarks.measuring import Check, ForeignLoad, Result, Table, now_text, this_machine
from benchmarks.peers.contenders import APP, Running, contenders
from benchmarks.process_memory import by_role, memory_of
from benchmarks.report import save, show

CHUNKS = 50
CLIENTS = 16
SIDE = 64
FULL_SIDE = 448
NOISE_MIB = 1.0


class Slope:
    """A line through (requests, MiB): its slope per 100,000 requests and the half width of its 95 % interval.

    Neighbouring samples resemble each other, which a plain least-squares interval ignores: the number of independent samples is
    reduced by their lag-1 correlation.
    """

    def __init__(self, requests: list[float], mib: list[float]) -> None:
        line = statistics.linear_regression(requests, mib)
        residuals = [y - (line.slope * x + line.intercept) for x, y in zip(requests, mib, strict=True)]
        square = sum(each * each for each in residuals)
        lag = sum(a * b for a, b in pairwise(residuals)) / square if square > 0 else 0.0
        lag = min(max(lag, 0.0), 0.95)
        effective = max(3.0, len(requests) * (1 - lag) / (1 + lag))
        mean = statistics.fmean(requests)
        spread = sum((x - mean) ** 2 for x in requests) * effective / len(requests)
        error = math.sqrt(square / len(requests) * effective / (effective - 2) / spread) if spread > 0 else math.inf
        self.per_100k = line.slope * 100_000
        self.half_width = 1.96 * error * 100_000

    @property
    def is_zero(self) -> bool:
        """Whether zero lies in the interval, or all of the interval is less than ``NOISE_MIB`` per 100,000 requests."""
        return self.per_100k - self.half_width <= 0 or self.per_100k + self.half_width <= NOISE_MIB

    def __str__(self) -> str:
        return f"{self.per_100k:+.3f} ± {self.half_width:.3f} MiB per 100,000 requests"


def measure(requests: int, warm_up: int, side: int = SIDE) -> Result:
    """Warm up, then send ``requests`` in ``CHUNKS`` parts and read the server's memory after each."""
    foreign = ForeignLoad()
    foreign.rounds.clear()
    served: list[float] = []
    figures: dict[str, list[float]] = {"server, RSS": [], "of it heap": [], "of it payload arenas": [], "instances, own": []}
    with tempfile.TemporaryDirectory(prefix="grainwise-soak-") as name:
        folder = Path(name)
        split = next(each for each in contenders(profile_of(APP, folder)) if each.grain == "split" and each.kind == "raw")
        server = Running(split, folder / "server")
        try:
            pids = by_role(server.pid)
            part = max(1, requests // CHUNKS)
            _send(server, max(1, warm_up // 2), side)
            _send(server, max(1, warm_up // 2), FULL_SIDE)
            total = 0
            for chunk in range(CHUNKS):
                foreign.begin()
                total += _send(server, part, FULL_SIDE if chunk % 8 == 7 else side)
                foreign.end()
                memory = memory_of(server.pid)
                served.append(float(total))
                figures["server, RSS"].append(memory.rss)
                figures["of it heap"].append(memory.anon)
                figures["of it payload arenas"].append(memory.arenas)
                figures["instances, own"].append(sum(memory_of(pid).own for pid in pids["instance"]))
                if sys.stdout.isatty() or chunk % 10 == 9:
                    print(f"{total:>9,} requests: server {memory.rss:.1f} MiB RSS, {memory.anon:.1f} heap", flush=True)
        finally:
            server.close()
    slopes = {what: Slope(served, each) for what, each in figures.items()}
    rows = tuple(
        (what, f"{figures[what][0]:.1f}", f"{statistics.median(figures[what]):.1f}", f"{figures[what][-1]:.1f}", str(slope))
        for what, slope in slopes.items()
    )
    table = Table(
        f"Memory over {int(served[-1]):,} requests after a warm-up of {warm_up:,}, MiB",
        ("memory", "first", "median", "last", "slope, 95 % interval"),
        rows,
        f"{CHUNKS} samples; images of {side}x{side}x3, every eighth sample of {FULL_SIDE}x{FULL_SIDE}x3; {CLIENTS} clients",
    )
    checks = tuple(
        Check(f"slope: {what}", str(slope), f"interval contains 0, or less than {NOISE_MIB:g} MiB", slope.is_zero)
        for what, slope in slopes.items()
    )
    data: dict[str, object] = {"requests": served, "mib": figures}
    return Result("soak", now_text(), this_machine(), requests < 100_000, round(foreign.median, 3), (table,), checks, data)


def _send(server: Running, requests: int, side: int) -> int:
    figures = server.drive(clients=CLIENTS, requests=requests, side=side, warm_up_s=0.0)
    if figures["wrong"]:
        raise SystemExit(f"{figures['wrong']} wrong answers: {figures['example']}")
    return int(figures["served"])  # type: ignore[call-overload, no-any-return]


def main() -> int:
    """Entry point of ``make soak``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--warm-up", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=SIDE, help="images of SIDE x SIDE x 3 bytes")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    result = measure(given.requests, given.warm_up, given.side)
    save(result)
    show([result], given.json)
    return 0 if all(check.is_met for check in result.checks) else 1


if __name__ == "__main__":
    sys.exit(main())
