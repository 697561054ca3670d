"""The Open Inference Protocol, version 2, over REST with the binary-tensor extension: requests in, answers out, metadata.

Pure translation between bodies and payloads; the endpoints that call it are in ``gateway.endpoints``.
"""

import struct
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from grainwise.domain.errors import GrainwiseError, InputError
from grainwise.domain.values import ValueType
from grainwise.gateway.body import Announcement, Body
from grainwise.gateway.datatypes import (
    DATATYPE_BY_DTYPE,
    DTYPE_BY_DATATYPE,
    ITEMSIZE_BY_DATATYPE,
    array_of_numbers,
    check_dtype,
    check_shape,
    datatype_of,
    from_jsonable,
    is_json_element,
    shape_of,
    to_jsonable,
)
from grainwise.gateway.door import Answer
from grainwise.gateway.entry import Entry, Intake, Result, Slot
from grainwise.gateway.errors import FieldError
from grainwise.gateway.limits import Limits
from grainwise.runtimes.payloads import PayloadStore, Stored

VERSION = "1"
EXTENSIONS = ("binary_tensor_data",)
_NO_DATA = msgspec.Raw()


class TensorIn(Struct):
    """One input tensor of a request; ``data`` stays text until its type is known, and is empty where there is none."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


class TensorWanted(Struct):
    """One output that a request asks for."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(Struct):
    """The JSON part of an infer request."""

    inputs: list[TensorIn]
    id: str = ""
    outputs: list[TensorWanted] | None = None
    parameters: dict[str, Any] = {}


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


class Parsed(Struct):
    """An infer request that fits the app, its inputs stored in the intake."""

    id: str
    wanted: tuple[tuple[Result, bool], ...]
    deadline_ms: float | None


_decode_request = msgspec.json.Decoder(InferRequest).decode
_encode = msgspec.json.Encoder().encode


def parse_infer(entry: Entry, head: Announcement, body: Body, intake: Intake, store: PayloadStore, limits: Limits) -> Parsed:
    """Read an infer request and store its inputs.

    Raises:
        FieldError: the request does not fit the app; the field is named.
        BodyTooLargeError: its JSON part is over the limit.
        ArenaFullError: there is no room for its inputs.
    """
    view = body.view
    split = len(view) if head.header_length is None else head.header_length
    if split > len(view):
        raise FieldError("Inference-Header-Content-Length", f"{split} bytes are claimed, the body has {len(view)}")
    text = bytes(view[:split])
    limits.check_json(text, "body")
    try:
        request = _decode_request(text)
    except msgspec.MsgspecError as error:
        raise FieldError("body", f"this is no infer request: {error}") from error
    except RecursionError as error:
        raise FieldError("body", "JSON nested too deeply") from error
    wanted = _wanted(entry, request)
    plan = list(_layout(entry, request, split, len(view)))
    for position, slot, tensor, offset, nbytes in plan:
        if intake.has(slot):
            raise FieldError(f"inputs[{position}].name", f"input {tensor.name!r} was sent twice")
        place = f"inputs[{position}]"
        if nbytes is None:
            _take_json(slot, tensor, intake, place, limits)
        else:
            _take_binary(slot, tensor, body, offset, nbytes, intake, store, place, limits)
    timeout = request.parameters.get("timeout")
    deadline_ms = timeout / 1000 if isinstance(timeout, int) and not isinstance(timeout, bool) and timeout > 0 else None
    return Parsed(request.id, wanted, deadline_ms)


def _layout(
    entry: Entry, request: InferRequest, split: int, length: int
) -> Iterator[tuple[int, Slot, TensorIn, int, int | None]]:
    """Where the data of each input lies, after checking names, datatypes, shapes and lengths against each other."""
    offset = split
    for position, tensor in enumerate(request.inputs):
        place = f"inputs[{position}]"
        slot = entry.slot(tensor.name, f"{place}.name")
        if "shared_memory_region" in tensor.parameters:
            raise FieldError(f"{place}.parameters.shared_memory_region", "regions of the client are not read; send the data")
        check_tensor(slot.value_type, tensor, place)
        nbytes = tensor.parameters.get("binary_data_size")
        if nbytes is None:
            if tensor.data == _NO_DATA:
                raise FieldError(f"{place}.data", "there is neither data nor parameters.binary_data_size")
            yield position, slot, tensor, 0, None
            continue
        field = f"{place}.parameters.binary_data_size"
        if not isinstance(nbytes, int) or isinstance(nbytes, bool) or nbytes < 0:
            raise FieldError(field, f"{nbytes!r} is not a number of bytes")
        if tensor.data != _NO_DATA:
            raise FieldError(f"{place}.data", "data was sent both here and in the binary form")
        itemsize = ITEMSIZE_BY_DATATYPE.get(tensor.datatype)
        if itemsize is not None and nbytes != prod(tensor.shape) * itemsize:
            raise FieldError(
                field, f"{nbytes} bytes do not make {tensor.datatype} {tensor.shape}, which has {prod(tensor.shape) * itemsize}"
            )
        if offset + nbytes > length:
            raise FieldError(field, f"{nbytes} bytes are claimed, {length - offset} are left in the body: it is truncated")
        yield position, slot, tensor, offset, nbytes
        offset += nbytes
    if offset != length:
        raise FieldError("body", f"{length - offset} bytes after the last tensor belong to no input")


def check_tensor(value_type: ValueType, tensor: TensorIn, place: str) -> None:
    """Refuse a tensor whose datatype or shape is not that of the declared type."""
    shape, datatype = tensor.shape, tensor.datatype
    if len(shape) > 32 or any(size < 0 or size > 1 << 48 for size in shape):
        raise FieldError(f"{place}.shape", f"{shape[:33]} is no shape: sizes are >= 0, at most 32 of them")
    if datatype not in DTYPE_BY_DATATYPE and datatype != "BYTES":
        raise FieldError(f"{place}.datatype", f"{datatype!r} is not known; use {', '.join(DTYPE_BY_DATATYPE)} or BYTES")
    if value_type.kind == "tensor":
        if datatype == "BYTES":
            raise FieldError(f"{place}.datatype", f"BYTES was sent, {datatype_of(value_type)} is declared")
        check_dtype(DTYPE_BY_DATATYPE[datatype], value_type, f"{place}.datatype")
        check_shape(shape, value_type, f"{place}.shape")
        return
    declared = datatype_of(value_type)
    if datatype != declared:
        raise FieldError(f"{place}.datatype", f"{datatype} was sent, {declared} is declared ({value_type.annotation})")
    if value_type.kind == "list":
        if len(shape) != 1:
            raise FieldError(f"{place}.shape", f"{shape} was sent, a list has the shape [n]")
    elif prod(shape) != 1:
        raise FieldError(f"{place}.shape", f"{shape} was sent, a single {value_type.kind} has the shape [1]")


def _take_binary(
    slot: Slot,
    tensor: TensorIn,
    body: Body,
    offset: int,
    nbytes: int,
    intake: Intake,
    store: PayloadStore,
    place: str,
    limits: Limits,
) -> None:
    """Fill ``slot`` from the binary part."""
    value_type = slot.value_type
    dtype = DTYPE_BY_DATATYPE.get(tensor.datatype)
    if value_type.kind == "tensor" and dtype is not None:
        if body.reservation is not None:
            intake.put_tensor(slot, body.reservation.tensor(offset, nbytes, dtype, tensor.shape), dtype, tensor.shape)
        else:
            array = np.frombuffer(body.view[offset : offset + nbytes], dtype=dtype).reshape(tensor.shape)
            intake.put_value(slot, array)
        return
    if dtype is not None:
        numbers = np.frombuffer(bytes(body.view[offset : offset + nbytes]), dtype=dtype).tolist()
        intake.put_value(slot, numbers if value_type.kind == "list" else numbers[0])
        return
    spans = list(_elements(body.view, offset, nbytes, prod(tensor.shape), place, limits))
    element = value_type.element if value_type.kind == "list" and value_type.element is not None else value_type
    if element.kind == "bytes" and body.reservation is not None and (value_type.kind == "bytes" or slot.is_exploded):
        stored: list[Stored] = []
        try:
            stored.extend(body.reservation.raw(start, length) for start, length in spans)
        except BaseException:
            store.release(tuple(item.handle for item in stored))
            raise
        if value_type.kind == "bytes":
            intake.put_raw(slot, stored[0])
        else:
            intake.put_raw_list(slot, stored)
        return
    values = [
        _element_value(bytes(body.view[start : start + length]), element, f"{place}.data[{index}]", limits)
        for index, (start, length) in enumerate(spans)
    ]
    intake.put_value(slot, values if value_type.kind == "list" else values[0])


def _elements(view: memoryview, offset: int, nbytes: int, count: int, place: str, limits: Limits) -> Iterator[tuple[int, int]]:
    """Offset and length of each element of a BYTES tensor: every one has a 4-byte little-endian length before it."""
    if count > limits.max_elements:
        raise FieldError(f"{place}.shape", f"{count} elements, the limit is {limits.max_elements}")
    end = offset + nbytes
    for index in range(count):
        if offset + 4 > end:
            raise FieldError(f"{place}.data[{index}]", "the binary data ends before this element: it is truncated")
        (length,) = struct.unpack_from("<I", view, offset)
        if offset + 4 + length > end:
            raise FieldError(
                f"{place}.data[{index}]", f"{length} bytes are claimed, {end - offset - 4} are left: it is truncated"
            )
        yield offset + 4, length
        offset += 4 + length
    if offset != end:
        raise FieldError(f"{place}.parameters.binary_data_size", f"{end - offset} bytes after the last element")


def _element_value(raw: bytes, value_type: ValueType, field: str, limits: Limits) -> object:
    """One element of a BYTES tensor as a value."""
    if value_type.kind == "bytes":
        return raw
    if value_type.kind == "text":
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FieldError(field, "the text is not UTF-8") from error
    limits.check_json(raw, field)
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise FieldError(field, f"a JSON document is expected ({value_type.annotation}): {error}") from error
    return from_jsonable(document, value_type, field)


def _take_json(slot: Slot, tensor: TensorIn, intake: Intake, place: str, limits: Limits) -> None:
    """Fill ``slot`` from the ``data`` of the JSON part."""
    value_type = slot.value_type
    raw = tensor.data
    count = prod(tensor.shape)
    field = f"{place}.data"
    dtype = DTYPE_BY_DATATYPE.get(tensor.datatype)
    # However the lists are nested, n numbers have n - 1 commas; so this needs no parsing.
    if dtype is not None and bytes(raw).count(b",") + 1 != max(count, 1):
        raise FieldError(field, f"shape {tensor.shape} has {count} numbers, data has another number of them")
    try:
        data = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise FieldError(field, f"this is not JSON: {error}") from error
    if dtype is not None:
        flat = ValueType("tensor", value_type.annotation, dtype, tuple(tensor.shape))
        array = array_of_numbers(data, dtype, flat, field, tensor.shape)
        if value_type.kind == "tensor":
            intake.put_value(slot, array)
        else:
            numbers = array.reshape(-1).tolist()
            intake.put_value(slot, numbers if value_type.kind == "list" else numbers[0])
        return
    if not isinstance(data, list):
        data = [data]
    if len(data) != count:
        raise FieldError(field, f"shape {tensor.shape} has {count} elements, data has {len(data)}")
    element = value_type.element if value_type.kind == "list" and value_type.element is not None else value_type
    values: list[object] = []
    for index, item in enumerate(data):
        if not isinstance(item, str):
            raise FieldError(f"{field}[{index}]", "an element of a BYTES tensor is a string in JSON")
        values.append(_element_value(item.encode("utf-8"), element, f"{field}[{index}]", limits))
    intake.put_value(slot, values if value_type.kind == "list" else values[0])


def _wanted(entry: Entry, request: InferRequest) -> tuple[tuple[Result, bool], ...]:
    """Which results to send, and whether each goes in binary form."""
    is_binary = request.parameters.get("binary_data_output") is True
    if not request.outputs:
        return tuple((result, is_binary) for result in entry.results)
    wanted: list[tuple[Result, bool]] = []
    for position, output in enumerate(request.outputs):
        result = entry.result_by_name.get(output.name)
        if result is None:
            raise FieldError(
                f"outputs[{position}].name",
                f"app {entry.spec.name} has no output {output.name!r}; it has {', '.join(entry.result_by_name)}",
            )
        for unsupported in ("classification", "shared_memory_region"):
            if unsupported in output.parameters:
                raise FieldError(f"outputs[{position}].parameters.{unsupported}", "this server does not do it")
        wanted.append((result, output.parameters.get("binary_data", is_binary) is True))
    return tuple(wanted)


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


def server_metadata(version: str) -> dict[str, object]:
    """The answer to ``GET /v2``."""
    return {"name": "grainwise", "version": version, "extensions": list(EXTENSIONS)}


def app_metadata(entry: Entry) -> dict[str, object]:
    """The answer to ``GET /v2/models/{app}``."""
    return {
        "name": entry.spec.name,
        "versions": [VERSION],
        "platform": "grainwise",
        "inputs": [_describe(slot.name, slot.value_type) for slot in entry.slots],
        "outputs": [_describe(result.name, result.value_type) for result in entry.results],
    }


def app_config(entry: Entry) -> dict[str, object]:
    """The answer to ``GET /v2/models/{app}/config``, in the words of Triton's model configuration."""

    def row(name: str, value_type: ValueType) -> dict[str, object]:
        datatype = datatype_of(value_type)
        return {
            "name": name,
            "data_type": "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}",
            "dims": shape_of(value_type),
        }

    return {
        "name": entry.spec.name,
        "platform": "grainwise",
        "max_batch_size": 0,
        "input": [row(slot.name, slot.value_type) for slot in entry.slots],
        "output": [row(result.name, result.value_type) for result in entry.results],
    }


def _describe(name: str, value_type: ValueType) -> dict[str, object]:
    return {"name": name, "datatype": datatype_of(value_type), "shape": shape_of(value_type)}
