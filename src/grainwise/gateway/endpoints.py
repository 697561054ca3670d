"""The hot path: an infer request and its plain sister as raw ASGI, from the head to the last byte of the answer."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial

from grainwise.domain.errors import GrainwiseError
from grainwise.domain.time import Instant
from grainwise.gateway import oip, oip_answer, plain
from grainwise.gateway.body import (
    EXTENSION,
    Announcement,
    Body,
    Link,
    Placement,
    Receive,
    Scope,
    Send,
    check_lengths,
    read_body,
    read_head,
)
from grainwise.gateway.door import Answer, HttpDoor
from grainwise.gateway.entry import Entry, Intake
from grainwise.gateway.errors import (
    ClientGoneError,
    DrainingError,
    Failure,
    MethodError,
    SlowClientError,
    failure_of_error,
)
from grainwise.gateway.limits import Limits
from grainwise.runtimes.payloads import PayloadStore
from grainwise.telemetry.http import HttpCounters

logger = logging.getLogger("grainwise.gateway")

JSON = (b"content-type", b"application/json")
OCTETS = (b"content-type", b"application/octet-stream")
CLOSE = (b"connection", b"close")
# Below this a copy is cheaper than waiting until the socket has taken the original.
COPY_BELOW = 32 * 1024
# So much unread body is thrown away to keep a connection; above it the connection is closed.
SKIP_BELOW = 1024 * 1024


class Desk:
    """What the endpoints of all apps share."""

    __slots__ = ("counters", "door", "limits", "store")

    def __init__(self, door: HttpDoor, store: PayloadStore, limits: Limits, counters: HttpCounters) -> None:
        self.door = door
        self.store = store
        self.limits = limits
        self.counters = counters


class Endpoint:
    """One way to call one app; a raw ASGI application."""

    route: str

    def __init__(self, entry: Entry, desk: Desk) -> None:
        self.entry = entry
        self.desk = desk

    def goes_into_store(self, head: Announcement) -> bool:
        """Whether the body holds values as the store keeps them.

        Raises:
            MediaTypeError: the body is of a kind that this endpoint does not read.
        """
        raise TypeError(f"{type(self).__name__} does not say where its bodies go")

    async def call(self, head: Announcement, body: Body, link: Link | None, receive: Receive, send: Send) -> None:
        """Answer one request and close its body; errors go to the caller."""
        raise TypeError(f"{type(self).__name__} does not answer")

    def place(self, headers: Iterable[tuple[bytes, bytes]]) -> Placement | None:
        """Where the kernel may write a body, ``None`` where it has to be read first or the request will be refused."""
        desk = self.desk
        try:
            head = read_head(headers)
            if not head.length or desk.door.is_draining or not self.goes_into_store(head):
                return None
            check_lengths(head, desk.limits)
            return Placement(head, head.length, desk.store.reserve(head.length, head.header_length or 0))
        except GrainwiseError:
            # The endpoint meets the same error again, and is where it can be answered.
            return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        extensions = scope.get("extensions")
        link: Link | None = extensions.get(EXTENSION) if extensions else None
        desk = self.desk
        unread: int | None = None
        try:
            if scope["method"] != "POST":
                raise MethodError(f"{scope['method']} is not served here; use POST", ("POST",))
            head = link.head if link is not None and link.head is not None else read_head(scope["headers"])
            unread = head.length
            if desk.door.is_draining:
                if link is not None and link.arriving is not None:
                    link.arriving.drop()
                raise DrainingError("the server is draining; send the request to another one")
            into_store = self.goes_into_store(head)
            body = await read_body(head, link, receive, desk.store, desk.limits, into_store=into_store)
            unread = 0
            await self.call(head, body, link, receive, send)
        except ClientGoneError:
            desk.counters.count(self.route, 499)
        except GrainwiseError as error:
            closes = unread is None or unread >= SKIP_BELOW or isinstance(error, SlowClientError | DrainingError)
            await self.fail(failure_of_error(error), send, closes=closes)
        except Exception as error:
            logger.exception("%s of app %s failed", self.route, self.entry.spec.name)
            await self.fail(failure_of_error(error), send, closes=True)

    async def ask(self, intake: Intake, deadline_ms: float | None, link: Link | None, receive: Receive) -> Answer | Failure:
        """Post the request and wait for what becomes of it, watching the connection."""
        door = self.desk.door
        deadline: Instant = 0 if deadline_ms is None else door.deadline_after(deadline_ms)
        ticket = door.submit(self.entry.spec, intake.take(), deadline)
        try:
            if ticket.future.done():
                return ticket.future.result()
            if link is None:
                return await self._watch(ticket.future, partial(door.cancel, ticket.request), receive)
            link.on_lost = partial(door.cancel, ticket.request)
            if link.is_lost:
                link.on_lost()
            return await ticket.future
        finally:
            if link is not None:
                link.on_lost = None
            # Does nothing to a request that was answered; one whose call was cancelled is still there.
            door.cancel(ticket.request)

    @staticmethod
    async def _watch(
        future: "asyncio.Future[Answer | Failure]", cancel: Callable[[], None], receive: Receive
    ) -> Answer | Failure:
        """Wait under a plain ASGI server, where only ``receive`` tells that the client went away."""

        async def wait_for_disconnect() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            cancel()

        watcher = asyncio.ensure_future(wait_for_disconnect())
        try:
            return await future
        finally:
            watcher.cancel()

    async def fail(self, failure: Failure, send: Send, *, closes: bool = False) -> None:
        """Write an error."""
        self.desk.counters.count(self.route, failure.status)
        await send_failure(failure, send, closes=closes)


async def send_failure(failure: Failure, send: Send, *, closes: bool = False) -> None:
    """Write an error as an ASGI response."""
    body = failure.encode()
    headers = [JSON, (b"content-length", b"%d" % len(body)), *failure.headers]
    if closes:
        headers.append(CLOSE)
    await send({"type": "http.response.start", "status": failure.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class InferEndpoint(Endpoint):
    """``POST /v2/models/{app}/infer``."""

    route = "infer"

    def goes_into_store(self, head: Announcement) -> bool:
        """Only a body with a binary part holds tensors as they are kept."""
        return head.header_length is not None

    async def call(self, head: Announcement, body: Body, link: Link | None, receive: Receive, send: Send) -> None:
        """Read the inputs, ask, write the outputs."""
        desk = self.desk
        intake = Intake(self.entry, desk.store)
        try:
            nbytes = len(body.view)
            parsed = oip.parse_infer(self.entry, head, body, intake, desk.store, desk.limits)
        except BaseException:
            intake.undo()
            raise
        finally:
            body.close()
        deadline_ms = head.deadline_ms if head.deadline_ms is not None else parsed.deadline_ms
        try:
            answer = await self.ask(intake, deadline_ms, link, receive)
        finally:
            intake.undo()
        if isinstance(answer, Failure):
            await self.fail(answer, send)
            return
        try:
            text, parts, has_binary = oip_answer.encode_infer(self.entry, parsed, answer)
            length = len(text) + sum(part.nbytes if isinstance(part, memoryview) else len(part) for part in parts)
            headers = [OCTETS if has_binary else JSON, (b"content-length", b"%d" % length)]
            if has_binary:
                headers.append((b"inference-header-content-length", b"%d" % len(text)))
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await _write([text, *parts], link, send)
        finally:
            answer.close()
        desk.counters.count(self.route, 200, nbytes, length)


class PlainEndpoint(Endpoint):
    """``POST /v1/apps/{app}``."""

    route = "plain"

    def goes_into_store(self, head: Announcement) -> bool:
        """A raw body is a value as it is kept, JSON and text are not."""
        return plain.form_of(self.entry, head) != "json" and self.entry.slots[0].value_type.kind in ("bytes", "tensor")

    async def call(self, head: Announcement, body: Body, link: Link | None, receive: Receive, send: Send) -> None:
        """Read the inputs, ask, write the outputs."""
        desk = self.desk
        intake = Intake(self.entry, desk.store)
        try:
            nbytes = len(body.view)
            plain.parse(self.entry, head, body, intake, desk.limits)
        except BaseException:
            intake.undo()
            raise
        finally:
            body.close()
        try:
            answer = await self.ask(intake, head.deadline_ms, link, receive)
        finally:
            intake.undo()
        if isinstance(answer, Failure):
            await self.fail(answer, send)
            return
        try:
            headers, content = plain.encode_plain(self.entry, answer, head.accept)
            length = content.nbytes if isinstance(content, memoryview) else len(content)
            headers += ((b"content-length", b"%d" % length), (b"grainwise-request", b"%d" % answer.request))
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await _write([content], link, send)
        finally:
            answer.close()
        desk.counters.count(self.route, 200, nbytes, length)


async def _write(parts: list[memoryview | bytes], link: Link | None, send: Send) -> None:
    """Write a body of several parts; when this returns, nothing refers to memory of the store any more."""
    small: list[memoryview | bytes] = []
    for part in parts:
        if link is not None and isinstance(part, memoryview) and part.nbytes >= COPY_BELOW:
            if small:
                await send({"type": "http.response.body", "body": b"".join(small), "more_body": True})
                small = []
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await link.flush()
        else:
            small.append(part)
    await send({"type": "http.response.body", "body": b"".join(small)})
