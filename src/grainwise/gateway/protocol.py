"""uvicorn's HTTP protocol, extended so that the kernel writes the body of a call straight into the store.

uvicorn copies a body four times on its way to the application and stops reading every 64 KiB. Here the transport asks for a
buffer before every read; once the head of a call is parsed and its endpoint has named a reservation, that buffer is the
reservation itself, so a body reaches shared memory without any copy in user space. Everything else (parsing, pipelining,
keep-alive, responses) stays uvicorn's.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from grainwise.gateway.body import EXTENSION, Placement
from grainwise.gateway.errors import ClientGoneError, ErrorBody, Failure
from grainwise.gateway.limits import Limits
from grainwise.gateway.link import ArrivingBody, ConnectionLink, Lingering

Placer = Callable[[bytes, Iterable[tuple[bytes, bytes]]], Placement | None]
"""Names the room for the body of a POST, from its target and headers; ``None`` where it is read by ASGI."""

HEAD_BUFFER_BYTES = 16 * 1024
LINGER_S = 2.0
"""How long a connection that is closed in the middle of a body still takes what comes, so that the answer is read."""


class CallProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bodies that may be placed. ``is_deaf``: what still comes is thrown away."""

    placer: Placer
    limits: Limits

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], loop: Any) -> None:
        super().__init__(config, server_state, app_state, loop)
        self.placed: ArrivingBody | None = None
        # One per call that has no answer yet, in the order of their heads: more than one where calls are pipelined.
        self._links: deque[ConnectionLink] = deque()
        self.is_deaf = False
        self.head_bytes = 0
        self.head_timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None

    def on_headers_complete(self) -> None:
        """A head is complete: find out where its body goes, then let uvicorn start the application."""
        self._end_head()
        # The body of a pipelined call waits in uvicorn's own buffer: its endpoint runs when those before it have answered.
        is_next = self.cycle is None or self.cycle.response_complete
        placement = self.placer(self.url, self.headers) if is_next and self.parser.get_method() == b"POST" else None
        if placement is None:
            link = ConnectionLink(self, None, None)
        else:
            link = ConnectionLink(self, placement.head, self._begin_body(placement))
        self._links.append(link)
        cast("dict[str, object]", self.scope)["extensions"] = {EXTENSION: link}
        super().on_headers_complete()
        self.cycle.transport = cast(asyncio.Transport, Lingering(self))

    def on_response_complete(self) -> None:
        """A call has its answer; answers go out in the order of the calls."""
        if self._links:
            self._links.popleft()
        super().on_response_complete()

    def _begin_body(self, placement: Placement) -> ArrivingBody:
        arriving = ArrivingBody(placement.reservation, placement.length, self.limits.body_timeout_ms, self.loop)
        self.placed = arriving
        self._body_timer = self.loop.call_later(self.limits.body_timeout_ms / 1000, self._expire_body)
        if self.expect_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.expect_100_continue = False
        return arriving

    def on_body(self, body: bytes) -> None:
        """Bytes of a body that came together with its head."""
        placed = self.placed
        if placed is None:
            super().on_body(body)
            return
        end = placed.filled + len(body)
        placed.view[placed.filled : end] = body
        placed.filled = end

    def on_message_complete(self) -> None:
        """The parser has seen the whole message."""
        if self.placed is not None:
            self._end_body()
        super().on_message_complete()

    def wrote_into_body(self, nbytes: int) -> None:
        """The transport has written ``nbytes`` at the end of what is there of the placed body."""
        placed = self.placed
        if placed is None:
            return
        placed.filled += nbytes
        if placed.filled == placed.length:
            self._end_body()
            # The parser did not see this body; the next message gets a fresh one.
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            super().on_message_complete()

    def _end_body(self) -> None:
        placed, self.placed = self.placed, None
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None
        if placed is not None:
            placed.finish()

    def _expire_body(self) -> None:
        placed, self.placed = self.placed, None
        self._body_timer = None
        self.is_deaf = True
        if placed is not None:
            placed.expire()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: tell whoever reads its body or works on its request."""
        placed, self.placed = self.placed, None
        links, self._links = self._links, deque()
        if self._body_timer is not None:
            self._body_timer.cancel()
        self._end_head()
        if self.transport is not None:
            super().connection_lost(exc)
        if placed is not None:
            placed.abandon(ClientGoneError("the client closed its connection before its body was complete"))
        for link in links:
            link.is_lost = True
            if link.on_lost is not None:
                link.on_lost()
        # A call and its scope refer back to the connection; a closed one is to be gone at once, not with a full collection.
        self.cycle = cast(Any, None)
        self.scope = cast(Any, None)

    def count_head(self, nbytes: int) -> bool:
        """Account for bytes that may belong to a head; false when the head is over a limit and was refused."""
        if self.cycle is not None and not self.cycle.response_complete:
            return True
        self.head_bytes += nbytes
        if self.head_bytes > self.limits.max_head_bytes:
            self.refuse(
                431, "head_too_large", f"the head is longer than {self.limits.max_head_bytes} bytes; send fewer headers"
            )
            return False
        if self.head_timer is None:
            self.head_timer = self.loop.call_later(self.limits.head_timeout_ms / 1000, self._expire_head)
        return True

    def _end_head(self) -> None:
        self.head_bytes = 0
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def _expire_head(self) -> None:
        self.head_timer = None
        self.refuse(408, "slow_client", f"the head was not complete within {self.limits.head_timeout_ms:g} ms")

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self.refuse(400, "bad_http", msg)

    def refuse(self, status: int, code: str, message: str) -> None:
        """Answer without a request and close."""
        if self.transport.is_closing():
            return
        self.is_deaf = True
        self.transport.write(refusal(Failure(status, ErrorBody(message, code))))
        self.linger()

    def linger(self) -> None:
        """Say that nothing more is sent, and throw away what still comes, for a while.

        Closing a socket that holds unread bytes resets it, and the client may lose the answer that explains the end.
        """
        if self.transport.is_closing():
            return
        self.is_deaf = True
        self.flow.resume_reading()
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)


def refusal(failure: Failure) -> bytes:
    """A whole response for a connection that is closed after it."""
    body = failure.encode()
    extra = b"".join(b"%s: %s\r\n" % header for header in failure.headers)
    return (
        b"HTTP/1.1 %d Refused\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n%s\r\n"
        % (failure.status, len(body), extra)
    ) + body


class Connection(asyncio.BufferedProtocol):
    """The transport's view of a connection: hands out the memory for each read."""

    http_class: type[CallProtocol]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.http = self.http_class(config, server_state, app_state, _loop)
        self._head = memoryview(bytearray(HEAD_BUFFER_BYTES))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        http = self.http
        stream = cast(asyncio.Transport, transport)
        limit = http.limits.max_connections
        if len(http.connections) >= limit:
            body = ErrorBody(f"{limit} connections are open, which is the limit; connect again later", "too_many_connections")
            stream.write(refusal(Failure(503, body, ((b"retry-after", b"1"),))))
            http.is_deaf = True
            stream.close()
            return
        http.connection_made(stream)

    def get_buffer(self, sizehint: int) -> memoryview:
        """The rest of the placed body, else the buffer for heads."""
        placed = self.http.placed
        return self._head if placed is None else placed.view[placed.filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """``nbytes`` were written into the buffer that was handed out last."""
        http = self.http
        if http.is_deaf:
            return
        if http.placed is not None:
            http.wrote_into_body(nbytes)
        elif http.count_head(nbytes):
            http.data_received(bytes(self._head[:nbytes]))

    def eof_received(self) -> bool | None:
        """The client will send no more."""
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended."""
        self.http.connection_lost(exc)

    def pause_writing(self) -> None:
        """The transport holds too much."""
        self.http.pause_writing()

    def resume_writing(self) -> None:
        """The transport can take more."""
        self.http.resume_writing()


def connection_class(placer: Placer, limits: Limits) -> type[Connection]:
    """The protocol class for ``uvicorn.Config(http=…)``, bound to a placer and to limits."""
    http = type("BoundCallProtocol", (CallProtocol,), {"placer": staticmethod(placer), "limits": limits})
    return type("BoundConnection", (Connection,), {"http_class": http})
