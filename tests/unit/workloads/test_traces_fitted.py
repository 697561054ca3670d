"""Stand-ins have the statistics that they were fitted to, and say that they are none of the real thing."""

import numpy as np
import pytest
from msgspec.structs import replace

from grainwise.domain.errors import ConfigurationError
from grainwise.workloads.traces.description import describe
from grainwise.workloads.traces.fitted import PUBLISHED, fit, fitted_trace


def theory(process, seconds):
    """Mean rate and index of dispersion of a two-state process, from its generator matrix."""
    from scipy.linalg import expm

    rates = np.array([state.rate_per_s for state in process.states])
    leave = np.array([1 / state.dwell_s for state in process.states])
    share = leave[::-1] / leave.sum()
    mean = share @ rates
    # Variance of the integral of the rate, by quadrature over its autocovariance.
    lags = (np.arange(4000) + 0.5) * seconds / 4000
    generator = np.array([[-leave[0], leave[0]], [leave[1], -leave[1]]])
    step = expm(generator * (lags[1] - lags[0]))
    at = expm(generator * lags[0])
    covariances = []
    for _ in lags:
        covariances.append((share * rates) @ at @ rates - mean**2)
        at = at @ step
    variance = mean * seconds + 2 * np.sum((seconds - lags) * covariances) * seconds / 4000
    return mean, variance / (mean * seconds)


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.name)
def test_the_fit_has_exactly_the_published_rate_and_indices(published):
    process = fit(published)
    mean, short = theory(process, 1.0)
    assert mean == pytest.approx(published.rate_per_s, rel=1e-9)
    assert short == pytest.approx(published.dispersion_1s, rel=1e-4)
    assert theory(process, 10.0)[1] == pytest.approx(published.dispersion_10s, rel=1e-4)
    assert all(state.rate_per_s >= 0 and state.dwell_s > 0 for state in process.states)


def test_a_low_peak_makes_the_lower_level_silence():
    low, _ = fit(replace(PUBLISHED[0], peak_per_s=3.0)).states
    assert low.rate_per_s == 0


@pytest.mark.parametrize(("short", "long"), [(1.0, 4.0), (2.0, 1.5), (2.0, 12.0)])
def test_indices_that_no_such_process_has_are_refused(short, long):
    with pytest.raises(ConfigurationError, match="no two-state process has the statistics of azure_llm_2023_code"):
        fit(replace(PUBLISHED[0], dispersion_1s=short, dispersion_10s=long))


def test_a_drawn_stand_in_is_near_its_statistics_and_says_what_it_is():
    description = describe(fitted_trace("fitted:azure_llm_2023_conv", 2, span_s=10_000))
    assert description.mean_per_s == pytest.approx(5.5, rel=0.05)
    assert [at.dispersion for at in description.scales[:2]] == pytest.approx([1.4, 4.0], rel=0.2)
    assert "not the trace" in description.note
    assert fitted_trace("azure_llm_2023_code", 3, 60) == fitted_trace("azure_llm_2023_code", 3, 60)


def test_only_what_was_published_can_be_fitted():
    with pytest.raises(ConfigurationError, match=r"no published statistics of 'x' .* known: fitted:azure_llm_2023_code"):
        fitted_trace("x")
