"""The public listener: calls go straight to their endpoints, everything else through a Starlette router."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from grainwise.domain.app import AppSpec
from grainwise.gateway import index, oip_metadata, openapi, plain
from grainwise.gateway.body import Placement, Receive, Scope, Send
from grainwise.gateway.endpoints import Desk, Endpoint, InferEndpoint, PlainEndpoint, send_failure
from grainwise.gateway.entry import Entry
from grainwise.gateway.errors import (
    MethodError,
    RouteError,
    UnknownAppError,
    failure_of_error,
)

logger = logging.getLogger("grainwise.gateway")

Exposition = Callable[[], tuple[str, bytes]]
"""The metrics as text: content type and body."""
_SAFE_METHODS = ("GET", "HEAD")


class Gateway:
    """The ASGI application of the public listener."""

    def __init__(
        self,
        apps: Sequence[AppSpec],
        desk: Desk,
        version: str,
        is_ready: Callable[[str], bool],
        exposition: Exposition,
    ) -> None:
        self._entries = {spec.name: Entry(spec) for spec in apps}
        self._desk = desk
        self._version = version
        self._is_ready = is_ready
        self._exposition = exposition
        self._document: bytes | None = None
        self._calls: dict[bytes, Endpoint] = {}
        for name, entry in self._entries.items():
            infer, simple = InferEndpoint(entry, desk), PlainEndpoint(entry, desk)
            model = f"/v2/models/{name}".encode()
            self._calls[model + b"/infer"] = infer
            self._calls[model + b"/versions/" + oip_metadata.VERSION.encode() + b"/infer"] = infer
            self._calls[f"/v1/apps/{name}".encode()] = simple
        self._router = self._build()

    def place(self, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Placement | None:
        """Where the body of a call may be written; the protocol asks when a head is complete."""
        endpoint = self._calls.get(target)
        return None if endpoint is None else endpoint.place(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] == "http":
            endpoint = self._calls.get(scope["raw_path"])
            if endpoint is not None and scope["method"] == "POST":
                await endpoint(scope, receive, send)
                return
        await self._router(scope, receive, send)

    def _build(self) -> Starlette:
        versioned = "/v2/models/{app}/versions/{version}"
        routes = [
            Route("/", self._index),
            Route("/openapi.json", self._openapi),
            Route("/metrics", self._metrics),
            Route("/v1/apps", self._apps),
            Route("/v1/apps/{app}", self._app_call, methods=[*_SAFE_METHODS, "POST", "PUT", "PATCH", "DELETE"]),
            Route("/v2", self._server),
            Route("/v2/", self._server),
            Route("/v2/health/live", self._live),
            Route("/v2/health/ready", self._ready),
            Route("/v2/repository/index", self._repository, methods=["POST", "GET"]),
        ]
        for prefix in ("/v2/models/{app}", versioned):
            routes += [
                Route(prefix, self._metadata),
                Route(f"{prefix}/ready", self._app_ready),
                Route(f"{prefix}/config", self._config),
                Route(f"{prefix}/infer", self._app_call, methods=[*_SAFE_METHODS, "POST", "PUT", "PATCH", "DELETE"]),
            ]
        return Starlette(routes=routes, exception_handlers=self._handlers())

    def _handlers(self) -> Mapping[Any, Any]:
        async def unknown(request: Request, error: Exception) -> Response:
            return self._failed(RouteError(f"nothing is served at {request.url.path}; see / or /openapi.json"))

        async def method(request: Request, error: Exception) -> Response:
            allow = getattr(error, "headers", None) or {}
            allowed = tuple(allow.get("Allow", "GET").split(", "))
            return self._failed(MethodError(f"{request.method} is not served at {request.url.path}", allowed))

        async def known(request: Request, error: Exception) -> Response:
            return self._failed(error)

        async def unforeseen(request: Request, error: Exception) -> Response:
            return self._failed(error)

        return {404: unknown, 405: method, UnknownAppError: known, MethodError: known, Exception: unforeseen}

    def _failed(self, error: Exception) -> Response:
        failure = failure_of_error(error)
        self._desk.counters.count("other", failure.status)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in failure.headers}
        return Response(failure.encode(), failure.status, headers, "application/json")

    def _entry(self, request: Request) -> Entry:
        """The app that a path names.

        Raises:
            UnknownAppError: there is none, or not in this version.
        """
        name, version = request.path_params["app"], request.path_params.get("version", oip_metadata.VERSION)
        entry = self._entries.get(name)
        if entry is None:
            raise UnknownAppError(f"app {name!r} is not served here; there are: {', '.join(sorted(self._entries))}")
        if version != oip_metadata.VERSION:
            raise UnknownAppError(f"app {name!r} has no version {version!r}; it has {oip_metadata.VERSION}")
        return entry

    async def _app_call(self, request: Request) -> Response:
        """Reached only by calls with another method, an unknown app or an escaped path."""
        entry = self._entry(request)
        if request.method != "POST":
            raise MethodError(f"{request.method} is not served at {request.url.path}; use POST", ("POST",))
        kind = InferEndpoint if request.url.path.endswith("/infer") else PlainEndpoint
        return _Delegated(kind(entry, self._desk))

    async def _index(self, request: Request) -> Response:
        return HTMLResponse(index.page(self._entries.values(), self._version))

    async def _openapi(self, request: Request) -> Response:
        if self._document is None:
            self._document = msgspec.json.encode(openapi.document(self._entries.values(), self._version))
        return Response(self._document, media_type="application/json")

    async def _metrics(self, request: Request) -> Response:
        content_type, body = self._exposition()
        return Response(body, headers={"content-type": content_type})

    async def _apps(self, request: Request) -> Response:
        return _json({"apps": [plain.describe(entry) for entry in self._entries.values()]})

    async def _server(self, request: Request) -> Response:
        return _json(oip_metadata.server_metadata(self._version))

    async def _live(self, request: Request) -> Response:
        return _json({"live": True})

    async def _ready(self, request: Request) -> Response:
        is_ready = not self._desk.door.is_draining and all(self._is_ready(name) for name in self._entries)
        return _json({"ready": is_ready}, 200 if is_ready else 503)

    async def _app_ready(self, request: Request) -> Response:
        entry = self._entry(request)
        is_ready = not self._desk.door.is_draining and self._is_ready(entry.spec.name)
        return _json({"name": entry.spec.name, "ready": is_ready}, 200 if is_ready else 503)

    async def _metadata(self, request: Request) -> Response:
        return _json(oip_metadata.app_metadata(self._entry(request)))

    async def _config(self, request: Request) -> Response:
        return _json(oip_metadata.app_config(self._entry(request)))

    async def _repository(self, request: Request) -> Response:
        return _json(
            [
                {
                    "name": name,
                    "version": oip_metadata.VERSION,
                    "state": "READY" if self._is_ready(name) else "UNAVAILABLE",
                    "reason": "",
                }
                for name in self._entries
            ]
        )


class _Delegated(Response):
    """A response that a raw ASGI endpoint writes."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._endpoint(scope, receive, send)


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


__all__ = ["Exposition", "Gateway", "send_failure"]
