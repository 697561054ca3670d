"""What observe writes, the loaders read back."""

import pytest

from grainwise.domain.errors import ArtifactError, ConfigurationError
from grainwise.workloads.traces.formats import load
from grainwise.workloads.traces.observed import ObservedRequest, ObservedWriter, read_observed

ROWS = [
    ObservedRequest(2_000_000, "text", 0.1, 1500, "answered"),
    ObservedRequest(0, "ocr, large", 3.0, None, "rejected"),
    *(ObservedRequest(3_000_000 + at, "text", 1.0, at, "answered") for at in range(9000)),
]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_rows_come_back_as_they_were_written(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"seen{suffix}"
    with ObservedWriter(path) as writer:
        for row in ROWS:
            writer.write(row)
    assert list(read_observed(path, path.name)) == ROWS
    recorded = load(path, path.name)
    assert recorded.instants[:3] == [0, 2_000_000, 3_000_000]
    assert recorded.sizes[:2] == [3.0, 0.1]
    assert "grainwise observe" in recorded.note
    assert load(path, path.name, only="ocr, large").instants == [0]


def test_an_empty_record_is_a_file_of_no_arrivals(tmp_path):
    with ObservedWriter(tmp_path / "seen.csv"):
        pass
    assert list(read_observed(tmp_path / "seen.csv", "seen.csv")) == []
    with pytest.raises(ArtifactError, match=r"seen.csv holds no arrivals"):
        load(tmp_path / "seen.csv", "seen.csv")


def test_a_malformed_row_is_named():
    data = b"t_us,app,size,latency_us,outcome\n1,a,2,x,answered\n"
    with pytest.raises(ArtifactError, match="f, line 2, column latency_us: 'x' is not a number >= 0"):
        list(read_observed(data, "f"))
    with pytest.raises(ArtifactError, match="f, line 2, column outcome"):
        list(read_observed(data.replace(b"x,answered", b"1,"), "f"))


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"should end in .csv or .parquet"):
        ObservedWriter(tmp_path / "seen.json")
