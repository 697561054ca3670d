"""Which configurations are measured, which always, and which next."""

import pytest

from grainwise.domain.machine import Capabilities
from grainwise.predictors.fit import Configuration as Held
from grainwise.profiler.choose import choose
from grainwise.profiler.grid import Configuration, anchors, batches, candidates, shares, sizes
from grainwise.profiler.record import Item, StageRecord
from grainwise.profiles.artifact import Point


def record(*measured: float, call_us: int = 1000) -> StageRecord:
    items = tuple(Item((), size, call_us) for size in measured)
    return StageRecord(0, 0, 0, 1, 0, items, ())


def capabilities(mechanism: str = "cgroup2", least: float = 0.1) -> Capabilities:
    return Capabilities("local", mechanism, "invocation", False, least, 1 << 20)


def test_shares_are_doublings_with_a_whole_core_among_them():
    assert shares(capabilities(), 4.0) == (0.25, 0.5, 1.0, 2.0, 4.0)
    assert shares(capabilities(least=0.3), 2.0) == (0.3, 0.5, 1.0, 2.0)
    assert shares(capabilities(), 0.2) == (0.2,)
    assert shares(capabilities("none"), 8.0) == (1.0,)


def test_batches_go_up_to_the_largest_and_no_further():
    assert batches(1) == (1,)
    assert batches(2) == (1, 2)
    assert batches(8) == (1, 2, 4, 8)
    assert batches(12) == (1, 2, 4, 8, 12)


def test_items_of_about_the_same_size_are_measured_once():
    assert sizes(record(5.0, 5.0, 5.01)) == (0,)
    assert sizes(record(1.0, 2.0, 3.0, 4.0, 5.0)) == (0, 1, 2, 3, 4)
    assert sizes(record(0.0, 0.0)) == (0,)


def test_anchors_are_the_corners_and_never_above_the_largest_batch():
    found = anchors(3, record(1.0, 9.0), 4, (0.25, 1.0))
    assert len(found) == 6
    assert {each.items for each in found} == {1, 4}
    assert {each.stage for each in found} == {3}
    assert anchors(0, record(1.0), 1, (1.0,)) == [Configuration(0, 1, 0, 1.0)]


def test_a_point_is_expected_to_take_its_repeats_at_its_share():
    configuration = Configuration(0, 2, 0, 0.25)
    assert configuration.expected_s(record(1.0, call_us=100_000), 0.05) == pytest.approx(4 * 2 * 0.1 / 0.25)
    assert configuration.expected_s(record(1.0, call_us=1), 0.05) == 0.05


def held(stage: int, items: int, error: float) -> Held:
    return Held(stage, items, float(items), 1.0, error)


def test_the_next_point_is_where_the_held_out_error_is_largest():
    records = [record(1.0), record(1.0)]
    measured = [[Point(n, float(n), 1.0, 1.0, (1000,)) for n in (1, 16)] for _ in records]
    wanted = [each for stage in (0, 1) for each in candidates(stage, records[stage], 16, (1.0,))]
    errors = [held(0, 1, 0.02), held(0, 16, 0.02), held(1, 1, 0.02), held(1, 16, 0.6)]
    chosen = choose(wanted, records, measured, errors, 1.0, 0.05, 10.0)
    assert (chosen[0].stage, chosen[0].items) in {(1, 8), (1, 4)}
    assert {(each.stage, each.items) for each in chosen} == {(stage, n) for stage in (0, 1) for n in (2, 4, 8)}


def test_points_that_do_not_fit_the_time_left_are_passed_over():
    records = [record(1.0, call_us=100_000)]
    errors = [held(0, 1, 0.5)]
    wanted = candidates(0, records[0], 8, (1.0,))
    measured = [[Point(1, 1.0, 1.0, 1.0, (100_000,))]]
    assert [each.items for each in choose(wanted, records, measured, errors, 1.0, 0.05, 1.0)] == [2]
    assert choose(wanted, records, measured, errors, 1.0, 0.05, 0.0) == []


def test_a_stage_whose_error_does_not_matter_gets_no_further_point():
    records = [record(1.0, call_us=5)]
    measured = [[Point(1, 1.0, 1.0, 1.0, (5,))]]
    wanted = candidates(0, records[0], 8, (1.0,))
    assert choose(wanted, records, measured, [held(0, 1, 1.0)], 100.0, 0.05, 10.0) == []
