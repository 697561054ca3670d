"""A client of the admin API, for ``grainwise regranulate`` and the demo."""

import asyncio
import sys
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from grainwise.cli.render import console
from grainwise.domain.errors import ConfigurationError, GrainwiseError
from grainwise.gateway.admin import read_token

_FOLLOW_S = 0.1


class AdminClient:
    """Talks to one admin listener; an async context manager.

    Args:
        address: a URL, or the path of a unix socket.
        token: a bearer token, where the listener wants one.
    """

    def __init__(self, address: str, token: str | None = None) -> None:
        self._address = address
        self._base = address if address.startswith("http") else "http://localhost"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "AdminClient":
        connector = None if self._address.startswith("http") else aiohttp.UnixConnector(self._address)
        timeout = aiohttp.ClientTimeout(total=30)
        self._session = aiohttp.ClientSession(connector=connector, headers=self._headers, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str) -> dict[str, Any]:
        """The decoded answer to a GET.

        Raises:
            GrainwiseError: nobody listens there, or the answer is an error; the message says what it said.
        """
        return await self._call("GET", path, None)

    async def post(self, path: str, body: object) -> dict[str, Any]:
        """The decoded answer to a POST.

        Raises:
            GrainwiseError: see ``get``.
        """
        return await self._call("POST", path, msgspec.json.encode(body))

    async def _call(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        if self._session is None:
            raise GrainwiseError("the admin client is not open")
        try:
            async with self._session.request(
                method, self._base + path, data=body, headers={"Content-Type": "application/json"}
            ) as response:
                data = await response.read()
                status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ConfigurationError(
                f"no admin API answers at {self._address}: {error}; give the address that `grainwise serve` printed as --admin"
            ) from error
        if status >= 400:
            raise GrainwiseError(f"the admin API at {self._address} answered {status}: {_error_of(data)}")
        try:
            return msgspec.json.decode(data, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise GrainwiseError(f"what answers at {self._address} is no admin API of grainwise: {data[:100]!r}") from error


def _error_of(data: bytes) -> str:
    try:
        return str(msgspec.json.decode(data)["error"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return data[:300].decode(errors="replace")


async def regranulate_and_follow(client: AdminClient, grain: str | None, app: str | None, wait_s: float) -> dict[str, Any]:
    """Ask for a granularity and wait until new requests run on the answer; returns the plan's status.

    Raises:
        GrainwiseError: the change was refused or did not end within ``wait_s``.
    """
    path = f"/plan?app={quote(app)}" if app else "/plan"
    before = await client.get(path)
    if "last_refusal" not in before:
        raise GrainwiseError("the admin API shows no plan; it is of another version or of something else")
    body = {"grain": grain} | ({"app": app} if app else {})
    asked = await client.post("/regranulate", body)
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        now = await client.get(path)
        if now["last_refusal"] and now["last_refusal"] != before["last_refusal"]:
            raise GrainwiseError(now["last_refusal"])
        if not now["is_planning"] and not now["regranulating_to"]:
            if grain is not None and now["grain"] != asked["requested"]:
                raise GrainwiseError(now["last_refusal"] or f"requests run on {now['grain']}, not on {asked['requested']}")
            return now
        if asyncio.get_running_loop().time() >= deadline:
            raise GrainwiseError(
                f"the change to {now['regranulating_to'] or 'a new plan'} did not end within {wait_s:g} s; it goes on"
            )
        await asyncio.sleep(_FOLLOW_S)


def regranulate_server(
    admin: str, grain: str | None, app: str | None, token_file: Path | None, wait_s: float, as_json: bool
) -> int:
    """The command: ask, wait, print; returns the exit code.

    Raises:
        GrainwiseError: see ``regranulate_and_follow``.
    """
    token = read_token(token_file) if token_file is not None else None

    async def run() -> dict[str, Any]:
        async with AdminClient(admin, token) as client:
            if wait_s == 0:
                body = {"grain": grain} | ({"app": app} if app else {})
                return await client.post("/regranulate", body)
            return await regranulate_and_follow(client, grain, app, wait_s)

    status = asyncio.run(run())
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(status) + b"\n")
    elif wait_s == 0:
        console().print("asked; follow it at GET /plan of the admin API")
    else:
        console().print(f"requests run on: {status['grain']} (plan {status['plan_id']})")
    return 0
