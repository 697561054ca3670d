"""Example inputs of an app: a function of the user's, called where user code may run, and its result made uniform."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from grainwise.domain.errors import DeclarationError

SamplesFunction = Callable[[], Sequence[Any]]
"""Returns a list with an entry per sample: the input itself, or a tuple of inputs where the flow has several."""


def check_function(function: object, app: str, place: str) -> None:
    """Refuse what cannot be called without arguments.

    Raises:
        DeclarationError: it is no function, or it needs arguments.
    """
    if not callable(function):
        raise DeclarationError(f"{place}: the samples of app {app!r} are {function!r}; put @app.samples above a function")
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is parameter.empty and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise DeclarationError(
                f"{place}: the samples function of app {app!r} needs {parameter.name!r}; it is called without arguments"
            )


def read(function: SamplesFunction, app: str, place: str, names: Sequence[str]) -> list[tuple[object, ...]]:
    """Call a samples function: per sample a tuple with one value for each of the entry values ``names``.

    Raises:
        DeclarationError: it raised, or what it returned is no list of samples; the message says what to return.
    """
    subject = f"{place}: the samples function of app {app!r}"
    try:
        returned = function()
    except Exception as error:
        raise DeclarationError(f"{subject} raised {type(error).__name__}: {error}") from error
    if not isinstance(returned, list | tuple) or not returned:
        raise DeclarationError(f"{subject} returned {_shown(returned)}; return a list with at least one sample")
    if len(names) == 1:
        return [(sample,) for sample in returned]
    samples: list[tuple[object, ...]] = []
    for index, sample in enumerate(returned):
        if not isinstance(sample, tuple) or len(sample) != len(names):
            raise DeclarationError(
                f"{subject} returned {_shown(sample)} as sample {index}; the flow has {len(names)} entry values, "
                f"so a sample is a tuple ({', '.join(names)})"
            )
        samples.append(sample)
    return samples


def how_to_add(names: Sequence[str]) -> str:
    """The lines that give an app samples."""
    one = names[0] if len(names) == 1 else f"({', '.join(names)})"
    return f"    @app.samples\n    def samples():\n        return [{one}, ...]  # a few typical inputs"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"


__all__ = ["SamplesFunction", "check_function", "how_to_add", "read"]
