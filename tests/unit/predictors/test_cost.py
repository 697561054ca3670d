"""Both figures by hand."""

import pytest

from grainwise.domain.machine import Prices
from grainwise.predictors.cost import billed_usd_per_hour, provisioned_usd_per_hour

PRICES = Prices("made", usd_per_core_hour=0.04, usd_per_gib_hour=0.005, usd_per_million_requests=0.2)


def test_provisioned_counts_every_instance_busy_or_not() -> None:
    assert provisioned_usd_per_hour(PRICES, instances=3, cpu_cores=0.5, memory_mib=2048) == pytest.approx(3 * (0.02 + 0.01))


def test_billed_counts_busy_time_and_the_fee_of_each_invocation() -> None:
    billed = billed_usd_per_hour(PRICES, invocations_per_s=10, busy_us=50_000, cpu_cores=2, memory_mib=1024)
    assert billed == pytest.approx(0.5 * (0.08 + 0.005) + 36_000 * 0.2e-6)


def test_nothing_is_billed_without_invocations() -> None:
    assert billed_usd_per_hour(PRICES, invocations_per_s=0, busy_us=50_000, cpu_cores=2, memory_mib=1024) == 0
