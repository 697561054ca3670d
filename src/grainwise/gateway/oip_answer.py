"""Answers of the Open Inference Protocol: results as tensors, in JSON or in binary form."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from grainwise.domain.errors import GrainwiseError, InputError
from grainwise.domain.values import ValueType
from grainwise.gateway.datatypes import (
    DATATYPE_BY_DTYPE,
    DTYPE_BY_DATATYPE,
    datatype_of,
    is_json_element,
    to_jsonable,
)
from grainwise.gateway.door import Answer
from grainwise.gateway.entry import Entry, Result
from grainwise.gateway.oip import Parsed
from grainwise.gateway.oip_metadata import VERSION

_encode = msgspec.json.Encoder().encode


class TensorOut(Struct, omit_defaults=True):
    """One output tensor of an answer."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] | None = None
    data: list[Any] | None = None


class InferAnswer(Struct, omit_defaults=True):
    """The JSON part of an answer."""

    model_name: str
    model_version: str
    outputs: list[TensorOut]
    id: str = ""


def encode_infer(entry: Entry, parsed: Parsed, answer: Answer) -> tuple[bytes, list[memoryview | bytes], bool]:
    """The JSON part of the answer, the binary parts in order, and whether there is any output in binary form.

    The parts may be views of the store: valid until ``answer`` is closed.
    """
    tensors: list[TensorOut] = []
    parts: list[memoryview | bytes] = []
    has_binary = False
    for result, is_binary in parsed.wanted:
        value = answer.value(result.index)
        if is_binary:
            has_binary = True
            datatype, shape, part = _binary(value, result)
            parts.append(part)
            size = part.nbytes if isinstance(part, memoryview) else len(part)
            tensors.append(TensorOut(result.name, datatype, shape, {"binary_data_size": size}))
        else:
            datatype, shape, data = _json(value, result)
            tensors.append(TensorOut(result.name, datatype, shape, None, data))
    text = _encode(InferAnswer(entry.spec.name, VERSION, tensors, parsed.id))
    return text, parts, has_binary


def _array_datatype(array: "np.ndarray[Any, Any]", result: Result) -> str:
    datatype = DATATYPE_BY_DTYPE.get(array.dtype.name)
    if datatype is None:
        raise GrainwiseError(
            f"output {result.name} is an array of {array.dtype}, which the protocol cannot carry; "
            f"let the stage return one of {', '.join(DATATYPE_BY_DTYPE)}"
        )
    return datatype


def _binary(value: object, result: Result) -> tuple[str, list[int], memoryview | bytes]:
    """An output in binary form."""
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        return _array_datatype(array, result), list(value.shape), array.reshape(-1).view(np.uint8).data
    datatype = datatype_of(result.value_type)
    if datatype in DTYPE_BY_DATATYPE and value is not None:
        array = np.atleast_1d(np.array(value, dtype=DTYPE_BY_DATATYPE[datatype]))
        return datatype, list(array.shape), array.tobytes()
    elements = _byte_elements(value, result.value_type)
    joined = bytearray()
    for element in elements:
        joined += len(element).to_bytes(4, "little")
        joined += element
    return "BYTES", [len(elements)], bytes(joined)


def _json(value: object, result: Result) -> tuple[str, list[int], list[object]]:
    """An output in JSON form: one flat list in row-major order."""
    if isinstance(value, np.ndarray):
        return _array_datatype(value, result), list(value.shape), value.reshape(-1).tolist()
    datatype = datatype_of(result.value_type)
    if datatype in DTYPE_BY_DATATYPE and value is not None:
        numbers = list(value) if isinstance(value, list | tuple) else [value]
        return datatype, [len(numbers)], numbers
    texts: list[object] = []
    for element in _byte_elements(value, result.value_type):
        try:
            texts.append(element.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise InputError(f"output {result.name} holds bytes that JSON cannot carry; ask for binary_data") from error
    return "BYTES", [len(texts)], texts


def _byte_elements(value: object, value_type: ValueType) -> Sequence[bytes]:
    """The elements of a BYTES tensor: none for a branch that was not taken."""
    if value is None:
        return ()
    if value_type.kind == "list" and value_type.element is not None and isinstance(value, list | tuple):
        element = value_type.element
        return [_byte_element(item, element) for item in value]
    return (_byte_element(value, value_type),)


def _byte_element(value: object, value_type: ValueType) -> bytes:
    if not is_json_element(value_type):
        if isinstance(value, str):
            return value.encode("utf-8")
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
    return _encode(to_jsonable(value))
