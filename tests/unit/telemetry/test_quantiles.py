from hypothesis import given
from hypothesis import strategies as st

from grainwise.telemetry.quantiles import Quantiles

values = st.lists(st.integers(0, 10**10), min_size=1, max_size=200)


def filled(numbers: list[int]) -> Quantiles:
    found = Quantiles()
    for number in numbers:
        found.add(number)
    return found


@given(values, st.floats(0.0, 1.0))
def test_a_quantile_is_within_a_thousandth(numbers: list[int], fraction: float) -> None:
    ordered = sorted(numbers)
    exact = next(value for at, value in enumerate(ordered, start=1) if at >= fraction * len(ordered))
    assert abs(filled(numbers).quantile(fraction) - exact) <= exact / 1000


@given(values, values)
def test_merged_histograms_are_the_histogram_of_everything(left: list[int], right: list[int]) -> None:
    merged, whole = filled(left), filled(left + right)
    merged.merge(filled(right))
    for name in Quantiles.__slots__:
        assert getattr(merged, name) == getattr(whole, name)
    nothing = Quantiles()
    nothing.merge(merged)
    nothing.merge(Quantiles())
    assert nothing.minimum == whole.minimum
    assert nothing.mean == whole.mean


@given(values, st.integers(2, 50))
def test_points_rise_to_one_and_are_bounded(numbers: list[int], limit: int) -> None:
    points = list(filled(numbers).points(limit))
    assert len(points) <= limit
    assert points == sorted(points)
    assert points[-1] == (max(numbers), 1.0)


def test_memory_is_bounded_by_the_range_and_not_by_the_count() -> None:
    found = filled([*range(0, 3_000_000, 7)])
    assert len(found.counts) < 1024 + 512 * 12


def test_nothing_counted_is_nought() -> None:
    assert Quantiles().quantile(0.5) == 0
    assert Quantiles().mean == 0
    assert not list(Quantiles().points(10))
