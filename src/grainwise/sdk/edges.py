"""What may cross an edge: from Python annotations to ``ValueType``, and whether one fits another."""

import types
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np

from grainwise.domain.errors import DeclarationError
from grainwise.domain.values import FieldType, ValueKind, ValueType

ALLOWED = (
    "numpy arrays, bytes, str, int, float, bool, a dataclass or msgspec.Struct of these, list[...] and dict[str, ...] may cross"
)
DTYPES = frozenset(
    ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
)
"""NumPy dtypes that may cross an edge."""

_CONCRETE = frozenset(np.sctypeDict.values())
_SCALARS: dict[object, ValueKind] = {bytes: "bytes", str: "text", bool: "boolean", int: "integer", float: "real"}


def type_name(annotation: object) -> str:
    """An annotation as the user wrote it, without module names."""
    if annotation is None or annotation is type(None):
        return "None"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is np.ndarray and len(arguments) == 2:
        scalar = get_args(arguments[1])
        return f"NDArray[{type_name(scalar[0])}]" if scalar else "ndarray"
    if origin is Annotated:
        return f"Annotated[{type_name(arguments[0])}, {', '.join(map(repr, annotation.__metadata__))}]"  # type: ignore[attr-defined]
    if origin in (Union, types.UnionType):
        return " | ".join(map(type_name, arguments))
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin is not None and arguments:
        inside = ", ".join("..." if item is ... else type_name(item) for item in arguments)
        return f"{getattr(origin, '__name__', origin)}[{inside}]"
    return getattr(annotation, "__name__", None) or str(annotation).removeprefix("typing.")


def plain_type(annotation: object) -> object:
    """``annotation`` without ``Annotated``, ``NewType`` and type aliases around it."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__  # type: ignore[attr-defined]
        else:
            return annotation


def describe(annotation: object, subject: str, place: str) -> ValueType:
    """The ``ValueType`` of an annotation.

    Args:
        annotation: a resolved annotation.
        subject: what is annotated, for the message: ``parameter 'texts' of stage 'shout'``.
        place: ``file:line`` of the declaration.

    Raises:
        DeclarationError: a value of this type may not cross an edge.
    """

    def refuse(found: object, why: str = "") -> DeclarationError:
        inside = "" if found is annotation else f" (in {type_name(annotation)})"
        return DeclarationError(
            f"{place}: {subject} has type {type_name(found)}{inside}, which may not cross an edge{why}: {ALLOWED}"
        )

    def walk(found: object, shape: tuple[int | None, ...] | None, above: tuple[object, ...]) -> ValueType:
        name = type_name(found)
        if get_origin(found) is Annotated:
            inner, *notes = get_args(found)
            for note in notes:
                if isinstance(note, tuple) and all(item is None or (isinstance(item, int) and item >= 0) for item in note):
                    shape = note
            return walk(inner, shape, above)
        plain = plain_type(found)
        if plain is not found:
            return walk(plain, shape, above)
        if isinstance(found, type) and found in _SCALARS:
            return ValueType(_SCALARS[found], name)
        origin = get_origin(found)
        if found is np.ndarray or origin is np.ndarray:
            dtype = _dtype(found)
            if dtype is not None and dtype not in DTYPES:
                raise refuse(found, f" because of its dtype {dtype}")
            return ValueType("tensor", name, dtype, shape)
        if origin is list:
            return ValueType("list", name, element=walk(get_args(found)[0], shape, above))
        if origin is dict:
            key, value = get_args(found)
            if key is not str:
                raise refuse(found, " because its keys are not str")
            return ValueType("mapping", name, element=walk(value, shape, above))
        if origin is Literal:
            kinds = {type(option) for option in get_args(found)}
            if len(kinds) == 1 and (kind := kinds.pop()) in _SCALARS:
                return ValueType(_SCALARS[kind], name)
        if isinstance(found, type) and origin is None:
            if found in above:
                raise refuse(found, " because it contains itself")
            if is_dataclass(found) or issubclass(found, msgspec.Struct):
                return ValueType("record", name, fields=_fields(found, lambda inner: walk(inner, None, (*above, found))))
        if found is list or found is dict:
            raise refuse(found, " because it does not say of what")
        if origin in (Union, types.UnionType) and type(None) in get_args(found):
            raise refuse(found, " because of None (use an empty list, or a flag beside it)")
        raise refuse(found)

    def _fields(record: Any, inner: Callable[[object], ValueType]) -> tuple[FieldType, ...]:
        hints = get_type_hints(record, include_extras=True)
        if issubclass(record, msgspec.Struct):
            config = record.__struct_config__
            if config.array_like or config.tag is not None:
                raise refuse(record, " because it is array_like or tagged")
            return tuple(
                FieldType(field.encode_name, inner(hints[field.name]), field.required)
                for field in msgspec.structs.fields(record)
            )
        return tuple(
            FieldType(field.name, inner(hints[field.name]), field.default is MISSING and field.default_factory is MISSING)
            for field in fields(record)
        )

    return walk(annotation, None, ())


def fits(given: ValueType, wanted: ValueType) -> bool:
    """Whether a value of type ``given`` may be handed to a parameter of type ``wanted``."""
    if given.kind != wanted.kind:
        return given.kind == "integer" and wanted.kind == "real"
    if given.kind == "tensor":
        if given.dtype is not None and wanted.dtype is not None and given.dtype != wanted.dtype:
            return False
        if given.shape is None or wanted.shape is None:
            return True
        return len(given.shape) == len(wanted.shape) and all(
            one is None or other is None or one == other for one, other in zip(given.shape, wanted.shape, strict=True)
        )
    if given.element is not None and wanted.element is not None:
        return fits(given.element, wanted.element)
    if given.kind == "record":
        return given.annotation == wanted.annotation and given.fields == wanted.fields
    return True


def _dtype(annotation: object) -> str | None:
    """The NumPy name of the dtype in ``NDArray[...]``, None where it is left open."""
    for argument in get_args(annotation):
        if get_origin(argument) is np.dtype:
            scalar = get_args(argument)[0]
            # An abstract scalar type such as np.floating leaves the dtype open.
            if scalar in _CONCRETE:
                return str(np.dtype(scalar).name)
    return None
