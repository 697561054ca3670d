"""Whatever a client sends is taken or refused with an ``InputError``, and leaves no bytes behind."""

import json

import numpy as np
from gateway_doubles import all_apps
from hypothesis import given, settings
from hypothesis import strategies as st

from grainwise.domain.errors import InputError
from grainwise.gateway import oip, plain
from grainwise.gateway.body import Announcement, Body
from grainwise.gateway.door import handles_of
from grainwise.gateway.entry import Entry, Intake
from grainwise.gateway.limits import Limits
from grainwise.runtimes.local.edges import EdgeTypes
from grainwise.runtimes.local.store import LocalStore

ENTRIES = [Entry(spec) for spec in all_apps()]
STORE = LocalStore(EdgeTypes(ENTRIES[0].spec), 1 << 20)
NAMES = sorted({slot.name for entry in ENTRIES for slot in entry.slots})

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=8
)
sizes = st.integers(-1, 4) | st.integers(0, 1 << 62)
datatypes = st.sampled_from(["UINT8", "INT64", "FP64", "FP16", "BOOL", "BYTES", "UINT7"])
tensors = st.fixed_dictionaries(
    {"name": st.sampled_from(NAMES), "shape": st.lists(sizes, max_size=3), "datatype": datatypes},
    optional={
        "data": values,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 20) | scalars}),
    },
)
requests = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=3)},
    optional={"id": st.text(max_size=3), "parameters": st.dictionaries(st.text(max_size=3), values, max_size=2)},
)


def feed(entry: Entry, head: Announcement, data: bytes, is_stored: bool, parse) -> None:
    """Parse one body in the memory of the store or outside it."""
    if is_stored and data:
        reservation = STORE.reserve(len(data), head.header_length or 0)
        reservation.view[:] = data
        body = Body(reservation.view, reservation)
    else:
        body = Body(memoryview(bytearray(data)), None)
    intake = Intake(entry, STORE)
    try:
        parse(entry, head, body, intake)
        STORE.release(handles_of(intake.take()))
    except InputError as error:
        assert str(error)
    finally:
        intake.undo()
        body.close()
    assert STORE.live_bytes == 0


def parse_infer(entry, head, body, intake) -> None:
    oip.parse_infer(entry, head, body, intake, STORE, Limits())


def parse_plain(entry, head, body, intake) -> None:
    plain.parse(entry, head, body, intake, Limits())


@settings(deadline=None)
@given(st.sampled_from(ENTRIES), requests, st.binary(max_size=40), st.booleans(), st.integers(-2, 2))
def test_infer_requests_of_any_content(entry, request, binary, is_stored, slip):
    text = json.dumps(request).encode()
    head = Announcement(None, max(1, len(text) + (slip if slip in (-2, 2) else 0)), None, "", "", "", "")
    feed(entry, head, text + binary, is_stored, parse_infer)


@settings(deadline=None)
@given(st.sampled_from(ENTRIES), st.binary(max_size=60), st.booleans())
def test_infer_requests_of_any_bytes(entry, data, is_stored):
    feed(entry, Announcement(None, None, None, "", "", "", ""), data, is_stored, parse_infer)


@settings(deadline=None)
@given(
    st.sampled_from(ENTRIES),
    st.dictionaries(st.sampled_from(NAMES), values, max_size=3) | values,
    st.sampled_from(["", "application/json", "text/plain", "image/png", "application/octet-stream"]),
    st.sampled_from(["", "2,3", "uint8", "-1", "1" * 15 + "," + "1" * 15]),
    st.booleans(),
)
def test_plain_requests_of_any_content(entry, document, content_type, shape, is_stored):
    head = Announcement(None, None, None, content_type, "", "", shape)
    feed(entry, head, json.dumps(document).encode(), is_stored, parse_plain)


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=60))
def test_a_valid_request_of_any_picture_is_taken(pixels):
    image = np.frombuffer(pixels, np.uint8)
    tensor = {"name": "image", "shape": [len(pixels)], "datatype": "UINT8", "parameters": {"binary_data_size": len(pixels)}}
    text = json.dumps({"inputs": [tensor]}).encode()

    def parse(entry, head, body, intake) -> None:
        parse_infer(entry, head, body, intake)
        assert (STORE.get(intake.handles[0]) == image).all()

    feed(ENTRIES[0], Announcement(None, len(text), None, "", "", "", ""), text + pixels, True, parse)
