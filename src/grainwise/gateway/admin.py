"""The admin API: a listener of its own, on a Unix socket or on loopback, that shows and changes how apps are run.

No endpoint takes a path, code or an app file. What it shows comes from an ``AdminBackend``.
"""

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from grainwise.domain.app import AppSpec
from grainwise.domain.errors import ConfigurationError, GrainwiseError
from grainwise.domain.plan import Grain, render_grain
from grainwise.gateway.body import Receive, Scope, Send
from grainwise.gateway.endpoints import send_failure
from grainwise.gateway.errors import (
    BodyTooLargeError,
    FieldError,
    MethodError,
    RouteError,
    UnauthorizedError,
    UnknownAppError,
    failure_of_error,
)
from grainwise.gateway.grains import parse_grain

MAX_BODY_BYTES = 64 * 1024
MAX_LOG_ENTRIES = 1000
"""What the log keeps in memory; everything is in its file."""
_LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "[::1]", "::1"))


class AdminBackend(Protocol):
    """What the admin API shows and asks for; values are anything that ``msgspec`` encodes, ``None`` where there is none yet."""

    def status(self) -> object:
        """The server: apps, uptime, requests in flight, memory, whether it drains."""
        ...

    def plan(self, app: str) -> object:
        """The current plan of an app, a running transition, its instances and queues."""
        ...

    def plan_table(self, app: str) -> object:
        """The last ``PlanTable`` of an app."""
        ...

    def profile(self, app: str) -> object:
        """The profile that an app is served with."""
        ...

    def log_tail(self, entries: int) -> Iterable[object]:
        """The last ``entries`` of the log, oldest first."""
        ...

    def request_plan(self, app: str, grain: Grain | None) -> None:
        """Post ``PlanRequested``: a given granularity, or whatever is best."""
        ...

    def drain(self) -> None:
        """Begin to drain and then stop; returns at once."""
        ...


class AdminListen(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the admin API listens: ``uds`` a Unix socket, else ``host`` and ``port``; ``token`` is wanted as a bearer."""

    uds: str | None = None
    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < 16:
            raise ConfigurationError("the admin token has fewer than 16 characters; write a longer one to its file")
        if self.uds is None and self.token is None and not is_loopback(self.host):
            raise ConfigurationError(
                f"the admin API would listen on {self.host}, which others can reach, without a token; "
                "give --admin-token-file, or bind it to 127.0.0.1 or a Unix socket"
            )


def read_token(path: Path) -> str:
    """The token in a file.

    Raises:
        ConfigurationError: it cannot be read, is empty, or others may read it.
    """
    try:
        mode = path.stat().st_mode
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the admin token file {path} cannot be read: {error}") from error
    if mode & 0o077:
        raise ConfigurationError(f"the admin token file {path} may be read by others; chmod 600 {path}")
    if not token:
        raise ConfigurationError(f"the admin token file {path} is empty; write a token of at least 16 characters to it")
    return token


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on ``host``; a name other than localhost counts as outside."""
    if host in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class RegranulateRequest(Struct, forbid_unknown_fields=True):
    """The body of ``POST /regranulate``. Without ``grain`` the planner chooses."""

    grain: str | None = None
    app: str | None = None


class Admin:
    """The ASGI application of the admin listener."""

    def __init__(self, apps: Sequence[AppSpec], backend: AdminBackend, listen: AdminListen) -> None:
        self._apps = {spec.name: spec for spec in apps}
        self._backend = backend
        self._listen = listen
        self._router = Starlette(
            routes=[
                Route("/status", self._status),
                Route("/plan", self._plan),
                Route("/plan/table", self._table),
                Route("/profile", self._profile),
                Route("/log", self._log),
                Route("/regranulate", self._regranulate, methods=["POST"]),
                Route("/drain", self._drain, methods=["POST"]),
            ],
            exception_handlers=_handlers(),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application: who calls is checked before anything else."""
        if scope["type"] == "http":
            try:
                self._authorise(dict(scope["headers"]))
            except UnauthorizedError as error:
                await send_failure(failure_of_error(error), send, closes=True)
                return
        await self._router(scope, receive, send)

    def _authorise(self, headers: dict[bytes, bytes]) -> None:
        """Refuse a caller without the token, and a web page that a browser on this machine was led to.

        Raises:
            UnauthorizedError: the caller may not.
        """
        token = self._listen.token
        if token is not None:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), token.encode()):
                raise UnauthorizedError("the admin API wants Authorization: Bearer with the token of --admin-token-file")
            return
        if b"origin" in headers:
            raise UnauthorizedError("the admin API is not for web pages")
        if self._listen.uds is None:
            host = headers.get(b"host", b"").decode("latin-1")
            name = host if host.startswith("[") and host.endswith("]") else host.rpartition(":")[0] or host
            if not is_loopback(name.strip("[]")):
                raise UnauthorizedError(f"the admin API is asked for under the name {host!r}; use 127.0.0.1 or localhost")

    def _spec(self, name: str | None) -> AppSpec:
        """The app that a request means; the only one where it names none.

        Raises:
            UnknownAppError: there is no such app.
            FieldError: there are several and none is named.
        """
        if name is None:
            if len(self._apps) != 1:
                raise FieldError("app", f"several apps are served; name one of {', '.join(sorted(self._apps))}")
            return next(iter(self._apps.values()))
        spec = self._apps.get(name)
        if spec is None:
            raise UnknownAppError(f"app {name!r} is not served here; there are: {', '.join(sorted(self._apps))}")
        return spec

    async def _status(self, request: Request) -> Response:
        return _json(self._backend.status())

    async def _plan(self, request: Request) -> Response:
        return self._shown(request, self._backend.plan, "plan")

    async def _table(self, request: Request) -> Response:
        return self._shown(request, self._backend.plan_table, "plan table")

    async def _profile(self, request: Request) -> Response:
        return self._shown(request, self._backend.profile, "profile")

    def _shown(self, request: Request, read: Callable[[str], object], what: str) -> Response:
        spec = self._spec(request.query_params.get("app"))
        value = read(spec.name)
        if value is None:
            raise RouteError(f"app {spec.name} has no {what} yet")
        return _json(value)

    async def _log(self, request: Request) -> Response:
        text = request.query_params.get("tail", "100")
        if not text.isdecimal() or not 0 < int(text[:9]) <= MAX_LOG_ENTRIES:
            raise FieldError(
                "tail", f"{text[:40]!r}: give a number from 1 to {MAX_LOG_ENTRIES}, which are kept; the rest is in the log file"
            )
        lines = b"".join(msgspec.json.encode(entry) + b"\n" for entry in self._backend.log_tail(int(text)))
        return Response(lines, media_type="application/x-ndjson")

    async def _regranulate(self, request: Request) -> Response:
        body = await _read(request)
        try:
            wish = msgspec.json.decode(body or b"{}", type=RegranulateRequest)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise FieldError("body", f'{error}; send {{"grain": "fused"}}, "split", "a+b | c" or null') from error
        spec = self._spec(wish.app or request.query_params.get("app"))
        grain = None if wish.grain is None else parse_grain(spec, wish.grain)
        self._backend.request_plan(spec.name, grain)
        shown = "whatever is best" if grain is None else render_grain(grain)
        return _json({"app": spec.name, "requested": shown, "grain": grain, "follow": f"/plan?app={spec.name}"}, 202)

    async def _drain(self, request: Request) -> Response:
        self._backend.drain()
        return _json({"draining": True, "follow": "/status"}, 202)


async def _read(request: Request) -> bytes:
    """A small body."""
    gathered = bytearray()
    async for chunk in request.stream():
        gathered += chunk
        if len(gathered) > MAX_BODY_BYTES:
            raise BodyTooLargeError(f"the body is longer than {MAX_BODY_BYTES} bytes")
    return bytes(gathered)


def _handlers() -> Mapping[Any, Callable[[Request, Exception], Awaitable[Response]]]:
    async def unknown(request: Request, error: Exception) -> Response:
        return _failed(RouteError(f"the admin API has no {request.url.path}"))

    async def method(request: Request, error: Exception) -> Response:
        allow = (getattr(error, "headers", None) or {}).get("Allow", "GET")
        return _failed(MethodError(f"{request.method} is not served at {request.url.path}", tuple(allow.split(", "))))

    async def known(request: Request, error: Exception) -> Response:
        return _failed(error)

    return {404: unknown, 405: method, GrainwiseError: known, Exception: known}


def _failed(error: Exception) -> Response:
    failure = failure_of_error(error)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in failure.headers}
    return Response(failure.encode(), failure.status, headers, "application/json")


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
