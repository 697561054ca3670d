"""``grainwise load --workload``: files and lines, closed loops, several apps, bodies by their size."""

import json

import pytest
from command_line import grainwise
from fake_server import answering

from grainwise.cli.load_bodies import Bodies, read_bodies
from grainwise.cli.load_generator import Call
from grainwise.cli.load_workload import app_of
from grainwise.domain.errors import ConfigurationError

BODY = ("--json-body", '{"text": "a"}')
TWO_APPS = """
name: two
duration_s: 0.2
streams:
  - {app: text, arrivals: {process: constant, rate_per_s: 100}}
  - {app: ocr, arrivals: {process: constant, rate_per_s: 50}, sizes: {kind: empirical, values: [1, 3]}}
"""


def saying(seen, status=200):
    def answer(method, path, data):
        seen.append((path, data))
        return status, json.dumps({"outputs": {}}).encode()

    return answering(answer)


def call(length):
    return Call("u", b"x" * length, "t")


def test_a_line_is_offered():
    seen = []
    with saying(seen) as url:
        said = grainwise("load", f"{url}/v1/apps/text", *BODY, "--workload", "constant:100:200ms", "--json")
    assert said.code == 0, said.words
    assert (said.json["offered"], said.json["offered_per_s"]) == (20, 100)
    assert set(seen) == {("/v1/apps/text", b'{"text": "a"}')}


def test_users_ask_again_when_they_have_their_answer():
    seen = []
    with saying(seen) as url:
        said = grainwise("load", f"{url}/v1/apps/text", *BODY, "--workload", "users:3:think=10ms:300ms", "--json")
    assert said.code == 0, said.words
    assert said.json["offered"] == said.json["right"] == len(seen) > 6
    assert said.json["seconds"] < 10


def test_a_file_of_several_apps_goes_to_each_by_name(tmp_path):
    small, large, workload = tmp_path / "small.bin", tmp_path / "large.bin", tmp_path / "two.yaml"
    small.write_bytes(b"s" * 10)
    large.write_bytes(b"l" * 30)
    workload.write_text(TWO_APPS)
    seen = []
    bodies = ("--body", f"ocr={small}", "--body", f"ocr={large}", "--json-body", 'text={"a": "b=c"}')
    with saying(seen) as url:
        said = grainwise("load", url, *bodies, "--workload", workload, "--slo-ms", 60_000, "--json")
    assert said.code == 0, said.words
    assert {app: part["offered"] for app, part in said.json["apps"].items()} == {"text": 20, "ocr": 10}
    assert said.json["total"]["offered"] == 30
    assert said.json["apps"]["ocr"]["attainment"] == 1.0
    assert {body for path, body in seen if path == "/v1/apps/text"} == {b'{"a": "b=c"}'}
    assert {body for path, body in seen if path == "/v1/apps/ocr"} == {b"s" * 10, b"l" * 30}


def test_the_report_for_people_names_the_apps(tmp_path):
    workload = tmp_path / "two.yaml"
    workload.write_text(TWO_APPS)
    with saying([]) as url:
        said = grainwise("load", url, *BODY, "--workload", workload)
    assert said.code == 0
    assert said.words.index("text") < said.words.index("ocr") < said.words.index("all apps")


def test_a_trace_is_found_in_the_folder_of_traces(tmp_path, monkeypatch):
    (tmp_path / "short.csv").write_text("t_ms\n0\n100\n400\n")
    monkeypatch.setenv("GRAINWISE_TRACES", str(tmp_path))
    with saying([]) as url:
        said = grainwise("load", f"{url}/v1/apps/a", *BODY, "--workload", "trace:short:time-scale=4", "--json")
    assert said.code == 0, said.words
    assert said.json["offered"] == 3
    assert said.json["seconds"] < 10


def test_a_plain_trace_may_be_of_any_format(tmp_path, monkeypatch):
    (tmp_path / "counts.csv").write_text("second,requests\n0,2\n1,3\n")
    monkeypatch.setenv("GRAINWISE_TRACES", str(tmp_path))
    with saying([]) as url:
        said = grainwise("load", f"{url}/v1/apps/a", *BODY, "--trace", "counts", "--time-scale", 10, "--json")
    assert said.code == 0, said.words
    assert said.json["offered"] == 5


@pytest.mark.parametrize(
    ("path", "options", "word"),
    [
        ("", ("--workload", "nowhere.yaml"), "give the path of a file, or a line like"),
        ("", ("--workload", "poisson:1"), "has no end"),
        ("", ("--workload", "poisson:1:1s", "--steps", "1:1"), "--workload and --steps"),
        ("", ("--trace", "x.csv", "--steps", "1:1"), "--steps and --trace"),
        ("/v1/apps/text", ("--workload", "FILE"), "give the URL of the server, such as http://127.0.0.1:9"),
        ("", ("--workload", "FILE", "--body", "ocr=/nowhere"), "/nowhere"),
    ],
)
def test_a_workload_that_cannot_be_offered_is_named(tmp_path, path, options, word):
    workload = tmp_path / "two.yaml"
    workload.write_text(TWO_APPS)
    filled = [str(workload) if option == "FILE" else option for option in options]
    said = grainwise("load", f"http://127.0.0.1:9{path}", *BODY, *filled)
    assert said.code == 2
    assert word in said.words


def test_each_app_needs_something_to_post():
    with pytest.raises(ConfigurationError, match="nothing to post to ocr: give --body ocr=FILE"):
        read_bodies({"text": "u", "ocr": "v"}, [], ["text={}"], None)


def test_bodies_without_sizes_are_sent_in_turn():
    bodies = Bodies([call(1), call(9), call(2)])
    assert [len(bodies.choose(0.0).body) for _ in range(5)] == [1, 9, 2, 1, 9]


@pytest.mark.parametrize(("size", "length"), [(1e-6, 4), (0.43, 4), (0.45, 10), (1.1, 20), (1.55, 20), (1.6, 30), (99, 30)])
def test_the_body_that_is_nearest_in_size_is_sent(size, length):
    """Of a mean of 16 bytes the relative sizes are 0.25, 0.625, 1.25 and 1.875."""
    assert len(Bodies([call(20), call(10), call(30), call(4)]).choose(size).body) == length


def test_bodies_of_the_same_size_are_sent_in_turn():
    first, second = Call("u", b"a", "t"), Call("u", b"b", "t")
    bodies = Bodies([first, second, call(5)])
    assert [bodies.choose(0.1).body for _ in range(4)] == [b"a", b"b", b"a", b"b"]


@pytest.mark.parametrize(
    ("url", "app"),
    [("http://h:1/v1/apps/ocr", "ocr"), ("http://h/v1/apps/ocr/", "ocr"), ("http://h:1", "app"), ("http://h/x?a=b", "x")],
)
def test_a_url_names_its_app(url, app):
    assert app_of(url) == app
