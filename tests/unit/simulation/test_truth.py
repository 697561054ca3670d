"""How surely a few runs of each candidate say which is the best."""

import pytest

from grainwise.domain.plan import Prediction
from grainwise.simulation.sweep import Cell, Outcome
from grainwise.simulation.truth import chance_as_good, is_within, worse_by

NOTHING = Prediction(1.0, 1.0, 1.0, 0.9, 1.0, 1.0, 1.0, 0.1)


def cell(*runs: tuple[float, float]) -> Cell:
    """A candidate by the attainment and the cost of its runs."""
    outcomes = tuple(Outcome(attainment, usd, usd) for attainment, usd in runs)
    count = len(runs)
    mean = Outcome(sum(each[0] for each in runs) / count, *(sum(each[1] for each in runs) / count,) * 2)
    return Cell(0, "made", 2, 0.9, "billed", "0 | 1", (), NOTHING, mean, runs=outcomes)


def test_worse_is_what_lacks_to_the_target_or_to_the_best_and_what_costs_more() -> None:
    figures = [(0.95, 2.0), (0.92, 1.0), (0.88, 0.5)]
    assert worse_by(figures, 0.9, 0) == pytest.approx((0.0, 1.0))
    assert worse_by(figures, 0.9, 1) == (0.0, 0.0)
    assert worse_by(figures, 0.9, 2) == pytest.approx((0.02, 0.0))
    assert worse_by(figures, 0.99, 1) == pytest.approx((0.03, 0.0))
    assert is_within(0.01, 0.02) and not is_within(0.011, 0.0) and not is_within(0.0, 0.021)


def test_runs_that_agree_tell_surely_and_runs_that_do_not_leave_it_open() -> None:
    cheap, dear = cell((0.95, 1.0), (0.95, 1.1), (0.95, 1.0)), cell((0.99, 1.5), (0.99, 1.6), (0.99, 1.5))
    assert chance_as_good((cheap, dear), 0) == pytest.approx(1.0)
    assert chance_as_good((cheap, dear), 1) == 0.0
    # The cheap one meets the target if its good run is drawn twice or more, 7 draws of 27; once, 12 of 27, is nearly enough.
    shaky = cell((0.85, 1.0), (0.85, 1.0), (0.99, 1.0))
    assert chance_as_good((shaky, dear), 1) == pytest.approx(20 / 27)
    assert chance_as_good((shaky, dear), 0) == pytest.approx(19 / 27)


def test_the_same_runs_are_drawn_of_every_candidate_so_that_what_they_share_excuses_nobody() -> None:
    cheap, dear = cell((0.95, 1.0), (0.95, 2.0), (0.95, 3.0)), cell((0.95, 1.1), (0.95, 2.2), (0.95, 3.3))
    assert chance_as_good((cheap, dear), 1) == 0.0


def test_one_run_alone_is_taken_as_it_is() -> None:
    assert chance_as_good((cell((0.95, 1.0)), cell((0.95, 1.5))), 1) == 0.0
