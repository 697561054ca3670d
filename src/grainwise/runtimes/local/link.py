"""The server's end of a socket to a process of ours: frames in, frames and files out, never blocking."""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

from msgspec import Struct

from grainwise.runtimes.local.wire import Frames, frame

_RECEIVE_BYTES = 32_768


class Link:
    """Sends at once what the socket takes and the rest when it takes more; calls back for every frame that arrives.

    Args:
        end: a connected stream socket of the Unix family; the link owns it.
        on_frame: called with the body of each frame.
        on_end: called once when the other side has gone.
    """

    def __init__(self, end: socket.socket, on_frame: Callable[[memoryview], None], on_end: Callable[[], None]) -> None:
        end.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._socket = end
        self._fd = end.fileno()
        self._on_frame = on_frame
        self._on_end = on_end
        self._frames = Frames()
        self._waiting: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._is_open = True
        self._loop.add_reader(self._fd, self._read)

    def send(self, message: Struct, fds: Sequence[int] = ()) -> None:
        """Send a message, with files; a link whose other side has gone takes it and forgets it."""
        if not self._is_open:
            return
        data = frame(message)
        if self._waiting:
            self._waiting.append((memoryview(data), tuple(os.dup(fd) for fd in fds)))
            return
        sent = self._send_now(data, fds)
        if sent < len(data) and self._is_open:
            self._waiting.append((memoryview(data)[sent:], () if sent else tuple(os.dup(fd) for fd in fds)))
            self._loop.add_writer(self._fd, self._on_writable)

    def _send_now(self, data: bytearray | memoryview, fds: Sequence[int]) -> int:
        """How many bytes the socket took."""
        try:
            return socket.send_fds(self._socket, [data], list(fds)) if fds else self._socket.send(data)
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):
            # The reader sees the end too, after what the other side has still said.
            self._drop_waiting()
            return len(data)

    def _on_writable(self) -> None:
        while self._waiting:
            data, fds = self._waiting[0]
            sent = self._send_now(data, fds)
            if not self._waiting:
                break
            if sent:
                for fd in fds:
                    os.close(fd)
                fds = ()
            if sent < len(data):
                self._waiting[0] = (data[sent:], fds)
                return
            self._waiting.popleft()
        self._loop.remove_writer(self._fd)

    def _read(self) -> bool:
        """Take in once what has arrived; whether there may be more."""
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            data = b""
        if not data:
            self._end()
            self._on_end()
            return False
        for body in self._frames.feed(data):
            self._on_frame(body)
        return self._is_open

    def drain(self) -> None:
        """Take in everything that has arrived."""
        while self._is_open and self._read():
            pass

    def _drop_waiting(self) -> None:
        for _, fds in self._waiting:
            for fd in fds:
                os.close(fd)
        self._waiting.clear()

    def _end(self) -> None:
        if self._is_open:
            self._is_open = False
            self._drop_waiting()
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._socket.close()

    def close(self) -> None:
        """Close the socket without calling back. Idempotent."""
        self._end()
