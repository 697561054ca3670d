"""The lattice behaves like independent draws and never changes."""

import numpy as np
import pytest

from grainwise.predictors.queueing import Waiting, waiting
from grainwise.predictors.samples import SAMPLES, levels, residuals, waits


def test_every_column_visits_every_level_once() -> None:
    for column in range(40):
        assert np.allclose(np.sort(levels(column)), (np.arange(SAMPLES) + 0.5) / SAMPLES)


def test_no_two_columns_move_together() -> None:
    columns = np.array([levels(column) for column in range(32)])
    correlation = np.corrcoef(columns) - np.eye(32)
    assert np.abs(correlation).max() < 0.1


def test_a_sum_of_columns_has_the_variance_of_independent_quantities() -> None:
    total = sum(levels(column) for column in range(8))
    assert float(np.var(total)) == pytest.approx(8 / 12, rel=0.05)


def test_waits_have_their_mean_and_their_probability() -> None:
    found = waits(Waiting(0.4, 1000.0), 3, 13)
    assert float(np.mean(found)) == pytest.approx(1000.0, rel=0.04)
    assert float(np.mean(np.asarray(found) > 0)) == pytest.approx(0.4, abs=0.01)


def test_a_growing_wait_is_even_over_the_run() -> None:
    grown = waiting(servers=1, service_us=10, busy_fraction=1, saturation_fraction=2, arrival_scv=1, service_scv=1)
    found = np.asarray(waits(grown, 0, 10))
    assert float(np.mean(found)) == pytest.approx(grown.mean_us, rel=0.01)


def test_residuals_meet_their_quantiles() -> None:
    table = (0.8, 0.9, 1.0, 1.1, 1.3, 1.5, 2.0)
    found = residuals(table, 5)
    assert np.quantile(found, (0.25, 0.5, 0.95)) == pytest.approx((0.9, 1.0, 1.5), abs=0.01)


def test_a_wait_that_next_to_nobody_has_is_none() -> None:
    rare = Waiting(1e-310, 1e-300)
    assert waits(rare, 1, 2) == 0.0
    barely = 0.5001 / SAMPLES
    assert np.count_nonzero(waits(Waiting(barely, barely * 100.0), 1, 2)) == 1
