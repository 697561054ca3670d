"""MOSEC with the image application: ``python mosec_server.py fused|split [--port N ...]``, run in MOSEC's environment.

Settings as its documentation advises: raw bytes in, one worker per stage, access log off; stages of the chain hand NumPy
arrays to each other by its default serialisation.
"""

import sys

import numpy as np
from mosec import Server, Worker

SHAPE = (448, 448, 3)


class Raw(Worker):
    """The first stage's input is the body."""

    def deserialize(self, data: bytes) -> np.ndarray:
        return np.frombuffer(data, np.uint8).reshape(SHAPE)


class Fused(Raw):
    def forward(self, data: np.ndarray) -> int:
        return int((np.bitwise_xor(255 - data, 0x55)).reshape(-1)[::16].sum(dtype=np.int64))


class Invert(Raw):
    def forward(self, data: np.ndarray) -> np.ndarray:
        return 255 - data


class Mask(Worker):
    def forward(self, data: np.ndarray) -> np.ndarray:
        return np.bitwise_xor(data, 0x55)


class Total(Worker):
    def forward(self, data: np.ndarray) -> int:
        return int(data.reshape(-1)[::16].sum(dtype=np.int64))


if __name__ == "__main__":
    which = sys.argv.pop(1)
    server = Server()
    for worker in (Fused,) if which == "fused" else (Invert, Mask, Total):
        server.append_worker(worker)
    server.run()
