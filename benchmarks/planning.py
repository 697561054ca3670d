"""The exact joint search over groups and configurations, and the staircases of dispatch: how long, for how many labels.

Apps are made from a seed: chains, and a fork-join. Every group has 64 configurations: 4 batches x 4 shares x 4 vCPUs whose
times and costs follow a law of diminishing returns, or times and costs at random. Limits lie anywhere between the fastest plan
and the time of the cheapest.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random

from benchmarks.measuring import Check, ForeignLoad, Result, Table, now_text, this_machine
from grainwise.planning.bounds import Bounds
from grainwise.planning.joint import search
from grainwise.planning.lattice import Lattice, successors
from grainwise.planning.split import split_search
from grainwise.planning.staircase import build
from grainwise.planning.steps import Step

Steps = dict[int, list[Step]]

CHAIN_5 = tuple(1 << at - 1 if at else 0 for at in range(5))
CHAIN_6 = tuple(1 << at - 1 if at else 0 for at in range(6))
CHAIN_8 = tuple(1 << at - 1 if at else 0 for at in range(8))
CHAIN_12 = tuple(1 << at - 1 if at else 0 for at in range(12))
FORK_JOINS = (0, 0b1, 0b10, 0b1, 0b1000, 0b10100, 0b100000, 0b1000000, 0b1000000, 0b110000000, 0b1000000000)
"""0 → (1 → 2 | 3 → 4) → 5 → 6 → (7 | 8) → 9 → 10."""

FORK_JOIN = (0, 0b1, 0b1, 0b100, 0b1010, 0b10000)
"""0 → (1 | 2 → 3) → 4 → 5."""

BOUND_MS = {"chain of 5": 10.0, "chain of 8": 200.0}
BUILD_MS = 30.0
LOOKUP_US = 10.0
CONFIGURATIONS = 64


def convex_groups(predecessors: Sequence[int]) -> list[int]:
    """Connected groups that no path leaves and enters again."""
    count = len(predecessors)
    after = successors(predecessors)

    def grown(mask: int, neighbours: Sequence[int], within: int) -> int:
        while True:
            more = mask
            for at in range(count):
                if mask >> at & 1:
                    more |= neighbours[at] & within
            if more == mask:
                return mask
            mask = more

    both = [before | behind for before, behind in zip(predecessors, after, strict=True)]
    everything = (1 << count) - 1
    return [
        mask
        for mask in range(1, 1 << count)
        if grown(mask & -mask, both, mask) == mask
        and not grown(mask, predecessors, everything) & grown(mask, after, everything) & ~mask
    ]


def structured(rng: Random, masks: Sequence[int], count: int) -> Steps:
    """Batches, shares of a device and vCPUs with diminishing returns; a request pays for its part of the batch."""
    work = [rng.uniform(1e4, 1e5) for _ in range(count)]
    found: Steps = {}
    for mask in masks:
        base = sum(us for at, us in enumerate(work) if mask >> at & 1)
        found[mask] = []
        for batch in (1, 2, 4, 8):
            for share in (0.25, 0.5, 0.75, 1.0):
                for vcpus in (1, 2, 4, 8):
                    time_us = base * (0.3 + 0.7 * batch**0.8) / share**0.7 * (1 + 0.5 / vcpus) + 2000
                    cost = time_us * (0.034 * vcpus + 0.67 * share) / batch * rng.uniform(0.97, 1.03) / 3.6e9
                    found[mask].append(Step(mask, time_us, cost, len(found[mask])))
    return found


def at_random(rng: Random, masks: Sequence[int], count: int) -> Steps:
    """Times and costs without any law."""
    del count
    return {
        mask: [
            Step(mask, rng.uniform(1e3, 1e5) * mask.bit_count(), rng.uniform(1, 10) * mask.bit_count(), at)
            for at in range(CONFIGURATIONS)
        ]
        for mask in masks
    }


def limit_between(rng: Random, predecessors: Sequence[int], steps: Mapping[int, Sequence[Step]]) -> float:
    """Anywhere between a bound on the fastest plan and the time of the cheapest."""
    fastest = max(Bounds(Lattice(predecessors, steps), steps, math.inf, 0).tails_us)
    return fastest + rng.random() * (search(predecessors, steps, math.inf).combinations[0].time_us - fastest)


def _milliseconds(function: Callable[[], object]) -> float:
    """The shorter of two runs: what others do on the machine is not the planner's."""
    taken = []
    for _ in range(2):
        began = time.perf_counter_ns()
        function()
        taken.append((time.perf_counter_ns() - began) / 1e6)
    return min(taken)


def _percentile(values: Sequence[float], level: float) -> float:
    return sorted(values)[max(0, math.ceil(level * len(values)) - 1)]


def _searches(instances: int, foreign: ForeignLoad) -> tuple[list[tuple[str, ...]], list[Check], dict[str, object]]:
    rows: list[tuple[str, ...]] = []
    data: dict[str, object] = {}
    worst: dict[str, float] = {}
    for name, predecessors in (("chain of 5", CHAIN_5), ("chain of 8", CHAIN_8), ("fork-join of 6", FORK_JOIN)):
        masks = convex_groups(predecessors)
        for law, make in (("diminishing", structured), ("random", at_random)):
            for keep in (1, 5):
                rng = Random(keep)
                foreign.begin()
                taken, labels = [], []
                feasible = 0
                for _ in range(instances):
                    steps = make(rng, masks, len(predecessors))
                    limit = limit_between(rng, predecessors, steps)
                    taken.append(_milliseconds(partial(search, predecessors, steps, limit, keep)))
                    found = search(predecessors, steps, limit, keep)
                    labels.append(found.expanded)
                    feasible += bool(found.combinations)
                    if not found.is_exact:
                        raise AssertionError(f"a search of a {name} was cut off after {found.expanded} labels")
                foreign.end()
                p50, p99 = statistics.median(taken), _percentile(taken, 0.99)
                rows.append(
                    (
                        name,
                        law,
                        str(keep),
                        f"{feasible}/{instances}",
                        f"{p50:.2f}",
                        f"{p99:.2f}",
                        f"{max(taken):.2f}",
                        f"{statistics.median(labels):.0f}",
                        str(max(labels)),
                    )
                )
                data[f"{name}, {law}, K={keep}"] = {"p50_ms": p50, "p99_ms": p99, "max_ms": max(taken), "labels": max(labels)}
                if keep == 1:
                    worst[name] = max(worst.get(name, 0.0), p99)
    checks = []
    for name, bound in BOUND_MS.items():
        what = f"joint search, {name} x {CONFIGURATIONS}, p99"
        checks.append(Check(what, f"{worst[name]:.2f} ms", f"<= {bound:g} ms", worst[name] <= bound))
    return rows, checks, data


def _staircases(instances: int, foreign: ForeignLoad) -> tuple[list[tuple[str, ...]], list[Check], dict[str, object]]:
    rows: list[tuple[str, ...]] = []
    data: dict[str, object] = {}
    for name, predecessors in (("chain of 6", CHAIN_6), ("fork-join of 6", FORK_JOIN)):
        masks = convex_groups(predecessors)
        builds, picks, filtered = [], [], []
        rng = Random(6)
        foreign.begin()
        for _ in range(instances):
            steps = {mask: each[::5][:12] for mask, each in structured(rng, masks, len(predecessors)).items()}
            made = build(predecessors, steps)
            builds.append(_milliseconds(partial(build, predecessors, steps)))
            slacks = [rng.uniform(0.5, 1.5) * made.first_steps(0, 0)[0].times_us[-1] for _ in range(200)]
            began = time.perf_counter_ns()
            for slack in slacks:
                made.pick(0, 0, slack)
            between = time.perf_counter_ns()
            for slack in slacks:
                made.pick(0, 0, slack, lambda first: first.step.payload % 10 == 0)
            ended = time.perf_counter_ns()
            picks.append((between - began) / len(slacks) / 1e3)
            filtered.append((ended - between) / len(slacks) / 1e3)
        foreign.end()
        figures = (statistics.median(builds), _percentile(builds, 0.99), statistics.median(picks), statistics.median(filtered))
        rows.append((name, *(f"{figure:.2f}" for figure in figures)))
        data[f"staircases, {name}"] = dict(zip(("build_ms", "build_p99_ms", "pick_us", "filtered_us"), figures, strict=True))
        if name == "chain of 6":
            checks = [
                Check(f"staircases, {name} x 12, p50", f"{figures[0]:.2f} ms", f"<= {BUILD_MS:g} ms", figures[0] <= BUILD_MS),
                Check("a choice from a staircase", f"{figures[2]:.2f} us", f"<= {LOOKUP_US:g} us", figures[2] <= LOOKUP_US),
            ]
    return rows, checks, data


def _pieces(instances: int, foreign: ForeignLoad) -> tuple[list[tuple[str, ...]], dict[str, object]]:
    """Planning piece by piece beside planning everything at once."""
    rows: list[tuple[str, ...]] = []
    data: dict[str, object] = {}
    for name, predecessors in (("chain of 12", CHAIN_12), ("fork-joins of 11", FORK_JOINS)):
        masks = convex_groups(predecessors)
        rng = Random(12)
        dearer, said, whole_ms, pieces_ms = [], [], [], []
        missed = 0
        foreign.begin()
        for _ in range(instances):
            steps = {mask: each[::5][:12] for mask, each in structured(rng, masks, len(predecessors)).items()}
            limit = limit_between(rng, predecessors, steps)
            whole, pieces = search(predecessors, steps, limit), split_search(predecessors, steps, limit)
            whole_ms.append(_milliseconds(partial(search, predecessors, steps, limit)))
            pieces_ms.append(_milliseconds(partial(split_search, predecessors, steps, limit)))
            if pieces.combination is None:
                missed += bool(whole.combinations)
            else:
                dearer.append(pieces.combination.cost / whole.combinations[0].cost - 1)
                said.append(pieces.gap)
        foreign.end()
        rows.append(
            (
                name,
                f"{statistics.mean(dearer):.2%}",
                f"{max(dearer):.2%}",
                f"{statistics.mean(said):.2%}",
                f"{missed}/{instances}",
                f"{statistics.median(pieces_ms):.1f}",
                f"{statistics.median(whole_ms):.1f}",
            )
        )
        data[f"pieces, {name}"] = {"mean": statistics.mean(dearer), "max": max(dearer), "missed": missed}
    return rows, data


def measure(is_quick: bool) -> Result:
    """Run the benchmark."""
    foreign = ForeignLoad()
    foreign.rounds.clear()
    search_rows, search_checks, search_data = _searches(10 if is_quick else 200, foreign)
    stair_rows, stair_checks, stair_data = _staircases(5 if is_quick else 50, foreign)
    piece_rows, piece_data = _pieces(4 if is_quick else 40, foreign)
    tables = (
        Table(
            f"The joint search, {CONFIGURATIONS} configurations a group",
            ("app", "configurations", "K", "feasible", "p50 ms", "p99 ms", "max ms", "labels p50", "labels max"),
            tuple(search_rows),
            "one app and one limit an instance, the limit anywhere between the fastest plan and the time of the cheapest; "
            "the shorter of two runs; every answer exact",
        ),
        Table(
            "Staircases for dispatch, 12 configurations an extent",
            ("app", "build p50 ms", "build p99 ms", "choice us", "choice with a filter us"),
            tuple(stair_rows),
            "for every state of finished stages; the filter refuses most of the configurations",
        ),
        Table(
            "Piece by piece beside everything at once, 12 configurations a group",
            ("app", "dearer, mean", "dearer, max", "gap said, mean", "missed", "pieces ms", "at once ms"),
            tuple(piece_rows),
            "missed: apps with a plan within the limit that no pieces keep; the gap said is to a bound, not to the best",
        ),
    )
    return Result(
        "planning",
        now_text(),
        this_machine(),
        is_quick,
        round(foreign.median, 3),
        tables,
        (*search_checks, *stair_checks),
        {**search_data, **stair_data, **piece_data},
    )
