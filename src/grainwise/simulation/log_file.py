"""The log of a simulated run, written as it comes: time waits for the disk here, so that nothing is ever left out."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

from grainwise.control.actions import Action
from grainwise.control.controller import Controller
from grainwise.control.events import Event
from grainwise.control.log import LOG_SCHEMA, Entry, Header, encode
from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import Instant
from grainwise.telemetry.log_folder import SEGMENT_BYTES, open_first_segment, segment_path

ORIGIN, END = "origin_us", "end_us"
"""Of the digests in a header: the instants between which traffic comes, in a simulated run."""
NOTES = "notes"
"""Of the digests in a header: what a simulated run says of itself, a line each."""
TENANTS = "tenants"
"""Of the digests in a header: the names of the tenants of a simulated run, whose requests the log does not tell apart."""


class LogFile:
    """Writes ``folder/segment-NNNNN.log``; every segment after the first opens with a snapshot. A context manager.

    Args:
        folder: made if need be; holds no log yet.
        seed: of the run.
        note: for the headers.
        digests: of what the run is made of, for the headers.
        segment_bytes: about how long a segment is.

    Raises:
        ConfigurationError: the folder cannot be written.
        ArtifactError: it holds a log.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        note: str = "",
        digests: Mapping[str, str] | None = None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.folder = folder
        self._seed = seed
        self._note = note
        self._digests = dict(digests or {})
        self._segment_bytes = segment_bytes
        self._segment = 0
        self._written = 0
        self._file = open_first_segment(folder)
        self._write(self._header(0, b""))

    def append(self, seq: int, now: Instant, event: Event, actions: list[Action], controller: Controller | None) -> None:
        """Write one entry; the next segment begins only where ``controller`` is as it was right after this entry.

        Raises:
            ConfigurationError: the disk refuses it.
        """
        self._write(encode(Entry(seq, now, event, actions)))
        if controller is not None and self._written >= self._segment_bytes:
            self._file.close()
            self._segment += 1
            self._file = segment_path(self.folder, self._segment).open("wb")
            self._write(self._header(seq + 1, controller.snapshot()))
            # A long snapshot is no reason to begin yet another segment.
            self._written = 0

    def close(self) -> None:
        """Complete the log. Idempotent."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _header(self, first_seq: int, snapshot: bytes) -> bytes:
        header = Header(
            LOG_SCHEMA, version("grainwise"), self._segment, first_seq, self._seed, self._note, snapshot, self._digests
        )
        return encode(header)

    def _write(self, frame: bytes) -> None:
        try:
            self._file.write(frame)
        except OSError as error:
            raise ConfigurationError(f"the log in {self.folder} cannot be written any more: {error.strerror}") from error
        self._written += len(frame)
