import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grainwise.domain.errors import ConfigurationError
from grainwise.gateway.body import check_lengths, read_head
from grainwise.gateway.errors import BodyTooLargeError, FieldError, MediaTypeError
from grainwise.gateway.limits import Limits, json_depth

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def depth(value) -> int:
    if isinstance(value, dict):
        return 1 + max((depth(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth(item) for item in value), default=0)
    return 0


@settings(deadline=None)
@given(values)
def test_depth_of_json_is_that_of_the_value(value):
    assert json_depth(json.dumps(value).encode()) == depth(value)
    assert json_depth(json.dumps(value, ensure_ascii=False).encode()) == depth(value)


def test_depth_of_text_that_is_no_json_is_found_too():
    assert json_depth(b"[" * 5) == 5
    assert json_depth(b']]["[[[') == 0
    assert json_depth(b'"' + b'\\"' * 1000) == 0


def test_nesting_is_refused_over_the_limit_only():
    limits = Limits(max_json_depth=4)
    limits.check_json(b"[[[[]]]]", "body")
    limits.check_json(b"[[],[],[],[],[]]", "body")
    with pytest.raises(FieldError, match="deeper than 4"):
        limits.check_json(b"[[[[[]]]]]", "body")


def test_lengths_are_refused_over_the_limit_only():
    limits = Limits(max_body_bytes=10, max_json_bytes=4)
    limits.check_body(10)
    with pytest.raises(BodyTooLargeError, match="11 bytes, the limit is 10"):
        limits.check_body(11)
    with pytest.raises(BodyTooLargeError):
        limits.check_json(b"[1,2]", "body")


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(ConfigurationError, match="max_connections"):
        Limits(max_connections=0)


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ([(b"inference-header-content-length", b"-1")], "Inference-Header-Content-Length"),
        ([(b"inference-header-content-length", b"ten")], "Inference-Header-Content-Length"),
        ([(b"inference-header-content-length", b"9" * 30)], "Inference-Header-Content-Length"),
        ([(b"grainwise-deadline-ms", b"soon")], "Grainwise-Deadline-Ms"),
        ([(b"grainwise-deadline-ms", b"0")], "Grainwise-Deadline-Ms"),
        ([(b"grainwise-deadline-ms", b"nan")], "Grainwise-Deadline-Ms"),
        ([(b"grainwise-deadline-ms", b"1e300")], "Grainwise-Deadline-Ms"),
    ],
)
def test_a_header_that_is_no_number_names_itself(headers, field):
    with pytest.raises(FieldError) as caught:
        read_head(headers)
    assert caught.value.field == field


def test_a_compressed_body_is_refused():
    with pytest.raises(MediaTypeError, match="gzip"):
        read_head([(b"content-encoding", b"gzip")])


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"10"), (b"inference-header-content-length", b"11")],
        [(b"content-length", b"10"), (b"inference-header-content-length", b"0")],
    ],
)
def test_lengths_that_contradict_each_other_are_refused(headers):
    with pytest.raises(FieldError) as caught:
        check_lengths(read_head(headers), Limits())
    assert caught.value.field == "Inference-Header-Content-Length"
