"""The whole study of a size: bisect, plan and run everything in a pool of processes, and gather the records in order."""

import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from grainwise.domain.errors import GrainwiseError
from reproduce.granularity import capacity
from reproduce.granularity.asking import Answers
from reproduce.granularity.cells import CellMaker, Point, points, rate_key
from reproduce.granularity.grid import Grid, Size
from reproduce.granularity.profile_sets import digest, load, profile_set
from reproduce.granularity.records import SCHEMA, Capacity, Cell, Decision, Header, ProfileSetRecord, Purpose, Results, Run
from reproduce.granularity.runs import World, run
from reproduce.granularity.ways import Way, ways_of

T = TypeVar("T")
_LIBRARIES = ("grainwise", "msgspec", "numpy", "scipy")
_ROUND = 9


class _Timed(Struct, frozen=True):
    """What a piece of work came to, and the CPU time that it took."""

    value: Any
    core_s: float


class Progress:
    """One line on stderr: how much of a stage is done and how long the rest may take."""

    def __init__(self, stage: str, total: int) -> None:
        self._stage, self._total, self._done = stage, total, 0
        self._began = self._shown = time.monotonic()

    def step(self) -> None:
        """One piece is done."""
        self._done += 1
        now = time.monotonic()
        if now - self._shown >= 1 or self._done == self._total:
            self._shown = now
            left = (now - self._began) / self._done * (self._total - self._done)
            end = "\n" if self._done == self._total else ""
            print(
                f"\r{self._stage}: {self._done} of {self._total}, about {left:.0f} s left   ",
                end=end,
                file=sys.stderr,
                flush=True,
            )


class _Pool:
    """Runs pieces of work on every core and adds up their CPU time."""

    def __init__(self, processes: int) -> None:
        self.core_s = 0.0
        self._pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))

    def __enter__(self) -> "_Pool":
        self._pool.__enter__()
        return self

    def __exit__(self, *args: object) -> None:
        self._pool.__exit__(None, None, None)

    def map(self, stage: str, work: Callable[..., T], arguments: Sequence[tuple[object, ...]]) -> list[T]:
        """The values in the order of the arguments."""
        progress = Progress(stage, len(arguments))
        futures: list[Future[_Timed]] = [self._pool.submit(_timed, work, each) for each in arguments]
        for _ in as_completed(futures):
            progress.step()
        done = [future.result() for future in futures]
        core_s = sum(each.core_s for each in done)
        self.core_s += core_s
        sys.stderr.write(f"{stage}: {core_s:.0f} core-seconds\n")
        return [each.value for each in done]


def _timed(work: Callable[..., Any], arguments: tuple[object, ...]) -> _Timed:
    began = time.process_time()
    value = work(*arguments)
    return _Timed(value, time.process_time() - began)


def study(size_name: str, grid: Grid, *, processes: int | None = None) -> Results:
    """Run a size of the grid.

    Raises:
        ConfigurationError: the grid has no such size.
        ArtifactError: a profile is missing.
    """
    began = time.monotonic()
    size = grid.size(size_name)
    wanted = points(grid, size)
    places = capacity.places(grid, size)
    selection = grid.study.selection_seeds[: size.selection_seeds]
    evaluation = grid.study.evaluation_seeds[: size.evaluation_seeds]
    with _Pool(processes or os.cpu_count() or 1) as pool:
        rates = _rates(pool, grid, size, (*wanted, *(place.point for place in places)))
        prepared = pool.map("plans", _prepare, [(grid, size, rates, number, point) for number, point in enumerate(wanted)])
        jobs = [
            (grid, cell.number, world, way, _seeds(way, selection, evaluation))
            for cell, world, ways in prepared
            if world is not None
            for way in ways
        ]
        runs = [each for own in pool.map("ways", _run_seeds, jobs) for each in own]
        maker = CellMaker(grid, size)
        capacities: list[Capacity] = pool.map(
            "capacities",
            _capacity,
            [(grid, size, rates, place, name) for place in places for name in capacity.ways_at(maker, size, place)],
        )
        core_s = pool.core_s
    cells = tuple(cell for cell, _, _ in prepared)
    header = _header(size_name, grid, size, cells, selection, evaluation)
    header = msgspec.structs.replace(header, wall_s=round(time.monotonic() - began, 1), core_s=round(core_s, 1))
    decisions = tuple(each for cell, _, ways in prepared for each in _decisions(cell, ways))
    return Results(header, cells, tuple(runs), tuple(capacities), decisions)


def _rates(pool: _Pool, grid: Grid, size: Size, wanted: Sequence[Point]) -> dict[tuple[object, ...], float]:
    maker = CellMaker(grid, size)
    unique: dict[tuple[object, ...], tuple[Point, int, float]] = {}
    for point in wanted:
        for each in maker.wanted(point):
            unique.setdefault(rate_key(*each), each)
    found = pool.map("bisected rates", _highest, [(grid, size, *each) for each in unique.values()])
    return dict(zip(unique, found, strict=True))


def _highest(grid: Grid, size: Size, point: Point, number: int, slo_factor: float) -> float:
    return CellMaker(grid, size).highest_rate(point, number, slo_factor)


def _prepare(
    grid: Grid, size: Size, rates: dict[tuple[object, ...], float], number: int, point: Point
) -> tuple[Cell, World | None, tuple[Way, ...]]:
    maker = CellMaker(grid, size)
    maker.know(rates)
    cell, world = maker.make(number, point)
    return cell, world, ways_of(point, world) if world is not None else ()


def _seeds(way: Way, selection: Sequence[int], evaluation: Sequence[int]) -> list[tuple[int, Purpose]]:
    """Only fixed ways are selected among; everything else runs on the evaluation seeds alone."""
    chosen: list[tuple[int, Purpose]] = [(seed, "selection") for seed in selection if way.group == "fixed"]
    return [*chosen, *((seed, "evaluation") for seed in evaluation)]


def _run_seeds(grid: Grid, number: int, world: World, way: Way, seeds: Sequence[tuple[int, Purpose]]) -> list[Run]:
    """All runs of a way, which share the answers of a planner."""
    answers = Answers(grid.planning, [(each.spec.name, each.workload) for each in world.samples])
    return [_run(number, world, way, seed, answers) for seed in seeds]


def _run(number: int, world: World, way: Way, seed: tuple[int, Purpose], answers: Answers) -> Run:
    if way.failed:
        return _failed(number, way, seed, way.failed)
    try:
        found = run(world, way.plans, way.policies, seed[0], way.evaluator, answers)
    except GrainwiseError as error:
        return _failed(number, way, seed, str(error))
    return Run(
        cell=number,
        way=way.name,
        group=way.group,
        seed=seed[0],
        purpose=seed[1],
        is_fused=way.is_fused,
        is_split=way.is_split,
        **{name: _rounded(getattr(found, name)) for name in found.__struct_fields__},
    )


def _rounded(value: Any) -> Any:
    return round(value, _ROUND) if isinstance(value, float) else value


def _failed(number: int, way: Way, seed: tuple[int, Purpose], reason: str) -> Run:
    return Run(
        cell=number, way=way.name, group=way.group, seed=seed[0], purpose=seed[1], offered=0, answered=0, met=0,
        attainment=0.0, billed_usd_per_1000=0.0, provisioned_usd_per_1000=0.0, switch_usd_per_1000=0.0, p50_ms=0.0,
        p95_ms=0.0, local_fraction=None, slice_s=0.0, starts=0, regranulations=0, utilisation=0.0, grains=(),
        is_fused=way.is_fused, is_split=way.is_split, failed=reason,
    )  # fmt: skip


def _capacity(
    grid: Grid, size: Size, rates: dict[tuple[object, ...], float], place: capacity.CapacityPlace, name: str
) -> Capacity:
    maker = CellMaker(grid, size)
    maker.know(rates)
    return capacity.capacity_of(maker, grid, size, place, name)


def _decisions(cell: Cell, ways: Sequence[Way]) -> list[Decision]:
    """The joint search beside the published configurations, where both planned."""
    if not any(way.group == "configuration" for way in ways):
        return []
    return [
        Decision(cell.number, cell.app, way.name, way.plan_ms, round(way.usd_per_hour, _ROUND), round(way.attainment, _ROUND))
        for way in ways
        if way.group in ("adaptive", "configuration") and not way.failed and way.plan_ms > 0
    ]


def _header(
    size_name: str, grid: Grid, size: Size, cells: Sequence[Cell], selection: Sequence[int], evaluation: Sequence[int]
) -> Header:
    sets = []
    for name in dict.fromkeys(cell.profiles for cell in cells):
        samples = load(name)
        sets.append(
            ProfileSetRecord(name, profile_set(name).provenance, digest(samples), tuple(each.spec.name for each in samples))
        )
    paper = len(points(grid, grid.sizes["paper"])) if "paper" in grid.sizes else len(cells)
    return Header(
        schema=SCHEMA,
        size=size_name,
        grid_sha256=grid.figures_sha256,
        grid_changed=grid.changed,
        changes=grid.changes,
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        machine=_machine(),
        cores=os.cpu_count() or 1,
        versions={"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
        profile_sets=tuple(sets),
        selection_seeds=tuple(selection),
        evaluation_seeds=tuple(evaluation),
        requests=size.requests,
        cells=len(cells),
        cells_of_paper=paper,
        headline_hop=grid.study.headline_hop,
        headline_billing=grid.study.headline_billing,
        rule=(
            f"all combinations of the levels that the size declares at the headline hop and billing, and the first "
            f"{size.sample} of a Latin hypercube of all {grid.axes.cells:,} cells, drawn with seed {grid.study.sample_seed}"
        ),
    )


def _machine() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
