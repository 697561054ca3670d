"""From hops of three lengths to the hop model."""

import pytest

from grainwise.profiler.hop import HopSample, fit_hop

MIB = 1 << 20


def test_the_line_through_the_samples_is_found():
    hop = fit_hop([HopSample(mib * MIB, 100 + 8.0 * mib, 50 + 2.0 * mib) for mib in (0, 1, 5)])
    assert hop.fixed_us == pytest.approx(100)
    assert hop.us_per_mib == pytest.approx(8)
    assert hop.cpu_fixed_us == pytest.approx(50)
    assert hop.cpu_us(3 * MIB) == pytest.approx(56)


def test_noise_never_makes_a_part_negative():
    falling = fit_hop([HopSample(0, 120.0, 10.0), HopSample(5 * MIB, 100.0, 5.0)])
    assert (falling.us_per_mib, falling.fixed_us) == (0.0, 110.0)
    steep = fit_hop([HopSample(MIB, 1.0, -1.0), HopSample(5 * MIB, 100.0, 40.0)])
    assert steep.fixed_us == 0.0
    assert steep.us_per_mib > 0
