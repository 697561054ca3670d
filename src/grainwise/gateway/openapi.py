"""The OpenAPI 3.1 document of what is served, made from the declarations of the apps."""

from collections.abc import Iterable
from typing import Any

import msgspec

from grainwise.domain.values import ValueType
from grainwise.gateway.entry import Entry
from grainwise.gateway.errors import ErrorBody
from grainwise.gateway.oip import InferRequest
from grainwise.gateway.oip_answer import InferAnswer
from grainwise.gateway.plain import OCTETS

_SCALARS = {"text": "string", "integer": "integer", "real": "number", "boolean": "boolean"}
_STATUSES = {
    "400": "the request does not fit the app; `field` names where",
    "404": "unknown app",
    "408": "the body did not come in time",
    "413": "the body is over the limit",
    "415": "the body is in a form that is not read",
    "429": "shed; Retry-After says when to send again",
    "500": "a stage failed; `stage` names it",
    "502": "the process of a stage ended twice on this request",
    "503": "draining, or no instance can serve",
    "504": "the deadline passed",
}


def schema_of(value_type: ValueType) -> dict[str, Any]:
    """The JSON Schema of a value as ``POST /v1/apps/{app}`` reads and writes it."""
    kind = value_type.kind
    if kind in _SCALARS:
        return {"type": _SCALARS[kind]}
    if kind == "bytes":
        return {
            "type": "object",
            "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
            "required": ["b64"],
        }
    if kind == "list":
        return {"type": "array"} | ({"items": schema_of(value_type.element)} if value_type.element else {})
    if kind == "mapping":
        return {"type": "object"} | ({"additionalProperties": schema_of(value_type.element)} if value_type.element else {})
    if kind == "record":
        return {
            "type": "object",
            "title": value_type.annotation,
            "properties": {field.name: schema_of(field.type) for field in value_type.fields},
            "required": [field.name for field in value_type.fields if field.is_required],
        }
    return _tensor_schema(value_type)


def _tensor_schema(value_type: ValueType) -> dict[str, Any]:
    """Nested lists of numbers, as deep as the declared shape says."""
    number = {"bool": "boolean"}.get(value_type.dtype or "", "integer" if "int" in (value_type.dtype or "") else "number")
    nested: dict[str, Any] = {"type": number}
    if value_type.shape is None:
        nested = {"type": "array"}
    else:
        for size in reversed(value_type.shape):
            nested = {"type": "array", "items": nested}
            if size is not None:
                nested |= {"minItems": size, "maxItems": size}
    return nested | {"description": f"tensor of {value_type.dtype or 'any dtype'}"}


def document(entries: Iterable[Entry], version: str) -> dict[str, Any]:
    """The whole document."""
    entries = tuple(entries)
    (request, answer, error), components = msgspec.json.schema_components(
        (InferRequest, InferAnswer, ErrorBody),
        ref_template="#/components/schemas/{name}",
        schema_hook=lambda kind: {"description": "a JSON value"},
    )
    errors = {
        status: {"description": text, "content": {"application/json": {"schema": error}}} for status, text in _STATUSES.items()
    }
    deadline = {
        "name": "Grainwise-Deadline-Ms",
        "in": "header",
        "schema": {"type": "number", "exclusiveMinimum": 0},
        "description": "milliseconds from now within which the answer is wanted; the app's SLO otherwise",
    }
    length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "schema": {"type": "integer"},
        "description": "length of the JSON part where tensors follow it in binary form",
    }
    paths: dict[str, Any] = {
        "/v1/apps": {"get": {"summary": "The apps served here", "responses": {"200": {"description": "a list"}}}},
        "/v2/health/live": {"get": {"summary": "The server runs", "responses": {"200": {"description": "it does"}}}},
        "/v2/health/ready": {
            "get": {
                "summary": "The server takes requests",
                "responses": {"200": {"description": "it does"}, "503": {"description": "it does not"}},
            }
        },
    }
    for entry in entries:
        name = entry.spec.name
        paths[f"/v1/apps/{name}"] = {
            "post": {
                "operationId": f"call_{name}",
                "summary": entry.spec.description or f"Call {name}",
                "parameters": [deadline],
                "requestBody": {"required": True, "content": _bodies(entry)},
                "responses": {"200": {"description": "the outputs", "content": _answers(entry)}} | errors,
            }
        }
        forms = {"application/json": {"schema": request}, OCTETS: {}}
        paths[f"/v2/models/{name}/infer"] = {
            "post": {
                "operationId": f"infer_{name}",
                "summary": f"Call {name} by the Open Inference Protocol v2",
                "parameters": [deadline, length],
                "requestBody": {"required": True, "content": forms},
                "responses": {
                    "200": {"description": "the outputs", "content": {"application/json": {"schema": answer}, OCTETS: {}}}
                }
                | errors,
            }
        }
        paths[f"/v2/models/{name}"] = {
            "get": {"summary": f"Inputs and outputs of {name}", "responses": {"200": {"description": "metadata"}}}
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Grainwise", "version": version},
        "paths": paths,
        "components": {"schemas": components},
    }


def _bodies(entry: Entry) -> dict[str, Any]:
    """The forms in which ``POST /v1/apps/{app}`` takes its inputs."""
    schema = {
        "type": "object",
        "properties": {slot.name: schema_of(slot.value_type) for slot in entry.slots},
        "required": [slot.name for slot in entry.slots],
        "additionalProperties": False,
    }
    forms: dict[str, Any] = {"application/json": {"schema": schema}}
    kind = entry.slots[0].value_type.kind if len(entry.slots) == 1 else ""
    if kind in ("bytes", "tensor"):
        forms[OCTETS] = {}
    if kind == "bytes":
        forms["image/*"] = {}
    if kind == "text":
        forms["text/plain"] = {"schema": {"type": "string"}}
    return forms


def _answers(entry: Entry) -> dict[str, Any]:
    """The forms in which it answers."""
    outputs = {
        "type": "object",
        "properties": {result.name: schema_of(result.value_type) for result in entry.results},
        "required": [result.name for result in entry.results],
    }
    forms: dict[str, Any] = {
        "application/json": {"schema": {"type": "object", "properties": {"outputs": outputs}, "required": ["outputs"]}}
    }
    if len(entry.results) == 1 and entry.results[0].value_type.kind in ("bytes", "tensor"):
        forms[OCTETS] = {}
    return forms
