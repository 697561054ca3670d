"""Writes the log off the hot path: a bounded buffer, a thread that encodes and writes, segments, bounded retention."""

import threading
from collections import deque
from importlib.metadata import version
from pathlib import Path

from grainwise.control.actions import Action
from grainwise.control.controller import Controller
from grainwise.control.events import Event
from grainwise.control.log import LOG_SCHEMA, Entry, Gap, Header, Record, decode, encode
from grainwise.domain.errors import ArtifactError
from grainwise.domain.time import Instant

SEGMENT_BYTES = 64 * 1024 * 1024
RETAINED_BYTES = 1024 * 1024 * 1024
BUFFER_ENTRIES = 200_000
FLUSH_SECONDS = 0.2


class LogWriter:
    """Appends to ``folder/segment-NNNNN.log``.

    ``append`` is cheap and never blocks: entries that do not fit the buffer are dropped and a ``Gap`` is recorded, which a
    replay refuses to cross. A segment that is full is followed by one that opens with a snapshot of the controller.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: int = 0,
        note: str = "",
        segment_bytes: int = SEGMENT_BYTES,
        retained_bytes: int = RETAINED_BYTES,
        tail_entries: int = 1000,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.glob("segment-*.log")):
            raise ArtifactError(f"the log folder {folder} already holds a log; give an empty folder")
        self.folder = folder
        self._seed = seed
        self._note = note
        self._segment_bytes = segment_bytes
        self._retained_bytes = retained_bytes
        self._buffer: deque[Record] = deque()
        self._tail: deque[Entry] = deque(maxlen=tail_entries)
        self._gap_first = -1
        self._segment = 0
        self._written = 0
        self._wants_segment = False
        self._is_closed = False
        self._signal = threading.Event()
        self._file = self._path(0).open("wb")
        self._buffer.append(self._header(0, b""))
        self._thread = threading.Thread(target=self._run, name="grainwise-log", daemon=True)
        self._thread.start()

    def _path(self, segment: int) -> Path:
        return self.folder / f"segment-{segment:05d}.log"

    def _header(self, first_seq: int, snapshot: bytes) -> Header:
        return Header(LOG_SCHEMA, version("grainwise"), self._segment, first_seq, self._seed, self._note, snapshot)

    def append(self, seq: int, now: Instant, event: Event, actions: list[Action], controller: Controller) -> None:
        """Hand one entry over."""
        entry = Entry(seq, now, event, actions)
        self._tail.append(entry)
        if len(self._buffer) >= BUFFER_ENTRIES:
            if self._gap_first < 0:
                self._gap_first = seq
            return
        if self._gap_first >= 0:
            self._buffer.append(Gap(self._gap_first, seq - 1))
            self._gap_first = -1
        self._buffer.append(entry)
        if self._wants_segment:
            self._wants_segment = False
            self._segment += 1
            self._buffer.append(self._header(seq + 1, controller.snapshot()))

    def tail(self, count: int) -> list[Entry]:
        """The latest entries, oldest first."""
        return list(self._tail)[-count:] if count > 0 else []

    def _run(self) -> None:
        while not self._is_closed:
            self._signal.wait(FLUSH_SECONDS)
            self._drain()
        self._drain()

    def _drain(self) -> None:
        buffer = self._buffer
        while buffer:
            record = buffer.popleft()
            frame = encode(record)
            if isinstance(record, Header) and record.segment:
                self._file.close()
                self._file = self._path(record.segment).open("wb")
                self._written = 0
                self._retain()
            self._file.write(frame)
            self._written += len(frame)
            if self._written >= self._segment_bytes:
                self._wants_segment = True
        self._file.flush()

    def _retain(self) -> None:
        segments = sorted(self.folder.glob("segment-*.log"))
        total = sum(path.stat().st_size for path in segments)
        for path in segments[:-1]:
            if total <= self._retained_bytes:
                return
            total -= path.stat().st_size
            path.unlink()

    def close(self) -> None:
        """Write what is buffered and end."""
        if self._is_closed:
            return
        self._is_closed = True
        self._signal.set()
        self._thread.join()
        self._file.close()


def read_log(path: Path) -> list[Record]:
    """The records of a log folder or of one segment file, in order.

    Raises:
        ArtifactError: there is no log at ``path``, or it is malformed.
    """
    segments = sorted(path.glob("segment-*.log")) if path.is_dir() else [path]
    if not segments or not segments[0].exists():
        raise ArtifactError(f"there is no log at {path}; give the folder that `grainwise serve --log` wrote")
    return [record for segment in segments for record in decode(segment.read_bytes(), str(segment))]
