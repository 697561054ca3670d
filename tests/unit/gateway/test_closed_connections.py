"""A server lives long and its clients come and go: what belonged to a closed connection must not wait for the collector."""

import asyncio
import gc

import numpy as np
from gateway_doubles import Raw, head, infer_body, run, serving, tensor_in

from grainwise.gateway.protocol import CallProtocol

IMAGE = np.arange(300 * 300, dtype=np.uint32).astype(np.uint8).reshape(300, 300)


def connections() -> list[CallProtocol]:
    return [found for found in gc.get_objects() if isinstance(found, CallProtocol)]


async def until_gone() -> None:
    while connections():
        await asyncio.sleep(0)


def test_a_closed_connection_is_gone_without_a_collection():
    async def main():
        body, headers = infer_body([tensor_in(IMAGE)], IMAGE.tobytes())
        lines = [f"{name}: {value}" for name, value in headers.items()]
        async with serving() as served:
            gc.collect()
            gc.disable()
            try:
                for path in ("/v2/models/invert/infer", "/v2/health/live"):
                    raw = await Raw.connect(served)
                    await raw.send(head(path, f"Content-Length: {len(body)}", *lines) + body)
                    await raw.response()
                    await raw.close()
                    await asyncio.wait_for(until_gone(), 5)
            finally:
                gc.enable()

    run(main())
