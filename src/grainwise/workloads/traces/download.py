"""Public traces from their publishers: downloaded whole or not at all, and checked by their hash."""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Literal

import aiohttp
from msgspec import Struct

from grainwise.domain.errors import ArtifactError, ConfigurationError, GrainwiseError, PlatformError
from grainwise.workloads.traces.catalogue import CATALOGUE, PublicTrace

MAX_BYTES = 8 << 30
TIMEOUT_S = 60.0
_CHUNK = 1 << 18

Progress = Callable[[int, int | None], None]
"""Called with the bytes that have come and, where the server says so, with all that will."""

Trust = Literal["published", "repository", "recorded", "first"]
"""By what a file was checked: the sha256 of the catalogue, the git hash of the publisher's repository, the sha256 that an
earlier download left in the file beside it, or by nothing: this is the first download, and its hash is now recorded."""


class Downloaded(Struct, frozen=True):
    """Where a trace lies now, its hash and by what it was checked. ``is_new``: it was downloaded just now."""

    path: Path
    sha256: str
    trust: Trust
    is_new: bool


def find_public(name: str) -> PublicTrace:
    """The entry of the catalogue.

    Raises:
        ConfigurationError: there is none; the message lists them.
    """
    for public in CATALOGUE:
        if public.name == name:
            return public
    known = ", ".join(public.name for public in CATALOGUE)
    raise ConfigurationError(f"there is no public trace {name!r} in the catalogue; known: {known}")


def get_trace(public: PublicTrace, folder: Path, progress: Progress, *, max_bytes: int = MAX_BYTES) -> Downloaded:
    """Download a trace into ``folder`` and check it; a file that is there already is only checked.

    The file appears under its name once it is whole and right. Where no hash was published, the first download is trusted: its
    hash goes into ``FILE.sha256``, and later downloads and checks are held to it.

    Raises:
        ArtifactError: the file is not what was published; a download is deleted, a file that was there is left.
        ConfigurationError: the folder cannot be written to.
        PlatformError: the publisher cannot be reached, refuses, or breaks off.
    """
    path = folder / public.file
    try:
        if path.exists():
            with path.open("rb") as file:
                return _checked(public, path, file, is_new=False)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{public.file}.", suffix=".part", delete=False) as part:
            try:
                asyncio.run(_download(public, part, progress, max_bytes))
                found = _checked(public, path, part, is_new=True)
                part.flush()
                Path(part.name).chmod(0o644)
                Path(part.name).replace(path)
            finally:
                Path(part.name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot hold {public.file}: {error.strerror or error}") from error
    if found.trust == "first":
        _record(path).write_text(f"{found.sha256}  {public.file}\n", encoding="ascii")
    return found


async def _download(public: PublicTrace, file: IO[bytes], progress: Progress, max_bytes: int) -> None:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_S, sock_read=TIMEOUT_S)
    too_large = PlatformError(f"{public.url} is larger than {max_bytes:,} bytes; nothing was kept")
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True, auto_decompress=False) as session,
            session.get(public.url, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if response.status != 200:
                raise PlatformError(f"{public.url} answered {response.status} {response.reason}; nothing was downloaded")
            total, received = response.content_length, 0
            if total is not None and total > max_bytes:
                raise too_large
            async for chunk in response.content.iter_chunked(_CHUNK):
                received += len(chunk)
                if received > max_bytes:
                    raise too_large
                file.write(chunk)
                progress(received, total)
    except aiohttp.ClientPayloadError as error:
        raise PlatformError(f"{public.url} broke off before its end; nothing was kept, try again") from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise PlatformError(f"{public.url} cannot be reached: {error or type(error).__name__}") from error


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _checked(public: PublicTrace, path: Path, file: IO[bytes], *, is_new: bool) -> Downloaded:
    """Compares with the best that is known.

    Raises:
        ArtifactError: it differs.
    """
    sha256, blob = _hashes(file)
    kept = "and was deleted" if is_new else f"in {path}; delete it to download it again"
    expected: tuple[tuple[Trust, str | None, str], ...] = (
        ("published", public.sha256, sha256),
        ("repository", public.blob, blob),
        ("recorded", _recorded(path), sha256),
    )
    for trust, wanted, found in expected:
        if wanted is not None:
            if wanted != found:
                raise ArtifactError(f"{public.name} has the hash {found} where {wanted} was expected, {kept}")
            return Downloaded(path, sha256, trust, is_new)
    return Downloaded(path, sha256, "first", is_new)


def _recorded(path: Path) -> str | None:
    record = _record(path)
    if not record.exists():
        return None
    words = record.read_text(encoding="ascii", errors="replace").split()
    if not words or len(words[0]) != 64:
        raise GrainwiseError(f"{record} holds no sha256; delete it to trust {path.name} anew")
    return words[0]


def _hashes(file: IO[bytes]) -> tuple[str, str]:
    """The sha256 of a file, and the hash that git gives it: sha1 of a header with its length, then its bytes."""
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % length, usedforsecurity=False)
    while chunk := file.read(_CHUNK):
        sha256.update(chunk)
        blob.update(chunk)
    return sha256.hexdigest(), blob.hexdigest()
