"""A boundary between stages that share a function, against calling the same Python functions directly."""

import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring import Check, ForeignLoad, Result, Table, now_text, this_machine
from grainwise import App, Batch, Slo, sizes
from grainwise.domain.extent import make_extent
from grainwise.runtimes.execute import Resident

Array = NDArray[np.uint8]
LENGTHS = (1, 2, 4, 8)
BOUND_US = 10.0


def flip(arrays: Batch[Array]) -> Batch[Array]:
    """A stage that does next to nothing, so that the boundary is what is measured."""
    return [array[::-1] for array in arrays]


def chain(length: int, max_batch: int) -> App:
    """An app of ``length`` stages in a row, each of which measures its input."""
    app = App(f"chain{length}", slo=Slo(latency_ms=100))
    stages = [app.stage(flip, name=f"flip{at}", max_batch=max_batch, size=sizes.pixels) for at in range(length)]

    @app.flow
    def flow(array: Array) -> Array:
        for stage in stages:
            array = stage(array)
        return array

    return app


def _clock_us() -> int:
    return time.monotonic_ns() // 1000


def runner(length: int, items: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """The fused extent and the same calls in plain Python, for ``items`` items."""
    app = chain(length, max(items, 1))
    spec = app.spec(b"")
    resident = Resident(app, spec, _clock_us, lambda stage: None)
    resident.load(spec.graph.mask(tuple(node.name for node in spec.graph.stages)))
    extent = make_extent(spec.graph, resident.resident)
    rows = [[np.arange(12, dtype=np.uint8).reshape(2, 2, 3)] for _ in range(items)]

    def fused() -> object:
        return resident.run(extent, rows)

    def direct() -> object:
        values = [row[0] for row in rows]
        for _ in range(length):
            values = flip(values)
        return values

    assert np.array_equal(fused().results[0][0], direct()[0])  # type: ignore[attr-defined, index]
    return fused, direct


def _us_per_call(function: Callable[[], object], calls: int) -> float:
    began = time.perf_counter_ns()
    for _ in range(calls):
        function()
    return (time.perf_counter_ns() - began) / calls / 1000


def measure(is_quick: bool) -> Result:
    """Run the benchmark: added time over the number of boundaries, whose slope is what one boundary costs."""
    rounds, calls = (3, 300) if is_quick else (9, 2000)
    foreign = ForeignLoad()
    foreign.rounds.clear()
    pairs = {(length, items): runner(length, items) for length in LENGTHS for items in (1, 8)}
    taken: dict[tuple[int, int, str], list[float]] = {}
    for turn in range(rounds):
        foreign.begin()
        for (length, items), (fused, direct) in pairs.items():
            for which, function in (("fused", fused), ("direct", direct))[:: 1 if turn % 2 else -1]:
                taken.setdefault((length, items, which), []).append(_us_per_call(function, calls))
        foreign.end()
    median = {key: statistics.median(values) for key, values in taken.items()}
    rows = []
    slopes: dict[int, float] = {}
    for items in (1, 8):
        added = [median[length, items, "fused"] - median[length, items, "direct"] for length in LENGTHS]
        slopes[items] = statistics.linear_regression(LENGTHS, added).slope
        for length, extra in zip(LENGTHS, added, strict=True):
            fused_us, direct_us = median[length, items, "fused"], median[length, items, "direct"]
            rows.append((str(items), str(length), f"{fused_us:.2f}", f"{direct_us:.2f}", f"{extra:.2f}"))
    check = Check("a fused boundary", f"{slopes[1]:.2f} us", f"<= {BOUND_US:g} us", slopes[1] <= BOUND_US)
    table = Table(
        "A fused extent against direct calls",
        ("items", "stages", "fused us", "direct us", "added us"),
        tuple(rows),
        f"medians of {rounds} rounds of {calls} calls; a boundary is the slope of the added time over the number of stages: "
        f"{slopes[1]:.2f} us for one item, {slopes[8]:.2f} us for a batch of 8, every stage measuring its input",
    )
    data = {f"{which} {length} stages {items} items": value for (length, items, which), value in median.items()}
    return Result("fused", now_text(), this_machine(), is_quick, round(foreign.median, 3), (table,), (check,), dict(data))
