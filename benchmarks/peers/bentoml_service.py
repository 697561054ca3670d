"""BentoML with the image application, run in BentoML's environment: ``bentoml serve bentoml_service:Fused`` or ``:Split``.

One worker per service. Connections between services are not rotated: the default drops requests at sixteen clients.
"""

from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import ContentType

SHAPE = (448, 448, 3)
Body = Annotated[bytes, ContentType("application/octet-stream")]
SETTINGS = {
    "workers": 1,
    "traffic": {"max_concurrency": 1000},
    "runner_connection": {"max_requests": 1_000_000_000},
    "logging": {"access": {"enabled": False}},
}


@bentoml.service(**SETTINGS)
class Fused:
    """The three stages in one service."""

    @bentoml.api
    def infer(self, image: Body, /) -> int:
        x = np.frombuffer(image, np.uint8).reshape(SHAPE)
        return int(np.bitwise_xor(255 - x, 0x55).reshape(-1)[::16].sum(dtype=np.int64))


@bentoml.service(**SETTINGS)
class Total:
    """The last stage."""

    @bentoml.api
    def infer(self, image: np.ndarray) -> np.ndarray:
        return np.array([image.reshape(-1)[::16].sum(dtype=np.int64)])


@bentoml.service(**SETTINGS)
class Mask:
    """The second stage, which calls the last."""

    total = bentoml.depends(Total)

    @bentoml.api
    async def infer(self, image: np.ndarray) -> np.ndarray:
        return await self.total.to_async.infer(image=np.bitwise_xor(image, 0x55))


@bentoml.service(**SETTINGS)
class Split:
    """The first stage, which calls the second."""

    mask = bentoml.depends(Mask)

    @bentoml.api
    async def infer(self, image: Body, /) -> int:
        inverted = 255 - np.frombuffer(image, np.uint8).reshape(SHAPE)
        return int((await self.mask.to_async.infer(image=inverted))[0])
