"""What would be feasible when the problem is not: the nearest SLO at this rate, the highest rate at this SLO. Bisected."""

import math
from collections.abc import Iterator, Sequence

import msgspec

from grainwise.domain.app import Slo
from grainwise.domain.plan import render_grain
from grainwise.planning.best import Best, Groups, best_of
from grainwise.planning.problem import Problem

TRIED = 2
"""Granularities that are planned anew at each step, those that came nearest."""

_STEPS = 5

_CLOSE = 1.03
"""Bounds within this factor of one another are near enough."""

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
        said.append(f"nearest feasible SLO at {rate:g}/s: {latency[0]:g} ms with {_name(latency[1])}")
    else:
        said.append(f"no SLO is feasible at {rate:g}/s")
    highest = _highest_rate(problem, ranked)
    if highest is not None:
        said.append(f"highest feasible rate at {slo.latency_ms:g} ms: {highest[0]:g}/s with {_name(highest[1])}")
    else:
        said.append(f"{slo.latency_ms:g} ms are not feasible at any rate")
    return "; ".join(said)


def _nearest_latency_ms(problem: Problem, ranked: Sequence[Best]) -> tuple[float, Best] | None:
    """Between the SLO, which is infeasible, and about the target quantile of a plan that is known."""
    level = problem.app.slo.target
    steady = [each for each in ranked if each.option.predicted.utilisation < 1]
    if not steady:
        return None
    known = sorted(steady, key=lambda each: (each.evaluation.latency_ms(level), each.option.plan.id))[:TRIED]

    def plan_at(latency_ms: float) -> Best | None:
        spec = msgspec.structs.replace(problem.app, slo=Slo(latency_ms, level))
        return next(_feasible(msgspec.structs.replace(problem, app=spec), known), None)

    low = problem.app.slo.latency_ms
    for margin in _MARGINS:
        high = _round_up(known[0].evaluation.latency_ms(level) / margin)
        found = plan_at(high)
        if found is not None:
            break
        low = high
    else:
        return None
    for _ in range(_STEPS):
        middle = _round_up((low + high) / 2)
        if middle >= high or high <= low * _CLOSE:
            break
        better = plan_at(middle)
        if better is None:
            low = middle
        else:
            high, found = middle, better
    return high, found


def _highest_rate(problem: Problem, ranked: Sequence[Best]) -> tuple[float, Best] | None:
    """Between what a plan that is known can carry and the rate asked for, which is infeasible."""
    target, high = problem.app.slo.target, problem.workload.rate_per_s
    known = _by_capacity(ranked, target)

    def plans_at(rate_per_s: float, tried: Sequence[Best]) -> Iterator[Best]:
        eased = msgspec.structs.replace(problem.workload, rate_per_s=rate_per_s)
        return _feasible(msgspec.structs.replace(problem, workload=eased), tried)

    low, found = 0.0, None
    for margin in _MARGINS:
        low = _round_down(known[0].evaluation.capacity_per_s(target) * margin)
        if 0 < low < high:
            found = next(plans_at(low, known[:TRIED]), None)
        if found is not None:
            break
    if found is None:
        low = _round_down(high * _HARDLY_ANY)
        known = _by_capacity(tuple(plans_at(low, known)), target)
        if not known:
            return None
        found = known[0]
    for _ in range(_STEPS):
        if high <= low * _CLOSE:
            break
        carried = _round_down(found.evaluation.capacity_per_s(target))
        middle = carried if low * _CLOSE < carried < high else _round_down(math.sqrt(low * high))
        better = next(plans_at(middle, known[:TRIED]), None)
        if better is None:
            high = middle
        else:
            low, found = middle, better
    return low, found


def _by_capacity(plans: Sequence[Best], target: float) -> list[Best]:
    """The plans that carry most first."""
    return sorted(plans, key=lambda each: (-each.evaluation.capacity_per_s(target), each.option.plan.id))


def _feasible(problem: Problem, known: Sequence[Best]) -> Iterator[Best]:
    """Plans that meet the problem's SLO, one of each granularity of ``known`` that has one."""
    groups = Groups(problem)
    for each in known:
        masks = tuple(problem.app.graph.mask(function.stages) for function in each.option.plan.functions)
        best, _ = best_of(groups, masks)
        if best is not None and best.option.meets_slo:
            yield best


def _name(best: Best) -> str:
    return render_grain(best.option.plan.grain)


def _round_up(value: float) -> float:
    """To three digits, so that what is said is still feasible."""
    digits = _digits(value)
    return math.ceil(value * 10.0**digits - 1e-9) / 10.0**digits if math.isfinite(value) else value


def _round_down(value: float) -> float:
    digits = _digits(value)
    return math.floor(value * 10.0**digits + 1e-9) / 10.0**digits if math.isfinite(value) else value


def _digits(value: float) -> int:
    return 2 - math.floor(math.log10(value)) if value > 0 and math.isfinite(value) else 0
