"""``python -m benchmarks [NAME ...] [--json] [--quick] [--strict]``: run benchmarks, print their tables, keep their results."""

import argparse
import sys
import time
from collections.abc import Callable

from benchmarks import (
    adaptive,
    controller_events,
    dispatch,
    door,
    esg,
    fused,
    hop,
    http_peers,
    live,
    memory,
    planning,
    report,
    simulation,
)
from benchmarks.measuring import Result

BENCHMARKS: dict[str, Callable[[bool], Result]] = {
    "hop": hop.measure,
    "fused": fused.measure,
    "controller": controller_events.measure,
    "door": door.measure,
    "http": http_peers.measure,
    "memory": memory.measure,
    "simulation": simulation.measure,
    "planning": planning.measure,
    "dispatch": dispatch.measure,
    "esg": esg.measure,
    "adaptive": adaptive.measure,
    "live": live.measure,
}


def main() -> int:
    """Run what is named, everything by default; with ``--strict`` a missed target is exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="few rounds: whether it runs, not how fast it is")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; choose from {', '.join(BENCHMARKS)}")
    results = []
    for name in given.names or BENCHMARKS:
        began = time.monotonic()
        print(f"== {name}", file=sys.stderr, flush=True)
        result = BENCHMARKS[name](given.quick)
        report.save(result)
        results.append(result)
        print(f"== {name}: took {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        if not given.json:
            report.show([result], False)
    if given.json:
        report.show(results, True)
    print(f"== written: {report.write()}", file=sys.stderr)
    is_all_met = all(check.is_met for result in results for check in result.checks if "(goal)" not in check.what)
    return 1 if given.strict and not is_all_met else 0


if __name__ == "__main__":
    sys.exit(main())
