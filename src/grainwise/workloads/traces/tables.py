"""Files of rows, read one row at a time: CSV, JSON lines and Parquet alike, so that a loader knows columns and not files."""

import csv
import io
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, TypeAlias

import msgspec
from msgspec import Struct

from grainwise.domain.errors import ArtifactError, PlatformError

MAX_BYTES = 4 << 30
_PARQUET = b"PAR1"
_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"Rar!", b"PK\x03\x04", b"(\xb5/\xfd")
_LARGEST = 1e15

Cell: TypeAlias = str | int | float | None
Row: TypeAlias = tuple[int, tuple[Cell, ...]]
"""The number of the row as its place names it, and the cells of the columns that were asked for, in their order."""


class Table(Struct, frozen=True):
    """The rows of one file. ``unit`` is what a row's number counts: a ``line`` of text, or a ``row`` of Parquet from 1."""

    name: str
    columns: tuple[str, ...]
    unit: str
    read: Callable[[tuple[str, ...]], Iterator[Row]]

    def rows(self, *columns: str) -> Iterator[Row]:
        """The rows, each with the cells of these columns alone; the file is read as they are taken.

        Raises:
            ArtifactError: the file has no such column, or is broken at a row; the message names it.
        """
        missing = [column for column in columns if column not in self.columns]
        if missing:
            raise ArtifactError(f"{self.name} has no column {missing[0]} among {shown(self.columns)}")
        return self.read(columns)

    def malformed(self, number: int, column: str, cell: Cell, wanted: str) -> ArtifactError:
        """The error of a cell that is not what it should be: names file, line and column."""
        return ArtifactError(f"{self.name}, {self.unit} {number}, column {column}: {cell!r} is not {wanted}")

    def number(self, number: int, column: str, cell: Cell, *, least: float = 0.0) -> float:
        """The cell as a finite number of at least ``least``.

        Raises:
            ArtifactError: it is none.
        """
        try:
            value = float(cell) if cell is not None else math.nan
        except ValueError:
            value = math.nan
        if not least <= value < _LARGEST:
            raise self.malformed(number, column, cell, f"a number >= {least:g}")
        return value

    def count(self, number: int, column: str, cell: Cell) -> int:
        """The cell as a whole number >= 0.

        Raises:
            ArtifactError: it is none.
        """
        value = self.number(number, column, cell)
        if not value.is_integer():
            raise self.malformed(number, column, cell, "a whole number >= 0")
        return int(value)


def shown(names: Sequence[str], limit: int = 8) -> str:
    """The names, of many the first few, for a message."""
    more = f", … ({len(names)} in all)" if len(names) > limit else ""
    return (", ".join(names[:limit]) + more) or "none"


def open_table(source: Path | bytes, name: str) -> Table:
    """The table in a file or in its bytes; what kind of file it is, its first bytes say.

    Raises:
        ArtifactError: it cannot be read, is too large, empty, or neither CSV with a header, JSON lines nor Parquet.
        PlatformError: it is Parquet, and pyarrow is not installed.
    """
    size = len(source) if isinstance(source, bytes) else _readable_size(source)
    if size > MAX_BYTES:
        raise ArtifactError(f"{name} has {size:,} bytes, above the limit of {MAX_BYTES:,}: cut it into several files first")
    with _opened(source) as file:
        start = file.read(4096)
    if start.startswith(_ARCHIVES):
        raise ArtifactError(f"{name} is an archive: unpack it, and name a file in it")
    if start.startswith(_PARQUET):
        return _parquet_table(source, name)
    if start.lstrip().startswith(b"{"):
        return _json_table(source, name)
    if start and not start.strip(b"0123456789 \t\r\n"):
        return _number_table(source, name)
    return _csv_table(source, name)


def _readable_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def _opened(source: Path | bytes) -> Iterator[IO[bytes]]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        file = source.open("rb")
    except OSError as error:
        raise ArtifactError(f"{source} cannot be read: {error.strerror}") from error
    with file:
        yield file


@contextmanager
def _csv_rows(source: Path | bytes, name: str) -> Iterator[Any]:
    with _opened(source) as file, io.TextIOWrapper(file, "utf-8-sig", "backslashreplace", newline="") as text:
        lines = csv.reader(text, strict=True)
        try:
            yield lines
        except csv.Error as error:
            raise ArtifactError(f"{name}, line {lines.line_num + 1} is no CSV text: {error}") from error


def _csv_table(source: Path | bytes, name: str) -> Table:
    with _csv_rows(source, name) as lines:
        header = tuple(column.strip() for column in next(lines, []))
    if not header:
        raise ArtifactError(f"{name} is empty: it should begin with a line that names its columns")

    def read(columns: tuple[str, ...]) -> Iterator[Row]:
        # Of a single column itemgetter would give the bare cell.
        indexes = [header.index(column) for column in columns]
        pick = itemgetter(*indexes) if len(indexes) > 1 else lambda cells: (cells[indexes[0]],)
        with _csv_rows(source, name) as lines:
            next(lines, None)
            for cells in lines:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise ArtifactError(
                        f"{name}, line {lines.line_num}: {len(cells)} columns where the header has {len(header)}"
                    )
                yield lines.line_num, pick(cells)

    return Table(name, header, "line", read)


def _json_table(source: Path | bytes, name: str) -> Table:
    decoder = msgspec.json.Decoder(dict[str, Any])

    def objects() -> Iterator[tuple[int, dict[str, Any]]]:
        with _opened(source) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        yield number, decoder.decode(line)
                    except (msgspec.DecodeError, UnicodeDecodeError) as error:
                        raise ArtifactError(f"{name}, line {number} is no JSON object: {error}") from error

    def read(columns: tuple[str, ...]) -> Iterator[Row]:
        for number, record in objects():
            cells = tuple(record.get(column) for column in columns)
            for column, cell in zip(columns, cells, strict=True):
                if cell is None or isinstance(cell, bool | list | dict):
                    raise ArtifactError(f"{name}, line {number}, column {column}: {cell!r} is neither number nor text")
            yield number, cells

    _, first = next(objects(), (0, {}))
    return Table(name, tuple(first), "line", read)


def _number_table(source: Path | bytes, name: str) -> Table:
    """Counts without a header, parted by white space, as the per-second files of several collections are written."""

    def words() -> Iterator[tuple[int, bytes]]:
        with _opened(source) as file:
            number, rest = 1, b""
            while chunk := file.read(1 << 16):
                lines = (rest + chunk).split(b"\n")
                for at, line in enumerate(lines):
                    found = line.split()
                    is_open = at == len(lines) - 1
                    rest = found.pop() if is_open and found and not line[-1:].isspace() else b""
                    yield from ((number, word) for word in found)
                    number += not is_open
            if rest:
                yield number, rest

    def read(columns: tuple[str, ...]) -> Iterator[Row]:
        for second, (line, word) in enumerate(words()):
            yield line, tuple(second if column == "second" else word.decode("latin-1") for column in columns)

    return Table(name, ("second", "requests"), "line", read)


def _parquet_table(source: Path | bytes, name: str) -> Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise PlatformError(f'{name} is Parquet, which needs pyarrow: pip install "grainwise[report]"') from error

    @contextmanager
    def opened() -> Iterator[Any]:
        with _opened(source) as file:
            try:
                yield pyarrow.parquet.ParquetFile(file)
            except (pyarrow.ArrowException, OSError) as error:
                raise ArtifactError(f"{name} is no Parquet that can be read: {error}") from error

    def read(columns: tuple[str, ...]) -> Iterator[Row]:
        with opened() as parquet:
            batches = parquet.iter_batches(batch_size=16384, columns=list(columns))
            cells = ((batch.column(column).to_pylist() for column in columns) for batch in batches)
            rows = itertools.chain.from_iterable(zip(*lists, strict=True) for lists in cells)
            yield from enumerate(rows, 1)

    with opened() as parquet:
        return Table(name, tuple(parquet.schema_arrow.names), "row", read)
