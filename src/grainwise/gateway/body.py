"""How the body of a request reaches memory: announced, checked, then read straight into the store.

A body with a Content-Length is read into a reservation of the store. Where the server's own protocol runs, the kernel has
already begun to write it there (``Arriving``); elsewhere it is copied once from ASGI messages. A body without a length is
gathered up to the limit and then stored.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

from msgspec import Struct

from grainwise.gateway.errors import ClientGoneError, FieldError, MediaTypeError, SlowClientError
from grainwise.gateway.limits import Limits
from grainwise.runtimes.payloads import PayloadStore, Reservation

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

EXTENSION = "grainwise.link"
"""Key of the ASGI scope under which the server's own protocol leaves its ``Link``."""

_WANTED = frozenset(
    (
        b"content-length",
        b"inference-header-content-length",
        b"grainwise-deadline-ms",
        b"grainwise-dtype",
        b"grainwise-shape",
        b"content-type",
        b"content-encoding",
        b"accept",
    )
)


class Announcement(Struct, frozen=True):
    """What the head of a request says of it. ``length`` is ``None`` for a chunked body."""

    length: int | None
    header_length: int | None
    deadline_ms: float | None
    content_type: str
    accept: str
    dtype: str
    shape: str


class Placement(Struct, frozen=True):
    """A head and the room for the body that it announces."""

    head: Announcement
    length: int
    reservation: Reservation


class Arriving(Protocol):
    """A body that the protocol writes into a reservation as it arrives."""

    reservation: Reservation

    async def complete(self) -> None:
        """Return when the last byte is there.

        Raises:
            SlowClientError: it did not come in time.
            ClientGoneError: the client closed its connection.
        """
        ...

    def drop(self) -> None:
        """Nobody will read this body: its reservation ends as soon as nothing is written into it any more. Idempotent."""
        ...


class Link(Protocol):
    """What the server's own protocol offers beyond ASGI: a body on its way, word of a lost connection, a flush.

    ``head`` is there where the protocol has read it already.
    """

    head: Announcement | None
    arriving: Arriving | None
    on_lost: Callable[[], None] | None
    is_lost: bool

    async def flush(self) -> None:
        """Return when the socket has taken everything, so that nothing refers to what was written any more."""
        ...


class Body:
    """A complete body in memory. ``reservation`` is ``None`` where it lies outside the store."""

    __slots__ = ("reservation", "view")

    def __init__(self, view: memoryview, reservation: Reservation | None) -> None:
        self.view = view
        self.reservation = reservation

    def close(self) -> None:
        """Give up the hold on the memory; values published from it keep theirs."""
        self.view = memoryview(b"")
        if self.reservation is not None:
            self.reservation.close()


def read_head(headers: Iterable[tuple[bytes, bytes]]) -> Announcement:
    """The announcement of a body.

    Raises:
        FieldError: a header holds something other than a number.
        MediaTypeError: the body is compressed.
    """
    found = {name: value for name, value in headers if name in _WANTED}
    encoding = found.get(b"content-encoding")
    if encoding is not None and encoding.lower() != b"identity":
        raise MediaTypeError(f"Content-Encoding {encoding.decode('latin-1')}: send the body uncompressed")
    deadline = found.get(b"grainwise-deadline-ms")
    return Announcement(
        _count(found, b"content-length", "Content-Length"),
        _count(found, b"inference-header-content-length", "Inference-Header-Content-Length"),
        None if deadline is None else _deadline(deadline),
        found.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower(),
        found.get(b"accept", b"").decode("latin-1").lower(),
        found.get(b"grainwise-dtype", b"").decode("latin-1"),
        found.get(b"grainwise-shape", b"").decode("latin-1"),
    )


def _count(found: dict[bytes, bytes], name: bytes, shown: str) -> int | None:
    value = found.get(name)
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18:
        raise FieldError(shown, f"{value.decode('latin-1')!r} is not a number of bytes")
    return int(value)


def _deadline(value: bytes) -> float:
    try:
        milliseconds = float(value)
    except ValueError:
        milliseconds = 0.0
    if not 0 < milliseconds <= 86_400_000:
        raise FieldError("Grainwise-Deadline-Ms", f"{value.decode('latin-1')!r}: give milliseconds above 0, at most a day")
    return milliseconds


def check_lengths(head: Announcement, limits: Limits) -> None:
    """Check what a head claims, before any memory is taken for it.

    Raises:
        BodyTooLargeError: the body would be over a limit.
        FieldError: the lengths contradict each other.
    """
    if head.length is not None:
        limits.check_body(head.length)
    if head.header_length is not None:
        if head.length is not None and head.header_length > head.length:
            raise FieldError(
                "Inference-Header-Content-Length",
                f"{head.header_length} bytes are claimed for the JSON part of a body of {head.length}",
            )
        if head.header_length == 0:
            raise FieldError("Inference-Header-Content-Length", "the JSON part is empty; it must name the inputs")
        limits.check_body(head.header_length)


async def read_body(
    head: Announcement, link: Link | None, receive: Receive, store: PayloadStore, limits: Limits, *, into_store: bool
) -> Body:
    """Read a whole body. The caller closes it.

    Raises:
        BodyTooLargeError, FieldError: what the head claims, or what came, is over a limit or inconsistent.
        SlowClientError: the body did not come in time.
        ClientGoneError: the client closed its connection.
        ArenaFullError: the store has no room.
    """
    if link is not None and link.arriving is not None:
        arriving = link.arriving
        try:
            await arriving.complete()
        except BaseException:
            arriving.drop()
            raise
        return Body(arriving.reservation.view, arriving.reservation)
    check_lengths(head, limits)
    if head.length is None or not into_store or head.length == 0:
        return Body(memoryview(await _gather(receive, limits)), None)
    reservation = store.reserve(head.length, head.header_length or 0)
    view = reservation.view
    try:
        await _fill(view, head.length, receive, limits)
    except BaseException:
        reservation.close()
        raise
    return Body(view, reservation)


async def _fill(view: memoryview, length: int, receive: Receive, limits: Limits) -> None:
    """Copy the body from ASGI messages into ``view``."""
    filled = 0
    async with _InTime(limits):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError("the client closed its connection before its body was complete")
            chunk = message.get("body", b"")
            if filled + len(chunk) > length:
                raise FieldError("Content-Length", f"the body is longer than the {length} bytes that it claims")
            view[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
            if not message.get("more_body", False):
                break
    if filled != length:
        raise FieldError("Content-Length", f"the body has {filled} bytes and claims {length}")


async def _gather(receive: Receive, limits: Limits) -> bytearray:
    """A body of unknown length, refused as soon as it is over the limit."""
    gathered = bytearray()
    async with _InTime(limits):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError("the client closed its connection before its body was complete")
            chunk = message.get("body", b"")
            limits.check_body(len(gathered) + len(chunk))
            gathered += chunk
            if not message.get("more_body", False):
                return gathered


class _InTime:
    """Turns a body that takes too long into a ``SlowClientError``."""

    def __init__(self, limits: Limits) -> None:
        self._limit_ms = limits.body_timeout_ms
        self._timeout = asyncio.timeout(limits.body_timeout_ms / 1000)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as late:
            raise slow_client(self._limit_ms) from late


def slow_client(limit_ms: float) -> SlowClientError:
    """The error for a body that did not come in time."""
    return SlowClientError(f"the body was not complete within {limit_ms:g} ms; send it faster or in smaller requests")
