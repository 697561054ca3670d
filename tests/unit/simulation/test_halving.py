"""Which plans a rollout runs again, and what one that was left out early is taken to come to."""

import pytest

from grainwise.predictors.evaluator import Band
from grainwise.simulation.halving import as_if_run_as_often, losses_of, mean_of, next_round
from grainwise.simulation.plan_runs import Outcome

TARGET = 0.95


def run(met: int, usd: float, events: int = 100, refusal: str = "") -> Outcome:
    """One run of a hundred requests."""
    return Outcome((60, 40), (met - met // 3, met // 3), usd, events, refusal)


def test_a_plan_is_worse_by_what_it_lacks_to_the_target_and_by_what_it_costs_more_than_the_best() -> None:
    losses = losses_of({0: (0.97, 2.0), 1: (0.96, 1.0), 2: (0.92, 0.5), 3: (0.9, 1.1)}, TARGET)
    assert losses == pytest.approx({0: 50.0, 1: 0.0, 2: 3.0, 3: 10.0})
    nobody = losses_of({0: (0.5, 2.0), 1: (0.48, 1.0)}, TARGET)
    assert nobody == pytest.approx({0: 0.0, 1: 2.0})
    assert losses_of({0: (1.0, 0.0), 1: (1.0, 1.0)}, TARGET) == {0: 0.0, 1: 0.0}


def test_all_that_are_near_go_on_while_the_budget_reaches_and_else_the_better_half() -> None:
    found = [[run(96 + at % 2, 1.0 + 0.01 * at)] for at in range(8)]
    assert next_round(found, range(8), TARGET, 800) == list(range(8))
    assert next_round(found, range(8), TARGET, 799) == [0, 1, 2, 3]
    assert next_round(found, range(8), TARGET, 399) == [0, 1]
    assert next_round(found, range(8), TARGET, 199) == []


def test_who_is_far_behind_is_not_run_again_nor_who_was_refused_but_two_go_on() -> None:
    found = [[run(96, 1.0)], [run(60, 0.1)], [run(99, 1.35)], [run(0, 0.0, refusal="no room")]]
    assert next_round(found, range(4), TARGET, 10_000) == [0, 2]
    assert next_round([[run(0, 0.0, refusal="no room")]], [0], TARGET, 10_000) == []


def test_the_present_plan_goes_on_as_long_as_any_does() -> None:
    found = [[run(96, 1.0)], [run(96, 1.01)], [run(20, 3.0)]]
    assert next_round(found, range(3), TARGET, 10_000, keep=2) == [0, 1, 2]
    assert next_round(found, range(3), TARGET, 250, keep=2) == []


def test_who_was_left_out_is_moved_by_how_the_others_came_out_after_as_many_runs() -> None:
    others = [[run(90, 1.0), run(98, 1.2)], [run(80, 2.0), run(88, 2.4)]]
    attainment, cost = as_if_run_as_often(Band(0.7, 0.6, 0.97), Band(3.0, 2.0, 4.0), 1, others)
    assert (attainment.value, attainment.low, attainment.high) == pytest.approx((0.74, 0.64, 1.0))
    assert (cost.value, cost.low, cost.high) == pytest.approx((3.3, 2.2, 4.4))
    same = Band(0.7, 0.6, 0.8), Band(3.0, 2.0, 4.0)
    assert as_if_run_as_often(*same, 2, others) == same


def test_the_mean_of_runs_weighs_requests_and_no_requests_attain_everything() -> None:
    assert mean_of([run(90, 1.0), Outcome((0, 0), (0, 0), 3.0, 1)]) == (0.9, 2.0)
    assert mean_of([Outcome((0,), (0,), 3.0, 1)]) == (1.0, 3.0)
