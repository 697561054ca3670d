"""The door alone: requests per second and CPU per request for a 0.6 MB tensor, with a controller double that answers at once.

    python benchmarks/gateway_micro.py [--clients 16] [--seconds 4] [--echo] [--protocol placed|httptools]

The server runs in this process on one event loop; the clients are raw sockets in another process, so that the figures say
what the door costs and not what a client library costs.
"""

import argparse
import asyncio
import json
import multiprocessing
import resource
import selectors
import socket
import time

import numpy as np
import uvloop

from grainwise import App, Batch, Slo, sizes
from grainwise.control.actions import Respond
from grainwise.control.events import Event, RequestArrived
from grainwise.domain.values import Payload, Ref
from grainwise.gateway.door import HttpDoor, handles_of
from grainwise.gateway.server import Server
from grainwise.runtimes.local.edges import EdgeTypes
from grainwise.runtimes.local.store import LocalStore

Array = np.ndarray


def make_app(is_echo: bool):
    app = App("bench", slo=Slo(latency_ms=200))
    if is_echo:

        @app.stage(size=sizes.pixels)
        def same(images: Batch[Array]) -> Batch[Array]:
            return images

        @app.flow
        def echo(image: Array) -> Array:
            return same(image)
    else:

        @app.stage(size=sizes.pixels)
        def total(images: Batch[Array]) -> Batch[int]:
            return [int(image.sum()) for image in images]

        @app.flow
        def summed(image: Array) -> int:
            return total(image)

    return app.spec(b"bench")


def request_bytes(shape: tuple[int, ...]) -> bytes:
    data = np.zeros(shape, np.uint8).tobytes()
    header = json.dumps(
        {
            "inputs": [
                {"name": "image", "shape": list(shape), "datatype": "UINT8", "parameters": {"binary_data_size": len(data)}}
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    return (
        (
            b"POST /v2/models/bench/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
            b"Inference-Header-Content-Length: %d\r\n\r\n" % (len(header) + len(data), len(header))
        )
        + header
        + data
    )


def drive(port: int, clients: int, seconds: float, shape: tuple[int, ...], out) -> None:
    """Closed loop: every client sends its next request when it has its answer."""
    message = memoryview(request_bytes(shape))
    select = selectors.DefaultSelector()
    scratch = bytearray(1 << 20)
    states = []
    for _ in range(clients):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        state = {"sock": sock, "sent": 0, "got": bytearray(), "want": None, "began": time.perf_counter()}
        select.register(sock, selectors.EVENT_WRITE, state)
        states.append(state)
    latencies: list[float] = []
    begin = time.perf_counter()
    end = begin + seconds
    while time.perf_counter() < end:
        for key, events in select.select(1):
            state = key.data
            sock = state["sock"]
            if events & selectors.EVENT_WRITE:
                state["sent"] += sock.send(message[state["sent"] :])
                if state["sent"] == len(message):
                    select.modify(sock, selectors.EVENT_READ, state)
                continue
            n = sock.recv_into(scratch)
            if not n:
                raise SystemExit("the server closed a connection")
            if state["want"] is None:
                state["got"] += scratch[:n]
                head, mark, rest = bytes(state["got"]).partition(b"\r\n\r\n")
                if not mark:
                    continue
                assert head.startswith(b"HTTP/1.1 200"), head + rest
                length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                state["want"] = length - len(rest)
            else:
                state["want"] -= n
            if state["want"] == 0:
                now = time.perf_counter()
                latencies.append(now - state["began"])
                state.update(sent=0, got=bytearray(), want=None, began=now)
                select.modify(sock, selectors.EVENT_WRITE, state)
    out.send((len(latencies) / (time.perf_counter() - begin), sorted(latencies)))


async def serve(args: argparse.Namespace) -> None:
    spec = make_app(args.echo)
    shape = (448, 448, 3)
    store = LocalStore(EdgeTypes(spec), 256 << 20)
    door = HttpDoor(store, lambda: time.monotonic_ns() // 1000)

    def post(event: Event) -> None:
        if isinstance(event, RequestArrived):
            if args.echo:
                door.respond(Respond(event.request, event.inputs))
                return
            stored = store.put(7, spec.outputs[0])
            store.release(handles_of(event.inputs))
            door.respond(Respond(event.request, (Payload((Ref(stored.handle, stored.nbytes),)),)))

    door.attach(post)
    server = Server([spec], store, door, port=0, protocol=args.protocol)
    addresses = await server.start()
    receiving, sending = multiprocessing.Pipe(False)
    worker = multiprocessing.get_context("spawn").Process(
        target=drive, args=(addresses.port, args.clients, args.seconds, shape, sending)
    )
    before = resource.getrusage(resource.RUSAGE_SELF)
    worker.start()
    rate, latencies = await asyncio.to_thread(receiving.recv)
    after = resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.to_thread(worker.join)
    cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / len(latencies)
    p50, p99 = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
    print(
        f"{args.protocol} clients {args.clients} {'echo' if args.echo else 'sum'}: {rate:,.0f} req/s, "
        f"p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms, server CPU {cpu * 1e6:.0f} us/request"
    )
    await server.stop()
    store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--echo", action="store_true", help="answer with the tensor instead of a number")
    parser.add_argument("--protocol", choices=["placed", "httptools"], default="placed")
    uvloop.run(serve(parser.parse_args()))
