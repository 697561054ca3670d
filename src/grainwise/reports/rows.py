"""Requests of a run as a file that grows while the run goes on: Parquet in row groups, or CSV."""

import csv
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from msgspec.structs import astuple

from grainwise.domain.errors import ConfigurationError, PlatformError
from grainwise.telemetry.request_rows import COLUMNS, RequestRow

GROUP_ROWS = 20_000
_TEXT = ("app", "tenant", "outcome", "plan")


class RequestFile(Protocol):
    """Takes requests one by one; its memory does not grow with them. A context manager: the file is complete on leaving."""

    def append(self, row: RequestRow) -> None:
        """Write a request."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class ParquetRequests:
    """Requests in a Parquet file, a row group for every 20,000.

    Raises:
        PlatformError: pyarrow is not installed.
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as error:
            raise PlatformError(
                f'{path} is a Parquet file and pyarrow is not installed; pip install "grainwise[report]", or name a .csv file'
            ) from error
        self._arrow: Any = pyarrow
        texts = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
        types = {"met": pyarrow.bool_(), **dict.fromkeys(_TEXT, texts)}
        self._schema: Any = pyarrow.schema([(name, types.get(name, pyarrow.int64())) for name in COLUMNS])
        self._writer: Any = parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[RequestRow] = []

    def append(self, row: RequestRow) -> None:
        """Write a request, with the rest of its row group."""
        self._rows.append(row)
        if len(self._rows) >= GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        columns = zip(*map(astuple, self._rows), strict=True)
        arrays = [self._arrow.array(column, type=field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._rows.clear()
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        """Write what is left and complete the file."""
        try:
            self._flush()
        finally:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class CsvRequests:
    """Requests in a CSV file with a header; ``met`` is 0 or 1.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8", newline="")
        self._csv = csv.writer(self._file)
        self._csv.writerow(COLUMNS)

    def append(self, row: RequestRow) -> None:
        """Write a request."""
        self._csv.writerow([int(value) if isinstance(value, bool) else value for value in astuple(row)])

    def close(self) -> None:
        """Complete the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open_requests(path: Path) -> RequestFile:
    """A file of requests in the format that its suffix names: ``.parquet`` or ``.csv``.

    Raises:
        ConfigurationError: another suffix.
        PlatformError: Parquet without pyarrow.
        OSError: the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return ParquetRequests(path)
    if suffix == ".csv":
        return CsvRequests(path)
    raise ConfigurationError(f"requests are written as .parquet or .csv, and {path} is neither; rename it")
