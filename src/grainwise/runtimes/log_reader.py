"""Reads logs a segment at a time, so that the longest needs no more memory than one; follows one that is being written."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from grainwise.control.log import Entry, Gap, Header, Record, decode
from grainwise.domain.errors import ArtifactError
from grainwise.telemetry.log_folder import segments_in

_POLL_S = 0.1


def records(path: Path) -> Iterator[Record]:
    """The records of a log folder or of one segment file, in order.

    Where a segment does not begin with the entry after the last one before it (a file is missing or was cut off), there is a
    ``Gap``.

    Raises:
        ArtifactError: there is no log at ``path``, it is empty or malformed, or it cannot be read.
    """
    found = segments(path)
    if not found:
        raise ArtifactError(f"there is no log at {path}; give the folder that `grainwise serve --log` wrote")
    return _records(path, found)


def _records(path: Path, found: list[Path]) -> Iterator[Record]:
    next_seq = -1
    for segment in found:
        try:
            data = segment.read_bytes()
        except OSError as error:
            raise ArtifactError(f"the log {segment} cannot be read: {error.strerror}") from error
        for record in decode(data, str(segment)):
            if isinstance(record, Header):
                if next_seq >= 0 and record.first_seq != next_seq:
                    yield Gap(next_seq, record.first_seq - 1)
                next_seq = record.first_seq
            else:
                next_seq = (record.seq if isinstance(record, Entry) else record.last_seq) + 1
            yield record
    if next_seq < 0:
        raise ArtifactError(f"the log {path} is empty; the run that wrote it ended before its first entry")


def segments(path: Path) -> list[Path]:
    """The segment files of a log folder in order, or the one file that ``path`` is; empty where there is none."""
    if path.is_dir():
        return segments_in(path)
    return [path] if path.is_file() else []


def follow(folder: Path, is_over: Callable[[], bool]) -> Iterator[Record]:
    """What is written to a growing log from now on, until ``is_over`` holds.

    Args:
        folder: of a log that a server writes.
        is_over: asked before what has been written is read; once it holds, the rest is read and that is the end.

    Raises:
        ArtifactError: there is no log, it is malformed, or it cannot be read.
    """
    present = segments(folder)
    if not present:
        raise ArtifactError(f"there is no log at {folder}; give the folder of a server that runs here")
    at = present[-1]
    offset = _whole_frames(at, 0)[1]
    while True:
        is_last = is_over()
        later = [path for path in segments(folder) if path.name > at.name]
        frames, offset = _whole_frames(at, offset)
        yield from decode(frames, str(at))
        if later:
            at, offset = later[0], 0
        elif is_last:
            return
        elif not frames:
            time.sleep(_POLL_S)


def _whole_frames(path: Path, offset: int) -> tuple[bytes, int]:
    """The frames of a file from ``offset`` on that are written to their end, and the offset after them."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except OSError as error:
        raise ArtifactError(f"the log {path} cannot be read: {error.strerror}") from error
    end = 0
    while end + 4 <= len(data):
        after = end + 4 + int.from_bytes(data[end : end + 4], "big")
        if after > len(data):
            break
        end = after
    return data[:end], offset + end
