"""Why a plan won and what the others lack, in words with the figures that decided."""

from collections.abc import Sequence

from grainwise.domain.plan import render_grain
from grainwise.planning.best import Best
from grainwise.planning.problem import Option, Problem


def with_lacks(winner: Best, other: Best, problem: Problem) -> Option:
    """``other`` with what it lacks beside the winner."""
    option, predicted = other.option, other.option.predicted
    if winner.option.meets_slo and not option.meets_slo:
        lacks = f"attains {predicted.attainment:.1%} of {problem.app.slo.target:.1%}"
        if predicted.utilisation >= 1:
            lacks += f"; its load is {predicted.utilisation:.0%} of what it can carry"
    elif winner.option.meets_slo:
        lacks = f"costs {_percent(other.cost, winner.cost)} more" if other.cost > winner.cost * 1.0005 else _tie(winner, other)
    else:
        lacks = f"attains {predicted.attainment:.1%}"
    detail = _difference(winner, other)
    return Option(option.plan, predicted, option.meets_slo, f"{lacks} ({detail})" if detail else lacks)


def _tie(winner: Best, other: Best) -> str:
    more = len(other.option.plan.functions) - len(winner.option.plan.functions)
    if more > 0:
        return f"costs the same with {more} function{'s' if more > 1 else ''} more"
    return f"costs the same and is slower: p95 {other.option.predicted.p95_ms:.1f} ms"


def _difference(winner: Best, other: Best) -> str:
    """The figure in which another plan differs most from the winner."""
    ours, theirs = winner.evaluation.breakdown(), other.evaluation.breakdown()
    parts: list[tuple[float, str]] = []
    for name, unit, own, their in (
        ("cores provisioned", "", ours.provisioned_cores, theirs.provisioned_cores),
        ("memory", " MiB", ours.provisioned_mib, theirs.provisioned_mib),
        ("hops", " ms", ours.hop_ms, theirs.hop_ms),
        ("waiting", " ms", ours.wait_ms, theirs.wait_ms),
        ("run time", " ms", ours.service_ms, theirs.service_ms),
    ):
        change = abs(their - own) / max(abs(own), abs(their), 1e-9)
        if change > 0.02 and abs(their - own) > 0.005:
            parts.append((change, f"{name} {their:.4g}{unit} against {own:.4g}{unit}"))
    parts.sort(key=lambda part: (-part[0], part[1]))
    return "; ".join(text for _, text in parts[:2])


def because(problem: Problem, ranked: Sequence[Best]) -> str:
    """Why the first of ``ranked`` won."""
    winner = ranked[0]
    predicted = winner.option.predicted
    name = render_grain(winner.option.plan.grain)
    slo = problem.app.slo
    if not winner.option.meets_slo:
        return (
            f"no granularity is predicted to answer {slo.target:.1%} within {slo.latency_ms:g} ms at "
            f"{problem.workload.rate_per_s:g}/s; {name} comes nearest with {predicted.attainment:.1%}"
        )
    said = (
        f"{name} meets the SLO ({predicted.attainment:.1%} within {slo.latency_ms:g} ms) at the least {problem.objective} cost"
    )
    if len(ranked) == 1:
        return said + "; it was the only granularity asked for"
    second = ranked[1]
    other = render_grain(second.option.plan.grain)
    if not second.option.meets_slo:
        return f"{said}; no other does: {other} attains {second.option.predicted.attainment:.1%}"
    detail = _difference(winner, second)
    lead = f"costs {_percent(second.cost, winner.cost)} more" if second.cost > winner.cost * 1.0005 else _tie(winner, second)
    return f"{said}; the runner-up {other} {lead}" + (f", because of {detail}" if detail else "")


def _percent(other: float, own: float) -> str:
    return f"{(other / own - 1):.1%}" if own > 0 else "infinitely"
