"""How much of the DAG an invocation runs: the cheapest in time, the faster of equals, and what is done when it is late."""

import itertools

import pytest

from grainwise.domain.time import MILLISECOND
from grainwise.policies.extent import WORTH_SAVING, Drop, ExtentView, Offer, Run, decide

NOW = 10 * MILLISECOND
WHOLE, PART, REST = 0b111, 0b001, 0b011


def offer(mask: int, *ways: tuple[float, float], cores: float = 1.0, batch: int = 1) -> Offer:
    """An offer from ways of (milliseconds, cost)."""
    return Offer(mask, cores, batch, batch, tuple(time * 1000 for time, _ in ways), tuple(cost for _, cost in ways))


def chosen(*offers: Offer, slack_ms: float, late: str = "cheapest", doubt: float = 1.0, extra_us: float = 0.0) -> Run | Drop:
    view = ExtentView(NOW + int(slack_ms * 1000), offers, extra_us, doubt, late)  # type: ignore[arg-type]
    return decide(view, NOW)


def mask_of(decision: Run | Drop) -> int:
    assert isinstance(decision, Run)
    return decision.step.mask


def test_the_cheapest_that_is_in_time_is_taken():
    cheap, dear = offer(WHOLE, (100, 1.0)), offer(PART, (60, 2.0))
    assert mask_of(chosen(cheap, dear, slack_ms=100)) == WHOLE
    assert mask_of(chosen(cheap, dear, slack_ms=99.999)) == PART


def test_what_costs_hardly_more_and_is_faster_is_taken():
    cheap, fast = offer(WHOLE, (100, 1.0)), offer(PART, (60, 1.0 + WORTH_SAVING / 2))
    assert mask_of(chosen(cheap, fast, slack_ms=1000)) == PART
    dear = offer(PART, (60, 1.0 + WORTH_SAVING * 2))
    assert mask_of(chosen(cheap, dear, slack_ms=1000)) == WHOLE


def test_a_hop_that_gains_nothing_is_not_taken():
    assert mask_of(chosen(offer(WHOLE, (100, 1.0)), offer(PART, (99.9, 1.0)), slack_ms=1000)) == WHOLE


def test_a_first_step_counts_with_the_way_that_fits_and_not_with_its_cheapest():
    either = offer(PART, (50, 3.0), (200, 0.5))
    steady = offer(WHOLE, (100, 1.0))
    assert mask_of(chosen(steady, either, slack_ms=300)) == PART
    assert mask_of(chosen(steady, either, slack_ms=150)) == WHOLE


def test_what_is_in_time_on_the_mean_is_tried_before_a_request_counts_as_late():
    cheap, dear = offer(WHOLE, (200, 1.0)), offer(PART, (140, 2.0))
    assert mask_of(chosen(cheap, dear, slack_ms=100, doubt=1.5)) == PART
    decision = chosen(cheap, dear, slack_ms=100, doubt=1.5)
    assert isinstance(decision, Run)
    assert "with luck" in decision.because.render()


@pytest.mark.parametrize(("late", "mask"), [("cheapest", WHOLE), ("fastest", PART)])
def test_a_late_request_runs_as_the_app_asks(late: str, mask: int):
    decision = chosen(offer(WHOLE, (200, 1.0)), offer(PART, (100, 2.0)), slack_ms=10, late=late)
    assert mask_of(decision) == mask


def test_a_late_request_may_be_dropped_and_is_told_why():
    decision = chosen(offer(WHOLE, (200, 1.0)), slack_ms=-5, late="drop")
    assert isinstance(decision, Drop)
    assert decision.because.render() == "it cannot be in time any more: slack_ms -5"


def test_requests_share_an_invocation_only_where_each_gains():
    alone = offer(WHOLE, (50, 1.0), batch=1)
    assert isinstance(found := chosen(alone, offer(WHOLE, (60, 0.5), batch=4), slack_ms=100), Run)
    assert found.step.batch == 4
    assert isinstance(found := chosen(alone, offer(WHOLE, (60, 0.96), batch=4), slack_ms=100), Run)
    assert found.step.batch == 1


def test_a_larger_first_stage_leaves_less_slack():
    cheap, dear = offer(WHOLE, (100, 1.0)), offer(PART, (60, 2.0))
    assert mask_of(chosen(cheap, dear, slack_ms=105, extra_us=10_000)) == PART


def test_no_way_within_the_slack_is_cheaper_by_more_than_what_is_worth_saving():
    ways = [((60, 3.0), (90, 1.4)), ((70, 1.5),), ((50, 4.0), (80, 2.0), (120, 1.0))]
    offers = [offer(1 << at, *each) for at, each in enumerate(ways)]
    for slack in range(40, 140):
        fitting = [cost for each in ways for time, cost in each if time <= slack]
        decision = chosen(*offers, slack_ms=slack)
        assert isinstance(decision, Run)
        if fitting:
            taken = dict(itertools.chain.from_iterable([ways[decision.step.mask.bit_length() - 1]]))
            assert any(time <= slack and cost <= min(fitting) * (1 + WORTH_SAVING) for time, cost in taken.items())


@pytest.mark.parametrize("late", ["cheapest", "fastest"])
def test_who_is_late_shares_an_invocation_only_where_the_mean_request_is_answered_sooner(late: str):
    alone = offer(WHOLE, (200, 1.0), batch=1)
    little, much = offer(WHOLE, (380, 0.9), batch=2), offer(WHOLE, (150, 0.7), batch=2)
    assert isinstance(found := chosen(alone, little, slack_ms=10, late=late), Run)
    assert found.step.batch == 1
    assert isinstance(found := chosen(alone, much, slack_ms=10, late=late), Run)
    assert found.step.batch == 2


def test_what_is_late_beyond_help_shares_an_invocation_with_others_that_are_and_with_nobody_in_time():
    alone, together = offer(WHOLE, (50, 1.0), batch=1), offer(WHOLE, (160, 0.8), batch=4)
    for lost, wanted in ((1, 1), (3, 1), (4, 4), (9, 4)):
        asked: list[tuple[int, int]] = []

        def due_by(instant: int, most: int, lost: int = lost, asked: list[tuple[int, int]] = asked) -> int:
            asked.append((instant, most))
            return min(lost, most)

        found = decide(ExtentView(NOW - 1, (alone, together), 0.0, 1.0, "cheapest", due_by), NOW)
        assert isinstance(found, Run)
        assert found.step.batch == wanted
        assert asked == [(NOW + 50_000, 4)]


def test_nothing_is_taken_that_another_beats_in_time_and_in_cost():
    slower = offer(PART, (100, 1.01))
    faster = offer(PART, (99.5, 1.0), cores=2.0)
    assert isinstance(found := chosen(slower, faster, slack_ms=200), Run)
    assert found.step.cpu_cores == 2.0
