"""LitServe with the image application: ``python litserve_server.py PORT``, run in LitServe's environment.

JSON with base64 is its documented way for images. It composes servers over HTTP only, so there is no split form.
"""

import base64
import sys

import litserve
import numpy as np

SHAPE = (448, 448, 3)


class Image(litserve.LitAPI):
    """The three stages in one API."""

    def setup(self, device: str) -> None:
        """Nothing to load."""

    def decode_request(self, request: dict[str, str]) -> np.ndarray:
        return np.frombuffer(base64.b64decode(request["image"]), np.uint8).reshape(SHAPE)

    def predict(self, x: np.ndarray) -> int:
        return int(np.bitwise_xor(255 - x, 0x55).reshape(-1)[::16].sum(dtype=np.int64))

    def encode_response(self, output: int) -> dict[str, int]:
        return {"total": output}


if __name__ == "__main__":
    server = litserve.LitServer(Image(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="error", generate_client_file=False)
