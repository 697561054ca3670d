"""The Open Inference Protocol, version 2, over REST with the binary-tensor extension: what a request holds.

Pure translation of bodies into payloads; answers are in ``gateway.oip_answer``, metadata in ``gateway.oip_metadata``.
"""

import struct
from collections.abc import Iterator
from math import prod
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from grainwise.domain.values import ValueType
from grainwise.gateway.body import Announcement, Body
from grainwise.gateway.datatypes import (
    DTYPE_BY_DATATYPE,
    ITEMSIZE_BY_DATATYPE,
    array_of_numbers,
    check_dtype,
    check_shape,
    datatype_of,
    from_jsonable,
)
from grainwise.gateway.entry import Entry, Intake, Result, Slot
from grainwise.gateway.errors import FieldError
from grainwise.gateway.limits import Limits
from grainwise.runtimes.payloads import PayloadStore, Stored

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


class Parsed(Struct):
    """An infer request that fits the app, its inputs stored in the intake."""

    id: str
    wanted: tuple[tuple[Result, bool], ...]
    deadline_ms: float | None


_decode_request = msgspec.json.Decoder(InferRequest).decode


def parse_infer(entry: Entry, head: Announcement, body: Body, intake: Intake, store: PayloadStore, limits: Limits) -> Parsed:
    """Read an infer request and store its inputs.

    Raises:
        FieldError: the request does not fit the app; the field is named.
        BodyTooLargeError: its JSON part or one of its lists is over a limit.
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
    plan = list(_layout(entry, request, split, len(view), limits))
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
    entry: Entry, request: InferRequest, split: int, length: int, limits: Limits
) -> Iterator[tuple[int, Slot, TensorIn, int, int | None]]:
    """Where the data of each input lies, after checking names, datatypes, shapes and lengths against each other."""
    offset = split
    for position, tensor in enumerate(request.inputs):
        place = f"inputs[{position}]"
        slot = entry.slot(tensor.name, f"{place}.name")
        if "shared_memory_region" in tensor.parameters:
            raise FieldError(f"{place}.parameters.shared_memory_region", "regions of the client are not read; send the data")
        check_tensor(slot.value_type, tensor, place)
        if slot.is_counted:
            limits.check_elements(tensor.shape[0], f"{place}.shape")
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
        limits.check_numbers(nbytes, f"{place}.parameters.binary_data_size")
        numbers = np.frombuffer(bytes(body.view[offset : offset + nbytes]), dtype=dtype).tolist()
        intake.put_value(slot, numbers if value_type.kind == "list" else numbers[0])
        return
    spans = list(_elements(body.view, offset, nbytes, prod(tensor.shape), place))
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


def _elements(view: memoryview, offset: int, nbytes: int, count: int, place: str) -> Iterator[tuple[int, int]]:
    """Offset and length of each element of a BYTES tensor: every one has a 4-byte little-endian length before it."""
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
