"""A controller double that answers from a script, apps to be served, and a server around them."""

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import aiohttp
import numpy as np
import uvloop

from grainwise import App, Batch, Slo, each, sizes
from grainwise.control.actions import Reject, RejectCode, Respond
from grainwise.control.events import Event, RequestArrived, RequestCancelled
from grainwise.domain.app import AppSpec
from grainwise.domain.because import Because
from grainwise.domain.values import Payload, Ref
from grainwise.gateway.door import HttpDoor, handles_of
from grainwise.gateway.limits import Limits
from grainwise.gateway.server import Addresses, Server
from grainwise.runtimes.local.edges import EdgeTypes
from grainwise.runtimes.local.store import LocalStore
from grainwise.telemetry.http import HttpCounters

Array = np.ndarray[Any, np.dtype[np.uint8]]


def image_app() -> AppSpec:
    app = App("invert", slo=Slo(latency_ms=200), description="Inverts a picture.")

    @app.stage(max_batch=4, size=sizes.pixels)
    def invert(images: Batch[Array]) -> Batch[Array]:
        return [255 - image for image in images]

    @app.flow
    def flow(image: Array) -> Array:
        return invert(image)

    return app.spec(b"invert")


def bytes_app() -> AppSpec:
    app = App("reverse", slo=Slo(latency_ms=200))

    @app.stage(max_batch=4, size=sizes.nbytes)
    def reverse(items: Batch[bytes]) -> Batch[bytes]:
        return [item[::-1] for item in items]

    @app.flow
    def flow(data: bytes) -> bytes:
        return reverse(data)

    return app.spec(b"reverse")


def text_app() -> AppSpec:
    app = App("words", slo=Slo(latency_ms=200))

    @app.stage(max_batch=4, size=sizes.length)
    def split(texts: Batch[str]) -> Batch[list[str]]:
        return [text.split() for text in texts]

    @app.flow
    def flow(text: str) -> list[str]:
        return split(text)

    return app.spec(b"words")


def mixed_app() -> AppSpec:
    """Several inputs; one list is taken apart."""
    app = App("mixed", slo=Slo(latency_ms=200))

    @app.stage(size=sizes.length)
    def upper(words: Batch[str]) -> Batch[str]:
        return [word.upper() for word in words]

    @app.stage
    def join(words: Batch[list[str]], counts: Batch[int], factors: Batch[float]) -> Batch[dict[str, float]]:
        return [dict.fromkeys(row, count * factor) for row, count, factor in zip(words, counts, factors, strict=True)]

    @app.flow
    def flow(words: list[str], count: int, factor: float) -> dict[str, float]:
        return join(each(upper, words), count, factor)

    return app.spec(b"mixed")


def numbers_app(is_apart: bool) -> AppSpec:
    """A list of numbers that an ``each`` takes apart, or that one stage reads as a whole."""
    app = App("each" if is_apart else "whole", slo=Slo(latency_ms=200))

    @app.stage(name="double")
    def double(numbers: Batch[int]) -> Batch[int]:
        return [2 * number for number in numbers]

    @app.stage(name="total", size=sizes.length)
    def total(lists: Batch[list[int]]) -> Batch[int]:
        return [sum(numbers) for numbers in lists]

    if is_apart:

        @app.flow
        def flow(numbers: list[int]) -> list[int]:
            return each(double, numbers)
    else:

        @app.flow
        def flow(numbers: list[int]) -> int:
            return total(numbers)

    return app.spec(app.name.encode())


COMPUTE: dict[str, Callable[..., object]] = {
    "invert": lambda image: 255 - image,
    "reverse": lambda data: bytes(data)[::-1],
    "words": lambda text: text.split(),
    "mixed": lambda words, count, factor: {word.upper(): count * factor for word in words},
}


class Scripted:
    """Stands where driver and controller stand: answers arrivals at once, or keeps them until told."""

    def __init__(self, apps: Sequence[AppSpec], store: LocalStore) -> None:
        self.store = store
        self.now = 1_000_000
        self.door = HttpDoor(store, lambda: self.now)
        self.door.attach(self.post)
        self.apps = {spec.name: spec for spec in apps}
        self.events: list[Event] = []
        self.on_arrival: Callable[[RequestArrived], None] = self.answer
        self.on_cancel: Callable[[RequestCancelled], None] = lambda event: None

    def post(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, RequestArrived):
            self.on_arrival(event)
        elif isinstance(event, RequestCancelled):
            self.on_cancel(event)

    @property
    def arrivals(self) -> list[RequestArrived]:
        return [event for event in self.events if isinstance(event, RequestArrived)]

    def value(self, payload: Payload) -> object:
        values = [self.store.get(ref.handle) for ref in payload.refs]
        return values if payload.shape == "many" else values[0]

    def answer(self, event: RequestArrived) -> None:
        spec = self.apps[event.app]
        result = COMPUTE[event.app](*[self.value(payload) for payload in event.inputs])
        stored = self.store.put(result, spec.outputs[0])
        self.store.release(handles_of(event.inputs))
        self.door.respond(Respond(event.request, (Payload((Ref(stored.handle, stored.nbytes),)),)))

    def rejecting(self, code: RejectCode, **more: Any) -> Callable[[RequestArrived], None]:
        def reject(event: RequestArrived) -> None:
            self.store.release(handles_of(event.inputs))
            self.door.reject(Reject(event.request, code, Because("test", (("queued", 7),)), **more))

        return reject


def all_apps() -> list[AppSpec]:
    return [image_app(), bytes_app(), text_app(), mixed_app()]


class Served:
    """A running server with what the test needs of it."""

    def __init__(self, addresses: Addresses, server: Server, script: Scripted, counters: HttpCounters) -> None:
        self.addresses = addresses
        self.url = addresses.url
        self.server = server
        self.script = script
        self.store = script.store
        self.counters = counters


@contextlib.asynccontextmanager
async def serving(
    apps: Sequence[AppSpec] | None = None, limits: Limits | None = None, arena_bytes: int = 32 << 20, **more: Any
) -> AsyncIterator[Served]:
    apps = all_apps() if apps is None else apps
    store = LocalStore(EdgeTypes(apps[0]), arena_bytes)
    script = Scripted(apps, store)
    counters = HttpCounters()
    server = Server(apps, store, script.door, port=0, limits=limits, counters=counters, **more)
    addresses = await server.start()
    try:
        yield Served(addresses, server, script, counters)
        assert script.door.in_flight == 0
        assert store.live_bytes == 0, f"{store.live_bytes} bytes of payloads are left"
    finally:
        await server.stop()
        store.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test on uvloop; whatever hangs fails."""

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main

    uvloop.run(bounded())


def infer_body(inputs: list[dict[str, Any]], binary: bytes = b"", **more: Any) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an infer request in the binary form."""
    header = json.dumps({"inputs": inputs, **more}).encode()
    return header + binary, {"Inference-Header-Content-Length": str(len(header))}


def tensor_in(array: np.ndarray[Any, Any], name: str = "image", datatype: str = "UINT8", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "shape": list(array.shape),
        "datatype": datatype,
        "parameters": {"binary_data_size": array.nbytes},
    } | more


async def post(
    served: Served, path: str, data: Any = None, headers: dict[str, str] | None = None, **more: Any
) -> tuple[int, Any, Any]:
    """Status, headers and decoded body of one POST on a connection of its own."""
    if isinstance(data, bytes):
        data = io.BytesIO(data)
    async with (
        aiohttp.ClientSession() as session,
        session.post(served.url + path, data=data, headers=headers, **more) as response,
    ):
        body = await response.read()
        is_json = response.content_type == "application/json"
        return response.status, response.headers, json.loads(body) if is_json else body


async def get(url: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any, Any]:
    async with aiohttp.ClientSession() as session, session.get(url + path, headers=headers) as response:
        body = await response.read()
        return response.status, response.headers, json.loads(body) if response.content_type == "application/json" else body


class Raw:
    """A client that sends exactly what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, served: Served, limit: int = 1 << 24) -> "Raw":
        return cls(*await asyncio.open_connection(served.addresses.host, served.addresses.port, limit=limit))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(first.split()[1]), headers, body

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


def head(path: str, *headers: str) -> bytes:
    return "\r\n".join((f"POST {path} HTTP/1.1", "Host: test", *headers, "", "")).encode()
