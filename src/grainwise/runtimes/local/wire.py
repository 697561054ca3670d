"""What the server, the zygote and the instances say to each other: msgpack frames with a length in front.

A value on the wire is its header and, for each of its buffers, either the bytes themselves or where they lie in shared
memory. The server passes values on as it got them, undecoded (``Raw``).
"""

from struct import Struct as Layout
from typing import Literal

from msgspec import Raw, Struct
from msgspec.msgpack import Decoder, Encoder

from grainwise.control.events import ItemResult, StageSpan
from grainwise.domain.app import AppSpec
from grainwise.domain.values import Payload

INLINE_BYTES = 4096
"""Values up to this length travel in the message; longer ones lie in an arena."""

_LENGTH = Layout("<I")

LENGTH_BYTES = _LENGTH.size
"""Bytes of the little-endian length in front of a frame."""


class Part(Struct, frozen=True, array_like=True, gc=False):
    """A buffer in shared memory: ``length`` bytes at ``offset`` of arena ``arena``, inside the block at ``block``."""

    arena: int
    block: int
    offset: int
    length: int


class WireValue(Struct, frozen=True, array_like=True, gc=False):
    """A value: what the codec says about it, and its buffers."""

    header: bytes
    buffers: tuple[bytes | Part, ...]


class Hold(Struct, frozen=True, array_like=True, gc=False):
    """A block that a value keeps alive. ``nbytes`` is 0 where the sender does not own the block (an alias of an input)."""

    arena: int
    block: int
    nbytes: int


class Published(Struct, frozen=True, array_like=True, gc=False):
    """A value that an instance has made: its handle, length, number in the table of edge types, and blocks."""

    handle: int
    nbytes: int
    edge_type: int
    holds: tuple[Hold, ...]
    value: Raw


WirePayload = tuple[int, tuple[Raw, ...]]
"""Shape (``ONE``, ``MANY`` or ``SKIP``) and values of one source for one item."""

ONE, MANY, SKIP = 0, 1, 2

Freed = tuple[tuple[int, int], ...]
"""Blocks of the receiver's arena that nothing refers to: offset, and how many publications are settled by it."""


# Server to instance


class SetUp(Struct, frozen=True, array_like=True, tag=1):
    """Load ``stages``, then run ``warm_up`` (one item for the extent of all of them) if there is one."""

    stages: int
    warm_up: tuple[WirePayload, ...] | None = None


class Run(Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Run an extent for some items."""

    invocation: int
    extent: int
    items: tuple[tuple[WirePayload, ...], ...]
    freed: Freed = ()


class Load(Struct, frozen=True, array_like=True, tag=3):
    """Load further stages."""

    stages: int


class Cancel(Struct, frozen=True, array_like=True, tag=4):
    """Drop an invocation that has not begun."""

    invocation: int


class Free(Struct, frozen=True, array_like=True, tag=5):
    """Take blocks back."""

    freed: Freed


class Map(Struct, frozen=True, array_like=True, tag=6):
    """Map an arena; its file comes with this message."""

    arena: int
    size: int


class Unmap(Struct, frozen=True, array_like=True, tag=7):
    """An arena is no longer used."""

    arena: int


class Ping(Struct, frozen=True, array_like=True, tag=8):
    """Say that you live."""


class Stop(Struct, frozen=True, array_like=True, tag=9):
    """End."""


class Sample(Struct, frozen=True, array_like=True, tag=10):
    """Make the app's example inputs."""


ToInstance = SetUp | Run | Load | Cancel | Free | Map | Unmap | Ping | Stop | Sample


# Instance to server


class Ready(Struct, frozen=True, array_like=True, tag=1):
    """The stages are loaded. ``main_at_us`` is the monotonic clock when the process had begun."""

    main_at_us: int
    load_us: int
    first_call_us: int
    memory_mib: float


class Broken(Struct, frozen=True, array_like=True, tag=2):
    """The first load failed; the process ends."""

    detail: str
    stage: str


class Loaded(Struct, frozen=True, array_like=True, tag=3):
    """An answer to ``Load``: what was asked for, and what went wrong."""

    stages: int
    load_us: int
    memory_mib: float
    error: str


class Done(Struct, frozen=True, array_like=True, tag=4, gc=False):
    """An invocation ended.

    ``copied_bytes`` were copied into the arena because they did not lie in one. ``kept`` are blocks of inputs that a stage
    still refers to, ``dropped`` such blocks (arena, offset) that none refers to any more.
    """

    invocation: int
    results: tuple[ItemResult, ...]
    busy_us: int
    spans: tuple[StageSpan, ...]
    values: tuple[Published, ...]
    copied_bytes: int
    kept: tuple[Hold, ...] = ()
    dropped: tuple[tuple[int, int], ...] = ()


class NotDone(Struct, frozen=True, array_like=True, tag=5):
    """An invocation could not be performed. ``kept`` and ``dropped`` as in ``Done``."""

    invocation: int
    kind: Literal["backpressure", "refused", "cancelled"]
    detail: str
    kept: tuple[Hold, ...] = ()
    dropped: tuple[tuple[int, int], ...] = ()


class Tight(Struct, frozen=True, array_like=True, tag=6):
    """The arena is full: send freed blocks at once."""


class Pong(Struct, frozen=True, array_like=True, tag=7):
    """Alive."""


class Progress(Struct, frozen=True, array_like=True, tag=9):
    """A long invocation goes on: another call of a stage begins."""

    invocation: int


class Sampled(Struct, frozen=True, array_like=True, tag=8):
    """The app's example inputs: per sample a payload for each entry value; or why there are none."""

    samples: tuple[tuple[Payload, ...], ...]
    values: tuple[Published, ...]
    error: str = ""


FromInstance = Ready | Broken | Loaded | Done | NotDone | Tight | Pong | Progress | Sampled


# Server and zygote


class Fork(Struct, frozen=True, array_like=True, tag=1):
    """Fork an instance; its socket and its arena come with this message. ``serial`` begins its handles."""

    serial: int
    arena: int
    arena_bytes: int
    threads: int


class Declared(Struct, frozen=True, array_like=True, tag=1):
    """The app file is imported."""

    app: AppSpec
    import_us: int


class Refused(Struct, frozen=True, array_like=True, tag=2):
    """The app file cannot be served: name of the error's type and its text."""

    error: str
    detail: str


class Forked(Struct, frozen=True, array_like=True, tag=3):
    """An instance runs as ``pid``."""

    serial: int
    pid: int


class Reaped(Struct, frozen=True, array_like=True, tag=4):
    """An instance has ended with an exit status, or by a signal (then the status is negative)."""

    serial: int
    status: int


FromZygote = Declared | Refused | Forked | Reaped

to_instance = Decoder(ToInstance)
from_instance = Decoder(FromInstance)
from_zygote = Decoder(FromZygote)
to_zygote = Decoder(Fork)
_value = Decoder(WireValue)
_encoder = Encoder()


def frame(message: Struct) -> bytearray:
    """A message ready to be sent."""
    buffer = bytearray(LENGTH_BYTES)
    _encoder.encode_into(message, buffer, LENGTH_BYTES)
    _LENGTH.pack_into(buffer, 0, len(buffer) - LENGTH_BYTES)
    return buffer


def pack_value(header: bytes, buffers: tuple[bytes | Part, ...]) -> Raw:
    """A value as it travels."""
    return Raw(_encoder.encode(WireValue(header, buffers)))


def unpack_value(value: Raw) -> WireValue:
    """The parts of a value that has travelled."""
    return _value.decode(value)


class Frames:
    """Cuts a stream into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[memoryview]:
        """The frames that ``data`` completes."""
        if not self._rest and len(data) >= LENGTH_BYTES and len(data) == LENGTH_BYTES + _LENGTH.unpack_from(data)[0]:
            return [memoryview(data)[LENGTH_BYTES:]]
        if self._rest:
            data = self._rest + data
        view = memoryview(data)
        frames: list[memoryview] = []
        begin = 0
        end = len(data)
        while end - begin >= LENGTH_BYTES:
            body = begin + LENGTH_BYTES
            after = body + _LENGTH.unpack_from(view, begin)[0]
            if after > end:
                break
            frames.append(view[body:after])
            begin = after
        self._rest = data[begin:] if begin < end else b""
        return frames
