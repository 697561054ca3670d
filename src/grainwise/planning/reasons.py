"""Why a plan won and what the others lack, in words with the figures that decided.

A reason has a short lead, for a column of a table, and where there is more to say a detail in brackets behind it.
"""

from collections.abc import Sequence

from grainwise.domain.plan import render_grain
from grainwise.planning.best import Best
from grainwise.planning.problem import Option, Problem

_SAME_COST = 1.0005
"""Costs within this factor are called the same."""

_NOTABLE_MS = 0.05


def with_lacks(winner: Best, other: Best, problem: Problem) -> Option:
    """``other`` with what it lacks beside the winner."""
    option = other.option
    lacks = _dearer(winner, other, problem) if option.meets_slo else _late(winner, other, problem)
    return Option(option.plan, option.predicted, option.meets_slo, lacks)


def because(problem: Problem, ranked: Sequence[Best]) -> str:
    """Why the first of ``ranked`` won."""
    winner = ranked[0]
    predicted = winner.option.predicted
    slo, rate = problem.app.slo, problem.workload.rate_per_s
    name = render_grain(winner.option.plan.grain)
    if not winner.option.meets_slo:
        return (
            f"no granularity {'asked for ' if problem.grain else ''}is predicted to answer {slo.target:.1%} within "
            f"{slo.latency_ms:g} ms at {rate:g}/s; {name} comes nearest with {predicted.attainment:.1%}, {_what_limits(winner)}"
        )
    said = (
        f"{name} meets the SLO ({predicted.attainment:.1%} within {slo.latency_ms:g} ms) at the least {problem.objective} "
        f"cost, ${winner.cost:.4f}/h"
    )
    if len(ranked) == 1:
        return f"{said}; it " + ("was the only granularity asked for" if problem.grain else "is the only granularity that fits")
    second = ranked[1]
    other = render_grain(second.option.plan.grain)
    if second.option.meets_slo:
        said = f"{said}; the runner-up {other} {_dearer(winner, second, problem)}"
    else:
        return f"{said}; no other does: {other} attains {second.option.predicted.attainment:.1%}, {_what_limits(second)}"
    cheaper = min(
        (each for each in ranked if not each.option.meets_slo and each.cost * _SAME_COST < winner.cost),
        key=lambda each: (each.cost, each.option.plan.id),
        default=None,
    )
    if cheaper is not None:
        said += (
            f"; cheaper by {1 - cheaper.cost / winner.cost:.1%}, {render_grain(cheaper.option.plan.grain)} attains "
            f"{cheaper.option.predicted.attainment:.1%}, {_what_limits(cheaper)}"
        )
    return said


def _dearer(winner: Best, other: Best, problem: Problem) -> str:
    """What a plan that meets the SLO has against it."""
    if other.cost <= winner.cost * _SAME_COST:
        more = len(other.option.plan.functions) - len(winner.option.plan.functions)
        if more > 0:
            return f"costs the same with {more} function{'s' if more > 1 else ''} more"
        slower = other.option.predicted.p95_ms - winner.option.predicted.p95_ms
        return f"costs the same, p95 {slower:.1f} ms more" if slower >= _NOTABLE_MS else "is as good, and later in the list"
    lead = f"costs {other.cost / winner.cost - 1:.1%} more" if winner.cost > 0 else f"costs ${other.cost:.4f}/h"
    ours, theirs = winner.evaluation.breakdown(), other.evaluation.breakdown()
    if problem.objective == "billed":
        parts = [("core-seconds a request", theirs.billed_core_s, ours.billed_core_s)]
    else:
        parts = [
            ("cores", theirs.provisioned_cores, ours.provisioned_cores),
            ("MiB", theirs.provisioned_mib, ours.provisioned_mib),
        ]
    changed = [(unit, their, our) for unit, their, our in parts if f"{their:.3g}" != f"{our:.3g}"]
    if not changed:
        return lead
    their_part = ", ".join(f"{their:.3g} {unit}" for unit, their, _ in changed)
    return f"{lead} ({their_part} against {', '.join(f'{our:.3g}' for _, _, our in changed)})"


def _late(winner: Best, other: Best, problem: Problem) -> str:
    """Why a plan misses the SLO, or misses it by more than the winner."""
    overload = other.option.predicted.utilisation
    if overload >= 1:
        return f"overloaded, {overload:.0%} of capacity"
    target = problem.app.slo.target
    latency_ms = other.evaluation.latency_ms(target)
    lead = f"p{100 * target:.4g} is {latency_ms:.0f} ms"
    ours, theirs = winner.evaluation.breakdown(), other.evaluation.breakdown()
    parts = [
        (theirs.service_ms - ours.service_ms, "runs"),
        (theirs.wait_ms - ours.wait_ms, "waits"),
        (theirs.hop_ms - ours.hop_ms, "hands on"),
    ]
    longer = sorted(((gap, verb) for gap, verb in parts if gap >= _NOTABLE_MS), key=lambda part: (-part[0], part[1]))
    # Means are no reason for a tail that they do not explain.
    if not longer or sum(gap for gap, _ in longer) < (latency_ms - winner.evaluation.latency_ms(target)) / 2:
        return lead
    return f"{lead} ({', '.join(f'{verb} {gap:.1f} ms longer' for gap, verb in longer)})"


def _what_limits(best: Best) -> str:
    """Where the time of a plan goes that misses the SLO."""
    if best.option.predicted.utilisation >= 1:
        return f"its load being {best.option.predicted.utilisation:.0%} of what it can carry"
    spent = best.evaluation.breakdown()
    parts = [(spent.service_ms, "running"), (spent.wait_ms, "waiting"), (spent.hop_ms, "hops")]
    parts.sort(key=lambda part: -part[0])
    return "a mean request spending " + " and ".join(f"{time:.0f} ms on {name}" for time, name in parts[:2] if time >= 0.5)
