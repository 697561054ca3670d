"""The table between types on an edge and the datatypes of the Open Inference Protocol.

========================  =====================  =============================================
Grainwise                 OIP                    form
========================  =====================  =============================================
tensor of a dtype         ``UINT8`` … ``FP64``   its shape
bytes, text               ``BYTES``              ``[1]``, the text in UTF-8
integer, real, boolean    ``INT64 FP64 BOOL``    ``[1]``
list of one of these      the item's datatype    ``[n]``
list of anything else     ``BYTES``              ``[n]``, each element a JSON document
mapping, record           ``BYTES``              ``[1]``, a JSON document
========================  =====================  =============================================

Inside JSON, bytes are ``{"b64": "…"}`` and tensors are nested lists.
"""

import base64
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from grainwise.domain.errors import GrainwiseError
from grainwise.domain.values import ValueType
from grainwise.gateway.errors import FieldError

DTYPE_BY_DATATYPE: dict[str, str] = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
DATATYPE_BY_DTYPE: dict[str, str] = {dtype: datatype for datatype, dtype in DTYPE_BY_DATATYPE.items()}
ITEMSIZE_BY_DATATYPE: dict[str, int] = {datatype: np.dtype(dtype).itemsize for datatype, dtype in DTYPE_BY_DATATYPE.items()}
ANY_DATATYPE = "ANY"
"""What metadata says of a tensor whose annotation leaves the dtype open: every datatype of the table is taken."""

_SCALAR_DATATYPE = {"integer": "INT64", "real": "FP64", "boolean": "BOOL"}
_BYTES_KINDS = ("bytes", "text")


def datatype_of(value_type: ValueType) -> str:
    """The OIP datatype that a value of this type travels as."""
    if value_type.kind == "tensor":
        return ANY_DATATYPE if value_type.dtype is None else DATATYPE_BY_DTYPE.get(value_type.dtype, "BYTES")
    if value_type.kind == "list" and value_type.element is not None and value_type.element.kind in _SCALAR_DATATYPE:
        return _SCALAR_DATATYPE[value_type.element.kind]
    return _SCALAR_DATATYPE.get(value_type.kind, "BYTES")


def shape_of(value_type: ValueType) -> list[int]:
    """The OIP shape of a type, -1 for a free dimension; ``[-1]`` where the rank itself is free."""
    if value_type.kind == "tensor":
        return [-1] if value_type.shape is None else [-1 if size is None else size for size in value_type.shape]
    return [-1] if value_type.kind == "list" else [1]


def is_json_element(value_type: ValueType) -> bool:
    """Whether a BYTES element of this type holds a JSON document rather than bytes or text."""
    return value_type.kind not in _BYTES_KINDS


def to_jsonable(value: object) -> object:
    """``value`` as ``msgspec.json`` writes it for clients: arrays as nested lists, bytes as ``{"b64": …}``."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, bytes | bytearray | memoryview):
        return {"b64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, msgspec.Struct):
        return {name: to_jsonable(getattr(value, name)) for name in value.__struct_fields__}
    if dataclasses.is_dataclass(value):
        return {field.name: to_jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Iterable):
        return [to_jsonable(item) for item in value]
    raise GrainwiseError(f"a value of type {type(value).__name__} has no JSON form; let the stage return one that has")


def from_jsonable(value: object, value_type: ValueType, field: str) -> object:
    """A JSON value as the Python value of a declared type; the store checks what is left open here.

    Raises:
        FieldError: it does not fit; ``field`` and the place inside it are named.
    """
    kind = value_type.kind
    if kind == "tensor":
        return tensor_from_json(value, value_type, field)
    if kind == "bytes":
        return _b64(value, field)
    if kind == "list":
        if not isinstance(value, list):
            raise FieldError(field, f"a list is expected, not {_name(value)}")
        if value_type.element is None:
            return value
        element = value_type.element
        return [from_jsonable(item, element, f"{field}[{index}]") for index, item in enumerate(value)]
    if kind == "mapping":
        if not isinstance(value, dict):
            raise FieldError(field, f"an object is expected, not {_name(value)}")
        if value_type.element is None:
            return value
        element = value_type.element
        return {key: from_jsonable(item, element, f"{field}.{key}") for key, item in value.items()}
    if kind == "text" and not isinstance(value, str):
        raise FieldError(field, f"a string is expected, not {_name(value)}")
    if kind == "integer" and (not isinstance(value, int) or isinstance(value, bool)):
        raise FieldError(field, f"an integer is expected, not {_name(value)}")
    if kind == "boolean" and not isinstance(value, bool):
        raise FieldError(field, f"true or false is expected, not {_name(value)}")
    if kind == "record":
        return _record_from_json(value, value_type, field)
    if kind == "real":
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise FieldError(field, f"a number is expected, not {_name(value)}")
        return float(value)
    return value


def _record_from_json(value: object, value_type: ValueType, field: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise FieldError(field, f"an object is expected, not {_name(value)}")
    types = {entry.name: entry.type for entry in value_type.fields}
    for name in value:
        if name not in types:
            raise FieldError(f"{field}.{name}", f"{value_type.annotation} has no such field; it has {', '.join(types)}")
    for entry in value_type.fields:
        if entry.is_required and entry.name not in value:
            raise FieldError(f"{field}.{entry.name}", f"{value_type.annotation} needs this field")
    return {name: from_jsonable(item, types[name], f"{field}.{name}") for name, item in value.items()}


def tensor_from_json(value: object, value_type: ValueType, field: str) -> npt.NDArray[np.generic]:
    """An array from nested lists, or from ``{"b64": …, "dtype": …, "shape": […]}``.

    Raises:
        FieldError: ragged, not numbers, out of the dtype's range, or of another shape than declared.
    """
    if isinstance(value, dict):
        dtype = value.get("dtype", value_type.dtype)
        if not isinstance(dtype, str) or dtype not in DATATYPE_BY_DTYPE:
            raise FieldError(f"{field}.dtype", f"{dtype!r} is no dtype; give one of {', '.join(DATATYPE_BY_DTYPE)}")
        check_dtype(dtype, value_type, field)
        data = _b64(value, field)
        shape = value.get("shape", shape_of(value_type))
        if not isinstance(shape, list) or not all(isinstance(size, int) and not isinstance(size, bool) for size in shape):
            raise FieldError(f"{field}.shape", "a list of integers is expected")
        try:
            array = np.frombuffer(data, dtype=dtype).reshape(shape)
        except ValueError as error:
            raise FieldError(f"{field}.shape", f"{len(data)} bytes of {dtype} do not have shape {shape}") from error
        check_shape(array.shape, value_type, field)
        return array
    return array_of_numbers(value, value_type.dtype, value_type, field)


def array_of_numbers(
    value: object, dtype: str | None, value_type: ValueType, field: str, shape: Sequence[int] | None = None
) -> npt.NDArray[np.generic]:
    """An array from (nested) JSON numbers, cast to ``dtype`` where nothing is lost; ``shape`` reshapes it.

    Raises:
        FieldError: ragged, not numbers, out of the dtype's range, or of another shape than declared.
    """
    if not isinstance(value, list | int | float):
        raise FieldError(field, f"numbers in (nested) lists are expected, not {_name(value)}")
    try:
        array = np.array(value)
    except (ValueError, OverflowError) as error:
        raise FieldError(field, "the lists are ragged or hold something other than numbers") from error
    if not array.size and dtype is not None:
        array = array.astype(dtype)
    if array.dtype.kind not in "biuf":
        raise FieldError(field, "the lists hold something other than numbers, or numbers that no dtype holds")
    if dtype is not None:
        array = _cast(array, dtype, field)
    if shape is not None:
        try:
            array = array.reshape(tuple(shape))
        except ValueError as error:
            raise FieldError(field, f"{array.size} numbers do not have shape {list(shape)}") from error
    check_shape(array.shape, value_type, field)
    return array


def check_dtype(dtype: str, value_type: ValueType, field: str) -> None:
    """Refuse a dtype other than the declared one."""
    if value_type.dtype is not None and dtype != value_type.dtype:
        raise FieldError(field, f"dtype {dtype} was sent, {value_type.dtype} is declared")


def check_shape(shape: Sequence[int], value_type: ValueType, field: str) -> None:
    """Refuse a shape that does not fit the declared one."""
    declared = value_type.shape
    if declared is not None and (
        len(shape) != len(declared)
        or any(want is not None and have != want for have, want in zip(shape, declared, strict=True))
    ):
        wanted = ", ".join("any" if size is None else str(size) for size in declared)
        raise FieldError(field, f"shape {list(shape)} was sent, [{wanted}] is declared")


def _cast(array: npt.NDArray[np.generic], dtype: str, field: str) -> npt.NDArray[np.generic]:
    """``array`` as ``dtype``, refusing what would change a value beyond rounding."""
    target = np.dtype(dtype)
    if array.dtype == target:
        return array
    have, want = array.dtype.kind, target.kind
    if want == "b" and have in "iu":
        # OIP clients write booleans as 0 and 1 too.
        if np.any((array != 0) & (array != 1)):
            raise FieldError(field, "a boolean is true, false, 0 or 1")
        return array.astype(target)
    if (want in "iu" and have not in "iu") or (want == "f" and have == "b") or want == "b":
        raise FieldError(field, f"numbers of kind {array.dtype} were sent, {dtype} is declared")
    if want in "iu" and array.size:
        info = np.iinfo(target)
        if int(array.min()) < info.min or int(array.max()) > info.max:
            raise FieldError(field, f"a number is outside {dtype}, which holds {info.min} to {info.max}")
    return array.astype(target)


def _b64(value: object, field: str) -> bytes:
    text = value.get("b64") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise FieldError(field, f'bytes are sent as {{"b64": "…"}}, not as {_name(value)}')
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise FieldError(f"{field}.b64", "this is not base64") from error


def _name(value: object) -> str:
    if value is None:
        return "null"
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)
