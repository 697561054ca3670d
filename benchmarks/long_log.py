"""A live log of ten minutes, replayed in a new process: every action must be the same, byte for byte.

    python -m benchmarks.long_log [--seconds 600] [--json]

The text app is served with the regranulation policy on, under a load that goes light, heavy and bursty, with a granularity
commanded half-way through every minute. The replay runs under another PYTHONHASHSEED. Exits 1 where an action differs, an
answer is wrong or a request is lost.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measuring import Check, ForeignLoad, Result, Table, now_text, this_machine
from benchmarks.report import save, show

APP = Path(__file__).resolve().parents[1] / "examples" / "text" / "app.py"
GRAINS = ("split", "fused", "split+clean+count | join")
REPLAY_SEED = "4711"


def grainwise(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the product to its end."""
    command = [sys.executable, "-m", "grainwise", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **more})


@contextmanager
def served(folder: Path, profile: Path) -> Iterator[dict[str, str]]:
    """The text app behind a free port; what the server announces."""
    options = ("--port", "0", "--admin-port", "0", "--profile", str(profile), "--log", str(folder), "--json")
    command = [sys.executable, "-m", "grainwise", "serve", str(APP), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield json.loads(server.stdout.readline())
        finally:
            server.terminate()
            server.wait(60)


def offer(server: dict[str, str], seconds: float) -> Iterator[dict[str, object]]:
    """Load reports, a minute or less each, until so many seconds are over; half-way through each the granularity changes."""
    words = " ".join(["Deep GRAIN, wise"] * 3)
    expected = json.dumps(" ".join(["deep:4 grain:5 wise:4"] * 3))
    body = json.dumps({"text": words})
    grains, kinds = itertools.cycle(GRAINS), itertools.cycle(("poisson:20:{}s", "poisson:60:{}s", "gamma:40:cv=3:{}s"))
    left = seconds
    while left > 0:
        length = min(60.0, left)
        left -= length
        workload = next(kinds).format(f"{length:g}")
        command = [
            sys.executable, "-m", "grainwise", "load", f"{server['url']}/v1/apps/text", "--workload", workload,
            "--json-body", body, "--expect", expected, "--slo-ms", "100", "--json",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
            time.sleep(length / 2)
            changed = grainwise("regranulate", next(grains), "--admin", server["admin"], "--json")
            report, _ = load.communicate()
        yield {"workload": workload, "is_changed": changed.returncode == 0, **json.loads(report)}


def measure(seconds: float) -> Result:
    """Serve, load, stop, replay."""
    foreign = ForeignLoad()
    foreign.rounds.clear()
    reports: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="grainwise-log-") as name:
        folder, profile = Path(name) / "log", Path(name) / "profile.json"
        made = grainwise("profile", str(APP), "--budget", "20", "--out", str(profile))
        if made.returncode:
            raise SystemExit(made.stderr)
        foreign.begin()
        with served(folder, profile) as server:
            for report in offer(server, seconds):
                reports.append(report)
                print(f"{report['workload']}: {report['right']} of {report['offered']} right", file=sys.stderr, flush=True)
        foreign.end()
        nbytes = sum(path.stat().st_size for path in folder.glob("segment-*.log"))
        began = time.monotonic()
        replayed = grainwise("replay", str(folder), "--json", PYTHONHASHSEED=REPLAY_SEED)
        took = time.monotonic() - began
    if not replayed.stdout:
        raise SystemExit(replayed.stderr)
    outcome = json.loads(replayed.stdout)
    offered, right = (sum(int(str(each[what])) for each in reports) for what in ("offered", "right"))
    is_same = replayed.returncode == 0
    table = Table(
        f"A live log of {seconds:g} s of the text app",
        ("requests", "right", "changes on command", "entries", "segments", "MiB", "replay, s"),
        (
            (
                f"{offered:,}",
                f"{right:,}",
                str(sum(bool(each["is_changed"]) for each in reports)),
                f"{outcome['entries']:,}",
                str(outcome["segments"]),
                f"{nbytes / 2**20:.1f}",
                f"{took:.1f}",
            ),
        ),
        "measured; replayed in a new process under another PYTHONHASHSEED",
    )  # fmt: skip
    checks = (
        Check("actions of the replay", "identical" if is_same else "different", "identical", is_same),
        Check("answers", f"{right:,} right of {offered:,} offered", "all", right == offered),
    )
    data: dict[str, object] = {"reports": reports, "replay": outcome}
    return Result("long_log", now_text(), this_machine(), seconds < 600, round(foreign.median, 3), (table,), checks, data)


def main() -> int:
    """Entry point of ``make soak``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    result = measure(given.seconds)
    save(result)
    show([result], given.json)
    return 0 if all(check.is_met for check in result.checks) else 1


if __name__ == "__main__":
    sys.exit(main())
