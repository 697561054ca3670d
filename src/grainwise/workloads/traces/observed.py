"""Our own recorded traces: what ``grainwise observe`` writes of a live run, a row for each offered request."""

import csv
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from msgspec import Struct

from grainwise.domain.errors import ConfigurationError, PlatformError
from grainwise.domain.time import Instant, Micros
from grainwise.workloads.traces.tables import open_table

COLUMNS = ("t_us", "app", "size", "latency_us", "outcome")
_GROUP = 8192


class ObservedRequest(Struct, frozen=True):
    """One offered request: when it arrived after the start of the record, what it asked for, and how it ended.

    ``size`` is the input's size in the app's own unit. ``latency_us`` is ``None`` where no answer came. ``outcome`` is a word:
    ``answered`` for a right answer, else what went wrong.
    """

    t_us: Instant
    app: str
    size: float
    latency_us: Micros | None
    outcome: str


class ObservedWriter:
    """Writes a trace row by row, as CSV or as Parquet by the path's ending; memory stays flat. A context manager.

    Rows may come in the order in which requests end: readers sort by arrival.

    Raises:
        ConfigurationError: the path ends in neither ``.csv`` nor ``.parquet``.
        PlatformError: it is Parquet, and pyarrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix not in (".csv", ".parquet"):
            raise ConfigurationError(f"{path} should end in .csv or .parquet")
        self._rows: list[ObservedRequest] = []
        self._file: IO[str] | None = None
        self._parquet: Any = None
        if path.suffix == ".csv":
            self._file = path.open("w", newline="", encoding="utf-8")
            self._csv = csv.writer(self._file, lineterminator="\n")
            self._csv.writerow(COLUMNS)
        else:
            self._parquet = _parquet_writer(path)

    def write(self, row: ObservedRequest) -> None:
        """Add one request."""
        self._rows.append(row)
        if len(self._rows) >= _GROUP:
            self._flush()

    def close(self) -> None:
        """Write what is left and close the file."""
        self._flush()
        if self._file is not None:
            self._file.close()
        else:
            self._parquet.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.close()

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        if self._file is not None:
            self._csv.writerows(
                (row.t_us, row.app, f"{row.size:.17g}", "" if row.latency_us is None else row.latency_us, row.outcome)
                for row in rows
            )
        elif rows:
            import pyarrow

            columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
            self._parquet.write_table(pyarrow.table(columns, schema=self._parquet.schema))


def _parquet_writer(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise PlatformError(f'{path} is Parquet, which needs pyarrow: pip install "grainwise[report]"') from error
    kinds = (pyarrow.int64(), pyarrow.string(), pyarrow.float64(), pyarrow.int64(), pyarrow.string())
    return pyarrow.parquet.ParquetWriter(path, pyarrow.schema(list(zip(COLUMNS, kinds, strict=True))), compression="zstd")


def read_observed(source: Path | bytes, name: str) -> Iterator[ObservedRequest]:
    """The requests of a trace, in the order of the file, read as they are taken.

    Raises:
        ArtifactError: a row is malformed; the message names file, line and column.
        PlatformError: it is Parquet, and pyarrow is not installed.
    """
    table = open_table(source, name)
    for number, (t_us, app, size, latency_us, outcome) in table.rows(*COLUMNS):
        if not outcome:
            raise table.malformed(number, "outcome", outcome, "a word such as answered")
        yield ObservedRequest(
            table.count(number, "t_us", t_us),
            str(app),
            table.number(number, "size", size),
            None if latency_us is None or latency_us == "" else table.count(number, "latency_us", latency_us),
            str(outcome),
        )
