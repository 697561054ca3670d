"""Both listeners on the running loop: start, drain, stop, and what a signal does."""

import asyncio
import contextlib
import os
import signal
import socket
import stat
from collections.abc import Callable, Generator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

import uvicorn
from msgspec import Struct

from grainwise.domain.app import AppSpec
from grainwise.domain.errors import ConfigurationError
from grainwise.gateway.admin import Admin, AdminBackend, AdminListen
from grainwise.gateway.door import HttpDoor
from grainwise.gateway.endpoints import Desk
from grainwise.gateway.limits import Limits
from grainwise.gateway.protocol import connection_class
from grainwise.gateway.routes import Exposition, Gateway
from grainwise.runtimes.payloads import PayloadStore
from grainwise.telemetry.http import HttpCounters

BACKLOG = 2048
STOP_GRACE_S = 1.0
"""How long calls may take to end once the listeners stop; ``drain`` is for waiting longer."""


class Addresses(Struct, frozen=True):
    """Where the server listens: ``url`` for clients; ``admin`` a URL or the path of a Unix socket, ``None`` without admin."""

    host: str
    port: int
    admin: str | None = None

    @property
    def url(self) -> str:
        """The base URL for clients."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class _Listener(uvicorn.Server):
    """A uvicorn server that leaves signals alone and says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()
        self._ends = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals belong to whoever runs the loop."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await super().startup(sockets)
        self.is_up.set()

    async def main_loop(self) -> None:
        """Keep the Date header current until the end; uvicorn's own loop wakes ten times as often."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ends.wait(), 1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close idle connections at once, give calls a moment, then cancel them; uvicorn's own way sleeps and polls."""
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        calls = list(self.server_state.tasks)
        if calls:
            _, late = await asyncio.wait(calls, timeout=STOP_GRACE_S)
            for call in late:
                call.cancel()
            if late:
                await asyncio.wait(late)

    def end(self) -> None:
        """Stop accepting and close."""
        self.should_exit = True
        self._ends.set()


class Server:
    """The public listener and, with a backend, the admin listener."""

    def __init__(
        self,
        apps: Sequence[AppSpec],
        store: PayloadStore,
        door: HttpDoor,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        limits: Limits | None = None,
        admin_backend: AdminBackend | None = None,
        admin_listen: AdminListen | None = None,
        is_ready: Callable[[str], bool] = lambda app: True,
        counters: HttpCounters | None = None,
        exposition: Exposition = lambda: ("text/plain; charset=utf-8", b""),
        protocol: Literal["placed", "httptools"] = "placed",
    ) -> None:
        """``protocol`` ``httptools`` is uvicorn's own, which copies bodies; it is there to measure against."""
        self._limits = limits if limits is not None else Limits()
        self._host = host
        self._port = port
        self._protocol = protocol
        self._door = door
        desk = Desk(door, store, self._limits, counters if counters is not None else HttpCounters())
        self._gateway = Gateway(apps, desk, version("grainwise"), is_ready, exposition)
        self._admin_listen = admin_listen if admin_listen is not None else AdminListen()
        self._admin = None if admin_backend is None else Admin(apps, admin_backend, self._admin_listen)
        self._running: list[tuple[_Listener, asyncio.Task[None]]] = []
        self._uds: Path | None = None

    async def start(self) -> Addresses:
        """Bind and begin to accept; port 0 takes a free one.

        Raises:
            ConfigurationError: an address cannot be bound.
        """
        public = bind(self._host, self._port)
        placed = self._protocol == "placed"
        http = connection_class(self._gateway.place, self._limits) if placed else "httptools"
        config = self._config(self._gateway, http)
        await self._run(config, public)
        bound = public.getsockname()
        admin: str | None = None
        if self._admin is not None:
            listen = self._admin_listen
            try:
                sock = bind(listen.host, listen.port, "--admin-port") if listen.uds is None else bind_unix(Path(listen.uds))
            except ConfigurationError:
                await self.stop()
                raise
            if listen.uds is None:
                admin = Addresses(*sock.getsockname()[:2]).url
            else:
                self._uds = Path(listen.uds)
                admin = listen.uds
            await self._run(self._config(self._admin, "httptools"), sock)
        return Addresses(self._host, bound[1], admin)

    def _config(self, app: Callable[..., Any], http: type[asyncio.BaseProtocol] | str) -> uvicorn.Config:
        return uvicorn.Config(
            app,
            # uvicorn hands it to the loop, which takes a protocol of either kind.
            http=cast("type[asyncio.Protocol]", http),
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=self._limits.keep_alive_s,
            backlog=BACKLOG,
        )

    async def _run(self, config: uvicorn.Config, sock: socket.socket) -> None:
        listener = _Listener(config)
        task = asyncio.create_task(listener.serve([sock]), name="grainwise listener")
        self._running.append((listener, task))
        up = asyncio.create_task(listener.is_up.wait())
        await asyncio.wait((up, task), return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if task.done():
            task.result()

    async def drain(self, timeout_s: float | None = None) -> bool:
        """Refuse new requests with 503 and wait until those in flight are answered; false when the time ran out."""
        self._door.begin_drain()
        try:
            await asyncio.wait_for(self._door.drained(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Close the listeners and their connections. Idempotent."""
        running, self._running = self._running, []
        for listener, _ in running:
            listener.end()
        for _, task in running:
            await task
        if self._uds is not None:
            self._uds.unlink(missing_ok=True)
            self._uds = None


def bind(host: str, port: int, option: str = "--port") -> socket.socket:
    """A listening TCP socket; ``option`` is where another port would be given.

    Raises:
        ConfigurationError: the address cannot be bound.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise ConfigurationError(f"{host} is no address of this machine: {error}") from error
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}; choose another {option}") from error
    sock.setblocking(False)
    return sock


def bind_unix(path: Path) -> socket.socket:
    """A listening Unix socket that only this user may open. A socket that a dead server left behind is replaced.

    Raises:
        ConfigurationError: something else is there, a server still listens, or the path cannot be bound.
    """
    try:
        if path.exists():
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise ConfigurationError(f"{path} exists and is no socket; choose another path for the admin socket")
            if _is_listening(path):
                raise ConfigurationError(f"another server listens on {path}; stop it or choose another path")
            path.unlink()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            sock.bind(str(path))
        except OSError:
            sock.close()
            raise
        finally:
            os.umask(before)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on the Unix socket {path}: {error}; choose another path") from error
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def _is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def on_signals(begin: Callable[[], None]) -> Callable[[], None]:
    """Call ``begin`` once on the running loop at SIGTERM or SIGINT; returns what takes the handlers away again.

    A second signal has its usual effect, so a server that hangs while it drains can be ended.
    """
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def remove() -> None:
        for number in signals:
            loop.remove_signal_handler(number)

    def first() -> None:
        remove()
        begin()

    for number in signals:
        loop.add_signal_handler(number, first)
    return remove
