"""Parts of a trace, other rates and speeds, and the figures that describe them."""

import pytest

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import SECOND
from grainwise.workloads.arrivals import Phase, arrivals
from grainwise.workloads.recorded import Recorded
from grainwise.workloads.traces import shaping
from grainwise.workloads.traces.description import PLOT_POINTS, describe
from grainwise.workloads.traces.shaping import expanded, scaled, window

SPAN = 2000


def poisson(rate=20.0, seed=1):
    instants = list(arrivals((Phase(rate, SPAN * SECOND),), "poisson", seed))
    return Recorded("p", instants, [float(at) for at in instants], SPAN * SECOND, "made")


def counted(*counts):
    return Recorded("c", [], [], len(counts) * 60 * SECOND, "made", list(counts), 60 * SECOND)


def dispersion(recorded, scale_s=10):
    return next(at.dispersion for at in describe(recorded).scales if at.scale_s == scale_s)


def test_a_window_begins_anew_and_leaves_out_its_end():
    whole = Recorded("w", [0, 5, 10, 20], [1.0, 2.0, 3.0, 4.0], 30, "made")
    cut = window(whole, 5, 20)
    assert (cut.instants, cut.sizes, cut.span_us) == ([0, 5], [2, 3], 15)
    assert window(whole, 10, 10**9).span_us == 20
    for start, end in ((-1, 5), (5, 5), (30, 40)):
        with pytest.raises(ConfigurationError, match="does not lie in w"):
            window(whole, start, end)


def test_a_window_of_counts_lies_on_their_intervals():
    cut = window(counted(1, 2, 3), 60 * SECOND, 180 * SECOND)
    assert (cut.counts, cut.span_us) == ([2, 3], 120 * SECOND)
    with pytest.raises(ConfigurationError, match="on multiples of it"):
        window(counted(1, 2, 3), 0, 90 * SECOND)


def test_time_scale_divides_every_instant():
    whole = poisson(1.0)
    fast = scaled(whole, time_scale=4)
    assert fast.span_us == whole.span_us // 4
    assert fast.instants == [at // 4 for at in whole.instants]
    assert fast.sizes == whole.sizes
    assert fast.note == "made; time × 4"
    assert scaled(counted(1, 2), time_scale=2).interval_us == 30 * SECOND


def test_a_lower_rate_keeps_each_arrival_by_chance_and_its_size():
    whole = poisson()
    thin = scaled(whole, rate_scale=0.25, seed=5)
    assert abs(len(thin.instants) / len(whole.instants) - 0.25) < 0.01
    assert set(thin.instants) <= set(whole.instants)
    assert thin.sizes == [float(at) for at in thin.instants]
    assert thin == scaled(whole, rate_scale=0.25, seed=5)
    assert thin != scaled(whole, rate_scale=0.25, seed=6)


def test_a_higher_rate_repeats_each_arrival_nearby_and_multiplies_the_dispersion():
    whole = poisson(2.0)
    dense = scaled(whole, rate_scale=2.5)
    assert abs(len(dense.instants) / len(whole.instants) - 2.5) < 0.03
    assert dense.instants == sorted(dense.instants)
    assert dense.span_us == whole.span_us > dense.instants[-1]
    assert set(whole.instants) <= set(dense.instants)
    mean_gap = whole.span_us // len(whole.instants)
    assert all(0 <= at - size <= mean_gap for at, size in zip(dense.instants, dense.sizes, strict=True))
    assert abs(dispersion(dense) / dispersion(whole) - 2.5) < 0.4


def test_counts_scale_with_the_right_mean():
    whole = counted(*[10, 3, 0, 7] * 500)
    for scale in (0.1, 0.5, 2, 2.7):
        other = scaled(whole, rate_scale=scale)
        assert abs(other.arrival_count / whole.arrival_count / scale - 1) < 0.1
        assert all(abs(new - old * scale) < 1 for new, old in zip(other.counts, whole.counts, strict=True))


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_a_scale_out_of_range_is_refused_by_its_option(scale):
    with pytest.raises(ConfigurationError, match="--rate-scale must lie above 0"):
        scaled(counted(1), rate_scale=scale)
    with pytest.raises(ConfigurationError, match="--time-scale must lie above 0"):
        scaled(counted(1), time_scale=scale)


def test_too_many_arrivals_are_refused(monkeypatch):
    monkeypatch.setattr(shaping, "MAX_ARRIVALS", 10)
    with pytest.raises(ConfigurationError, match="12 arrivals would come of c, above 10"):
        expanded(counted(12))
    with pytest.raises(ConfigurationError, match="20 arrivals would come of w, above 10"):
        scaled(Recorded("w", [0, 1], [], 2), rate_scale=10)


def test_poisson_arrivals_have_a_dispersion_of_one_at_every_scale():
    description = describe(poisson())
    assert [at.scale_s for at in description.scales] == [1, 10, 60]
    assert all(abs(at.dispersion - 1) < 0.3 for at in description.scales)
    assert abs(description.mean_per_s - 20) < 0.5
    assert description.gap_cv is not None
    assert abs(description.gap_cv - 1) < 0.02
    assert len(description.rates_per_s) == PLOT_POINTS


def test_figures_of_a_trace_that_can_be_counted_by_hand():
    # Two in every odd second of 20, none in the even ones.
    instants = [second * SECOND + part for second in range(1, 20, 2) for part in (0, SECOND // 2)]
    description = describe(Recorded("h", instants, [1.0, 3.0] * 10, 20 * SECOND))
    (second,) = description.scales
    assert (second.windows, second.peak_per_s, description.mean_per_s) == (20, 2, 1)
    assert second.dispersion == pytest.approx(20 / 19)
    sizes = description.sizes
    assert sizes is not None
    assert (sizes.mean, sizes.p50, sizes.largest, sizes.cv) == (2, 2, 3, 0.5)
    assert sizes.correlation == pytest.approx(-1)
    assert sum(description.rates_per_s) * 20 / PLOT_POINTS == pytest.approx(20)


def test_counts_are_described_at_their_scale_and_above():
    description = describe(counted(*[6, 0] * 50))
    assert [(at.scale_s, at.windows) for at in description.scales] == [(60, 100), (600, 10)]
    assert description.scales[0].peak_per_s == 0.1
    assert description.scales[1].dispersion == 0
    assert description.gap_cv is None
    assert description.sizes is None


def test_a_trace_too_short_for_any_scale_is_described_without_them():
    description = describe(Recorded("s", [0], [], 1))
    assert (description.arrivals, description.scales, description.gap_cv) == (1, (), None)
    assert describe(counted(3)).rates_per_s == (0.05,)
