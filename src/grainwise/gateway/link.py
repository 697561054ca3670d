"""What a call sees of its connection beyond ASGI: its body on the way, a flush, an end that lets the answer be read."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from grainwise.gateway.body import Announcement, slow_client
from grainwise.gateway.limits import Limits
from grainwise.runtimes.payloads import Reservation

_NOTHING = memoryview(b"")


class Carrier(Protocol):
    """The connection underneath."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    limits: Limits
    flow: Any
    cycle: Any

    def linger(self) -> None:
        """End the connection when the client has had time to read."""
        ...


class ArrivingBody:
    """A body that is being written into its reservation."""

    __slots__ = ("_is_dropped", "_is_settled", "_limit_ms", "_settled", "filled", "length", "reservation", "view")

    def __init__(self, reservation: Reservation, length: int, limit_ms: float, loop: asyncio.AbstractEventLoop) -> None:
        self.reservation = reservation
        self.view = reservation.view
        self.length = length
        self.filled = 0
        self._limit_ms = limit_ms
        self._is_dropped = False
        self._is_settled = False
        self._settled: asyncio.Future[None] = loop.create_future()

    async def complete(self) -> None:
        """Return when the last byte is there.

        Raises:
            SlowClientError: it did not come in time.
            ClientGoneError: the client closed its connection.
        """
        await self._settled

    def finish(self) -> None:
        """The last byte is there."""
        self.view = _NOTHING
        self._is_settled = True
        if self._is_dropped:
            self.reservation.close()
        if not self._settled.done():
            self._settled.set_result(None)

    def drop(self) -> None:
        """Nobody will read this body: its reservation ends as soon as nothing is written into it any more. Idempotent."""
        self._is_dropped = True
        if self._is_settled:
            self.reservation.close()

    def abandon(self, error: Exception) -> None:
        """No further byte will be written; the reservation ends here."""
        self.view = _NOTHING
        self._is_settled = True
        self.reservation.close()
        if not self._settled.done():
            self._settled.set_exception(error)
            # Marked as seen: the endpoint may have failed before it came to wait.
            self._settled.exception()

    def expire(self) -> None:
        """The time for the body is over."""
        self.abandon(slow_client(self._limit_ms))


class ConnectionLink:
    """What an endpoint may ask of its connection; one per call, in the ASGI scope."""

    __slots__ = ("_http", "arriving", "head", "is_lost", "on_lost")

    def __init__(self, http: Carrier, head: Announcement | None, arriving: ArrivingBody | None) -> None:
        self._http = http
        self.head = head
        self.arriving = arriving
        self.on_lost: Callable[[], None] | None = None
        self.is_lost = False

    async def flush(self) -> None:
        """Return when the socket has taken everything that was written; a client that does not read it is cut off."""
        http = self._http
        transport = http.transport
        if transport.is_closing():
            return
        # With a high-water mark of 0 the transport says at once that it holds something, and then when it does not.
        transport.set_write_buffer_limits(0, 0)
        timer = http.loop.call_later(http.limits.answer_timeout_ms / 1000, transport.abort)
        try:
            if transport.get_write_buffer_size():
                await http.flow.drain()
        finally:
            timer.cancel()
            transport.set_write_buffer_limits()


class Lingering:
    """The transport as a call sees it: closing in the middle of a body lingers."""

    __slots__ = ("_http",)

    def __init__(self, http: Carrier) -> None:
        self._http = http

    def write(self, data: bytes | memoryview) -> None:
        """Write to the connection."""
        self._http.transport.write(data)

    def is_closing(self) -> bool:
        """Whether the connection is about to end."""
        return self._http.transport.is_closing()

    def close(self) -> None:
        """End the connection once the answer has been sent."""
        http = self._http
        if http.cycle is not None and http.cycle.more_body:
            http.linger()
        else:
            http.transport.close()
