"""An HTTP server in a thread, for commands that run a loop of their own."""

import asyncio
import threading
from contextlib import contextmanager

from aiohttp import web


@contextmanager
def answering(handler, path="/{tail:.*}"):
    """The base URL of a server that answers every request with ``handler(method, path, body) -> (status, body)``."""
    loop = asyncio.new_event_loop()
    is_up = threading.Event()
    port = 0
    stop = None

    async def answer(request):
        status, body = handler(request.method, request.path_qs, await request.read())
        return web.Response(status=status, body=body, content_type="application/json")

    async def serve():
        nonlocal port, stop
        stop = asyncio.Event()
        app = web.Application()
        app.router.add_route("*", path, answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        is_up.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert is_up.wait(20)
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()
