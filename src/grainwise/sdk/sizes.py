"""Measures of an item, by which latency is predicted and batches are weighed.

A measure is additive over lists and mappings, so a list has the same size whether it is stored whole or taken apart. Text
is measured in UTF-8 bytes, so that the door and an instance agree. The door measures entry values with ``measure`` or
``from_metadata`` and never runs user code.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from math import isfinite, prod
from typing import Any

import msgspec
import numpy as np

from grainwise.domain.errors import InputError
from grainwise.domain.values import ValueKind, ValueType

_Leaf = Callable[[Any], float]
_Shape = Callable[[Sequence[int], int], float]


class Size:
    """A built-in measure, usable as ``size=`` of a stage. Calling it measures one value: a finite number >= 0."""

    __slots__ = ("_of_tensor", "_of_text", "description", "name")

    def __init__(self, name: str, description: str, of_tensor: _Shape, of_text: _Leaf) -> None:
        self.name = name
        self.description = description
        self._of_tensor = of_tensor
        self._of_text = of_text

    def __repr__(self) -> str:
        return f"sizes.{self.name}"

    def __call__(self, value: object) -> float:
        """The size of ``value``."""
        if isinstance(value, np.ndarray):
            return self._of_tensor(value.shape, value.nbytes)
        if isinstance(value, str):
            return self._of_text(len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass")))
        if isinstance(value, bytes | bytearray | memoryview):
            return self._of_text(memoryview(value).nbytes)
        if isinstance(value, list | tuple):
            return float(sum(self(element) for element in value))
        if isinstance(value, dict):
            return float(sum(self(element) for element in value.values()))
        if self.name == "nbytes":
            if isinstance(value, msgspec.Struct):
                return float(sum(self(getattr(value, name)) for name in value.__struct_fields__))
            if is_dataclass(value) and not isinstance(value, type):
                return float(sum(self(getattr(value, field.name)) for field in fields(value)))
            return 8.0
        return 1.0

    def of_metadata(self, shape: Sequence[int], nbytes: int) -> float:
        """The size of a tensor of ``shape``, or with an empty shape of text or bytes, of ``nbytes`` bytes."""
        return self._of_tensor(shape, nbytes)


class _One(Size):
    __slots__ = ()

    def __call__(self, value: object) -> float:
        """Every item counts one."""
        return 1.0


def _pixels(shape: Sequence[int], nbytes: int) -> float:
    return float(shape[0] * shape[1]) if len(shape) >= 2 else float(prod(shape))


one = _One("one", "every item counts one", lambda shape, nbytes: 1.0, lambda length: 1.0)
"""Every item counts one: for stages whose time does not depend on the item."""
pixels = Size("pixels", "height x width of an image array", _pixels, float)
"""The first two dimensions multiplied, for image arrays of height x width (x channels)."""
length = Size("length", "first dimension, bytes of text", lambda shape, nbytes: float(shape[0]) if shape else 1.0, float)
"""The first dimension of an array, the bytes of a text or of ``bytes``; a number or a record counts one."""
nbytes = Size("nbytes", "bytes", lambda shape, nbytes: float(nbytes), float)
"""Bytes of arrays, texts and ``bytes``; a number counts eight."""
elements = Size("elements", "numbers in an array", lambda shape, nbytes: float(prod(shape)), float)
"""Numbers in an array, whatever its shape."""

SIZE_BY_NAME: dict[str, Size] = {size.name: size for size in (one, pixels, length, nbytes, elements)}
"""The built-in measures by the name that ``StageSpec.size`` carries."""


def measure(name: str, value: object) -> float:
    """The size of a decoded value under the built-in measure ``name``.

    Raises:
        InputError: there is no such built-in measure.
    """
    return _named(name)(value)


def from_metadata(name: str, dtype: str | None, shape: Sequence[int] | None, nbytes: int) -> float:
    """The size of an entry value from what its header says, without looking at its bytes.

    ``shape`` and ``dtype`` are those of a tensor; both are None for text and ``bytes`` of ``nbytes`` bytes. Lists, mappings
    and records are measured on the decoded value, with ``measure``.

    Raises:
        InputError: there is no such built-in measure, or a dimension or ``nbytes`` is negative.
    """
    size = _named(name)
    if nbytes < 0 or (shape is not None and any(dimension < 0 for dimension in shape)):
        raise InputError(f"a size cannot be measured on a negative extent: shape {shape}, {nbytes} bytes")
    if dtype is None or shape is None:
        return 1.0 if name == "one" else float(nbytes)
    return size.of_metadata(shape, nbytes)


def checked(value: object, measured_by: str) -> float:
    """``value`` as a size.

    Raises:
        InputError: it is no finite number >= 0; the message names ``measured_by``.
    """
    if isinstance(value, int | float | np.integer | np.floating):
        number = float(value)
        if isfinite(number) and number >= 0:
            return number
    raise InputError(f"the size function of {measured_by} returned {value!r}; a size is a finite number >= 0")


_MEASURABLE: dict[str, frozenset[ValueKind]] = {"pixels": frozenset({"tensor"}), "elements": frozenset({"tensor"})}


def can_measure(name: str, value_type: ValueType) -> bool:
    """Whether the built-in measure ``name`` says something about values of this type."""
    kinds = _MEASURABLE.get(name)
    if kinds is None:
        return True
    if value_type.kind in ("list", "mapping") and value_type.element is not None:
        return can_measure(name, value_type.element)
    return value_type.kind in kinds


def _named(name: str) -> Size:
    try:
        return SIZE_BY_NAME[name]
    except KeyError:
        raise InputError(f"there is no built-in size named {name!r}; there are: {', '.join(SIZE_BY_NAME)}") from None


__all__ = ["SIZE_BY_NAME", "Size", "can_measure", "checked", "elements", "from_metadata", "length", "measure"]
__all__ += ["nbytes", "one", "pixels"]
