"""The client of a calibration: a process of its own, so that offering load takes nothing from the server's loop.

``Client`` is the parent's side. The child reads one JSON line per piece of work from its standard input and answers with one.
"""

import asyncio
import contextlib
import os
import sys
import time

import msgspec
from msgspec import Struct

from grainwise.cli.load_generator import Call, run_load
from grainwise.domain.errors import GrainwiseError
from grainwise.domain.time import SECOND, Instant, Micros
from grainwise.runtimes.local.lifeline import die_with_parent

_LINE_BYTES = 1 << 30
_LATE_S = 120.0


class Bodies(Struct, frozen=True):
    """What is posted, in turn."""

    content_type: str
    bodies: tuple[bytes, ...]


class Work(Struct, frozen=True):
    """Requests that are due at ``origin`` (of the monotonic clock, which all processes share) plus each of ``arrivals``."""

    url: str
    origin: Instant
    arrivals: tuple[Instant, ...]
    timeout_s: float


class Seen(Struct, frozen=True, array_like=True):
    """One request as the client saw it: microseconds of the monotonic clock. ``status`` 0: no answer came."""

    due: Instant
    sent: Instant
    done: Instant
    status: int
    detail: str = ""


class Client:
    """A client process: made by ``open``, ended by ``close``.

    Args:
        process: the child, with pipes.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def open(cls, bodies: Bodies) -> "Client":
        """Start the process and give it the bodies.

        Raises:
            GrainwiseError: it ended at once.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            __name__,
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
            start_new_session=True,
        )
        client = cls(process)
        try:
            await client._send(bodies)
            await client._answer(_LATE_S)
        except BaseException:
            await client.close()
            raise
        return client

    async def offer(self, work: Work) -> list[Seen]:
        """Have the requests sent; one entry per request, in the order in which they were due.

        Raises:
            GrainwiseError: the process ended before it answered.
        """
        await self._send(work)
        last_s = (work.arrivals[-1] if work.arrivals else 0) / SECOND
        return msgspec.json.decode(await self._answer(last_s + work.timeout_s + _LATE_S), type=list[Seen])

    async def _send(self, message: Struct) -> None:
        if self._process.stdin is None:
            raise GrainwiseError("the client process has no standard input")
        self._process.stdin.write(msgspec.json.encode(message) + b"\n")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await self._process.stdin.drain()

    async def _answer(self, timeout_s: float) -> bytes:
        if self._process.stdout is None:
            raise GrainwiseError("the client process has no standard output")
        line = await asyncio.wait_for(self._process.stdout.readline(), timeout_s)
        if not line:
            raise GrainwiseError(f"the client process ended with {await self._process.wait()}; its message is above")
        return line

    async def close(self) -> None:
        """End the process. Idempotent."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()


async def _offer(work: Work, calls: list[Call]) -> list[Seen]:
    wait_s = work.origin / SECOND - time.monotonic()
    if wait_s > 0:
        await asyncio.sleep(wait_s)
    # What the wait was too long by is taken from the arrivals, so that due instants are those of the simulated twin.
    late: Micros = time.monotonic_ns() // 1000 - work.origin
    samples = await run_load(calls, [max(0, at - late) for at in work.arrivals], timeout_s=work.timeout_s)
    start = work.origin + late
    return [
        Seen(start + each.due, start + each.sent, start + each.done, each.status, each.detail if each.status != 200 else "")
        for each in samples
    ]


def main() -> None:
    """The child: bodies first, then work until standard input ends or the parent does."""
    if sys.platform == "linux":
        die_with_parent(int(sys.argv[1]))
    lines = sys.stdin.buffer
    given = msgspec.json.decode(lines.readline(), type=Bodies)
    _tell([])
    for line in lines:
        work = msgspec.json.decode(line, type=Work)
        calls = [Call(work.url, body, given.content_type) for body in given.bodies]
        _tell(asyncio.run(_offer(work, calls)))


def _tell(seen: list[Seen]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(seen) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
