"""``grainwise load``: what it posts, what it reports and when it exits with what."""

import json

import pytest
from command_line import grainwise
from fake_server import answering

from grainwise.cli.load_command import outputs_equal

QUICK = ("--rate", 100, "--seconds", 0.2)
BODY = ("--json-body", '{"text": "a"}')


def saying(status, body, seen=None):
    def answer(method, path, data):
        if seen is not None:
            seen.append((method, path, data))
        return status, json.dumps(body).encode()

    return answering(answer)


def test_right_answers_are_counted_and_the_report_is_json():
    seen = []
    with saying(200, {"outputs": {"output": "a:1"}}, seen) as url:
        said = grainwise("load", f"{url}/v1/apps/text", *BODY, *QUICK, "--process", "constant", "--expect", '"a:1"', "--json")
    assert said.code == 0, said.words
    assert said.json["offered"] == said.json["right"] == 20
    assert said.json["offered_per_s"] == 100
    assert said.json["status_counts"] == {"200": 20}
    assert said.err == ""
    assert set(seen) == {("POST", "/v1/apps/text", b'{"text": "a"}')}


def test_the_report_for_people_has_the_same_figures():
    with saying(200, {"outputs": {}}) as url:
        said = grainwise("load", url, *BODY, *QUICK, "--process", "constant", "--slo-ms", 60_000)
    assert said.code == 0
    assert "100.00%" in said.words
    assert "200×20" in said.words


def test_a_wrong_answer_exits_with_1_and_shows_it():
    with saying(200, {"outputs": {"output": "[red]b:1[/red]"}}) as url:
        said = grainwise("load", url, *BODY, *QUICK, "--expect", '"a:1"')
    assert said.code == 1
    assert "[red]b:1[/red]" in said.words


@pytest.mark.parametrize(("status", "code"), [(429, 0), (503, 0), (504, 0), (500, 0), (400, 1), (404, 1), (413, 1)])
def test_an_overloaded_server_is_a_finding_and_a_refused_request_a_mistake(status, code):
    with saying(status, {"error": "because"}) as url:
        said = grainwise("load", url, *BODY, *QUICK, "--json")
    assert said.code == code
    assert set(said.json["status_counts"]) == {str(status)}
    assert "because" in said.json["first_error"]


def test_a_server_that_is_not_there_exits_with_1():
    said = grainwise("load", "http://127.0.0.1:9/v1/apps/text", *BODY, *QUICK, "--json")
    assert said.code == 1
    assert set(said.json["status_counts"]) == {"no answer"}
    assert "127.0.0.1:9" in said.json["first_error"]


def test_steps_are_played():
    with saying(200, {"outputs": {}}) as url:
        said = grainwise("load", url, *BODY, "--steps", "50:0.2,0:0.1,100:0.1", "--process", "constant", "--json")
    assert said.json["offered"] == 20
    assert said.json["offered_per_s"] == 50


def test_a_trace_is_played(tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("t_ms\n0\n100\n400\n")
    with saying(200, {"outputs": {}}) as url:
        said = grainwise("load", url, *BODY, "--trace", trace, "--time-scale", 4, "--json")
    assert said.json["offered"] == 3
    assert said.json["offered_per_s"] == 30


def test_a_trace_with_a_malformed_row_is_named_by_file_line_and_column(tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("t_ms\n0\nsoon\n")
    said = grainwise("load", "http://127.0.0.1:9", *BODY, "--trace", trace)
    assert said.code == 4
    assert "trace.csv, line 3, column t_ms: 'soon'" in said.err


def test_files_are_posted_in_turn_with_their_type(tmp_path):
    first, second = tmp_path / "a.png", tmp_path / "b.bin"
    first.write_bytes(b"png")
    second.write_bytes(b"bin")
    seen = []
    with saying(200, {"outputs": {}}, seen) as url:
        said = grainwise("load", url, "--body", first, "--body", second, *QUICK, "--process", "constant", "--json")
    assert said.json["right"] == 20
    assert [data for _, _, data in seen].count(b"png") == 10


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ((), "--body"),
        (("--body", "/nowhere/a.png"), "/nowhere/a.png"),
        (("--json-body", "{"), "--json-body"),
        ((*BODY, "--expect", "{"), "--expect"),
        ((*BODY, "--steps", "5"), "RATE:SECONDS"),
        ((*BODY, "--trace", "/nowhere/t.csv"), "/nowhere/t.csv"),
        ((*BODY, "--rate", "nan"), "--rate"),
        ((*BODY, "--slo-ms", "0"), "--slo-ms"),
        ((*BODY, "--process", "bursty"), "process"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(options, word):
    said = grainwise("load", "http://127.0.0.1:9", *options)
    assert said.code == 2
    assert word in said.words


def test_what_is_no_url_is_refused():
    said = grainwise("load", "127.0.0.1:8000", *BODY)
    assert said.code == 2
    assert "http://" in said.err


@pytest.mark.parametrize(
    ("body", "wanted", "is_equal"),
    [
        (b'{"outputs": {"output": 1}}', 1, True),
        (b'{"outputs": {"output": 1}}', {"output": 1}, True),
        (b'{"outputs": {"a": 1, "b": 2}}', {"a": 1, "b": 2}, True),
        (b'{"outputs": {"a": 1, "b": 2}}', 1, False),
        (b'{"outputs": [1]}', [1], True),
        (b'{"error": "x"}', 1, False),
        (b"nonsense", 1, False),
        (b"[]", 1, False),
    ],
)
def test_outputs_are_compared_whole_or_by_their_only_value(body, wanted, is_equal):
    assert outputs_equal(body, wanted) == is_equal
