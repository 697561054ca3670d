"""A stock client of the protocol against a real server."""

import asyncio
import json
import os

import numpy as np
import pytest
from gateway_doubles import run, serving

try:
    import tritonclient.http as client_library
    from tritonclient.utils import InferenceServerException
except ImportError:
    if "tritonclient" in os.environ.get("GRAINWISE_REQUIRE", ""):
        raise
    pytest.skip("tritonclient[http] is not installed", allow_module_level=True)


def with_client(use):
    """Run ``use(client, served)`` in a thread beside the server."""

    async def main():
        async with serving() as served:

            def call():
                with client_library.InferenceServerClient(served.url.removeprefix("http://")) as client:
                    use(client, served)

            await asyncio.to_thread(call)

    run(main())


def test_health_metadata_and_index():
    def use(client, served):
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("invert")
        assert client.is_model_ready("invert", "1")
        assert client.get_server_metadata()["name"] == "grainwise"
        assert client.get_model_metadata("words")["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [1]}]
        assert client.get_model_config("words")["max_batch_size"] == 0
        assert [row["name"] for row in client.get_model_repository_index()] == ["invert", "reverse", "words", "mixed"]

    with_client(use)


@pytest.mark.parametrize("is_binary_in", [True, False])
@pytest.mark.parametrize("is_binary_out", [True, False, None])
def test_a_tensor_in_every_form(is_binary_in, is_binary_out):
    image = np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)

    def use(client, served):
        tensor = client_library.InferInput("image", list(image.shape), "UINT8")
        tensor.set_data_from_numpy(image, binary_data=is_binary_in)
        outputs = None
        if is_binary_out is not None:
            outputs = [client_library.InferRequestedOutput("output", binary_data=is_binary_out)]
        result = client.infer("invert", [tensor], outputs=outputs, request_id="seven", model_version="1")
        assert result.get_response()["id"] == "seven"
        assert (result.as_numpy("output") == 255 - image).all()

    with_client(use)


def test_a_large_tensor_again_and_again_on_one_connection():
    image = np.random.default_rng(0).integers(0, 255, (448, 448, 3), np.uint8)

    def use(client, served):
        for shift in range(5):
            shifted = image + shift
            tensor = client_library.InferInput("image", list(image.shape), "UINT8")
            tensor.set_data_from_numpy(shifted)
            assert (client.infer("invert", [tensor]).as_numpy("output") == 255 - shifted).all()

    with_client(use)


@pytest.mark.parametrize("is_binary", [True, False])
def test_bytes_text_and_documents(is_binary):
    def use(client, served):
        tensor = client_library.InferInput("text", [1], "BYTES")
        tensor.set_data_from_numpy(np.array(["deep grün".encode()], dtype=object), binary_data=is_binary)
        words = client.infer("words", [tensor]).as_numpy("output")
        assert [word.decode() for word in words] == ["deep", "grün"]

        tensor = client_library.InferInput("data", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([b"\x01abc" * 30_000], dtype=object), binary_data=is_binary)
        (data,) = client.infer("reverse", [tensor]).as_numpy("output")
        assert data == b"cba\x01" * 30_000

        inputs = [
            client_library.InferInput("words", [2], "BYTES"),
            client_library.InferInput("count", [1], "INT64"),
            client_library.InferInput("factor", [1], "FP64"),
        ]
        inputs[0].set_data_from_numpy(np.array([b"a", b"b"], dtype=object), binary_data=is_binary)
        inputs[1].set_data_from_numpy(np.array([2], np.int64), binary_data=is_binary)
        inputs[2].set_data_from_numpy(np.array([0.5]), binary_data=is_binary)
        (document,) = client.infer("mixed", inputs).as_numpy("output")
        assert json.loads(document) == {"A": 1.0, "B": 1.0}

    with_client(use)


def test_errors_reach_the_client_as_messages():
    def use(client, served):
        tensor = client_library.InferInput("picture", [1], "UINT8")
        tensor.set_data_from_numpy(np.zeros(1, np.uint8))
        with pytest.raises(InferenceServerException, match=r"inputs\[0\].name.*it has image"):
            client.infer("invert", [tensor])
        with pytest.raises(InferenceServerException, match="app 'none' is not served here"):
            client.infer("none", [tensor])

    with_client(use)
