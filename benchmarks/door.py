"""``benchmarks.gateway_micro`` as one of the results: our HTTP protocol against uvicorn's own, without a controller behind."""

import re
import statistics
import subprocess
import sys

from benchmarks.measuring import Check, ForeignLoad, Result, Table, now_text, this_machine

FIGURES = re.compile(r": ([\d,]+) req/s, p50 ([\d.]+) ms, p99 ([\d.]+) ms, server CPU (\d+) us/request")
PROTOCOLS = {"placed": "bodies read into place", "httptools": "uvicorn's own"}


def _turn(protocol: str, seconds: float) -> tuple[float, ...]:
    command = [sys.executable, "-m", "benchmarks.gateway_micro", "--protocol", protocol, "--seconds", str(seconds)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = FIGURES.search(said)
    assert found is not None, said
    return tuple(float(each.replace(",", "")) for each in found.groups())


def measure(is_quick: bool) -> Result:
    """Both protocols in turns."""
    rounds, seconds = (2, 1.0) if is_quick else (5, 2.0)
    foreign = ForeignLoad()
    foreign.rounds.clear()
    taken: dict[str, list[tuple[float, ...]]] = {name: [] for name in PROTOCOLS}
    for turn in range(rounds):
        foreign.begin()
        for name in list(PROTOCOLS)[:: 1 if turn % 2 else -1]:
            taken[name].append(_turn(name, seconds))
        foreign.end()
    medians = {name: [statistics.median(column) for column in zip(*each, strict=True)] for name, each in taken.items()}
    table = Table(
        "The door alone: 0.6 MB tensors, 16 clients, answered at once",
        ("protocol", "requests/s", "p50 ms", "p99 ms", "server CPU us/request"),
        tuple(
            (PROTOCOLS[name], f"{rate:,.0f}", f"{p50:.2f}", f"{p99:.2f}", f"{cpu:.0f}")
            for name, (rate, p50, p99, cpu) in medians.items()
        ),
        f"medians of {rounds} turns of {seconds:g} s",
    )
    ratio = medians["placed"][3] / medians["httptools"][3]
    check = Check("CPU per request against uvicorn's own protocol", f"{ratio:.2f} x", "<= 1 x", ratio <= 1)
    return Result("door", now_text(), this_machine(), is_quick, round(foreign.median, 3), (table,), (check,), dict(medians))
