"""How surely some runs of each candidate say which is the best: they are drawn again from themselves, with replacement.

The same runs are drawn of every candidate, since run k of all has the same arrivals (bootstrap: Efron, Annals of Statistics 7,
1979; paired). Of few runs all draws are gone through, so that nothing is left to chance. The spread of few runs that are drawn
again is smaller than that of as many new ones, so it excuses less than it might.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement
from math import factorial

from grainwise.simulation.sweep import Cell, best_of

WITHIN_ATTAINMENT = 0.01
WITHIN_COST = 0.02
"""A pick is as good as the best one within this much of attainment, as a fraction, and of cost, relative to the best."""

SELDOM = 0.1
"""What happens in fewer of the draws than this fraction is ruled out."""

Figures = tuple[float, float]
"""Attainment as a fraction, and USD per hour."""


def worse_by(figures: Sequence[Figures], target: float, at: int) -> tuple[float, float]:
    """By how much a candidate attains less than it should, and by what fraction it costs more than the best.

    It should attain the target, or as much as the best candidate where that misses it.
    """
    attainment, usd = figures[best_of(figures, target)]
    return max(0.0, min(target, attainment) - figures[at][0]), max(0.0, figures[at][1] / usd - 1) if usd > 0 else 0.0


def is_within(shortfall: float, dearer_fraction: float) -> bool:
    """Whether what is worse by so much is called as good."""
    return shortfall <= WITHIN_ATTAINMENT + 1e-12 and dearer_fraction <= WITHIN_COST + 1e-12


def chance_as_good(cells: Sequence[Cell], at: int) -> float:
    """In which fraction of the draws a candidate is as good as the best one of the same draw; of one run there is one draw."""
    target = cells[0].target
    return sum(weight for weight, figures in _draws(cells) if is_within(*worse_by(figures, target, at)))


def _draws(cells: Sequence[Cell]) -> Iterator[tuple[float, list[Figures]]]:
    """Every draw with its probability, and what the candidates come to in it."""
    objective = cells[0].objective
    runs = [[(run.attainment, run.usd_per_hour(objective)) for run in cell.runs or (cell.outcome,)] for cell in cells]
    count = len(runs[0])
    for drawn in combinations_with_replacement(range(count), count):
        ways = factorial(count)
        for run in range(count):
            ways //= factorial(drawn.count(run))
        figures = [(sum(own[run][0] for run in drawn) / count, sum(own[run][1] for run in drawn) / count) for own in runs]
        yield ways / count**count, figures
