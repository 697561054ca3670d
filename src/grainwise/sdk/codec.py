"""Values of a declared type as a small header and raw buffers, and back; no pickle, and nothing in a header is trusted.

The first byte of a header is a tag, the rest the body: ``T`` a tensor (dtype and shape; its bytes are the one buffer),
``B`` bytes (the one buffer), ``S`` text, ``M`` everything else as MessagePack, in which an array is an extension that names
one of the buffers. The body of ``s`` and ``m`` is too long for a header and is the last buffer.

Whoever knows the Python type (an instance) gets dataclasses and structs back; the server, which never imports user code,
gets their fields as a dict.
"""

from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from math import prod
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from grainwise.domain.errors import InputError
from grainwise.domain.values import ValueType
from grainwise.sdk.edges import DTYPES

Encoded = tuple[bytes, list[memoryview]]
"""A header and the buffers that it refers to."""
Buffers = Sequence[memoryview | bytes | bytearray]

_INLINE_BYTES = 1024
_MAX_DIMENSIONS = 32
_KNOWN_SHAPES = 256
_EXTENSION_ARRAY = 1
_NO_BYTES = memoryview(b"")
_NATIVE: dict[str, np.dtype[Any]] = {np.dtype(name).str: np.dtype(name) for name in sorted(DTYPES)}
_NAMES: dict[np.dtype[Any], str] = {dtype: dtype.name for dtype in _NATIVE.values()}
_pack = msgspec.msgpack.encode
_unpack_meta = msgspec.msgpack.Decoder(tuple[str, tuple[int, ...]]).decode
_unpack_reference = msgspec.msgpack.Decoder(tuple[int, str, tuple[int, ...]]).decode
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MemoryError, ValueError, TypeError, OverflowError)


class Codec:
    """Encodes and decodes the values of one declared type.

    Args:
        value_type: the declared type.
        python_type: the annotation that dataclasses and structs are rebuilt from; without it they stay dicts.
        name: what messages call the value.
    """

    __slots__ = (
        "_admits",
        "_decode",
        "_decoder",
        "_encode",
        "_has_tensor",
        "_headers",
        "_metas",
        "_structured",
        "name",
        "value_type",
    )

    def __init__(self, value_type: ValueType, python_type: object = None, name: str = "value") -> None:
        self.value_type = value_type
        self.name = name
        self._headers: dict[tuple[np.dtype[Any], tuple[int, ...]], bytes] = {}
        self._metas: dict[bytes, tuple[np.dtype[Any], tuple[int, ...], int]] = {}
        self._has_tensor = _contains_tensor(value_type)
        self._structured: Any = object if python_type is None else python_type
        self._decoder: Callable[[bytes | memoryview], object] | None = None
        if value_type.kind in ("list", "mapping", "record") and python_type is not None and not self._has_tensor:
            self._decoder = msgspec.msgpack.Decoder(self._structured).decode
        encoders: dict[str, Callable[[Any], Encoded]] = {
            "tensor": self._encode_tensor,
            "bytes": self._encode_bytes,
            "text": self._encode_text,
        }
        decoders: dict[str, Callable[[bytes, Buffers], object]] = {
            "tensor": self._decode_tensor,
            "bytes": self._decode_bytes,
            "text": self._decode_text,
        }
        self._admits = _KIND_CHECKS.get(value_type.kind, _is_record)
        self._encode = encoders.get(value_type.kind, self._encode_message)
        self._decode = decoders.get(value_type.kind, self._decode_message)

    def encode(self, value: object) -> Encoded:
        """Header and buffers of ``value``; buffers are views of it where it is contiguous.

        Raises:
            InputError: the value does not fit the type; the message names the path, such as ``boxes[3].score``.
        """
        return self._encode(value)

    def decode(self, header: bytes, buffers: Buffers) -> object:
        """The value; arrays are read-only views of the buffers.

        Raises:
            InputError: header and buffers do not agree with each other or with the type.
        """
        return self._decode(header, buffers)

    def check(self, value: object) -> None:
        """Whether ``value`` fits the type, down to its fields and elements.

        Raises:
            InputError: it does not; the message names the path.
        """
        _check(value, self.value_type, self.name)

    def admit(self, value: object) -> None:
        """Whether the outermost kind of ``value`` fits, and an array in dtype and shape; elements and fields are not looked at.

        Raises:
            InputError: it does not.
        """
        if self.value_type.kind == "tensor":
            if not isinstance(value, np.ndarray) or (value.dtype, value.shape) not in self._headers:
                self._tensor_header(value)
        elif not self._admits(value):
            raise _unfit(self.name, self.value_type.annotation, value)

    def _encode_tensor(self, value: Any) -> Encoded:
        # A header is only ever made for what has been found to fit.
        header = self._headers.get((value.dtype, value.shape)) if isinstance(value, np.ndarray) else None
        if header is None:
            header = self._tensor_header(value)
        return header, [_bytes_of(_plain_array(value))]

    def _tensor_header(self, value: Any) -> bytes:
        reason = tensor_mismatch(value, self.value_type)
        if reason:
            raise InputError(f"{self.name}: {reason}")
        if len(self._headers) >= _KNOWN_SHAPES:
            self._headers.clear()
        header = self._headers[value.dtype, value.shape] = b"T" + _pack((value.dtype.newbyteorder("=").str, value.shape))
        return header

    def _decode_tensor(self, header: bytes, buffers: Buffers) -> object:
        meta = self._metas.get(header)
        if meta is None:
            if header[:1] != b"T":
                raise self._malformed("it is no tensor")
            try:
                meta = _checked_meta(*_unpack_meta(header[1:]))
            except _MALFORMED as error:
                raise self._malformed(str(error)) from error
            reason = _mismatch(meta[0].name, meta[1], self.value_type)
            if reason:
                raise InputError(f"{self.name}: {reason}")
            if len(self._metas) >= _KNOWN_SHAPES:
                self._metas.clear()
            self._metas[header] = meta
        if len(buffers) != 1:
            raise self._malformed(f"a tensor has one buffer, not {len(buffers)}")
        return self._view(meta, buffers[0])

    def _encode_bytes(self, value: Any) -> Encoded:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise _unfit(self.name, "bytes", value)
        view = memoryview(value)
        return b"B", [view if view.format == "B" and view.c_contiguous and view.ndim == 1 else memoryview(view.tobytes())]

    def _decode_bytes(self, header: bytes, buffers: Buffers) -> object:
        if header != b"B" or len(buffers) != 1:
            raise self._malformed("it is no bytes value with one buffer")
        return bytes(buffers[0])

    def _encode_text(self, value: Any) -> Encoded:
        if not isinstance(value, str):
            raise _unfit(self.name, "str", value)
        try:
            body = value.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{self.name}: the text has a lone surrogate at {error.start}, which UTF-8 cannot hold") from error
        return (b"S" + body, []) if len(body) <= _INLINE_BYTES else (b"s", [memoryview(body)])

    def _decode_text(self, header: bytes, buffers: Buffers) -> object:
        try:
            if header[:1] == b"S" and not buffers:
                return header[1:].decode()
            if header == b"s" and len(buffers) == 1:
                return str(buffers[0], "utf-8")
        except UnicodeDecodeError as error:
            raise self._malformed(str(error)) from error
        raise self._malformed("it is no text")

    def _encode_message(self, value: Any) -> Encoded:
        if self._decoder is None:
            _check(value, self.value_type, self.name)
        buffers: list[memoryview] = []

        def lift(found: Any) -> object:
            if isinstance(found, np.ndarray):
                array = _plain_array(found)
                buffers.append(_bytes_of(array))
                return msgspec.msgpack.Ext(_EXTENSION_ARRAY, _pack((len(buffers) - 1, array.dtype.str, array.shape)))
            if isinstance(found, np.generic):
                return found.item()
            if isinstance(found, str):
                return str(found)
            raise TypeError(f"got {type(found).__name__}, which may not cross an edge")

        try:
            body = _pack(value, enc_hook=lift)
            if self._decoder is not None:
                # Reading it back is the check of every field, in C: what does not fit is refused where it was made.
                self._decoder(body)
        except (msgspec.ValidationError, TypeError, OverflowError, UnicodeEncodeError, ValueError, RecursionError) as error:
            _check(value, self.value_type, self.name)
            raise InputError(self._said(error)) from error
        if len(body) > _INLINE_BYTES:
            buffers.append(memoryview(body))
            return b"m", buffers
        return b"M" + body, buffers

    def _decode_message(self, header: bytes, buffers: Buffers) -> object:
        body: bytes | memoryview | bytearray
        if header[:1] == b"M":
            body, arrays = header[1:], buffers
        elif header == b"m" and buffers:
            body, arrays = buffers[-1], buffers[:-1]
        else:
            raise self._malformed("it is no structured value")
        try:
            if self._decoder is not None:
                return self._decoder(memoryview(body))
            if not self._has_tensor:
                value = msgspec.msgpack.decode(body)
            else:

                def ground(code: int, data: memoryview) -> object:
                    if code != _EXTENSION_ARRAY:
                        raise ValueError(f"unknown extension {code}")
                    index, dtype, shape = _unpack_reference(data)
                    if not 0 <= index < len(arrays):
                        raise ValueError(f"it refers to buffer {index} of {len(arrays)}")
                    return self._view(_checked_meta(dtype, shape), arrays[index])

                value = msgspec.msgpack.decode(body, type=self._structured, ext_hook=ground)
            _check(value, self.value_type, self.name)
            return value
        except msgspec.ValidationError as error:
            raise InputError(self._said(error)) from error
        except _MALFORMED as error:
            raise self._malformed(str(error)) from error

    def _view(self, meta: tuple[np.dtype[Any], tuple[int, ...], int], buffer: memoryview | bytes | bytearray) -> NDArray[Any]:
        dtype, shape, nbytes = meta
        length = buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)
        if length != nbytes:
            raise self._malformed(f"{dtype} of shape {list(shape)} takes {nbytes} bytes and the buffer has {length}")
        array: NDArray[Any] = np.ndarray(shape, dtype, buffer=buffer if nbytes else b"\0" * dtype.itemsize)
        if array.flags.writeable:
            array.flags.writeable = False
        return array

    def _malformed(self, why: str) -> InputError:
        return InputError(f"{self.name}: the stored value cannot be read as {self.value_type.annotation}: {why}")

    def _said(self, error: Exception) -> str:
        """A message of msgspec, ``Expected `float`, got `str` - at `$[3].score```, with the path in front."""
        text, found, path = str(error).partition(" - at `")
        text = text.replace("`", "")
        if found and path.startswith(("$", "key` in `$")):
            return f"{self.name}{path.rpartition('$')[2].rstrip('`')}: {text[:1].lower()}{text[1:]}"
        return f"{self.name}: {text[:1].lower()}{text[1:]}"


def tensor_mismatch(value: object, value_type: ValueType) -> str:
    """Why ``value`` is no array of ``value_type``; empty when it is one."""
    if not isinstance(value, np.ndarray):
        return f"expected an array, got {type(value).__name__}"
    name = _NAMES.get(value.dtype)
    if name is None:
        name = value.dtype.name
        if name not in DTYPES:
            return f"expected an array of numbers, got dtype {name}; {', '.join(sorted(DTYPES))} may cross"
    return _mismatch(name, value.shape, value_type)


def _mismatch(dtype: str, shape: tuple[int, ...], value_type: ValueType) -> str:
    if value_type.dtype is not None and dtype != value_type.dtype:
        return f"expected dtype {value_type.dtype}, got {dtype}"
    wanted = value_type.shape
    if wanted is not None and (
        len(wanted) != len(shape) or any(item is not None and item != got for item, got in zip(wanted, shape, strict=True))
    ):
        free = ["any" if item is None else item for item in wanted]
        return f"expected shape [{', '.join(map(str, free))}], got {list(shape)}"
    return ""


def _checked_meta(dtype: str, shape: tuple[int, ...]) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    native = _NATIVE.get(dtype)
    if native is None:
        raise ValueError(f"dtype {dtype!r} may not cross an edge")
    if len(shape) > _MAX_DIMENSIONS or any(dimension < 0 for dimension in shape):
        raise ValueError(f"shape {list(shape)[:8]} has a negative dimension or more than {_MAX_DIMENSIONS}")
    return native, shape, prod(shape) * native.itemsize


def _plain_array(value: NDArray[Any]) -> NDArray[Any]:
    """``value`` itself where it is contiguous and of this machine's byte order, else a copy that is."""
    if value.flags.c_contiguous and value.dtype.isnative:
        return value
    return np.array(value, value.dtype.newbyteorder("="), order="C", copy=True)


def _bytes_of(array: NDArray[Any]) -> memoryview:
    if not array.nbytes:
        return _NO_BYTES
    return array.data.cast("B")


def _contains_tensor(value_type: ValueType) -> bool:
    if value_type.kind == "tensor":
        return True
    if value_type.element is not None and _contains_tensor(value_type.element):
        return True
    return any(_contains_tensor(field.type) for field in value_type.fields)


def _unfit(path: str, expected: str, value: object) -> InputError:
    return InputError(f"{path}: expected {expected}, got {'None' if value is None else type(value).__name__}")


def _check(value: Any, value_type: ValueType, path: str) -> None:
    """The whole value against its type; ``path`` is where it stands."""
    kind = value_type.kind
    if kind == "tensor":
        reason = tensor_mismatch(value, value_type)
        if reason:
            raise InputError(f"{path}: {reason}")
    elif kind == "list":
        if not isinstance(value, list):
            raise _unfit(path, value_type.annotation, value)
        if value_type.element is not None:
            for index, element in enumerate(value):
                _check(element, value_type.element, f"{path}[{index}]")
    elif kind == "mapping":
        if not isinstance(value, dict):
            raise _unfit(path, value_type.annotation, value)
        for key, element in value.items():
            if not isinstance(key, str):
                raise _unfit(f"{path}: a key", "str", key)
            if value_type.element is not None:
                _check(element, value_type.element, f"{path}[{key!r}]")
    elif kind == "record":
        _check_record(value, value_type, path)
    elif not _KIND_CHECKS[kind](value):
        raise _unfit(path, value_type.annotation, value)


_KIND_CHECKS: dict[str, Callable[[object], bool]] = {
    "list": lambda value: isinstance(value, list),
    "mapping": lambda value: isinstance(value, dict),
    "text": lambda value: isinstance(value, str),
    "bytes": lambda value: isinstance(value, bytes | bytearray | memoryview),
    "boolean": lambda value: isinstance(value, bool | np.bool_),
    "integer": lambda value: isinstance(value, int | np.integer) and not isinstance(value, bool),
    "real": lambda value: isinstance(value, float | int | np.floating | np.integer) and not isinstance(value, bool),
}


def _is_record(value: object) -> bool:
    return isinstance(value, msgspec.Struct) or (is_dataclass(value) and not isinstance(value, type))


def _check_record(value: Any, value_type: ValueType, path: str) -> None:
    if isinstance(value, dict):
        known = {field.name for field in value_type.fields}
        for key in value:
            if key not in known:
                raise InputError(f"{path}: {value_type.annotation} has no field {key!r}; it has {', '.join(sorted(known))}")
        for field in value_type.fields:
            if field.name in value:
                _check(value[field.name], field.type, f"{path}.{field.name}")
            elif field.is_required:
                raise InputError(f"{path}.{field.name}: the field is missing")
        return
    if isinstance(value, msgspec.Struct):
        attributes = dict(zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True))
    elif is_dataclass(value) and not isinstance(value, type):
        attributes = {field.name: field.name for field in value_type.fields}
    else:
        raise _unfit(path, value_type.annotation, value)
    for field in value_type.fields:
        attribute = attributes.get(field.name)
        if attribute is None or not hasattr(value, attribute):
            raise InputError(f"{path}.{field.name}: the field is missing")
        _check(getattr(value, attribute), field.type, f"{path}.{field.name}")
