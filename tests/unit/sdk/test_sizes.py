import dataclasses
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grainwise import sizes
from grainwise.domain.errors import InputError
from grainwise.domain.values import ValueType


@dataclasses.dataclass
class Named:
    name: str
    picture: np.ndarray  # type: ignore[type-arg]


class Pointed(msgspec.Struct):
    x: float
    name: str


PICTURE = np.zeros((4, 5, 3), np.uint16)


@pytest.mark.parametrize(
    ("size", "value", "expected"),
    [
        (sizes.one, PICTURE, 1),
        (sizes.one, ["a", "b"], 1),
        (sizes.pixels, PICTURE, 20),
        (sizes.pixels, np.zeros(7), 7),
        (sizes.pixels, [PICTURE, PICTURE], 40),
        (sizes.length, PICTURE, 4),
        (sizes.length, np.array(1.0), 1),
        (sizes.length, "abc", 3),
        (sizes.length, "äb", 3),
        (sizes.length, b"abcd", 4),
        (sizes.length, ["ab", "c"], 3),
        (sizes.length, [1, 2, 3], 3),
        (sizes.nbytes, PICTURE, 120),
        (sizes.nbytes, "äb", 3),
        (sizes.nbytes, 7, 8),
        (sizes.nbytes, {"a": b"xy", "b": 1.0}, 10),
        (sizes.nbytes, Named("ab", PICTURE), 122),
        (sizes.nbytes, Pointed(1.0, "abc"), 11),
        (sizes.elements, PICTURE, 60),
        (sizes.elements, [PICTURE, np.zeros(2)], 62),
    ],
)
def test_a_measure_of_a_value(size: sizes.Size, value: object, expected: float) -> None:
    assert size(value) == expected
    assert sizes.measure(size.name, value) == expected


@given(
    st.sampled_from(sorted(sizes.SIZE_BY_NAME)),
    st.lists(st.integers(0, 6), max_size=4).map(tuple),
    st.sampled_from(["uint8", "float32", "int64"]),
)
def test_metadata_and_value_agree_for_tensors(name: str, shape: tuple[int, ...], dtype: str) -> None:
    value = np.zeros(shape, dtype)
    assert sizes.from_metadata(name, dtype, shape, value.nbytes) == sizes.measure(name, value)


@given(st.sampled_from(["one", "length", "nbytes"]), st.text(st.characters(codec="utf-8")))
def test_metadata_and_value_agree_for_text_and_bytes(name: str, text: str) -> None:
    body = text.encode()
    expected = sizes.from_metadata(name, None, None, len(body))
    assert expected == sizes.measure(name, text) == sizes.measure(name, body)


def test_an_unknown_measure_and_a_negative_extent_are_input_errors() -> None:
    with pytest.raises(InputError, match="no built-in size named 'custom'; there are: one, pixels"):
        sizes.measure("custom", 1)
    with pytest.raises(InputError, match="negative"):
        sizes.from_metadata("one", "uint8", (-1,), 0)
    with pytest.raises(InputError, match="negative"):
        sizes.from_metadata("one", None, None, -1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, "3", None])
def test_a_size_is_a_finite_number(value: object) -> None:
    with pytest.raises(InputError, match="size function of stage 'a' returned"):
        sizes.checked(value, "stage 'a'")


def test_numpy_numbers_are_sizes_too() -> None:
    assert sizes.checked(np.int64(3), "x") == 3.0


def test_can_measure_looks_into_lists() -> None:
    tensors = ValueType("list", "", element=ValueType("tensor", ""))
    assert sizes.can_measure("pixels", tensors)
    assert not sizes.can_measure("pixels", ValueType("list", "", element=ValueType("text", "")))
    assert sizes.can_measure("length", ValueType("text", ""))
