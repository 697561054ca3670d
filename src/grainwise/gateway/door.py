"""The performer that answers clients: a ticket per request, settled when the controller says so."""

import asyncio
import itertools
from collections.abc import Callable

from grainwise.control.actions import Reject, Respond
from grainwise.control.events import RequestArrived, RequestCancelled
from grainwise.control.performers import Post
from grainwise.domain.app import AppSpec
from grainwise.domain.time import Instant
from grainwise.domain.values import Payload
from grainwise.gateway.errors import ClientGoneError, DrainingError, Failure, failure_of_reject
from grainwise.runtimes.payloads import PayloadStore


class Answer:
    """The outputs of a request, leased until ``close``: values that lie in shared memory stay valid so long."""

    __slots__ = ("_handles", "_store", "outputs", "request")

    def __init__(self, request: int, outputs: tuple[Payload, ...], store: PayloadStore) -> None:
        self.request = request
        self.outputs = outputs
        self._store = store
        self._handles = handles_of(outputs)

    def value(self, index: int) -> object:
        """Output number ``index`` as a Python value; ``None`` for a branch that was not taken."""
        payload = self.outputs[index]
        if payload.shape == "one":
            return self._store.get(payload.refs[0].handle)
        if payload.shape == "many":
            return [self._store.get(ref.handle) for ref in payload.refs]
        return None

    def close(self) -> None:
        """Give the outputs back to the store. Idempotent."""
        if self._handles:
            handles, self._handles = self._handles, ()
            self._store.release(handles)


class Ticket:
    """One request between its arrival and its answer."""

    __slots__ = ("app", "future", "request")

    def __init__(self, request: int, app: AppSpec, future: "asyncio.Future[Answer | Failure]") -> None:
        self.request = request
        self.app = app
        self.future = future


def handles_of(payloads: tuple[Payload, ...]) -> tuple[int, ...]:
    """Every handle behind ``payloads``, once."""
    return tuple(dict.fromkeys(ref.handle for payload in payloads for ref in payload.refs))


class HttpDoor:
    """Numbers requests, posts their arrival, and settles them; implements ``control.performers.Door``.

    Used on the driver's thread only. ``clock`` reads the driver's clock, in which deadlines are given.
    """

    def __init__(self, store: PayloadStore, clock: Callable[[], Instant]) -> None:
        self._store = store
        self._clock = clock
        self._post: Post | None = None
        self._tickets: dict[int, Ticket] = {}
        self._next_request: Callable[[], int] = itertools.count(1).__next__
        self._idle: asyncio.Event | None = None
        self.is_draining = False

    def attach(self, post: Post, next_request: Callable[[], int] | None = None) -> None:
        """Tell the door, before the first request, where events go and who numbers requests (the door itself by default)."""
        self._post = post
        if next_request is not None:
            self._next_request = next_request

    @property
    def in_flight(self) -> int:
        """Requests that were posted and have no answer yet."""
        return len(self._tickets)

    def deadline_after(self, milliseconds: float) -> Instant:
        """The instant ``milliseconds`` from now."""
        return self._clock() + round(milliseconds * 1000)

    def submit(self, app: AppSpec, inputs: tuple[Payload, ...], deadline: Instant = 0) -> Ticket:
        """Post the arrival of a request. The controller owns the handles of ``inputs`` from now on.

        Raises:
            DrainingError: the door takes no new request; the inputs have been released.
        """
        if self.is_draining or self._post is None:
            self._store.release(handles_of(inputs))
            raise DrainingError("the server is draining; send the request to another one")
        request = self._next_request()
        ticket = Ticket(request, app, asyncio.get_running_loop().create_future())
        self._tickets[request] = ticket
        try:
            self._post(RequestArrived(request, app.name, inputs, deadline))
        except BaseException:
            # Nobody will hold the ticket, so an answer that came before the error has to be given back here.
            self._tickets.pop(request, None)
            answer = ticket.future.result() if ticket.future.done() else None
            if isinstance(answer, Answer):
                answer.close()
            raise
        return ticket

    async def ask(self, app: AppSpec, inputs: tuple[Payload, ...], deadline: Instant = 0) -> Answer | Failure:
        """Submit a request and wait for what becomes of it; cancelling the caller cancels the request.

        Raises:
            DrainingError: the door takes no new request.
            ClientGoneError: ``cancel`` was called meanwhile.
        """
        ticket = self.submit(app, inputs, deadline)
        try:
            return await ticket.future
        finally:
            if ticket.request in self._tickets:
                self.cancel(ticket.request)

    def cancel(self, request: int) -> None:
        """The client of ``request`` went away. Nothing happens when it has been answered."""
        ticket = self._tickets.pop(request, None)
        if ticket is None or self._post is None:
            return
        if not ticket.future.done():
            ticket.future.set_exception(ClientGoneError(f"the client of request {request} closed its connection"))
            ticket.future.exception()
        self._settle()
        self._post(RequestCancelled(request))

    def respond(self, action: Respond) -> None:
        """Hand the outputs to whoever waits; release them when nobody does."""
        answer = Answer(action.request, action.outputs, self._store)
        ticket = self._tickets.pop(action.request, None)
        if ticket is None or ticket.future.done():
            answer.close()
            return
        ticket.future.set_result(answer)
        self._settle()

    def reject(self, action: Reject) -> None:
        """Hand the error to whoever waits."""
        ticket = self._tickets.pop(action.request, None)
        if ticket is not None and not ticket.future.done():
            ticket.future.set_result(failure_of_reject(action))
            self._settle()

    def begin_drain(self) -> None:
        """Refuse every request from now on; those in flight are answered."""
        self.is_draining = True

    async def drained(self) -> None:
        """Wait until no request is in flight."""
        while self._tickets:
            self._idle = asyncio.Event()
            await self._idle.wait()

    def _settle(self) -> None:
        """Wake whoever waits for the last request."""
        if self._idle is not None and not self._tickets:
            self._idle.set()
