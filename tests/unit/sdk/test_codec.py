import dataclasses
from typing import Annotated, Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from grainwise.domain.errors import InputError
from grainwise.sdk.codec import Codec
from grainwise.sdk.edges import DTYPES, describe

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclasses.dataclass
class Box:
    left: int
    score: float
    label: str = ""


@dataclasses.dataclass
class Crop:
    picture: NDArray[np.uint8]
    box: Box
    tags: list[str]


class Point(msgspec.Struct):
    x: float
    y: float = 0.0
    raw: bytes = b""


def codec(annotation: object, name: str = "value") -> Codec:
    return Codec(describe(annotation, "a value", "here"), annotation, name)


def through(annotation: object, value: object) -> Any:
    header, buffers = codec(annotation).encode(value)
    return codec(annotation).decode(header, [bytes(buffer) for buffer in buffers])


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, Crop):
        return same(one.picture, other.picture) and one.box == other.box and one.tags == other.tags
    return bool(type(one) is type(other) and (one == other or (one != one and other != other)))


arrays = st.builds(
    lambda dtype, shape, seed: np.random.default_rng(seed).integers(0, 2, shape).astype(dtype),
    st.sampled_from(sorted(DTYPES)),
    st.lists(st.integers(0, 4), max_size=4).map(tuple),
    st.integers(0, 99),
)
boxes = st.builds(Box, st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(st.characters(codec="utf-8")))
texts = st.text(st.characters(codec="utf-8"), max_size=3000)
crops = st.builds(
    Crop,
    st.integers(0, 5).map(lambda side: np.arange(side * 2, dtype=np.uint8).reshape(side, 2)),
    boxes,
    st.lists(texts, max_size=3),
)
CASES: list[tuple[object, st.SearchStrategy[Any]]] = [
    (NDArray[Any], arrays),
    (bytes, st.binary(max_size=5000)),
    (str, texts),
    (int, st.integers(-(2**63), 2**64 - 1)),
    (float, st.floats()),
    (bool, st.booleans()),
    (list[Box], st.lists(boxes, max_size=30)),
    (list[NDArray[Any]], st.lists(arrays, max_size=4)),
    (dict[str, list[int]], st.dictionaries(texts, st.lists(st.integers(0, 9)), max_size=4)),
    (list[Crop], st.lists(crops, max_size=3)),
    (dict[str, Crop], st.dictionaries(st.text("abc"), crops, max_size=3)),
    (list[bytes], st.lists(st.binary(max_size=2000), max_size=3)),
    (Point, st.builds(Point, st.floats(allow_nan=False), st.floats(allow_nan=False), st.binary())),
]


@unhurried
@given(st.sampled_from(CASES).flatmap(lambda case: st.tuples(st.just(case[0]), case[1])))
def test_a_value_comes_back_as_it_went(case: tuple[object, object]) -> None:
    annotation, value = case
    assert same(value, through(annotation, value))


@unhurried
@given(st.sampled_from(CASES), st.binary(max_size=40), st.lists(st.binary(max_size=20), max_size=3))
def test_a_header_that_was_made_up_is_an_input_error_or_a_value(case: tuple[object, Any], header: bytes, buffers: Any) -> None:
    try:
        codec(case[0]).decode(header, buffers)
    except InputError as error:
        assert str(error).startswith("value")


@unhurried
@given(st.sampled_from(CASES).flatmap(lambda case: st.tuples(st.just(case[0]), case[1])), st.data())
def test_a_damaged_header_never_crashes(case: tuple[object, object], data: st.DataObject) -> None:
    annotation, value = case
    header, buffers = codec(annotation).encode(value)
    damaged = bytearray(header)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    kept = data.draw(st.integers(0, len(buffers)))
    try:
        codec(annotation).decode(bytes(damaged), buffers[:kept])
    except InputError:
        return


def test_an_array_is_a_read_only_view_of_its_buffer() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(3, 4)
    header, buffers = codec(NDArray[np.uint8]).encode(picture)
    assert np.shares_memory(np.frombuffer(buffers[0], np.uint8), picture)
    region = bytearray(buffers[0])
    back: Any = codec(NDArray[np.uint8]).decode(header, [memoryview(region)])
    assert np.shares_memory(back, np.frombuffer(region, np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        back[0, 0] = 1


def test_nested_arrays_are_views_too() -> None:
    picture = np.arange(6, dtype=np.uint8).reshape(2, 3)
    header, buffers = codec(list[Crop]).encode([Crop(picture, Box(1, 0.5), [])])
    back: Any = codec(list[Crop]).decode(header, buffers)
    assert np.shares_memory(back[0].picture, picture)
    assert not back[0].picture.flags.writeable
    assert isinstance(back[0].box, Box)


def test_strided_and_foreign_byte_order_arrays_are_made_plain() -> None:
    strided = np.arange(12, dtype=np.int32).reshape(3, 4)[:, ::2]
    assert same(np.ascontiguousarray(strided), through(NDArray[np.int32], strided))
    foreign = np.array([1, 2, 3], dtype=">i4")
    assert through(NDArray[np.int32], foreign).tolist() == [1, 2, 3]


def test_numpy_scalars_become_numbers() -> None:
    assert through(float, np.float32(0.5)) == 0.5
    assert through(int, np.int64(7)) == 7
    assert through(list[bool], [np.bool_(True)]) == [True]


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (list[Box], [Box(1, 0.5), Box(2, "high")], "boxes[1].score: expected float, got str"),  # type: ignore[arg-type]
        (list[Crop], [Crop(np.zeros(2, np.float32), Box(1, 1.0), [])], "boxes[0].picture: expected dtype uint8, got float32"),
        (list[Crop], [Crop(np.zeros(2, np.uint8), Box(1, 1.0), [3])], "boxes[0].tags[0]: expected str, got int"),  # type: ignore[list-item]
        (dict[str, int], {"a": "b"}, "boxes['a']: expected int, got str"),
        (list[int], [1, None], "boxes[1]: expected int, got None"),
        (str, 5, "boxes: expected str, got int"),
        (str, None, "boxes: expected str, got None"),
        (bytes, "text", "boxes: expected bytes, got str"),
        (int, True, "boxes: expected int, got bool"),
        (bool, 1, "boxes: expected bool, got int"),
        (float, "1", "boxes: expected float, got str"),
        (int, 2**70, "boxes: can't serialize ints"),
        (NDArray[np.uint8], [1, 2], "boxes: expected an array, got list"),
        (NDArray[Any], np.array(["a"]), "boxes: expected an array of numbers, got dtype str"),
        (NDArray[Any], np.array([object()]), "boxes: expected an array of numbers, got dtype object"),
        (Annotated[NDArray[np.uint8], (None, 3)], np.zeros((2, 4), np.uint8), "boxes: expected shape [any, 3], got [2, 4]"),
        (str, "\ud800", "boxes: the text has a lone surrogate"),
        (list[str], (1, 2), "boxes: expected list[str], got tuple"),
        (list[Box], {"a": 1}, "boxes: expected list[Box], got dict"),
    ],
)
def test_a_value_that_does_not_fit_names_its_path(annotation: object, value: object, message: str) -> None:
    with pytest.raises(InputError) as raised:
        codec(annotation, "boxes").encode(value)
    assert str(raised.value).startswith(message)


def test_the_server_sees_records_as_dicts_and_checks_their_fields() -> None:
    value_type = describe(list[Box], "a value", "here")
    header, buffers = codec(list[Box]).encode([Box(1, 0.5, "x")])
    server = Codec(value_type, name="boxes")
    assert server.decode(header, buffers) == [{"left": 1, "score": 0.5, "label": "x"}]
    sent = server.encode([{"left": 1, "score": 2.0}])
    assert codec(list[Box]).decode(*sent) == [Box(1, 2.0)]
    for wrong, message in [
        ([{"left": 1}], "boxes[0].score: the field is missing"),
        ([{"left": 1, "score": 1.0, "extra": 2}], "boxes[0]: Box has no field 'extra'"),
        ([{"left": "1", "score": 1.0}], "boxes[0].left: expected int, got str"),
        (["box"], "boxes[0]: expected Box, got str"),
    ]:
        with pytest.raises(InputError) as raised:
            server.encode(wrong)
        assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("<f4", (1 << 40, 1 << 40)), ("<f4", (-1,)), ("|O", (1,)), ("<f4", (1,) * 40), ("<c16", (1,)), ("<f4", (2,))],
)
def test_a_tensor_header_that_does_not_agree_with_its_buffer_is_refused(dtype: str, shape: tuple[int, ...]) -> None:
    header = b"T" + msgspec.msgpack.encode((dtype, shape))
    with pytest.raises(InputError, match="cannot be read"):
        codec(NDArray[Any]).decode(header, [b"\0" * 4])


def test_a_nested_array_reference_is_bounds_checked() -> None:
    for reference in [(5, "<f4", (1,)), (-1, "<f4", (1,)), (0, "<f4", (9,)), (0, "|O", (1,)), "no"]:
        body = msgspec.msgpack.encode([msgspec.msgpack.Ext(1, msgspec.msgpack.encode(reference))])
        with pytest.raises(InputError):
            codec(list[NDArray[Any]]).decode(b"M" + body, [b"\0" * 4])
    with pytest.raises(InputError, match="unknown extension"):
        codec(list[NDArray[Any]]).decode(b"M" + msgspec.msgpack.encode([msgspec.msgpack.Ext(7, b"")]), [])


def test_deep_nesting_and_huge_claims_are_refused() -> None:
    for body in (b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff\x00", b"\xdf\xff\xff\xff\xff"):
        for annotation in (list[str], list[NDArray[Any]]):
            with pytest.raises(InputError):
                codec(annotation).decode(b"m", [body])


def test_a_long_body_travels_as_a_buffer() -> None:
    header, buffers = codec(list[str]).encode(["word"] * 1000)
    assert header == b"m"
    assert len(buffers) == 1
    header, buffers = codec(str).encode("x" * 5000)
    assert (header, len(buffers)) == (b"s", 1)


def test_a_stored_value_of_another_type_is_refused() -> None:
    header, buffers = codec(NDArray[Any]).encode(np.zeros(3, np.float32))
    with pytest.raises(InputError, match="expected dtype uint8, got float32"):
        codec(NDArray[np.uint8]).decode(header, buffers)
    with pytest.raises(InputError, match="it is no text"):
        codec(str).decode(header, buffers)
    with pytest.raises(InputError, match="no structured value"):
        codec(list[str]).decode(header, buffers)


def test_check_and_admit_look_deep_and_shallow() -> None:
    lists = codec(list[int], "numbers")
    lists.admit(["not", "looked", "at"])
    with pytest.raises(InputError, match=r"numbers\[0\]: expected int, got str"):
        lists.check(["looked at"])
    with pytest.raises(InputError, match=r"numbers: expected list\[int\], got tuple"):
        lists.admit((1,))
    codec(Box).admit(Box(1, 1.0))
    with pytest.raises(InputError, match="expected Box, got dict"):
        codec(Box).admit({})
