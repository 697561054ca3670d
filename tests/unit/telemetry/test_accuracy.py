"""Predictions against live calls: a sliding comparison that says when a profile does not hold any more."""

import time
from random import Random

import pytest

from grainwise.predictors.latency import StageModel
from grainwise.telemetry.accuracy import FEWEST, MAX_SHARES, WINDOW, Accuracy, StageAccuracy

MODEL = StageModel(1000.0, 500.0, 2.0, (0.5, 1.0, 2.0), (2.0, 1.0, 0.6), (1.0,) * 7, 0.1, 100.0, 0.0, 0.0)


def compared(*factors: float, model: StageModel = MODEL) -> Accuracy:
    """Calls that took so many times what is predicted."""
    accuracy = Accuracy(model)
    for factor in factors:
        accuracy.add(3, 10.0, 0.7, model.predict(3, 10.0, 0.7).mean_us * factor)
    return accuracy


def test_without_calls_nothing_is_said():
    assert Accuracy(MODEL).describe("s") == StageAccuracy("s", 0, None, None, False)


def test_the_prediction_is_the_models_for_any_batch_and_share():
    rng = Random(5)
    accuracy = Accuracy(MODEL)
    for _ in range(200):
        items, size, cores = rng.randint(1, 9), rng.uniform(0, 1e4), rng.choice((0.1, 0.5, 0.8, 1.0, 1.7, 8.0))
        accuracy.add(items, size, cores, MODEL.predict(items, size, cores).mean_us)
    described = accuracy.describe("s")
    assert (described.calls, described.ratio, described.error) == (200, 1.0, pytest.approx(0.0, abs=1e-9))


def test_ratio_is_a_median_and_error_a_mean():
    described = compared(0.5, 1.0, 4.5).describe("s")
    assert described.ratio == 1.0
    assert described.error == pytest.approx((0.5 + 0.0 + 3.5) / 3, abs=1e-3)


@pytest.mark.parametrize(
    ("factor", "calls", "is_stale"),
    [(2.1, FEWEST, True), (0.45, FEWEST, True), (2.1, FEWEST - 1, False), (1.9, FEWEST, False), (0.55, FEWEST, False)],
)
def test_a_profile_is_stale_when_enough_calls_contradict_it(factor, calls, is_stale):
    assert compared(*[factor] * calls).describe("s").is_stale is is_stale


def test_a_few_microseconds_contradict_nothing():
    tiny = StageModel(5.0, 0.0, 0.0, (1.0,), (1.0,), (1.0,) * 7, 0.1, 1.0, 0.0, 0.0)
    assert not compared(*[10.0] * FEWEST, model=tiny).describe("s").is_stale


def test_only_the_latest_calls_count():
    accuracy = compared(*[5.0] * WINDOW, *[1.0] * WINDOW)
    described = accuracy.describe("s")
    assert (described.calls, described.ratio, described.is_stale) == (WINDOW, 1.0, False)
    assert len(compared(*[1.0] * (3 * WINDOW + 7))._measured) == WINDOW


def test_many_shares_are_not_kept_for_ever():
    accuracy = Accuracy(MODEL)
    for number in range(10 * MAX_SHARES):
        accuracy.add(1, 1.0, 0.1 + number / 1000, 5.0)
    assert len(accuracy._factors) <= MAX_SHARES


def test_a_model_that_predicts_nothing_is_not_compared():
    nothing = StageModel(0.0, 0.0, 0.0, (1.0,), (1.0,), (1.0,) * 7, 0.1, 1.0, 0.0, 0.0)
    accuracy = Accuracy(nothing)
    accuracy.add(1, 1.0, 1.0, 5.0)
    assert accuracy.describe("s").calls == 0


def test_adding_is_cheap():
    """A generous bound on the best of several rounds, so that a busy machine does not fail it."""
    accuracy = Accuracy(MODEL)

    def once() -> float:
        begin = time.perf_counter()
        for _ in range(5000):
            accuracy.add(3, 10.0, 0.7, 4000)
        return (time.perf_counter() - begin) / 5000 * 1e6

    best = min(once() for _ in range(5))
    assert best < 2, f"{best:.2f} us"
