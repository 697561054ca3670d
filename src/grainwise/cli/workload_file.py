"""What ``--workload`` says, to ``simulate`` and to ``load`` alike: a file, or a line for each app."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from grainwise.domain.errors import ConfigurationError
from grainwise.workloads.traces.finding import SUFFIXES
from grainwise.workloads.traffic import Traffic
from grainwise.workloads.traffic_file import is_shorthand, parse_traffic, read_traffic


def read_workload(text: str, apps: Sequence[str]) -> Traffic:
    """The traffic of a file; where there is no such file, that of a line, which is then for each of the apps.

    Raises:
        ConfigurationError: it cannot be read, describes no traffic, or is a trace.
    """
    if is_shorthand(text) and not is_file(text):
        each = [parse_traffic(text, app) for app in apps]
        return msgspec.structs.replace(each[0], streams=tuple(stream for one in each for stream in one.streams))
    try:
        data = Path(text).read_bytes()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(
            f"--workload {text} cannot be read: {why}; give the path of a file, or a line like poisson:50:60s"
        ) from error
    try:
        return read_traffic(data, text)
    except ConfigurationError as error:
        if Path(text).suffix not in SUFFIXES:
            raise
        raise ConfigurationError(
            f"--workload {text} is no workload file; if it is a trace, replay it with --workload trace:{text}"
        ) from error


def is_file(text: str) -> bool:
    """Whether there is a file of this name; a text that can name none, such as a very long one, names none."""
    return os.path.isfile(text)  # noqa: PTH113
