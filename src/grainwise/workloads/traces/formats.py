"""The formats of published traces: by which columns each is known, and how its rows become arrivals."""

from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct

from grainwise.domain.errors import ArtifactError, ConfigurationError
from grainwise.domain.time import MILLISECOND, SECOND, Instant, Micros
from grainwise.workloads.integers import SplitMix64
from grainwise.workloads.recorded import Recorded
from grainwise.workloads.traces.calendar import micros_of
from grainwise.workloads.traces.tables import Cell, Table, open_table, shown

MAX_ARRIVALS = 20_000_000
MINUTE: Micros = 60 * SECOND
MINUTES_PER_DAY = 1440
MOONCAKE_STEP: Micros = 3 * SECOND
_HASH = 32
_DIGITS = 16


class Choice(NamedTuple):
    """What a loader is told beside the table: which app or function to take (``None``: all of them), and a seed."""

    only: str | None
    seed: int


class Arrival(NamedTuple):
    """One row that is an arrival; ``size`` is ``None`` where the format has none."""

    at: Instant
    size: float | None


Loader = Callable[[Table, Choice], Recorded]


class Format(Struct, frozen=True):
    """How a format is told from others, and read. A file that has all ``columns`` may be of this format.

    ``parts`` are columns that name an app, a function or a segment, of which one may be taken.
    """

    name: str
    columns: frozenset[str]
    load: Loader
    parts: frozenset[str] = frozenset()


def load(
    source: Path | bytes, name: str, seed: int = 1, *, format_name: str | None = None, only: str | None = None
) -> Recorded:
    """The arrivals of one file, read row by row.

    Rows that are single arrivals become sorted instants; a format of counts stays counts (``expanded`` draws instants).
    ``only`` keeps one app, function or segment, by its name or by the beginning of its hash; without it all
    are taken together. ``seed`` matters where instants must be drawn (Mooncake's 3-second steps).

    Raises:
        ArtifactError: a row is malformed (the message names file, line and column), the columns fit no format, there are no
            rows, or there are more than ``MAX_ARRIVALS`` of them.
        ConfigurationError: there is no format of that name, or nothing of the name ``only``.
        PlatformError: it is Parquet, and pyarrow is not installed.
    """
    table = open_table(source, name)
    known = recognise(table) if format_name is None else find_format(format_name)
    if only is not None and not known.parts & frozenset(table.columns):
        raise ConfigurationError(f"{name} ({known.name}) has no apps, functions or segments, so {only!r} cannot be taken of it")
    return known.load(table, Choice(only, seed))


def find_format(name: str) -> Format:
    """The format of that name.

    Raises:
        ConfigurationError: there is none.
    """
    for known in FORMATS:
        if known.name == name:
            return known
    raise ConfigurationError(f"there is no format {name!r} of traces; known: {', '.join(known.name for known in FORMATS)}")


def recognise(table: Table) -> Format:
    """The first format whose columns the table has.

    Raises:
        ArtifactError: it has those of none.
    """
    columns = frozenset(table.columns)
    for known in FORMATS:
        if known.columns <= columns:
            return known
    wanted = "; ".join(f"{known.name}: {', '.join(sorted(known.columns)[:4])}" for known in FORMATS)
    raise ArtifactError(f"{table.name} has columns {shown(table.columns)}, which fit no format ({wanted})")


def _instants(table: Table, found: Iterable[Arrival], note: str, *, from_first: bool) -> Recorded:
    """Sorts arrivals; ``from_first`` puts the first at 0, for formats whose clock has an arbitrary origin."""
    instants, sizes = array("q"), array("d")
    for arrival in found:
        if len(instants) >= MAX_ARRIVALS:
            raise ArtifactError(f"{table.name} holds more than {MAX_ARRIVALS:,} arrivals: choose one app, or cut the file")
        instants.append(arrival.at)
        if arrival.size is not None:
            sizes.append(arrival.size)
    if not instants:
        raise ArtifactError(f"{table.name} holds no arrivals")
    times = np.asarray(instants)
    # Stable: arrivals of one instant keep the order of the file.
    order = np.argsort(times, kind="stable")
    times = times[order] - (times.min() if from_first else 0)
    in_order = np.asarray(sizes)[order].tolist() if sizes else []
    return Recorded(table.name, times.tolist(), in_order, int(times[-1]) + 1, note)


def _counted(table: Table, counts: list[int], interval_us: Micros, note: str) -> Recorded:
    if not any(counts):
        raise ArtifactError(f"{table.name} holds no arrivals")
    return Recorded(table.name, [], [], len(counts) * interval_us, note, counts, interval_us)


class Chosen:
    """Keeps the rows of one app, function or segment: of a hash, a beginning that no other shares is enough."""

    def __init__(self, table: Table, only: str | None) -> None:
        self._table, self._only, self._names = table.name, only, set[str]()

    def takes(self, *names: str) -> bool:
        """Whether a row with these names is to be taken.

        Raises:
            ConfigurationError: the beginning fits a second name.
        """
        if self._only is None:
            return True
        fitting = [name for name in names if name == self._only or (len(name) >= _HASH and name.startswith(self._only))]
        self._names.update(fitting)
        if len(self._names) > 1:
            both = shown([f"{name[:12]}…" for name in sorted(self._names)])
            raise ConfigurationError(f"{self._table}: {self._only!r} is the beginning of {both}; give more of it")
        return bool(fitting)

    def check(self) -> None:
        """Refuse to go on where nothing was taken.

        Raises:
            ConfigurationError: no row has such a name.
        """
        if self._only is not None and not self._names:
            raise ConfigurationError(f"{self._table} has no app, function or segment {self._only!r}")


def _azure_functions_2019(table: Table, choice: Choice) -> Recorded:
    minutes = tuple(str(minute) for minute in range(1, MINUTES_PER_DAY + 1) if str(minute) in table.columns)
    totals = np.zeros(len(minutes), dtype=np.int64)
    chosen = Chosen(table, choice.only)
    for number, (app, function, *cells) in table.rows("HashApp", "HashFunction", *minutes):
        if chosen.takes(str(app), str(function)):
            totals += _whole(table, number, minutes, cells)
    chosen.check()
    return _counted(table, totals.tolist(), MINUTE, _of(AZURE_FUNCTIONS_2019, choice))


def _whole(table: Table, number: int, columns: tuple[str, ...], cells: list[Cell]) -> Any:
    """The cells as whole numbers; one by one, to name the cell, only where they are not all."""
    texts = [cell for cell in cells if isinstance(cell, str) and len(cell) < _DIGITS]
    if len(texts) == len(cells) and all(map(str.isdecimal, texts)):
        return np.asarray(list(map(int, texts)), dtype=np.int64)
    return np.asarray([table.count(number, column, cell) for column, cell in zip(columns, cells, strict=True)], dtype=np.int64)


def _azure_functions_2021(table: Table, choice: Choice) -> Recorded:
    chosen = Chosen(table, choice.only)

    def arrivals() -> Iterator[Arrival]:
        for number, (app, function, end, duration) in table.rows("app", "func", "end_timestamp", "duration"):
            if chosen.takes(str(app), str(function)):
                began = table.number(number, "end_timestamp", end) - table.number(number, "duration", duration)
                yield Arrival(round(began * SECOND), None)
        chosen.check()

    return _instants(table, arrivals(), _of(AZURE_FUNCTIONS_2021, choice), from_first=True)


def _azure_llm(table: Table, choice: Choice) -> Recorded:
    def arrivals() -> Iterator[Arrival]:
        for number, (at, tokens) in table.rows("TIMESTAMP", "ContextTokens"):
            instant = micros_of(str(at))
            if instant is None:
                raise table.malformed(number, "TIMESTAMP", at, "a time such as 2023-11-16 18:17:03.9799600")
            yield Arrival(instant, table.number(number, "ContextTokens", tokens))

    return _instants(table, arrivals(), AZURE_LLM, from_first=True)


def _azure_llm_extract(table: Table, choice: Choice) -> Recorded:
    found = _timed(table, "t_ms", MILLISECOND, "context_tokens")
    return _instants(table, found, AZURE_LLM, from_first=False)


def _mooncake(time: str, tokens: str) -> Loader:
    def load_mooncake(table: Table, choice: Choice) -> Recorded:
        """Each group of a 3-second step is spread uniformly over its step."""
        rng = SplitMix64(choice.seed)
        spread = (
            Arrival(arrival.at + rng.below(MOONCAKE_STEP), arrival.size) for arrival in _timed(table, time, MILLISECOND, tokens)
        )
        return _instants(table, spread, MOONCAKE, from_first=False)

    return load_mooncake


def _timed(table: Table, time: str, unit: Micros, size: str | None) -> Iterator[Arrival]:
    for number, (at, *rest) in table.rows(time, *([size] if size else [])):
        instant = round(table.number(number, time, at) * unit)
        yield Arrival(instant, table.number(number, size, rest[0]) if size else None)


def _counts(column: str, interval_us: Micros) -> Loader:
    def load_counts(table: Table, choice: Choice) -> Recorded:
        """Intervals that a file leaves out are 0; segments follow each other in the order of the file."""
        has_segments = "segment" in table.columns
        chosen = Chosen(table, choice.only)
        by_segment: dict[str, list[int]] = {}
        for number, (at, requests, *segment) in table.rows(column, "requests", *(["segment"] if has_segments else [])):
            name = str(segment[0]) if segment else ""
            if segment and not chosen.takes(name):
                continue
            counts = by_segment.setdefault(name, [])
            index = table.count(number, column, at)
            if index >= MAX_ARRIVALS:
                raise table.malformed(number, column, at, f"below {MAX_ARRIVALS:,}")
            counts.extend([0] * (index + 1 - len(counts)))
            counts[index] += table.count(number, "requests", requests)
        chosen.check()
        end_to_end = f"; segments {', '.join(by_segment)} end to end" if len(by_segment) > 1 else ""
        merged = [count for counts in by_segment.values() for count in counts]
        return _counted(table, merged, interval_us, f"counts per {column}{end_to_end}")

    return load_counts


def _plain(time: str, unit: Micros) -> Loader:
    def load_plain(table: Table, choice: Choice) -> Recorded:
        extra = tuple(column for column in ("size", "app") if column in table.columns)
        chosen = Chosen(table, choice.only)

        def arrivals() -> Iterator[Arrival]:
            for number, (at, *rest) in table.rows(time, *extra):
                cells = dict(zip(extra, rest, strict=True))
                if chosen.takes(str(cells.get("app", ""))):
                    instant = round(table.number(number, time, at) * unit)
                    yield Arrival(instant, table.number(number, "size", cells["size"]) if "size" in cells else None)
            chosen.check()

        what = "recorded by grainwise observe" if {"latency_us", "outcome"} <= set(table.columns) else "recorded arrivals"
        return _instants(table, arrivals(), _of(what, choice), from_first=False)

    return load_plain


def _of(note: str, choice: Choice) -> str:
    return note if choice.only is None else f"{note}; only {choice.only}"


AZURE_FUNCTIONS_2019 = "Azure Functions 2019, © Microsoft, CC BY 4.0; counts per minute"
AZURE_FUNCTIONS_2021 = "Azure Functions 2021, © Microsoft, CC BY 4.0; arrival = end - duration"
AZURE_LLM = "Azure LLM inference 2023, © Microsoft, CC BY 4.0; size = context tokens"
MOONCAKE = "Mooncake, Apache-2.0; size = input tokens; 3-second steps spread uniformly"

_FUNCTION, _SEGMENT, _APP = frozenset({"HashApp", "app"}), frozenset({"segment"}), frozenset({"app"})

FORMATS = (
    Format(
        "azure-functions-2019",
        frozenset({"HashOwner", "HashApp", "HashFunction", "Trigger", "1"}),
        _azure_functions_2019,
        _FUNCTION,
    ),
    Format("azure-functions-2021", frozenset({"app", "func", "end_timestamp", "duration"}), _azure_functions_2021, _FUNCTION),
    Format("azure-llm-2023", frozenset({"TIMESTAMP", "ContextTokens", "GeneratedTokens"}), _azure_llm),
    Format("azure-llm-extract", frozenset({"t_ms", "context_tokens", "generated_tokens"}), _azure_llm_extract),
    Format("mooncake", frozenset({"timestamp", "input_length", "output_length"}), _mooncake("timestamp", "input_length")),
    Format("mooncake-extract", frozenset({"t_ms", "input_tokens", "output_tokens"}), _mooncake("t_ms", "input_tokens")),
    Format("counts-per-second", frozenset({"second", "requests"}), _counts("second", SECOND), _SEGMENT),
    Format("counts-per-minute", frozenset({"minute", "requests"}), _counts("minute", MINUTE), _SEGMENT),
    Format("observed", frozenset({"t_us", "app", "size", "latency_us", "outcome"}), _plain("t_us", 1), _APP),
    Format("t_us", frozenset({"t_us"}), _plain("t_us", 1), _APP),
    Format("t_ms", frozenset({"t_ms"}), _plain("t_ms", MILLISECOND), _APP),
    Format("t_s", frozenset({"t_s"}), _plain("t_s", SECOND), _APP),
)
"""Every format, the most particular first: the first whose columns a file has is taken."""
