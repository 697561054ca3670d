"""The server's side of a zygote: starting it, what it declares, and starting another when one has ended."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import DEVNULL, Popen

from grainwise.domain import errors
from grainwise.domain.errors import DeclarationError, GrainwiseError, PlatformError
from grainwise.runtimes.local.link import Link
from grainwise.runtimes.local.wire import Declared, Fork, Forked, Reaped, Refused, from_zygote

_STANDARD_ERROR = 2
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}


class ZygoteLink:
    """A zygote of one app file.

    Args:
        app_path: the app file.
        on_message: hears ``Forked`` and ``Reaped``.
        on_end: called once when the zygote has ended unasked, with why.
        digest: what the file must declare, as the server knows it from an earlier import; empty for the first.
    """

    def __init__(
        self,
        app_path: Path,
        on_message: Callable[[Forked | Reaped], None],
        on_end: Callable[[str], None],
        digest: str = "",
    ) -> None:
        self.app_path = app_path
        self._digest = digest
        self._on_message = on_message
        self._on_end = on_end
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            # A session of its own: Ctrl-C in a terminal reaches the server alone, which then drains.
            self._process = Popen(
                [
                    sys.executable,
                    "-m",
                    "grainwise.runtimes.local.zygote",
                    str(theirs.fileno()),
                    str(os.getpid()),
                    str(app_path),
                ],
                pass_fds=[theirs.fileno()],
                stdin=DEVNULL,
                # What user code prints must not mix with what the server says on its standard output.
                stdout=_STANDARD_ERROR,
                start_new_session=True,
                env={**os.environ, **_ONE_THREAD},
            )
        self._loop = asyncio.get_running_loop()
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._on_exit)
        self._link = Link(ours, self._on_frame, lambda: None)
        self._declared: asyncio.Future[Declared] = self._loop.create_future()
        self._exited: asyncio.Future[None] = self._loop.create_future()
        self._is_closing = False

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    async def declared(self, limit_s: float) -> Declared:
        """What the app file declares, once it is imported.

        Raises:
            DeclarationError: the file cannot be served, or its import took longer than ``limit_s``.
            PlatformError: the process ended without a word.
        """
        try:
            return await asyncio.wait_for(asyncio.shield(self._declared), limit_s)
        except TimeoutError:
            raise DeclarationError(
                f"{self.app_path}: importing the file took longer than {limit_s:g} s; move slow work into the constructors "
                "of stages"
            ) from None

    def fork(self, message: Fork, end: socket.socket, arena_fd: int) -> None:
        """Ask for an instance with its end of a socket and its arena; ``Forked`` follows."""
        self._link.send(message, (end.fileno(), arena_fd))

    def _on_frame(self, body: memoryview) -> None:
        message = from_zygote.decode(body)
        if isinstance(message, Declared):
            if self._digest in ("", message.app.digest):
                self._declared.set_result(message)
            else:
                why = f"{self.app_path} declares something else than when the server began; restart the server"
                self._refuse(DeclarationError(why))
                self._process.kill()
        elif isinstance(message, Refused):
            self._refuse(_error(message))
        elif not self._declared.exception():
            self._on_message(message)

    def _refuse(self, error: GrainwiseError) -> None:
        self._declared.set_exception(error)
        self._declared.exception()  # it is told to ``on_end`` too, so no one need await it

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._link.drain()
        self._link.close()
        status = self._process.wait()
        why = f"the process that imported {self.app_path} {ending(status)}"
        if not self._declared.done():
            self._refuse(PlatformError(f"{why} before it could say what the app declares; see its output above"))
        refusal = self._declared.exception()
        if refusal is not None:
            why = str(refusal)
        self._exited.set_result(None)
        if not self._is_closing:
            self._is_closing = True
            self._on_end(why)

    async def close(self, grace_s: float = 5.0) -> None:
        """End the process; instances that still run end with it. Idempotent."""
        self._is_closing = True
        self._link.close()
        try:
            await asyncio.wait_for(asyncio.shield(self._exited), grace_s)
        except TimeoutError:
            self._process.kill()
            await self._exited


def ending(status: int) -> str:
    """How a process ended, from its exit code (a signal is negative)."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def _error(message: Refused) -> GrainwiseError:
    kind = getattr(errors, message.error, GrainwiseError)
    error: GrainwiseError = kind(message.detail)
    return error
