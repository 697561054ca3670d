"""Sizes relative to the profiled mean: means, spreads, and that none is nought."""

import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grainwise.workloads.sizes import (
    SMALLEST,
    ConstantSize,
    EmpiricalSize,
    LognormalSize,
    MixtureSize,
    Part,
    TraceSize,
    mean_size,
    size_drawer,
)

KINDS = [
    ConstantSize(2.0),
    LognormalSize(0.5),
    LognormalSize(1.0, 3.0),
    EmpiricalSize((1, 2, 9)),
    EmpiricalSize((10, 20), (3, 1), mean=2.0),
    EmpiricalSize((0.5, 2.5), relative=True),
    MixtureSize((Part(9, ConstantSize(0.3)), Part(1, LognormalSize(0.5, 7.3)))),
    MixtureSize((Part(1, ConstantSize(1)), Part(1, EmpiricalSize((1, 3)))), mean=5.0),
]
factors = st.floats(1e-9, 1e5)
simple = st.one_of(
    st.builds(ConstantSize, factors),
    st.builds(LognormalSize, st.sampled_from([0, 1, 5]), factors),
    st.builds(EmpiricalSize, st.lists(factors, min_size=1, max_size=4).map(tuple)),
)
kinds = simple | st.builds(MixtureSize, st.lists(st.builds(Part, factors, simple), min_size=1, max_size=3).map(tuple))


def drawn(sizes, count, seed=4):
    draw = size_drawer(sizes, seed)
    return [draw(0.0) for _ in range(count)]


@pytest.mark.parametrize("sizes", KINDS, ids=repr)
def test_sizes_have_the_mean_that_is_said(sizes):
    assert statistics.fmean(drawn(sizes, 30_000)) == pytest.approx(mean_size(sizes), rel=0.03)


def test_sizes_have_their_spread():
    found = drawn(LognormalSize(1.0), 30_000)
    assert statistics.pstdev(found) == pytest.approx(1, rel=0.06)
    assert statistics.median(found) == pytest.approx(1 / 2**0.5, rel=0.03)


@settings(max_examples=60)
@given(kinds, st.integers(0, 1 << 64))
def test_no_size_is_nought_and_a_seed_gives_the_same_again(sizes, seed):
    found = drawn(sizes, 20, seed)
    assert min(found) >= SMALLEST
    assert found == drawn(sizes, 20, seed)


def test_values_are_chosen_by_weight():
    found = drawn(EmpiricalSize((1.0, 3.0), (3, 1), relative=True), 20_000)
    assert set(found) == {1.0, 3.0}
    assert found.count(1.0) / len(found) == pytest.approx(0.75, abs=0.02)


def test_a_recorded_size_is_kept():
    draw = size_drawer(TraceSize(2.0), 1)
    assert (draw(0.5), draw(0.0)) == (1.0, SMALLEST)


def test_without_sizes_the_choice_is_left_to_the_profile():
    assert drawn(None, 3) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("weights", [(1,), (0, 0), (1, 2, 3)])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ValueError, match="as many as the 2 values"):
        EmpiricalSize((1, 2), weights)
