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

_MARGINS = (1.0, 0.95, 0.8)
"""A plan found for one load is only a guess of what is found for another; these parts of it are tried in turn."""

_HARDLY_ANY = 1e-3
"""The part of the rate asked for that stands for no load at all."""


def describe_nearest(problem: Problem, ranked: Sequence[Best]) -> str:
    """One sentence for people. What it calls feasible has been planned.

    Args:
        problem: an infeasible problem.
        ranked: the best plan of each granularity.
    """
    slo, rate = problem.app.slo, problem.workload.rate_per_s
    said: list[str] = []
    latency = _nearest_latency_ms(problem, ranked)
    if latency is not None:
        said.append(f"nearest feasible SLO at {rate:g}/s: {latency[0]:g} ms with {latency[1]}")
    else:
        said.append(f"no SLO is feasible at {rate:g}/s")
    fastest = _highest_rate(problem, ranked)
    if fastest is not None:
        said.append(f"highest feasible rate at {slo.latency_ms:g} ms: {fastest[0]:g}/s with {fastest[1]}")
    else:
        said.append(f"{slo.latency_ms:g} ms are not feasible at any rate")
    return "; ".join(said)


def _nearest_latency_ms(problem: Problem, ranked: Sequence[Best]) -> tuple[float, str] | None:
    """Between the SLO, which is infeasible, and about the target quantile of a plan that is known."""
    level = problem.app.slo.target
    steady = [each for each in ranked if each.option.predicted.utilisation < 1]
    if not steady:
        return None
    known = sorted(steady, key=lambda each: (each.evaluation.latency_ms(level), each.option.plan.id))[:TRIED]

    def grain_at(latency_ms: float) -> str | None:
        return _feasible(
            msgspec.structs.replace(problem, app=msgspec.structs.replace(problem.app, slo=Slo(latency_ms, level))), known
        )

    low = problem.app.slo.latency_ms
    for margin in _MARGINS:
        high = _round_up(known[0].evaluation.latency_ms(level) / margin)
        name = grain_at(high)
        if name is not None:
            break
        low = high
    else:
        return None
    for _ in range(_STEPS):
        middle = _round_up((low + high) / 2)
        if middle >= high:
            break
        grain = grain_at(middle)
        if grain is None:
            low = middle
        else:
            high, name = middle, grain
    return high, name


def _highest_rate(problem: Problem, ranked: Sequence[Best]) -> tuple[float, str] | None:
    """Between about the capacity of a plan that is known and the rate asked for, which is infeasible."""
    target, high = problem.app.slo.target, problem.workload.rate_per_s
    capacities = [(each.evaluation.capacity_per_s(target), each) for each in ranked]
    capacities.sort(key=lambda each: (-each[0], each[1].option.plan.id))
    known = [each for _, each in capacities]

    def grain_at(rate_per_s: float, tried: int = TRIED) -> str | None:
        eased = msgspec.structs.replace(problem.workload, rate_per_s=rate_per_s)
        return _feasible(msgspec.structs.replace(problem, workload=eased), known[:tried])

    low, name = 0.0, ""
    for margin in _MARGINS:
        guess = _round_down(min(capacities[0][0], high) * margin)
        grain = grain_at(guess) if 0 < guess < high else None
        if grain is not None:
            low, name = guess, grain
            break
    if not name:
        low = _round_down(high * _HARDLY_ANY)
        name = grain_at(low, len(known)) or ""
        if not name:
            return None
    for _ in range(_STEPS):
        middle = _round_down(math.sqrt(low * high))
        if middle <= low:
            break
        grain = grain_at(middle)
        if grain is None:
            high = middle
        else:
            low, name = middle, grain
    return low, name


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
