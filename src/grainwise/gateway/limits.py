"""What a client may ask of the door. Every limit is checked before memory is taken for what it bounds."""

import re

import numpy as np
from msgspec import Struct

from grainwise.domain.errors import ConfigurationError
from grainwise.gateway.errors import BodyTooLargeError, FieldError


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of the public listener.

    ``max_body_bytes`` bounds a body as sent and as decoded; ``max_json_bytes`` the part of it that becomes Python objects:
    JSON, and a binary list of numbers that one stage reads as a whole (a number takes several times its length in memory).
    ``max_elements`` bounds an input that is a list and costs something per element: one that an ``each`` takes apart, which
    is stored element by element, and any list of texts, bytes or documents. ``head_timeout_ms`` and ``body_timeout_ms``
    bound how long a client may take to send the head and the body of a request, ``answer_timeout_ms`` how long it may take to
    read an answer that lies in the store; ``keep_alive_s`` is how long an idle connection stays open.
    """

    max_body_bytes: int = 64 * 1024 * 1024
    max_json_bytes: int = 8 * 1024 * 1024
    max_json_depth: int = 32
    max_head_bytes: int = 32 * 1024
    max_connections: int = 1024
    max_elements: int = 16_384
    head_timeout_ms: float = 10_000
    body_timeout_ms: float = 30_000
    answer_timeout_ms: float = 30_000
    keep_alive_s: int = 75

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value <= 0:
                raise ConfigurationError(f"limit {name} is {value}; give a number above 0")

    def check_body(self, nbytes: int) -> None:
        """Refuse a body that is, or claims to be, too long.

        Raises:
            BodyTooLargeError: ``nbytes`` is over the limit.
        """
        if nbytes > self.max_body_bytes:
            raise BodyTooLargeError(f"the body has {nbytes} bytes, the limit is {self.max_body_bytes}; send less")

    def check_elements(self, count: int, field: str) -> None:
        """Refuse an input list of too many elements, before anything is stored for it.

        Raises:
            BodyTooLargeError: ``count`` is over the limit; ``field`` is named.
        """
        if count > self.max_elements:
            raise BodyTooLargeError(
                f"{field}: {count} elements, the limit is {self.max_elements}; send them in several requests", field
            )

    def check_numbers(self, nbytes: int, field: str) -> None:
        """Refuse a binary list of numbers that would become too many Python numbers.

        Raises:
            BodyTooLargeError: its ``nbytes`` are over the limit; ``field`` is named.
        """
        if nbytes > self.max_json_bytes:
            raise BodyTooLargeError(
                f"{field}: a list of {nbytes} bytes of numbers, the limit is {self.max_json_bytes}; declare an array instead",
                field,
            )

    def check_json(self, text: "bytes | bytearray | memoryview", field: str) -> None:
        """Refuse JSON that is too long or nested too deeply to be parsed.

        Raises:
            BodyTooLargeError: the text is too long.
            FieldError: it is nested too deeply.
        """
        if len(text) > self.max_json_bytes:
            raise BodyTooLargeError(
                f"{field}: {len(text)} bytes of JSON, the limit is {self.max_json_bytes}; send tensors in the binary form",
                field,
            )
        raw = text if isinstance(text, bytes) else bytes(text)
        if raw.count(b"[") + raw.count(b"{") > self.max_json_depth and json_depth(raw) > self.max_json_depth:
            raise FieldError(field, f"JSON nested deeper than {self.max_json_depth}")


# A string that never ends swallows the rest, so that hostile text is scanned once.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+\\?(?:"|\Z)', re.DOTALL)
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def json_depth(raw: bytes) -> int:
    """The deepest nesting of arrays and objects in ``raw``, brackets inside strings not counted."""
    brackets = np.frombuffer(_STRING.sub(b"", raw).translate(None, _ALL_BUT_BRACKETS), np.uint8)
    if not brackets.size:
        return 0
    # Bit 2 is set in both closing brackets and clear in both opening ones.
    steps = 1 - ((brackets & 4) >> 1).astype(np.int8)
    return max(0, int(np.cumsum(steps, dtype=np.int32).max()))
