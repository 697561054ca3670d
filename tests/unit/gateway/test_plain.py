import base64
import json

import numpy as np
import pytest
from gateway_doubles import get, post, run, serving

from grainwise.gateway.limits import Limits

OCTETS = {"Content-Type": "application/octet-stream"}
IMAGE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
both_protocols = pytest.mark.parametrize("protocol", ["placed", "httptools"])


@both_protocols
@pytest.mark.parametrize(
    "content_type", ["application/octet-stream", "image/png", "application/x-www-form-urlencoded", "image/jpeg; q=1"]
)
def test_raw_bytes_are_the_only_input(protocol, content_type):
    async def main():
        async with serving(protocol=protocol) as served:
            status, answered, answer = await post(served, "/v1/apps/reverse", b"\x89PNG" * 5000, {"Content-Type": content_type})
            assert status == 200
            assert base64.b64decode(answer["outputs"]["output"]["b64"]) == b"GNP\x89" * 5000
            assert answered["Grainwise-Request"] == "1"

    run(main())


def test_raw_bytes_come_back_where_they_are_accepted():
    async def main():
        async with serving() as served:
            status, answered, answer = await post(
                served, "/v1/apps/reverse", b"abc", OCTETS | {"Accept": "application/octet-stream"}
            )
            assert (status, answer, answered["Content-Type"]) == (200, b"cba", "application/octet-stream")
            status, answered, answer = await post(
                served,
                "/v1/apps/invert",
                IMAGE.tobytes(),
                OCTETS | {"Accept": "application/octet-stream", "Grainwise-Shape": "4, 5,3"},
            )
            assert status == 200
            assert answer == (255 - IMAGE).tobytes()
            assert (answered["Grainwise-Dtype"], answered["Grainwise-Shape"]) == ("uint8", "4,5,3")
            status, _, answer = await post(
                served, "/v1/apps/words", "a b", {"Content-Type": "text/plain", "Accept": "application/octet-stream"}
            )
            assert (status, answer["code"]) == (406, "not_acceptable")

    run(main())


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({}, "Grainwise-Shape"),
        ({"Grainwise-Shape": "4,5"}, "Grainwise-Shape"),
        ({"Grainwise-Shape": "4,x"}, "Grainwise-Shape"),
        ({"Grainwise-Shape": "60", "Grainwise-Dtype": "float32"}, "Grainwise-Dtype"),
        ({"Grainwise-Shape": "60", "Grainwise-Dtype": "object"}, "Grainwise-Dtype"),
    ],
)
def test_a_raw_tensor_that_does_not_fit_is_a_400(headers, field):
    async def main():
        async with serving() as served:
            status, _, answer = await post(served, "/v1/apps/invert", IMAGE.tobytes(), OCTETS | headers)
            assert (status, answer["field"]) == (400, field)

    run(main())


def test_text_is_taken_raw_or_as_json_whatever_curl_says():
    async def main():
        async with serving() as served:
            expected = {"outputs": {"output": ["deep", "grain"]}}
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            for body, headers in (
                ("deep grain", {"Content-Type": "text/plain"}),
                ("deep grain", form),
                ('{"text": "deep grain"}', form),
                ('{"text": "deep grain"}', {"Content-Type": "application/json"}),
            ):
                status, _, answer = await post(served, "/v1/apps/words", body, headers)
                assert (status, answer) == (200, expected)
            status, _, answer = await post(served, "/v1/apps/words", '{"other": 1}', form)
            assert answer == {"outputs": {"output": ['{"other":', "1}"]}}

    run(main())


def test_json_inputs_by_name():
    async def main():
        async with serving() as served:
            status, _, answer = await post(served, "/v1/apps/mixed", json={"words": ["a"], "count": 2, "factor": 1})
            assert (status, answer) == (200, {"outputs": {"output": {"A": 2.0}}})
            picture = {"b64": base64.b64encode(IMAGE.tobytes()).decode(), "dtype": "uint8", "shape": [4, 5, 3]}
            for value in (IMAGE.tolist(), picture):
                status, _, answer = await post(served, "/v1/apps/invert", json={"image": value})
                assert (status, answer) == (200, {"outputs": {"output": (255 - IMAGE).tolist()}})
            status, _, answer = await post(served, "/v1/apps/reverse", json={"data": {"b64": "YWJj"}})
            assert (status, answer) == (200, {"outputs": {"output": {"b64": "Y2Jh"}}})

    run(main())


WRONG = [
    ("mixed", {"words": ["a"], "count": 2}, "factor"),
    ("mixed", {"words": ["a"], "count": 2, "factor": 1, "more": 1}, "more"),
    ("mixed", {"words": "a", "count": 2, "factor": 1}, "words"),
    ("mixed", {"words": ["a", 3], "count": 2, "factor": 1}, "words[1]"),
    ("mixed", {"words": ["a"], "count": 2.5, "factor": 1}, "count"),
    ("mixed", {"words": ["a"], "count": True, "factor": 1}, "count"),
    ("mixed", {"words": ["a"], "count": 2, "factor": "1"}, "factor"),
    ("mixed", {"words": ["a"], "count": 2, "factor": None}, "factor"),
    ("words", {"text": 3}, "text"),
    ("reverse", {"data": "abc"}, "data"),
    ("reverse", {"data": {"b64": "***"}}, "data.b64"),
    ("invert", {"image": [[1, 2], [3]]}, "image"),
    ("invert", {"image": [1, 300]}, "image"),
    ("invert", {"image": {"b64": "YWJj", "dtype": "float32", "shape": [3]}}, "image"),
    ("invert", {"image": {"b64": "YWJj", "dtype": "uint8", "shape": [4]}}, "image.shape"),
    ("invert", {"image": {"b64": "YWJj", "dtype": "uint8", "shape": ["3"]}}, "image.shape"),
    ("invert", [1], "body"),
]


@pytest.mark.parametrize(("app", "count", "status"), [("mixed", 2, 200), ("mixed", 3, 413)])
def test_a_list_of_too_many_elements_is_a_413_that_names_the_field(app, count, status):
    async def main():
        async with serving(limits=Limits(max_elements=2)) as served:
            document = {"words": ["a", "b", "c"][:count], "count": 2, "factor": 1}
            answered, _, answer = await post(served, f"/v1/apps/{app}", json=document)
            assert answered == status
            assert answer.get("field") == ("words" if status == 413 else None)

    run(main())


@pytest.mark.parametrize(("app", "document", "field"), WRONG)
def test_wrong_json_is_a_400_that_names_the_field(app, document, field):
    async def main():
        async with serving() as served:
            status, _, answer = await post(served, f"/v1/apps/{app}", json=document)
            assert (status, answer["code"], answer["field"]) == (400, "input", field), answer
            assert served.script.arrivals == []

    run(main())


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"text": "a"', b"[" * 100_000])
def test_malformed_json_is_a_400(body):
    async def main():
        async with serving() as served:
            status, _, answer = await post(served, "/v1/apps/words", body, {"Content-Type": "application/json"})
            assert (status, answer["field"]) == (400, "body")

    run(main())


def test_a_body_in_another_form_is_a_415():
    async def main():
        async with serving() as served:
            for app, content_type in (("words", "multipart/form-data"), ("mixed", "image/png"), ("words", "image/png")):
                status, _, answer = await post(served, f"/v1/apps/{app}", b"x", {"Content-Type": content_type})
                assert (status, answer["code"]) == (415, "media_type")
            status, _, answer = await post(served, "/v1/apps/words", b"x", {"Content-Encoding": "gzip"})
            assert status == 415

    run(main())


def test_other_methods_are_a_405_that_says_which_is_served():
    async def main():
        async with serving() as served:
            for path in ("/v1/apps/words", "/v2/models/words/infer"):
                status, answered, answer = await get(served.url, path)
                assert (status, answered["Allow"], answer["code"]) == (405, "POST", "method")
            status, answered, _ = await post(served, "/v2/health/live")
            assert (status, set(answered["Allow"].split(", "))) == (405, {"GET", "HEAD"})

    run(main())


def test_the_apps_are_listed():
    async def main():
        async with serving() as served:
            status, _, answer = await get(served.url, "/v1/apps")
            assert [app["name"] for app in answer["apps"]] == ["invert", "reverse", "words", "mixed"]
            assert answer["apps"][3]["inputs"] == {"words": "list[str]", "count": "int", "factor": "float"}
            status, _, page = await get(served.url, "/")
            assert status == 200
            assert b"Inverts a picture." in page
            assert b"list[str]" in page
            status, _, document = await get(served.url, "/openapi.json")
            assert document["openapi"] == "3.1.0"
            schema = document["paths"]["/v1/apps/mixed"]["post"]["requestBody"]["content"]["application/json"]["schema"]
            assert schema["properties"]["words"] == {"type": "array", "items": {"type": "string"}}
            assert schema["required"] == ["words", "count", "factor"]
            referred = set(json.dumps(document).split('"#/components/schemas/')[1:])
            assert {name.partition('"')[0] for name in referred} <= set(document["components"]["schemas"])
            status, _, answer = await get(served.url, "/nothing")
            assert (status, answer["code"]) == (404, "unknown_path")

    run(main())
