import csv
import sys
from pathlib import Path

import pytest

from grainwise.domain.errors import ConfigurationError, PlatformError
from grainwise.reports.rows import GROUP_ROWS, CsvRequests, ParquetRequests, open_requests
from grainwise.telemetry.request_rows import COLUMNS, RequestRow
from worlds.apps import chain
from worlds.runs import watched

parquet = pytest.importorskip("pyarrow.parquet")


def row(number: int) -> RequestRow:
    return RequestRow(number, "ocr", "", 10 * number, 5000, "ok", number % 2 == 0, 1, 2, 3, 4, "a | b, c")


def test_requests_stream_into_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "requests.parquet"
    count = 2 * GROUP_ROWS + 3
    with ParquetRequests(path) as file:
        for number in range(count):
            file.append(row(number))
            assert len(file._rows) < GROUP_ROWS
    table = parquet.read_table(path)
    assert table.column_names == list(COLUMNS)
    assert parquet.ParquetFile(path).num_row_groups == 3
    assert table["request"].to_pylist() == list(range(count))
    assert table["plan"][0].as_py() == "a | b, c"
    assert table["met"].to_pylist()[:3] == [True, False, True]


def test_a_run_streams_into_the_file_that_its_suffix_names(tmp_path: Path) -> None:
    path = tmp_path / "requests.csv"
    with open_requests(path) as file:
        assert isinstance(file, CsvRequests)
        world, _ = watched(chain(), on_request=file.append)
        world.ask(1)
        world.drain()
    with path.open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert len(rows) == 1
    assert tuple(rows[0]) == COLUMNS
    assert (rows[0]["outcome"], rows[0]["met"], rows[0]["app"]) == ("ok", "1", "chain")
    with open_requests(tmp_path / "r.PARQUET") as other:
        assert isinstance(other, ParquetRequests)
    assert parquet.read_table(tmp_path / "r.PARQUET").num_rows == 0


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="rename it"):
        open_requests(tmp_path / "requests.xlsx")


def test_without_pyarrow_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(PlatformError, match=r'pip install "grainwise\[report\]"'):
        open_requests(tmp_path / "requests.parquet")


def test_what_was_written_before_an_error_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "requests.parquet"
    with pytest.raises(KeyboardInterrupt), ParquetRequests(path) as file:
        file.append(row(1))
        raise KeyboardInterrupt
    assert parquet.read_table(path).num_rows == 1
