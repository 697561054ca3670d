"""Writes the log off the hot path: a bounded buffer, a thread that writes, segments, bounded retention.

Entries are encoded where they arise: that takes as long as guessing how much memory they would hold until later, keeps nothing
alive, and leaves the thread nothing to do for which it would hold the interpreter. The latest are kept encoded too, until
someone looks: a thousand live records would push what the controller works on out of the cache.
"""

import logging
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from grainwise.control.actions import Action
from grainwise.control.controller import Controller
from grainwise.control.events import Event
from grainwise.control.log import LOG_SCHEMA, Entry, Gap, Header, Record, decode, encode
from grainwise.domain.time import Instant
from grainwise.runtimes.log_reader import records
from grainwise.telemetry.log_folder import SEGMENT_BYTES, open_first_segment, segment_path, segments_in

RETAINED_BYTES = 1024 * 1024 * 1024
BUFFER_ENTRIES = 200_000
BUFFER_BYTES = 32 * 1024 * 1024
FLUSH_SECONDS = 0.2

CHUNK_BYTES = 256 * 1024
"""About how much is written at once: after each call to the system the thread waits for the interpreter anew."""

logger = logging.getLogger("grainwise.log")


class _Opening:
    """What follows in the buffer goes to another segment."""

    __slots__ = ("segment",)

    def __init__(self, segment: int) -> None:
        self.segment = segment


class LogWriter:
    """Appends to ``folder/segment-NNNNN.log``.

    ``append`` is cheap and never blocks: entries that do not fit the buffer are dropped and a ``Gap`` is recorded, which a
    replay refuses to cross. A segment that is full, or behind a gap, is followed by one that opens with a snapshot of the
    controller. Where the disk refuses, the log ends there and the server goes on.

    Args:
        folder: made if need be; holds no log yet.
        seed: of the run, for the header.
        note: for the header.
        segment_bytes: about how long a segment is.
        retained_bytes: the oldest segments beyond it are deleted; the latest stays.
        tail_entries: how many of the latest entries ``tail`` can give.
        buffer_entries: how many may wait to be written.
        buffer_bytes: how many encoded bytes may wait.
        digests: of what the run is made of, for the headers.

    Raises:
        ConfigurationError: the folder cannot be written.
        ArtifactError: it holds a log.
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
        buffer_entries: int = BUFFER_ENTRIES,
        buffer_bytes: int = BUFFER_BYTES,
        digests: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._seed = seed
        self._note = note
        self._segment_bytes = segment_bytes
        self._retained_bytes = retained_bytes
        self._buffer_entries = buffer_entries
        self._buffer_bytes = buffer_bytes
        self._digests = dict(digests or {})
        self._buffer: deque[bytes | _Opening | threading.Event] = deque()
        # Each is written by one thread only, so that no update is lost: what waits is their difference.
        self._bytes_put = 0
        self._bytes_taken = 0
        self._tail: deque[Entry] = deque(maxlen=tail_entries)
        self._unread: deque[bytes] = deque(maxlen=tail_entries)
        self._gap_first = -1
        self._last_seq = -1
        self._segment = 0
        self._wanted_segment = 0
        self._written_segment = 0
        self._written = 0
        self._is_closed = False
        self._signal = threading.Event()
        self._file = open_first_segment(folder)
        self._put(encode(self._header(0, b"")))
        self._thread = threading.Thread(target=self._run, name="grainwise-log", daemon=True)
        self._thread.start()

    def _header(self, first_seq: int, snapshot: bytes) -> Header:
        return Header(
            LOG_SCHEMA, version("grainwise"), self._segment, first_seq, self._seed, self._note, snapshot, self._digests
        )

    def _put(self, frame: bytes) -> None:
        self._bytes_put += len(frame)
        self._buffer.append(frame)

    def append(self, seq: int, now: Instant, event: Event, actions: list[Action], controller: Controller) -> None:
        """Hand one entry over."""
        frame = encode(Entry(seq, now, event, actions))
        self._unread.append(frame)
        self._last_seq = seq
        if len(self._buffer) >= self._buffer_entries or self._bytes_put - self._bytes_taken >= self._buffer_bytes:
            if self._gap_first < 0:
                self._gap_first = seq
            return
        if self._gap_first >= 0:
            # This entry still belongs to the gap: what follows starts from a snapshot of after it.
            self._put(encode(Gap(self._gap_first, seq)))
            self._gap_first = -1
            self._begin_segment(self._segment + 1, seq, controller)
            return
        self._put(frame)
        if self._wanted_segment > self._segment:
            self._begin_segment(self._wanted_segment, seq, controller)

    def _begin_segment(self, segment: int, after_seq: int, controller: Controller) -> None:
        self._segment = segment
        self._buffer.append(_Opening(segment))
        self._put(encode(self._header(after_seq + 1, controller.snapshot())))

    def tail(self, count: int) -> list[Entry]:
        """The latest entries, oldest first, as a reader of the log sees them."""
        unread = b"".join(self._unread)
        self._unread.clear()
        self._tail.extend(record for record in decode(unread) if isinstance(record, Entry))
        return list(self._tail)[-count:] if count > 0 else []

    def flush(self) -> None:
        """Wait until everything that was handed over is written, or until the disk has refused it."""
        if self._is_closed:
            return
        is_written = threading.Event()
        self._buffer.append(is_written)
        self._signal.set()
        is_written.wait()

    def _run(self) -> None:
        try:
            while not self._is_closed:
                self._signal.wait(FLUSH_SECONDS)
                self._signal.clear()
                self._drain()
            self._drain()
            self._file.close()
        except OSError as error:
            logger.error("the log in %s ends here, it cannot be written any more: %s", self.folder, error)
            with suppress(OSError):
                self._file.close()
            while not self._is_closed:
                self._discard()
                self._signal.wait(FLUSH_SECONDS)
                self._signal.clear()
            self._discard()

    def _discard(self) -> None:
        while self._buffer:
            item = self._buffer.popleft()
            if isinstance(item, threading.Event):
                item.set()
            elif isinstance(item, bytes):
                self._bytes_taken += len(item)

    def _drain(self) -> None:
        buffer = self._buffer
        while buffer:
            self._write_frames()
            if not buffer or isinstance(buffer[0], bytes):
                continue
            # Only now: where the disk has refused what came before it, whoever waits is found in the buffer.
            item = buffer.popleft()
            if isinstance(item, _Opening):
                self._file.close()
                self._file = segment_path(self.folder, item.segment).open("wb")
                self._written_segment = item.segment
                self._written = 0
                self._retain()
            elif isinstance(item, threading.Event):
                self._file.flush()
                item.set()
        self._file.flush()

    def _write_frames(self) -> None:
        """Write the frames that are next in the buffer, about as many as a chunk holds."""
        buffer = self._buffer
        frames: list[bytes] = []
        size = 0
        while buffer and size < CHUNK_BYTES and isinstance(frame := buffer[0], bytes):
            buffer.popleft()
            frames.append(frame)
            size += len(frame)
        self._bytes_taken += size
        self._file.write(b"".join(frames))
        self._written += size
        if self._written >= self._segment_bytes:
            self._wanted_segment = self._written_segment + 1

    def _retain(self) -> None:
        segments = segments_in(self.folder)
        total = sum(path.stat().st_size for path in segments)
        for path in segments[:-1]:
            if total <= self._retained_bytes:
                return
            total -= path.stat().st_size
            path.unlink()

    def close(self) -> None:
        """Write what is buffered and end. Idempotent."""
        if self._is_closed:
            return
        if self._gap_first >= 0:
            self._put(encode(Gap(self._gap_first, self._last_seq)))
        self._is_closed = True
        self._signal.set()
        self._thread.join()


def read_log(path: Path) -> list[Record]:
    """The records of a log folder or of one segment file, in order, all at once; see ``log_reader.records``.

    Raises:
        ArtifactError: there is no log at ``path``, it cannot be read, or it is malformed.
    """
    return list(records(path))
