"""``POST /v1/apps/{app}`` as people expect it: raw bytes for an app with one input, or a JSON object of inputs; JSON back.

Pure translation between bodies and payloads; the endpoints that call it are in ``gateway.endpoints``.
"""

from math import prod
from typing import Literal

import msgspec
import numpy as np

from grainwise.domain.values import ValueType
from grainwise.gateway.body import Announcement, Body
from grainwise.gateway.datatypes import (
    DATATYPE_BY_DTYPE,
    check_dtype,
    check_shape,
    from_jsonable,
    to_jsonable,
)
from grainwise.gateway.door import Answer
from grainwise.gateway.entry import Entry, Intake, Slot
from grainwise.gateway.errors import FieldError, MediaTypeError, NotAcceptableError
from grainwise.gateway.limits import Limits

OCTETS = "application/octet-stream"
# What curl --data-binary says when it is told nothing.
_UNTOLD = ("", "application/x-www-form-urlencoded")

Form = Literal["json", "raw", "untold"]

_encode = msgspec.json.Encoder().encode


def form_of(entry: Entry, head: Announcement) -> Form:
    """Whether the body is a JSON object of inputs or the value of the app's only input.

    Raises:
        MediaTypeError: it is neither.
    """
    content_type = head.content_type
    if content_type in ("application/json", "text/json"):
        return "json"
    slots = entry.slots
    kind = slots[0].value_type.kind if len(slots) == 1 else ""
    if content_type in _UNTOLD:
        return "untold" if kind in ("bytes", "tensor", "text") else "json"
    if content_type == OCTETS or content_type.startswith(("image/", "audio/", "video/")):
        if kind in ("bytes", "tensor"):
            return "raw"
    elif content_type.startswith("text/") and kind in ("text", "bytes"):
        return "raw"
    names = ", ".join(f"{slot.name} ({slot.value_type.annotation})" for slot in slots)
    raw = f" or as raw {OCTETS}" if kind in ("bytes", "tensor") else " or as text/plain" if kind == "text" else ""
    raise MediaTypeError(
        f"Content-Type {content_type}: app {entry.spec.name} takes {names}; send an application/json object{raw}"
    )


def parse(entry: Entry, head: Announcement, body: Body, intake: Intake, limits: Limits) -> None:
    """Store the inputs of a call.

    Raises:
        FieldError: they do not fit the app; the field is named.
        BodyTooLargeError: JSON or one of its lists is over a limit.
        ArenaFullError: there is no room for them.
    """
    form = form_of(entry, head)
    if form == "json":
        _take_object(entry, _decode(body, limits, entry), intake, limits)
    elif form == "raw" or not _take_if_object(entry, body, intake, limits):
        _parse_raw(entry, head, body, intake)


def _take_if_object(entry: Entry, body: Body, intake: Intake, limits: Limits) -> bool:
    """Take a body of no stated type as JSON if it is an object that holds exactly the app's input."""
    if bytes(body.view[:1]) != b"{" or len(body.view) > limits.max_json_bytes:
        return False
    try:
        document = msgspec.json.decode(bytes(body.view), type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):
        return False
    if document.keys() != entry.slot_by_name.keys():
        return False
    _take_object(entry, _decode(body, limits, entry), intake, limits)
    return True


def _parse_raw(entry: Entry, head: Announcement, body: Body, intake: Intake) -> None:
    """Store the body as the app's only input."""
    slot = entry.slots[0]
    view = body.view
    if slot.value_type.kind == "bytes":
        if body.reservation is not None:
            intake.put_raw(slot, body.reservation.raw(0, len(view)))
        else:
            intake.put_value(slot, bytes(view))
    elif slot.value_type.kind == "text":
        try:
            intake.put_value(slot, bytes(view).decode("utf-8"))
        except UnicodeDecodeError as error:
            raise FieldError(slot.name, "the text is not UTF-8") from error
    else:
        dtype, shape = _raw_tensor(slot, head, len(view))
        if body.reservation is not None:
            intake.put_tensor(slot, body.reservation.tensor(0, len(view), dtype, shape), dtype, shape)
        else:
            intake.put_value(slot, np.frombuffer(view, dtype=dtype).reshape(shape))


def _raw_tensor(slot: Slot, head: Announcement, nbytes: int) -> tuple[str, tuple[int, ...]]:
    """Dtype and shape of a raw tensor: from the headers, else from the declaration with one free dimension at most."""
    value_type = slot.value_type
    dtype = head.dtype or value_type.dtype
    if dtype is None or dtype not in DATATYPE_BY_DTYPE:
        raise FieldError("Grainwise-Dtype", f"{dtype!r} is no dtype; give one of {', '.join(DATATYPE_BY_DTYPE)}")
    check_dtype(dtype, value_type, "Grainwise-Dtype")
    itemsize = np.dtype(dtype).itemsize
    if head.shape:
        sizes = head.shape.split(",")
        if len(sizes) > 32 or not all(size.strip().isdigit() and len(size) < 16 for size in sizes):
            raise FieldError("Grainwise-Shape", f"{head.shape[:80]!r}: give sizes like 448,448,3")
        shape = tuple(int(size) for size in sizes)
    else:
        shape = _fill_free(value_type, nbytes, itemsize)
    check_shape(shape, value_type, "Grainwise-Shape")
    if prod(shape) * itemsize != nbytes:
        raise FieldError("Grainwise-Shape", f"{dtype} {list(shape)} has {prod(shape) * itemsize} bytes, the body {nbytes}")
    return dtype, shape


def _fill_free(value_type: ValueType, nbytes: int, itemsize: int) -> tuple[int, ...]:
    """The declared shape with its only free dimension worked out from the length of the body."""
    declared = value_type.shape
    if declared is None or declared.count(None) > 1:
        raise FieldError("Grainwise-Shape", f"the shape of {value_type.annotation} is open; give it in this header")
    known = prod(size for size in declared if size is not None) * itemsize
    if known and None in declared:
        free, rest = divmod(nbytes, known)
        if rest:
            raise FieldError("body", f"{nbytes} bytes are no multiple of {known}")
        return tuple(free if size is None else size for size in declared)
    return tuple(0 if size is None else size for size in declared)


def _decode(body: Body, limits: Limits, entry: Entry) -> dict[str, object]:
    """The JSON object of a body."""
    text = bytes(body.view)
    limits.check_json(text, "body")
    try:
        document = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise FieldError("body", f"this is not JSON: {error}") from error
    if not isinstance(document, dict):
        names = ", ".join(f'"{name}": …' for name in entry.slot_by_name)
        raise FieldError("body", f"a JSON object is expected: {{{names}}}")
    return document


def _take_object(entry: Entry, document: dict[str, object], intake: Intake, limits: Limits) -> None:
    """Store the inputs of ``{"input name": value, …}``."""
    for name, value in document.items():
        slot = entry.slot(name, name)
        if slot.is_counted and isinstance(value, list):
            limits.check_elements(len(value), name)
        intake.put_value(slot, from_jsonable(value, slot.value_type, name))


def encode_plain(entry: Entry, answer: Answer, accept: str) -> tuple[list[tuple[bytes, bytes]], bytes | memoryview]:
    """Headers and body of an answer: JSON, or the raw bytes of a single tensor or bytes output where ``accept`` asks.

    A body that is a ``memoryview`` lies in the store and is valid until ``answer`` is closed.

    Raises:
        NotAcceptableError: raw bytes are asked for and there is not exactly one tensor or bytes output.
    """
    if OCTETS in accept:
        if len(entry.results) == 1:
            value = answer.value(0)
            if isinstance(value, np.ndarray):
                array = np.ascontiguousarray(value)
                headers = [
                    (b"content-type", OCTETS.encode()),
                    (b"grainwise-dtype", value.dtype.name.encode()),
                    (b"grainwise-shape", ",".join(map(str, value.shape)).encode()),
                ]
                return headers, array.reshape(-1).view(np.uint8).data
            if isinstance(value, bytes | memoryview):
                return [(b"content-type", OCTETS.encode())], bytes(value)
        raise NotAcceptableError(
            f"Accept {OCTETS}: app {entry.spec.name} does not answer with exactly one tensor or bytes; accept application/json"
        )
    outputs = {result.name: to_jsonable(answer.value(result.index)) for result in entry.results}
    return [(b"content-type", b"application/json")], _encode({"outputs": outputs})


def describe(entry: Entry) -> dict[str, object]:
    """One app in the answer to ``GET /v1/apps``."""
    return {
        "name": entry.spec.name,
        "description": entry.spec.description,
        "slo": {"latency_ms": entry.spec.slo.latency_ms, "target": entry.spec.slo.target},
        "inputs": {slot.name: slot.value_type.annotation for slot in entry.slots},
        "outputs": {result.name: result.value_type.annotation for result in entry.results},
        "stages": [node.name for node in entry.spec.graph.stages],
    }
