"""What handing a value from one instance to the next costs here: latency and CPU, each a fixed part and one per MiB.

Measured through the real runtime with two instances and handles that the server routes: from the last byte that the first
writes to the first line of the second. CPU is that of the server and both instances, less what the same two stages take in
one instance.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import msgspec

from grainwise.control.events import InvocationDone
from grainwise.domain.machine import HopModel
from grainwise.domain.values import Payload, Ref
from grainwise.profiler.bench import Bench
from grainwise.runtimes.local.supervisor import cpu_time_ns

LENGTHS = (4_096, 602_112, 5_242_880)
"""Bytes of the arrays that are handed on: one that travels in the message, a small picture, a large one."""

_APP = Path(__file__).with_name("hop_app.py")
_MIB = 1_048_576
_MAKE, _TAKE = 0b01, 0b10
_LIMIT_S = 10.0
_ROUNDS = 20
_REPEATS = 12


class HopSample(msgspec.Struct, frozen=True):
    """One length: median latency of a hop and mean CPU time of one, in microseconds."""

    nbytes: int
    latency_us: float
    cpu_us: float


async def measure_hop() -> HopModel:
    """The hop model of this machine, without ``process_mib``. Takes about two seconds."""
    # Two runtimes of one process would get into each other's control groups, and a whole core needs no limit.
    bench = await Bench.open(_APP, "none")
    try:
        return fit_hop(await _Hops(bench).samples())
    finally:
        await bench.close()


def fit_hop(samples: Sequence[HopSample]) -> HopModel:
    """The straight lines through some samples; no part of them is negative."""
    lengths = [sample.nbytes / _MIB for sample in samples]
    fixed_us, us_per_mib = _line(lengths, [sample.latency_us for sample in samples])
    cpu_fixed_us, cpu_us_per_mib = _line(lengths, [sample.cpu_us for sample in samples])
    return HopModel(fixed_us, us_per_mib, cpu_fixed_us, cpu_us_per_mib, 0.0)


def _line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Intercept and slope of the least-squares line, both at least 0."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0
    slope = max(0.0, slope)
    intercept = mean_y - slope * mean_x
    if intercept < 0:
        return 0.0, sum(x * y for x, y in zip(xs, ys, strict=True)) / sum(x * x for x in xs)
    return intercept, slope


class _Hops:
    """Two instances of the hop app. The second holds one stage; the first both, for the comparison."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._first = 0
        self._second = 0
        self._is_hopping = False

    async def samples(self) -> list[HopSample]:
        """A sample per length; lengths and ways take turns, so that a slow moment of the machine meets them all."""
        self._first = (await self._bench.start(_MAKE | _TAKE, 1.0)).instance
        self._second = (await self._bench.start(_TAKE, 1.0)).instance
        self._bench.on_done = self._relay
        latencies: dict[int, list[float]] = {nbytes: [] for nbytes in LENGTHS}
        cpu: dict[int, list[float]] = {nbytes: [] for nbytes in LENGTHS}
        for turn in range(_ROUNDS + 1):
            for nbytes in LENGTHS:
                split, split_cpu = await self._run(nbytes, is_hopping=True)
                _, fused_cpu = await self._run(nbytes, is_hopping=False)
                if turn:  # the first only warms up
                    latencies[nbytes].extend(split)
                    cpu[nbytes].append(split_cpu - fused_cpu)
        return [HopSample(nbytes, median(latencies[nbytes]), median(cpu[nbytes])) for nbytes in LENGTHS]

    async def _run(self, nbytes: int, *, is_hopping: bool) -> tuple[list[float], float]:
        """Latencies of some requests in microseconds, and the CPU time of one."""
        bench = self._bench
        store = bench.runtime.store
        self._is_hopping = is_hopping
        extent = _MAKE if is_hopping else _MAKE | _TAKE
        stored = store.put(nbytes, bench.runtime.spec.inputs[0])
        item = (Payload((Ref(stored.handle, stored.nbytes, (1.0,)),)),)
        latencies: list[float] = []
        began = self._cpu_ns()
        for _ in range(_REPEATS):
            done = await bench.invoke(self._first, extent, [item], 1.0, _LIMIT_S)
            if is_hopping:
                made = done.results
                done = await self._taken
                bench.release(made)
            nanoseconds = store.get(done.results[0].outputs[0].refs[0].handle)
            bench.release(done.results)
            if isinstance(nanoseconds, int):
                latencies.append(nanoseconds / 1000)
        used_us = (self._cpu_ns() - began) / 1000 / _REPEATS
        store.release((stored.handle,))
        return latencies, used_us

    def _relay(self, done: InvocationDone) -> None:
        """Hand an array on in the moment in which the server hears of it."""
        if self._is_hopping and done.instance == self._first:
            self._taken = self._bench.send(self._second, _TAKE, [done.results[0].outputs], 1.0)

    def _cpu_ns(self) -> int:
        runtime = self._bench.runtime
        return time.process_time_ns() + sum(cpu_time_ns(runtime.pid(each)) for each in (self._first, self._second))
