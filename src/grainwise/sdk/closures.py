"""What a stage captures: an instance is a forked process, so locks, sockets, open files and sessions cannot come along."""

import pickle
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from grainwise.domain.errors import DeclarationError

_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.ndarray, np.generic, ModuleType, type)


def check_captured(declared: Callable[..., Any], stage: str, place: str) -> None:
    """Refuse a stage that closes over state which cannot be copied to an instance.

    Raises:
        DeclarationError: a captured variable, a default or a class attribute holds such state; the message names it.
    """
    seen: set[int] = set()
    if isinstance(declared, type):
        for owner in declared.__mro__[:-1]:
            for name, attribute in vars(owner).items():
                function = getattr(attribute, "__func__", attribute)
                if isinstance(function, FunctionType):
                    _check_function(function, stage, place, seen)
                elif not name.startswith("__") and not hasattr(attribute, "__get__"):
                    _check_value(attribute, f"the class attribute {name!r}", stage, place, seen)
    elif isinstance(declared, FunctionType):
        _check_function(declared, stage, place, seen)
    else:
        function = getattr(declared, "__func__", None)
        if isinstance(function, FunctionType):
            _check_function(function, stage, place, seen)
        _check_value(getattr(declared, "__self__", declared), "the object that it is bound to", stage, place, seen)


def _check_function(function: FunctionType, stage: str, place: str, seen: set[int]) -> None:
    if id(function) in seen:
        return
    seen.add(id(function))
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:
            continue  # not assigned yet: a local name that the function refers to itself by
        _check_value(value, f"the captured variable {name!r}", stage, place, seen)
    for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        _check_value(default, "a default", stage, place, seen)


def _check_value(value: object, subject: str, stage: str, place: str, seen: set[int]) -> None:
    if isinstance(value, _PLAIN) or id(value) in seen:
        return
    if isinstance(value, FunctionType):
        _check_function(value, stage, place, seen)
        return
    seen.add(id(value))
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_value(inner, f"{subject}[{key!r}]", stage, place, seen)
        return
    if isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            _check_value(inner, f"an entry of {subject}", stage, place, seen)
        return
    try:
        pickle.dumps(value)
    except Exception as error:
        raise DeclarationError(
            f"{place}: stage {stage!r} closes over unpicklable state: {subject} holds a {type(value).__name__} ({error}); "
            "make it in the constructor of a class and declare the class as the stage"
        ) from error
