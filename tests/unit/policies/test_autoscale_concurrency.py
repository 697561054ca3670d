"""The concurrency autoscaler by itself, against figures worked out by hand from the published rules."""

import pytest

from grainwise.control.state import FunctionLoad
from grainwise.domain.time import SECOND
from grainwise.policies.autoscale import Concurrency, Panic, ScaleView
from grainwise.policies.autoscale_concurrency import CALM, decide

NOW = 1000 * SECOND


def view(
    stable: float, panic: float, have: int, *, before: Panic = CALM, per_instance: int = 10, least: int = 0, most: int = 100
):
    return ScaleView(0.0, 0.0, 0.0, have, least, most, Concurrency(NOW, stable, panic, per_instance, before))


@pytest.mark.parametrize(("stable", "have", "instances"), [(0.0, 1, 0), (7.0, 1, 1), (7.1, 1, 2), (70.0, 8, 10), (7.0, 8, 4)])
def test_the_stable_mean_over_seventy_percent_of_an_instance(stable, have, instances):
    assert decide(view(stable, 0.0, have)).instances == instances


def test_a_step_down_is_a_half_at_most():
    assert decide(view(0.0, 0.0, 9)).instances == 4


def test_twice_what_is_ready_is_a_burst_and_is_remembered():
    calm = decide(view(7.0, 20.9, 2))
    assert (calm.instances, calm.panic) == (1, CALM)
    burst = decide(view(7.0, 21.1, 2))
    assert (burst.instances, burst.panic) == (4, Panic(NOW, 4))
    assert burst.because.rule == "a burst of concurrency asks for it"


def test_nothing_is_scaled_down_for_a_stable_window_after_the_last_burst():
    within = decide(view(1.0, 1.0, 6, before=Panic(NOW - 60 * SECOND, 6)))
    assert (within.instances, within.panic) == (6, Panic(NOW - 60 * SECOND, 6))
    after = decide(view(1.0, 1.0, 6, before=Panic(NOW - 60 * SECOND - 1, 6)))
    assert (after.instances, after.panic) == (3, CALM)


def test_the_bounds_of_the_function_hold():
    assert decide(view(700.0, 700.0, 4, most=8)).instances == 8
    assert decide(view(0.0, 0.0, 1, least=2)).instances == 2


def test_what_was_never_measured_is_left_as_it_is():
    assert decide(ScaleView(9.0, 9.0, 1.0, 3, 1, 8)).instances == 3
    assert decide(ScaleView(9.0, 9.0, 1.0, 0, 1, 8)).instances == 1


def test_a_window_is_as_long_as_what_was_measured_and_a_gap_counts_as_empty():
    load = FunctionLoad()
    assert load.mean(10, 60) == 0.0
    load.sample(10, 4, 60)
    load.sample(10, 9, 60)
    assert load.mean(10, 60) == 4.0
    load.sample(11, 2, 60)
    assert (load.mean(11, 60), load.mean(11, 1)) == (3.0, 2.0)
    assert load.mean(13, 60) == 1.5
    load.sample(70, 1, 60)
    assert load.seconds == [11, 70]
    assert load.mean(70, 60) == 3 / 60
    assert load.mean(70, 6) == 1 / 6
