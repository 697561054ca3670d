"""Where in the user's files a declaration stands, for messages that can be clicked."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

_PACKAGE = str(Path(__file__).resolve().parent.parent)


def caller() -> str:
    """``file:line`` of the innermost frame outside this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return "<unknown>" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def definition(function: Callable[..., Any]) -> str:
    """``file:line`` of a function's first line, the caller's place where a callable has no code of its own."""
    code = getattr(function, "__code__", None)
    return caller() if code is None else f"{code.co_filename}:{code.co_firstlineno}"
