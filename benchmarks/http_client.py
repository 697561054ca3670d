"""The client that drives every server of the comparison, in a process of its own: raw sockets, one epoll loop, HTTP/1.1.

    python -m benchmarks.http_client --port N --kind oip|raw|base64 --path /... --clients 16 --seconds 3

Closed loop: each client sends its next request when it has its answer. Images take turns, every answer is checked. Prints one
line of JSON.
"""

import argparse
import base64
import json
import math
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field

import numpy as np

SIDE = 448
IMAGES = 8


@dataclass(frozen=True)
class Call:
    """One request as bytes, and the number that is right."""

    message: bytes
    expected: int


def calls(kind: str, path: str, side: int) -> list[Call]:
    """The requests: ``raw`` sends the pixels, ``oip`` a binary tensor of the Open Inference Protocol, ``base64`` JSON."""
    found = []
    shape = (side, side, 3)
    for seed in range(IMAGES):
        image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        expected = int(((255 - image) ^ 0x55).reshape(-1)[::16].sum(dtype=np.int64))
        data = image.tobytes()
        media = "application/json" if kind == "base64" else "application/octet-stream"
        if kind == "oip":
            header = json.dumps(
                {
                    "inputs": [
                        {
                            "name": "image",
                            "shape": list(shape),
                            "datatype": "UINT8",
                            "parameters": {"binary_data_size": len(data)},
                        }
                    ],
                    "parameters": {"binary_data_output": True},
                }
            ).encode()
            extra = f"Inference-Header-Content-Length: {len(header)}\r\n"
            body = header + data
        elif kind == "base64":
            body = json.dumps({"image": base64.b64encode(data).decode()}).encode()
            extra = ""
        else:
            extra = f"Grainwise-Dtype: uint8\r\nGrainwise-Shape: {','.join(map(str, shape))}\r\n"
            body = data
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {media}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
        found.append(Call(head.encode() + body, expected))
    return found


def number(kind: str, head: bytes, body: bytes) -> int | None:
    """The number in an answer, ``None`` when there is none."""
    if not head.startswith(b"HTTP/1.1 200"):
        return None
    try:
        if kind == "oip":
            return int.from_bytes(body[-8:], "little", signed=True)
        document = json.loads(body)
        while isinstance(document, dict | list):
            document = next(iter(document.values())) if isinstance(document, dict) else document[0]
        return int(document)
    except (ValueError, TypeError, IndexError, StopIteration):
        return None


@dataclass
class Connection:
    """One client with at most one request in flight."""

    sock: socket.socket
    call: Call
    turn: int
    sent: int = 0
    began: float = 0.0
    got: bytearray = field(default_factory=bytearray)
    head_end: int = -1
    want: int = -1


class Tally:
    """Latencies and wrong answers of a run."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.wrong: list[str] = []


def drive(
    port: int, kind: str, path: str, clients: int, seconds: float, warm_up_s: float, requests: int, side: int
) -> dict[str, object]:
    """Run for ``seconds`` after ``warm_up_s``, or until ``requests`` are answered where that is not 0."""
    made = calls(kind, path, side)
    select = selectors.DefaultSelector()
    scratch = bytearray(1 << 16)
    connections = []
    for index in range(clients):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        connection = Connection(sock, made[index % IMAGES], index, began=time.perf_counter())
        connections.append(connection)
        select.register(sock, selectors.EVENT_WRITE, connection)
    tally = Tally()
    start = time.perf_counter() + warm_up_s
    end = math.inf if requests else start + seconds
    now = time.perf_counter()
    cpu_at_start = time.process_time()
    is_warm = False
    served = 0
    while now < end:
        for key, mask in select.select(0.5):
            connection = key.data
            if mask & selectors.EVENT_WRITE:
                _send(connection, select)
            elif _receive(connection, scratch, kind, tally):
                now = time.perf_counter()
                tally.latencies.append(now - connection.began)
                served += 1
                if served == requests:
                    end = 0.0
                    break
                connection.turn += 1
                connection.call = made[connection.turn % IMAGES]
                connection.sent, connection.head_end, connection.want, connection.began = 0, -1, -1, now
                connection.got.clear()
                if not _send(connection, select):
                    select.modify(connection.sock, selectors.EVENT_WRITE, connection)
        now = time.perf_counter()
        if not is_warm and now >= start:
            is_warm = True
            tally.latencies.clear()
            start = now
    for connection in connections:
        connection.sock.close()
    ordered = sorted(tally.latencies)
    elapsed = now - start
    return {
        "requests": len(ordered),
        "served": served,
        "seconds": elapsed,
        "rate_per_s": len(ordered) / elapsed,
        "p50_ms": 1e3 * ordered[len(ordered) // 2] if ordered else None,
        "p99_ms": 1e3 * ordered[int(len(ordered) * 0.99)] if ordered else None,
        "wrong": len(tally.wrong),
        "example": tally.wrong[0] if tally.wrong else "",
        "client_cpu_s": time.process_time() - cpu_at_start,
    }


def _send(connection: Connection, select: selectors.BaseSelector) -> bool:
    """Send what the socket takes; whether that was all."""
    message = connection.call.message
    try:
        connection.sent += connection.sock.send(memoryview(message)[connection.sent :])
    except BlockingIOError:
        return False
    if connection.sent < len(message):
        return False
    if select.get_key(connection.sock).events != selectors.EVENT_READ:
        select.modify(connection.sock, selectors.EVENT_READ, connection)
    return True


def _receive(connection: Connection, scratch: bytearray, kind: str, tally: Tally) -> bool:
    """Take in what has arrived; whether the answer is complete."""
    try:
        count = connection.sock.recv_into(scratch)
    except BlockingIOError:
        return False
    if not count:
        raise SystemExit(f"the server closed a connection after {bytes(connection.got)[:300]!r}")
    connection.got += memoryview(scratch)[:count]
    got = connection.got
    if connection.head_end < 0:
        mark = got.find(b"\r\n\r\n")
        if mark < 0:
            return False
        connection.head_end = mark + 4
        head = bytes(got[:mark]).lower()
        at = head.find(b"content-length:")
        if at >= 0:
            connection.want = connection.head_end + int(head[at + 15 :].split(b"\r\n", 1)[0])
        elif b"transfer-encoding: chunked" in head:
            connection.want = 0
    if connection.want == 0:
        if not got.endswith(b"0\r\n\r\n"):
            return False
    elif len(got) < connection.want:
        return False
    body = bytes(got[connection.head_end :])
    if connection.want == 0:
        body = _unchunked(body)
    seen = number(kind, bytes(got), body)
    if seen != connection.call.expected:
        tally.wrong.append(f"{seen} instead of {connection.call.expected}: {bytes(got)[:300]!r}")
    return True


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        whole += rest[:length]
        body = rest[length + 2 :]
        if not length:
            break
    return whole


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--kind", choices=["oip", "raw", "base64"], default="raw")
    parser.add_argument("--path", required=True)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--warm-up", type=float, default=0.5)
    parser.add_argument("--requests", type=int, default=0, help="end after so many answers instead of after --seconds")
    parser.add_argument("--side", type=int, default=SIDE, help="images of SIDE x SIDE x 3 bytes")
    given = parser.parse_args()
    figures = drive(given.port, given.kind, given.path, given.clients, given.seconds, given.warm_up, given.requests, given.side)
    json.dump(figures, sys.stdout)
