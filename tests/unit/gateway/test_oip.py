import json
import struct

import numpy as np
import pytest
from gateway_doubles import Raw, get, head, infer_body, numbers_app, post, run, serving, tensor_in

from grainwise.gateway.limits import Limits

IMAGE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
INVERT = "/v2/models/invert/infer"
both_protocols = pytest.mark.parametrize("protocol", ["placed", "httptools"])


def lengths_before(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


@both_protocols
def test_a_binary_tensor_goes_in_and_comes_out(protocol):
    async def main():
        async with serving(protocol=protocol) as served:
            body, headers = infer_body(
                [tensor_in(IMAGE)], IMAGE.tobytes(), id="q1", outputs=[{"name": "output", "parameters": {"binary_data": True}}]
            )
            status, answered, raw = await post(served, INVERT, body, headers)
            assert status == 200
            length = int(answered["Inference-Header-Content-Length"])
            answer = json.loads(raw[:length])
            assert answer["id"] == "q1"
            assert answer["model_name"] == "invert"
            assert answer["outputs"] == [
                {"name": "output", "datatype": "UINT8", "shape": [4, 5, 3], "parameters": {"binary_data_size": 60}}
            ]
            assert raw[length:] == (255 - IMAGE).tobytes()
            (arrival,) = served.script.arrivals
            assert arrival.inputs[0].refs[0].sizes == (20.0,)
            assert served.counters.responses == {("infer", 200): 1}

    run(main())


@both_protocols
def test_a_large_tensor_goes_in_and_comes_out(protocol):
    async def main():
        image = np.random.default_rng(1).integers(0, 255, (700, 900, 3), np.uint8)
        async with serving(protocol=protocol) as served:
            body, headers = infer_body([tensor_in(image)], image.tobytes(), parameters={"binary_data_output": True})
            for _ in range(3):
                status, answered, raw = await post(served, INVERT, body, headers)
                assert status == 200
                assert raw[int(answered["Inference-Header-Content-Length"]) :] == (255 - image).tobytes()
            assert served.store.live_bytes == 0

    run(main())


def test_a_body_is_placed_without_a_copy():
    async def main():
        image = np.zeros((448, 448, 3), np.uint8)
        async with serving() as served:
            served.script.on_arrival = served.script.rejecting("deadline")
            body, headers = infer_body([tensor_in(image)], image.tobytes())
            await post(served, INVERT, body, headers)
            assert served.store.copied_bytes == 0

    run(main())


def test_a_chunked_body_is_read_too():
    async def main():
        async with serving() as served:
            body, headers = infer_body([tensor_in(IMAGE)], IMAGE.tobytes())

            async def chunks():
                for begin in range(0, len(body), 50):
                    yield body[begin : begin + 50]

            status, _, answer = await post(served, INVERT, chunks(), headers)
            assert status == 200
            assert answer["outputs"][0]["data"] == (255 - IMAGE).reshape(-1).tolist()

    run(main())


def test_json_data_may_be_nested_or_flat():
    async def main():
        async with serving() as served:
            for data in (IMAGE.tolist(), IMAGE.reshape(-1).tolist()):
                tensor = {"name": "image", "shape": [4, 5, 3], "datatype": "UINT8", "data": data}
                status, _, answer = await post(served, INVERT, json.dumps({"inputs": [tensor]}))
                assert status == 200
                assert answer["outputs"] == [
                    {
                        "name": "output",
                        "datatype": "UINT8",
                        "shape": [4, 5, 3],
                        "data": (255 - IMAGE).reshape(-1).tolist(),
                    }
                ]

    run(main())


def test_bytes_and_text_travel_as_bytes_tensors():
    async def main():
        async with serving() as served:
            binary = lengths_before(b"\x00abc")
            tensor = {"name": "data", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(binary)}}
            body, headers = infer_body([tensor], binary, parameters={"binary_data_output": True})
            status, answered, raw = await post(served, "/v2/models/reverse/infer", body, headers)
            assert status == 200
            assert raw[int(answered["Inference-Header-Content-Length"]) :] == lengths_before(b"cba\x00")

            tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["grün wise"]}
            status, _, answer = await post(served, "/v2/models/words/infer", json.dumps({"inputs": [tensor]}))
            assert status == 200
            assert answer["outputs"] == [{"name": "output", "datatype": "BYTES", "shape": [2], "data": ["grün", "wise"]}]

            binary = lengths_before("grün wise".encode())
            tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(binary)}}
            body, headers = infer_body([tensor], binary)
            status, _, answer = await post(served, "/v2/models/words/infer", body, headers)
            assert answer["outputs"][0]["data"] == ["grün", "wise"]

    run(main())


def test_bytes_that_json_cannot_carry_are_a_400_that_says_how_to_ask():
    async def main():
        async with serving() as served:
            binary = lengths_before(b"\xff\xfe")
            tensor = {"name": "data", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(binary)}}
            body, headers = infer_body([tensor], binary)
            status, _, answer = await post(served, "/v2/models/reverse/infer", body, headers)
            assert status == 400
            assert "binary_data" in answer["error"]

    run(main())


def test_several_inputs_mix_forms_and_a_list_is_taken_apart():
    async def main():
        async with serving() as served:
            words, count = lengths_before(b"a", b"bc"), np.array([3], np.int64).tobytes()
            inputs = [
                {"name": "words", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(words)}},
                {"name": "factor", "shape": [1], "datatype": "FP64", "data": [1.5]},
                {"name": "count", "shape": [1], "datatype": "INT64", "parameters": {"binary_data_size": len(count)}},
            ]
            body, headers = infer_body(inputs, words + count)
            status, _, answer = await post(served, "/v2/models/mixed/infer", body, headers)
            assert status == 200
            (document,) = answer["outputs"][0]["data"]
            assert json.loads(document) == {"A": 4.5, "BC": 4.5}
            (arrival,) = served.script.arrivals
            assert arrival.inputs[0].shape == "many"
            assert [ref.sizes for ref in arrival.inputs[0].refs] == [(1.0,), (2.0,)]

    run(main())


def image_in(**changes):
    return tensor_in(IMAGE) | changes


WRONG = [
    ("wrong name", [image_in(name="picture")], IMAGE.tobytes(), "inputs[0].name"),
    ("wrong datatype", [image_in(datatype="FP32")], IMAGE.tobytes(), "inputs[0].datatype"),
    ("unknown datatype", [image_in(datatype="UINT7")], IMAGE.tobytes(), "inputs[0].datatype"),
    ("BYTES for a tensor", [image_in(datatype="BYTES")], IMAGE.tobytes(), "inputs[0].datatype"),
    ("negative size", [image_in(shape=[4, 5, -3])], IMAGE.tobytes(), "inputs[0].shape"),
    ("too many dimensions", [image_in(shape=[1] * 40)], IMAGE.tobytes(), "inputs[0].shape"),
    ("shape and bytes disagree", [image_in(shape=[4, 5, 4])], IMAGE.tobytes(), "inputs[0].parameters.binary_data_size"),
    ("truncated", [image_in()], IMAGE.tobytes()[:-1], "inputs[0].parameters.binary_data_size"),
    ("bytes left over", [image_in()], IMAGE.tobytes() + b"x", "body"),
    ("sent twice", [image_in(), image_in()], IMAGE.tobytes() * 2, "inputs[1].name"),
    ("missing", [], b"", "image"),
    ("huge claim", [image_in(shape=[1 << 40, 1 << 40])], IMAGE.tobytes(), "inputs[0].parameters.binary_data_size"),
    (
        "size is no number",
        [image_in(parameters={"binary_data_size": "60"})],
        IMAGE.tobytes(),
        "inputs[0].parameters.binary_data_size",
    ),
    ("shared memory", [image_in(parameters={"shared_memory_region": "r"})], b"", "inputs[0].parameters.shared_memory_region"),
    ("both forms", [image_in(data=[1])], IMAGE.tobytes(), "inputs[0].data"),
    ("neither form", [image_in(parameters={})], b"", "inputs[0].data"),
]


@both_protocols
@pytest.mark.parametrize(("inputs", "binary", "field"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_a_wrong_binary_request_is_a_400_that_names_the_field(inputs, binary, field, protocol):
    async def main():
        async with serving(protocol=protocol) as served:
            body, headers = infer_body(inputs, binary)
            status, _, answer = await post(served, INVERT, body, headers)
            assert (status, answer["code"], answer["field"]) == (400, "input", field), answer
            assert served.script.arrivals == []

    run(main())


def json_in(**changes):
    return {"name": "image", "shape": [2, 1], "datatype": "UINT8", "data": [1, 2]} | changes


WRONG_JSON = [
    ("too few numbers", json_in(data=[1]), "inputs[0].data"),
    ("too many numbers", json_in(data=[1, 2, 3]), "inputs[0].data"),
    ("text for numbers", json_in(data=["a", "b"]), "inputs[0].data"),
    ("null for a number", json_in(data=[1, None]), "inputs[0].data"),
    ("out of range", json_in(data=[1, 256]), "inputs[0].data"),
    ("beyond any dtype", json_in(data=[1, 10**40]), "inputs[0].data"),
    ("negative", json_in(data=[1, -1]), "inputs[0].data"),
    ("fraction", json_in(data=[1, 1.5]), "inputs[0].data"),
    ("ragged", json_in(shape=[3, 1], data=[[1, 2], [3]]), "inputs[0].data"),
    ("shape is text", json_in(shape="2,1"), "body"),
    ("shape holds text", json_in(shape=["2"]), "body"),
]


@pytest.mark.parametrize(("tensor", "field"), [row[1:] for row in WRONG_JSON], ids=[row[0] for row in WRONG_JSON])
def test_a_wrong_json_tensor_is_a_400_that_names_the_field(tensor, field):
    async def main():
        async with serving() as served:
            status, _, answer = await post(served, INVERT, json.dumps({"inputs": [tensor]}))
            assert (status, answer["field"]) == (400, field), answer

    run(main())


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"inputs": {}}', b'{"inputs": [{}]}', b"null", b'{"inputs": []', b"\xff\xfe", b"[" * 100_000],
)
def test_malformed_json_is_a_400(body):
    async def main():
        async with serving() as served:
            status, _, answer = await post(served, INVERT, body)
            assert (status, answer["code"], answer["field"]) == (400, "input", "body")

    run(main())


@pytest.mark.parametrize(
    ("binary", "claimed", "field"),
    [
        (lengths_before(b"abc")[:-1], 6, "inputs[0].data[0]"),
        (b"\xff\xff\xff\xff", 4, "inputs[0].data[0]"),
        (b"\x01", 1, "inputs[0].data[0]"),
        (lengths_before(b"a", b"b"), 10, "inputs[0].parameters.binary_data_size"),
    ],
)
def test_a_bytes_tensor_whose_lengths_lie_is_a_400(binary, claimed, field):
    async def main():
        async with serving() as served:
            tensor = {"name": "data", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": claimed}}
            body, headers = infer_body([tensor], binary)
            status, _, answer = await post(served, "/v2/models/reverse/infer", body, headers)
            assert (status, answer["field"]) == (400, field), answer

    run(main())


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"outputs": [{"name": "picture"}]}, "outputs[0].name"),
        ({"outputs": [{"name": "output", "parameters": {"classification": 3}}]}, "outputs[0].parameters.classification"),
    ],
)
def test_an_output_that_there_is_not_is_a_400(more, field):
    async def main():
        async with serving() as served:
            body, headers = infer_body([tensor_in(IMAGE)], IMAGE.tobytes(), **more)
            status, _, answer = await post(served, INVERT, body, headers)
            assert (status, answer["field"]) == (400, field)
            assert served.script.arrivals == []

    run(main())


def test_a_json_part_longer_than_the_body_is_a_400():
    async def main():
        async with serving() as served:
            status, _, answer = await post(served, INVERT, b"{}", {"Inference-Header-Content-Length": "999"})
            assert (status, answer["field"]) == (400, "Inference-Header-Content-Length")

    run(main())


@both_protocols
def test_a_claim_of_a_gigabyte_is_a_413_at_once(protocol):
    async def main():
        async with serving(protocol=protocol) as served:
            raw = await Raw.connect(served)
            await raw.send(head(INVERT, f"Content-Length: {1 << 30}", "Inference-Header-Content-Length: 100"))
            status, headers, body = await raw.response()
            assert status == 413
            assert headers["connection"] == "close"
            assert json.loads(body)["code"] == "too_large"
            assert await raw.reader.read() == b""
            await raw.close()

    run(main())


def test_a_chunked_body_over_the_limit_is_a_413():
    async def main():
        async with serving(limits=Limits(max_body_bytes=1000)) as served:
            raw = await Raw.connect(served)
            await raw.send(head(INVERT, "Transfer-Encoding: chunked") + b"400\r\n" + b"x" * 1024 + b"\r\n")
            status, _, body = await raw.response()
            assert status == 413
            assert "limit is 1000" in json.loads(body)["error"]
            await raw.close()

    run(main())


def three(form: str) -> tuple[bytes, dict[str, str]]:
    """An infer request of a list of three texts."""
    binary = lengths_before(b"a", b"b", b"c")
    words = {"name": "words", "shape": [3], "datatype": "BYTES"}
    words |= {"parameters": {"binary_data_size": len(binary)}} if form == "binary" else {"data": ["a", "b", "c"]}
    more = [
        {"name": name, "shape": [1], "datatype": kind, "data": [1]} for name, kind in (("count", "INT64"), ("factor", "FP64"))
    ]
    inputs = [words, *more]
    return infer_body(inputs, binary) if form == "binary" else (json.dumps({"inputs": inputs}).encode(), {})


@pytest.mark.parametrize("form", ["binary", "json"])
def test_a_list_of_too_many_elements_is_a_413_that_names_the_field(form):
    async def main():
        for limit, expected in ((3, 200), (2, 413)):
            async with serving(limits=Limits(max_elements=limit)) as served:
                status, _, answer = await post(served, "/v2/models/mixed/infer", *three(form))
                assert status == expected, answer
                if expected == 413:
                    assert (answer["code"], answer["field"]) == ("too_large", "inputs[0].shape")
                    assert served.script.arrivals == []

    run(main())


@pytest.mark.parametrize("is_apart", [True, False])
@pytest.mark.parametrize("form", ["binary", "json", "plain"])
def test_a_list_of_numbers_is_counted_where_it_is_taken_apart(form, is_apart):
    async def main():
        numbers = np.arange(5, dtype=np.int64)
        tensor = {"name": "numbers", "shape": [5], "datatype": "INT64"}
        path = f"/v2/models/{'each' if is_apart else 'whole'}/infer"
        if form == "binary":
            call = infer_body([tensor | {"parameters": {"binary_data_size": 40}}], numbers.tobytes())
        elif form == "json":
            call = json.dumps({"inputs": [tensor | {"data": numbers.tolist()}]}).encode(), {}
        else:
            path = path.replace("/v2/models", "/v1/apps").removesuffix("/infer")
            call = json.dumps({"numbers": numbers.tolist()}).encode(), {"Content-Type": "application/json"}
        field = "numbers" if form == "plain" else "inputs[0].shape"
        async with serving([numbers_app(is_apart)], limits=Limits(max_elements=4)) as served:
            served.script.on_arrival = served.script.rejecting("deadline")
            status, _, answer = await post(served, path, *call)
            assert (status, answer.get("field")) == ((413, field) if is_apart else (504, None)), answer
        if form == "binary" and not is_apart:
            big = np.arange(100, dtype=np.int64)
            call = infer_body([tensor | {"shape": [100], "parameters": {"binary_data_size": 800}}], big.tobytes())
            async with serving([numbers_app(is_apart)], limits=Limits(max_json_bytes=799)) as served:
                status, _, answer = await post(served, path, *call)
                assert (status, answer["field"]) == (413, "inputs[0].parameters.binary_data_size")

    run(main())


def test_the_deadline_comes_from_the_header_the_request_or_the_app():
    async def main():
        async with serving() as served:
            script = served.script
            body, headers = infer_body([tensor_in(IMAGE)], IMAGE.tobytes())
            await post(served, INVERT, body, headers)
            await post(served, INVERT, body, headers | {"Grainwise-Deadline-Ms": "12.5"})
            body, headers = infer_body([tensor_in(IMAGE)], IMAGE.tobytes(), parameters={"timeout": 2_000_000})
            await post(served, INVERT, body, headers)
            assert [event.deadline for event in script.arrivals] == [0, script.now + 12_500, script.now + 2_000_000]

    run(main())


@pytest.mark.parametrize(
    ("code", "status"), [("queue_full", 429), ("too_late", 429), ("deadline", 504), ("stage_failed", 500), ("stage_lost", 502)]
)
def test_a_rejection_is_answered_with_its_status(code, status):
    async def main():
        async with serving() as served:
            served.script.on_arrival = served.script.rejecting(code, stage="invert", retry_after_us=1)
            body, headers = infer_body([tensor_in(IMAGE)], IMAGE.tobytes())
            got, answered, answer = await post(served, INVERT, body, headers)
            assert (got, answer["code"], answer["stage"], answer["request"]) == (status, code, "invert", 1)
            assert ("Retry-After" in answered) == (status == 429)
            assert served.counters.responses == {("infer", status): 1}

    run(main())


def test_a_full_store_is_a_429():
    async def main():
        image = np.zeros((600, 600, 3), np.uint8)
        async with serving(arena_bytes=1 << 20) as served:
            body, headers = infer_body([tensor_in(image)], image.tobytes())
            status, answered, answer = await post(served, INVERT, body, headers)
            assert (status, answer["code"]) == (429, "backpressure")
            assert int(answered["Retry-After"]) >= 1

    run(main())


def test_metadata_is_that_of_the_app():
    async def main():
        async with serving() as served:
            for path in ("/v2/models/mixed", "/v2/models/mixed/versions/1"):
                status, _, answer = await get(served.url, path)
                assert status == 200
                assert answer["inputs"] == [
                    {"name": "words", "datatype": "BYTES", "shape": [-1]},
                    {"name": "count", "datatype": "INT64", "shape": [1]},
                    {"name": "factor", "datatype": "FP64", "shape": [1]},
                ]
            status, _, answer = await get(served.url, "/v2/models/mixed/config")
            assert answer["input"][0] == {"name": "words", "data_type": "TYPE_STRING", "dims": [-1]}
            assert (await get(served.url, "/v2/models/mixed/versions/2"))[0] == 404
            assert (await get(served.url, "/v2"))[2]["extensions"] == ["binary_tensor_data"]

    run(main())


@pytest.mark.parametrize("path", ["/v2/models/nope/infer", "/v2/models/invert/versions/9/infer", "/v1/apps/nope"])
def test_an_unknown_app_is_a_404_that_names_those_there_are(path):
    async def main():
        async with serving() as served:
            status, _, answer = await post(served, path, b"{}")
            assert (status, answer["code"]) == (404, "unknown_app")
            assert "invert" in answer["error"]

    run(main())


def test_a_stage_result_that_the_protocol_cannot_carry_is_a_500_without_a_traceback():
    async def main():
        async with serving() as served:
            served.script.on_arrival = served.script.rejecting("stage_failed", stage="invert")
            body, headers = infer_body([tensor_in(IMAGE)], IMAGE.tobytes())
            status, _, answer = await post(served, INVERT, body, headers)
            assert status == 500
            assert "Traceback" not in json.dumps(answer)

    run(main())
