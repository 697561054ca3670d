"""What scales, ends and routes after published schedulers, against figures worked out by hand."""

from dataclasses import dataclass

import pytest

from grainwise.control.state import FunctionLoad
from grainwise.domain.time import SECOND
from grainwise.policies import autoscale, autoscale_ahead, autoscale_pool, keep_desired, routing_least_loaded
from grainwise.policies.autoscale import Concurrency, Panic, ScaleView
from grainwise.policies.keep_alive import End, IdleView, Keep


def pool_view(mean: float, variance: float, *, have: int = 1, least: int = 0, most: int = 100, per_instance: int = 1):
    return ScaleView(0.0, 0.0, 0.0, have, least, most, Concurrency(9 * SECOND, mean, 0.0, per_instance, Panic(), variance))


@pytest.mark.parametrize(
    ("mean", "variance", "instances"), [(0.0, 0.0, 0), (1.0, 0.0, 1), (1.0, 0.25, 2), (2.0, 4.0, 6), (2.5, 1.0, 5)]
)
def test_the_pool_is_the_mean_and_two_deviations(mean, variance, instances):
    found = autoscale_pool.decide(pool_view(mean, variance))
    assert found.instances == instances
    assert found.because.rule == autoscale_pool.POOL


def test_the_pool_keeps_to_the_bounds_and_to_what_an_instance_takes():
    assert autoscale_pool.decide(pool_view(2.0, 4.0, most=4)).instances == 4
    assert autoscale_pool.decide(pool_view(0.0, 0.0, least=2)).instances == 2
    assert autoscale_pool.decide(pool_view(2.0, 4.0, per_instance=4)).instances == 2
    assert autoscale_pool.decide(ScaleView(9.0, 9.0, 1.0, 3, 1, 8)).instances == 3


def test_the_variance_is_that_of_a_minute_and_a_gap_counts_as_empty():
    load = FunctionLoad()
    assert load.variance(10, 60) == 0.0
    for second, items in ((10, 4), (11, 2)):
        load.sample(second, items, 60)
    assert load.variance(11, 60) == 1.0
    # 4, 2, 0, 0 around 1.5.
    assert load.variance(13, 60) == (2.5**2 + 0.5**2 + 2 * 1.5**2) / 4


def test_a_late_stage_is_scaled_for_what_has_only_arrived():
    # Nothing has come to it, and what arrives will keep three of its instances busy.
    view = ScaleView(0.0, 0.0, 100_000.0, 1, 1, 10, offered_ahead=3.0)
    assert autoscale.decide(view).instances == 1
    assert autoscale_ahead.decide(view).instances == 4
    falling = ScaleView(3.0, 0.0, 100_000.0, 4, 1, 10, offered_ahead=1.0)
    assert autoscale_ahead.decide(falling).instances == autoscale.decide(falling).instances == 4


def test_what_the_desired_count_does_not_need_ends_at_once():
    def idle(*, is_spare: bool, serves_nothing: bool = False) -> IdleView:
        return IdleView(9 * SECOND, 60 * SECOND, is_spare, serves_nothing)

    assert isinstance(keep_desired.decide(idle(is_spare=True), 9 * SECOND), End)
    assert isinstance(keep_desired.decide(idle(is_spare=False, serves_nothing=True), 9 * SECOND), End)
    assert keep_desired.decide(idle(is_spare=False), 900 * SECOND) == Keep(0)


@dataclass
class Idle:
    number: int
    stages: int
    idle_since: int
    node: str = "here"


def test_the_instance_that_has_been_idle_longest_is_the_least_loaded():
    idle = [Idle(1, 0b01, 5), Idle(2, 0b11, 3), Idle(3, 0b11, 3, "there"), Idle(4, 0b10, 1)]
    chosen = routing_least_loaded.decide(0b01, idle, "there")
    assert chosen is not None
    assert chosen.number == 2
    assert routing_least_loaded.decide(0b100, idle) is None
