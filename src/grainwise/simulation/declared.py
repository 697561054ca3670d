"""Reads a YAML file into a typed declaration; an error names the file, the key, its value and what it may be.

The declaration is a ``msgspec.Struct`` whose fields carry their range and, as ``Meta(description=...)``, what they mean.
"""

import re
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import inspect

from grainwise.domain.errors import ConfigurationError
from grainwise.workloads.yaml_text import read_yaml

T = TypeVar("T")

_PATH = re.compile(r"^(.*?)(?: - at `(\$[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


def read_declared(data: bytes, name: str, declaration: type[T]) -> T:
    """The declaration that ``data`` holds; ``name`` is what errors call the file.

    Raises:
        ConfigurationError: it is no YAML (see ``read_yaml``), or a key is unknown, missing, of another type or out of range.
    """
    raw = read_yaml(data, name)
    try:
        return msgspec.convert(raw, declaration)
    except msgspec.ValidationError as error:
        _explain(error, raw, name, declaration)
    except RecursionError as error:
        raise ConfigurationError(f"{name}: it refers to itself; write the values out") from error


def _explain(error: msgspec.ValidationError, raw: Any, name: str, declaration: type) -> NoReturn:
    matched = _PATH.match(str(error))
    said, path = (matched[1], matched[2] or "$") if matched is not None else (str(error), "$")
    kind: inspect.Type = inspect.type_info(declaration)
    value, about = raw, ""
    for step in _STEP.finditer(path):
        key, index = step.groups()
        value = value[key] if key is not None else value[int(index)]
        kind, about = _inner(kind, key, about)
    where = path.removeprefix("$").removeprefix(".") or "the file"
    if (unknown := _UNKNOWN.match(said)) is not None:
        key = unknown[1]
        full = key if where == "the file" else f"{where}.{key}"
        shown = _shown(value.get(key) if isinstance(value, dict) else value)
        reason = f"{full} is {shown}, a key that is not known here: use one of {', '.join(_keys(kind))}"
    elif (missing := _MISSING.match(said)) is not None:
        kind, about = _inner(kind, missing[1], "")
        full = missing[1] if where == "the file" else f"{where}.{missing[1]}"
        reason = f"{full} is missing: give {_allowed(kind)}{about}"
    else:
        reason = f"{where} is {_shown(value)}: give {_allowed(kind)}{about}"
    raise ConfigurationError(f"{name}: {reason}") from error


def _inner(kind: inspect.Type, key: str | None, about: str) -> tuple[inspect.Type, str]:
    """The type of a field or an element, and what the field means; an element means what its list does."""
    kind = _bare(kind)
    if key is None:
        return (kind.item_type if isinstance(kind, inspect.VarTupleType | inspect.ListType) else kind), about
    for field in kind.fields if isinstance(kind, inspect.StructType) else ():
        if field.encode_name == key:
            said = _description(field.type)
            return field.type, f" ({said})" if said else ""
    return kind, ""


def _description(kind: inspect.Type) -> str:
    parts = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    found = [part.extra_json_schema for part in parts if isinstance(part, inspect.Metadata) and part.extra_json_schema]
    return str(found[0].get("description", "")) if found else ""


def _bare(kind: inspect.Type) -> inspect.Type:
    """The type without its description; of an optional value, the type of what may be there."""
    if isinstance(kind, inspect.Metadata):
        return _bare(kind.type)
    if isinstance(kind, inspect.UnionType):
        return next((_bare(one) for one in kind.types if not isinstance(one, inspect.NoneType)), kind)
    return kind


def _keys(kind: inspect.Type) -> list[str]:
    kind = _bare(kind)
    return [field.encode_name for field in kind.fields] if isinstance(kind, inspect.StructType) else []


def _allowed(kind: inspect.Type) -> str:
    """A type and its range in words."""
    kind = _bare(kind)
    match kind:
        case inspect.FloatType() | inspect.IntType():
            bounds = [
                f"{word} {bound:g}"
                for word, bound in (("at least", kind.ge), ("above", kind.gt), ("at most", kind.le), ("below", kind.lt))
                if bound is not None
            ]
            word = "a number" if isinstance(kind, inspect.FloatType) else "a whole number"
            return f"{word} {' and '.join(bounds)}".rstrip()
        case inspect.LiteralType():
            return "one of " + ", ".join(str(value) for value in kind.values)
        case inspect.StrType():
            return "text" + (f" that matches {kind.pattern}" if kind.pattern else "")
        case inspect.BoolType():
            return "true or false"
        case inspect.VarTupleType() | inspect.ListType():
            return "a list" + (f" of at least {kind.min_length}" if kind.min_length else "")
        case inspect.StructType():
            return f"a mapping with the keys {', '.join(_keys(kind))}"
        case _:
            return f"a value of type {type(kind).__name__.removesuffix('Type').lower()}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
