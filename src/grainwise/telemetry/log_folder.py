"""Where the segments of a log lie: the same for the log of a live run and for that of a simulated one."""

from pathlib import Path
from typing import BinaryIO

from grainwise.domain.errors import ArtifactError, ConfigurationError

SEGMENT_BYTES = 64 * 1024 * 1024
"""About how long a segment is."""


def segment_path(folder: Path, segment: int) -> Path:
    """The file of a segment by its number."""
    return folder / f"segment-{segment:05d}.log"


def segments_in(folder: Path) -> list[Path]:
    """The segments of a log, in order."""
    return sorted(folder.glob("segment-*.log"))


def open_first_segment(folder: Path) -> BinaryIO:
    """Begin a log in a folder, which is made if need be.

    Raises:
        ConfigurationError: the folder cannot be written.
        ArtifactError: it holds a log.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if segments_in(folder):
            raise ArtifactError(f"the log folder {folder} already holds a log; give an empty folder")
        return segment_path(folder, 0).open("wb")
    except OSError as error:
        raise ConfigurationError(
            f"the log folder {folder} cannot be written: {error.strerror}; give another with --log"
        ) from error
