"""The bytes behind handles, as the doors and the runtimes of one machine see them.

``control.performers.Store`` is the part that the controller drives (``release``); this is the whole.
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from grainwise.domain.errors import GrainwiseError
from grainwise.domain.values import ValueType


class ArenaFullError(GrainwiseError):
    """Shared memory has no room for a payload now: backpressure, 429 at the door."""


class Stored(Struct, frozen=True):
    """A value that lies in the store: its handle and its length in bytes."""

    handle: int
    nbytes: int


class Reservation(Protocol):
    """A writable region, filled by the door straight from the network and then published as one or more values.

    The region lives until the reservation is closed and every handle taken from it is released.
    """

    @property
    def view(self) -> memoryview:
        """The writable bytes."""
        ...

    def tensor(self, offset: int, nbytes: int, dtype: str, shape: Sequence[int]) -> Stored:
        """Publish ``view[offset:offset + nbytes]`` as an array, without a copy where the offset suits the dtype.

        Raises:
            InputError: the length does not agree with dtype and shape.
        """
        ...

    def raw(self, offset: int, nbytes: int) -> Stored:
        """Publish ``view[offset:offset + nbytes]`` as a ``bytes`` value, without a copy."""
        ...

    def close(self) -> None:
        """Give up the reservation's own hold. Idempotent."""
        ...


class PayloadStore(Protocol):
    """Values in shared memory (or inline, when small) behind integer handles. Used from the driver's thread only."""

    def reserve(self, nbytes: int, first_tensor_offset: int = 0) -> Reservation:
        """Room for ``nbytes``, placed so that ``first_tensor_offset`` falls on a 64-byte boundary.

        Raises:
            ArenaFullError: there is no room now.
        """
        ...

    def put(self, value: object, value_type: ValueType) -> Stored:
        """Store a Python value of a declared type; the codec checks it.

        Raises:
            InputError: the value does not fit the type.
            ArenaFullError: there is no room now.
        """
        ...

    def get(self, handle: int) -> object:
        """The value; arrays are read-only views of shared memory that are valid until the handle is released."""
        ...

    def release(self, handles: tuple[int, ...]) -> None:
        """Forget these handles; a region is reused when nothing refers to it any more."""
        ...

    @property
    def live_bytes(self) -> int:
        """Bytes behind live handles; 0 when no request is in flight."""
        ...
