"""What would be feasible when the problem is not: the nearest SLO at this rate, the highest rate at this SLO. Bisected."""

import math
from collections.abc import Sequence

import msgspec

from grainwise.domain.app import Slo
from grainwise.domain.plan import render_grain
from grainwise.planning.best import Best, Groups, best_of
from grainwise.planning.problem import Problem

TRIED = 2
"""Granularities that are planned anew at each step, those that came nearest."""

_STEPS = 4


def describe_nearest(problem: Problem, ranked: Sequence[Best]) -> str:
    """One sentence for people.

    Args:
        problem: an infeasible problem.
        ranked: the best plan of each granularity.
    """
    slo, rate = problem.app.slo, problem.workload.rate_per_s
    said: list[str] = []
    latency = _nearest_latency_ms(problem, ranked)
    if latency is not None:
        said.append(f"nearest feasible SLO at {rate:g}/s: {latency[0]:g} ms with {latency[1]}")
    fastest = _highest_rate(problem, ranked)
    if fastest is not None:
        said.append(f"highest feasible rate at {slo.latency_ms:g} ms: {fastest[0]:g}/s with {fastest[1]}")
    else:
        said.append(f"{slo.latency_ms:g} ms are not feasible at any rate")
    return "; ".join(said)


def _nearest_latency_ms(problem: Problem, ranked: Sequence[Best]) -> tuple[float, str] | None:
    """Between the SLO, which is infeasible, and the target quantile of a plan that is known."""
    level = problem.app.slo.target
    steady = [each for each in ranked if each.option.predicted.utilisation < 1] or list(ranked)
    known = sorted(steady, key=lambda each: (each.evaluation.latency_ms(level), each.option.plan.id))
    high, name = _round_up(known[0].evaluation.latency_ms(level)), render_grain(known[0].option.plan.grain)
    if not math.isfinite(high) or known[0].option.predicted.utilisation >= 1:
        return None
    low = problem.app.slo.latency_ms
    for _ in range(_STEPS):
        middle = _round_up((low + high) / 2)
        if middle >= high:
            break
        eased = msgspec.structs.replace(problem, app=msgspec.structs.replace(problem.app, slo=Slo(middle, level)))
        grain = _feasible(eased, known[:TRIED])
        if grain is None:
            low = middle
        else:
            high, name = middle, grain
    return high, name


def _highest_rate(problem: Problem, ranked: Sequence[Best]) -> tuple[float, str] | None:
    """Between the capacity of a plan that is known and the rate asked for, which is infeasible."""
    target = problem.app.slo.target
    capacities = [(each.evaluation.capacity_per_s(target), each) for each in ranked]
    capacities.sort(key=lambda each: (-each[0], each[1].option.plan.id))
    known = [each for _, each in capacities]
    low, name = _round_down(capacities[0][0]), render_grain(known[0].option.plan.grain)
    high = problem.workload.rate_per_s
    for _ in range(_STEPS):
        middle = _round_down((low + high) / 2)
        if middle <= low:
            break
        eased = msgspec.structs.replace(problem, workload=msgspec.structs.replace(problem.workload, rate_per_s=middle))
        grain = _feasible(eased, known[:TRIED])
        if grain is None:
            high = middle
        else:
            low, name = middle, grain
    return (low, name) if low > 0 else None


def _feasible(problem: Problem, known: Sequence[Best]) -> str | None:
    """The first of some granularities with a plan that meets the problem's SLO."""
    groups = Groups(problem)
    for each in known:
        masks = tuple(problem.app.graph.mask(function.stages) for function in each.option.plan.functions)
        best, _ = best_of(groups, masks)
        if best is not None and best.option.meets_slo:
            return render_grain(best.option.plan.grain)
    return None


def _round_up(value: float) -> float:
    """To three digits, so that what is said is still feasible."""
    digits = _digits(value)
    return math.ceil(value * 10.0**digits - 1e-9) / 10.0**digits if math.isfinite(value) else value


def _round_down(value: float) -> float:
    digits = _digits(value)
    return math.floor(value * 10.0**digits + 1e-9) / 10.0**digits if math.isfinite(value) else value


def _digits(value: float) -> int:
    return 2 - math.floor(math.log10(value)) if value > 0 and math.isfinite(value) else 0
