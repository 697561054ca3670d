"""What the options of several commands have in common: how a value is checked before anything starts."""

import math
from pathlib import Path

from grainwise.domain.app import AppSpec
from grainwise.domain.errors import ConfigurationError
from grainwise.domain.plan import Grain
from grainwise.domain.time import SECOND, Micros
from grainwise.gateway.errors import FieldError
from grainwise.gateway.grains import parse_grain


def check_positive(option: str, value: float | None) -> None:
    """Refuse what is given and is no finite number above 0.

    Raises:
        ConfigurationError: the message names the option.
    """
    if value is not None and not 0 < value < math.inf:
        raise ConfigurationError(f"{option} must be a number above 0, not {value:g}")


def to_us(option: str, seconds: float) -> Micros:
    """Seconds of an option as microseconds.

    Raises:
        ConfigurationError: they are no finite number of 0 or more; the message names the option.
    """
    if not 0 <= seconds < math.inf:
        raise ConfigurationError(f"{option} must be a number of seconds, 0 or above, not {seconds:g}")
    return round(seconds * SECOND)


def check_folder_of(option: str, path: Path | None) -> None:
    """Refuse a file that is to be written where there is no folder.

    Raises:
        ConfigurationError: the message names the option.
    """
    if path is not None and not path.resolve().parent.is_dir():
        raise ConfigurationError(f"{option} {path}: there is no folder {path.parent}; make it first")


def check_app_file(path: Path) -> None:
    """Refuse a path at which there is no file.

    Raises:
        ConfigurationError: there is none.
    """
    if not path.is_file():
        raise ConfigurationError(f"there is no app file {path}; give the path of a Python file with an App")


def read_grain(spec: AppSpec, text: str | None) -> Grain | None:
    """The granularity of ``--grain``, ``None`` where it was not given.

    Raises:
        ConfigurationError: it is no granularity of the app; the message says why.
    """
    if text is None:
        return None
    try:
        return parse_grain(spec, text, "--grain")
    except FieldError as error:
        raise ConfigurationError(str(error)) from error


def read_inputs(paths: list[Path]) -> list[tuple[bytes]] | None:
    """The files of ``--input``, an input each; ``None`` where there are none.

    Raises:
        ConfigurationError: one cannot be read.
    """
    try:
        return [(path.read_bytes(),) for path in paths] or None
    except OSError as error:
        raise ConfigurationError(f"the input {error.filename} cannot be read: {error.strerror}") from error
