"""Which plans a rollout runs again, and how plans with different numbers of runs compare.

All plans are run once; then those that may be the best are run again, and where the budget does not reach for them all, the
better half of them (successive halving: Karnin, Koren and Somekh, ICML 2013; the order and the numbers here are our own,
evidence grade: reconstructed). Run k of every plan has the same luck, so a plan that was left out early is compared by what it
was better or worse *in the same runs* than those that went on, not by how lucky its few runs were (differences under common
random numbers: Heikes, Montgomery and Rardin, Simulation 27, 1976).
"""

from collections.abc import Mapping, Sequence

from grainwise.predictors.evaluator import Band
from grainwise.simulation.plan_runs import Outcome

LEAST = 2
"""So many plans go on at least: of one alone nothing is learned about which is the best."""

AGAIN = 1
"""Plans go on together only while the budget reaches for so many more runs of each."""

FAR = 15.0
"""A plan that is so much worse than the best, in units of what is called as good, need not be run again."""

UNIT_ATTAINMENT = 0.01
UNIT_COST = 0.02
"""What is called as good: a point of attainment, two percent of cost."""


def next_round(
    found: Sequence[Sequence[Outcome]], running: Sequence[int], target: float, left: int, keep: int | None = None
) -> list[int]:
    """The plans to run once more, in their order; none where the budget is used or nothing is left to be told apart.

    Args:
        found: the outcomes of each plan.
        running: places of the plans that were in every round until now.
        target: the fraction of requests that is to be in time.
        left: events that may still be handled.
        keep: a plan that goes on as long as any does.
    """
    able = [at for at in running if not found[at][0].refusal]
    if not able:
        return []
    losses = losses_of({at: mean_of(found[at]) for at in able}, target)
    ranked = sorted(able, key=lambda at: (losses[at], at))
    near = [at for place, at in enumerate(ranked) if losses[at] <= FAR or place < LEAST]
    while len(near) > LEAST and AGAIN * _events(found, near) > left:
        near = near[: max(LEAST, -(-len(near) // 2))]
    if keep in able and keep not in near:
        near.append(keep)
    return sorted(near) if _events(found, near) <= left else []


def losses_of(figures: Mapping[int, tuple[float, float]], target: float) -> dict[int, float]:
    """By how much each plan is worse than the best: units of attainment that it lacks, and of cost that it takes more.

    Args:
        figures: attainment and USD per hour of each plan; at least one.
        target: attainment above it is worth nothing.
    """
    meeting = [at for at, (attainment, _) in figures.items() if attainment >= target]
    if meeting:
        best = min(meeting, key=lambda at: (figures[at][1], at))
    else:
        best = min(figures, key=lambda at: (-figures[at][0], figures[at][1], at))
    due, usd = min(target, figures[best][0]), figures[best][1]
    found: dict[int, float] = {}
    for at, (attainment, own_usd) in figures.items():
        lacking = max(0.0, due - attainment) / UNIT_ATTAINMENT
        dearer = max(0.0, own_usd / usd - 1) / UNIT_COST if usd > 0 else 0.0
        found[at] = lacking + dearer
    return found


def mean_of(outcomes: Sequence[Outcome]) -> tuple[float, float]:
    """Attainment over all requests of some runs, and the mean of what they cost in USD per hour."""
    offered = met = 0
    usd = 0.0
    for outcome in outcomes:
        offered += sum(outcome.offered)
        met += sum(outcome.met)
        usd += outcome.usd_per_hour
    return (met / offered if offered else 1.0), usd / len(outcomes)


def as_if_run_as_often(attainment: Band, cost: Band, runs: int, others: Sequence[Sequence[Outcome]]) -> tuple[Band, Band]:
    """What a plan of few runs would have come to in all: moved by how much the others changed after as many runs.

    Args:
        attainment: of the plan over its own runs.
        cost: likewise.
        runs: how many those are.
        others: outcomes of the plans with the most runs; nothing changes where they have no more.
    """
    more = [outcomes for outcomes in others if len(outcomes) > runs]
    if not more:
        return attainment, cost
    shift, factor = 0.0, 0.0
    for outcomes in more:
        early, whole = mean_of(outcomes[:runs]), mean_of(outcomes)
        shift += (whole[0] - early[0]) / len(more)
        factor += (whole[1] / early[1] if early[1] > 0 else 1.0) / len(more)
    low, value, high = (min(1.0, max(0.0, each + shift)) for each in (attainment.low, attainment.value, attainment.high))
    return Band(value, low, high), Band(cost.value * factor, cost.low * factor, cost.high * factor)


def _events(found: Sequence[Sequence[Outcome]], places: Sequence[int]) -> int:
    return sum(found[at][0].events for at in places)
