"""Real traces, where a folder of them is at hand (``GRAINWISE_TRACES``): their published figures come out."""

import os
from pathlib import Path

import pytest

from grainwise.workloads.traces.description import describe
from grainwise.workloads.traces.finding import load_trace
from grainwise.workloads.traces.fitted import PUBLISHED

# Mean rate and fullest second, the index of dispersion at 1 s and at 10 s.
PUBLISHED_FIGURES = {at.name: (at.rate_per_s, at.peak_per_s, at.dispersion_1s, at.dispersion_10s) for at in PUBLISHED}
ARRIVALS = {
    "azure_llm_2023_code": 8_819,
    "azure_llm_2023_conv": 19_366,
    "mooncake_conversation": 12_031,
    "nasa_http_1995_per_minute": 3_461_610,
    "azure_functions_2021_sample_199": 199,
}


@pytest.mark.parametrize("name", ARRIVALS)
def test_a_real_trace_has_as_many_arrivals_as_published_and_their_burstiness(name: str) -> None:
    folder = os.environ.get("GRAINWISE_TRACES", "")
    if not folder or not [path for path in Path(folder).glob(f"{name}.*") if path.suffix in (".csv", ".parquet")]:
        missing = f"GRAINWISE_TRACES ({folder or 'not set'}) names no folder with {name}"
        if "traces" in os.environ.get("GRAINWISE_REQUIRE", ""):
            pytest.fail(missing)
        pytest.skip(missing)
    if list(Path(folder).glob(f"{name}.parquet")):
        pytest.importorskip("pyarrow")
    description = describe(load_trace(name, Path(folder)))
    assert description.arrivals == ARRIVALS[name]
    if name in PUBLISHED_FIGURES:
        second, ten, *_ = description.scales
        found = description.mean_per_s, second.peak_per_s, second.dispersion, ten.dispersion
        assert found == pytest.approx(PUBLISHED_FIGURES[name], rel=0.04)
