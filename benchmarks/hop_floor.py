"""The floor of a hop: the same two legs between bare processes. No controller, no log, no codec, no event loop.

A producer writes an array into shared memory and sends a token; a relay passes it on; a consumer notes the time when it has
the token and a view of the array. Tokens are 16 bytes on Unix sockets and every wait is a blocking ``recv``.
"""

import mmap
import os
import socket
import struct
import time

import numpy as np

TOKEN = struct.Struct("<qq")
SLOTS = 2


def _produce(end: socket.socket, shared: mmap.mmap, nbytes: int) -> None:
    array = np.arange(nbytes, dtype=np.uint32).astype(np.uint8)
    slots = [np.ndarray((nbytes,), np.uint8, buffer=shared, offset=slot * nbytes) for slot in range(SLOTS)]
    while token := end.recv(TOKEN.size):
        offset, length = TOKEN.unpack(token)
        result = slots[offset // nbytes]
        np.subtract(255, array, out=result)
        result[-8:].view(np.int64)[0] = time.monotonic_ns()
        end.sendall(TOKEN.pack(offset, length))


def _consume(end: socket.socket, shared: mmap.mmap) -> None:
    while token := end.recv(TOKEN.size):
        offset, length = TOKEN.unpack(token)
        array: np.ndarray = np.ndarray((length,), np.uint8, buffer=shared, offset=offset)
        now = time.monotonic_ns()
        produced = int(array[-8:].view(np.int64)[0])
        end.sendall(TOKEN.pack(now - produced, int(array[:-8:4096].sum())))


class Floor:
    """A producer and a consumer process with a relay, which is this process, between them."""

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self._shared = mmap.mmap(-1, nbytes * SLOTS)
        self._producer, producer = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._consumer, consumer = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        mine = (self._producer, self._consumer)
        self._pids = [
            _fork(lambda: _produce(producer, self._shared, nbytes), (*mine, consumer)),
            _fork(lambda: _consume(consumer, self._shared), (*mine, producer)),
        ]
        producer.close()
        consumer.close()
        self._slot = 0

    def hop_us(self) -> float:
        """Microseconds from the last byte written in the producer to the first line of the consumer."""
        self._slot = (self._slot + 1) % SLOTS
        self._producer.sendall(TOKEN.pack(self._slot * self._nbytes, self._nbytes))
        self._consumer.sendall(self._producer.recv(TOKEN.size))
        nanoseconds, _ = TOKEN.unpack(self._consumer.recv(TOKEN.size))
        return float(nanoseconds) / 1000

    def close(self) -> None:
        """End both processes."""
        self._producer.close()
        self._consumer.close()
        for pid in self._pids:
            os.waitpid(pid, 0)


def _fork(work: "object", inherited: tuple[socket.socket, ...]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        for sock in inherited:
            sock.close()
        work()  # type: ignore[operator]
        status = 0
    finally:
        os._exit(status)
