"""``grainwise regranulate`` against what an admin API may say."""

import json

import pytest
from command_line import grainwise
from fake_server import answering

from grainwise.cli.admin_client import AdminClient
from grainwise.domain.errors import GrainwiseError

SPLIT = {"grain": "one | two", "plan_id": "abc", "regranulating_to": "", "last_refusal": "", "is_planning": False}


class Script:
    """Answers GET /plan with one status after the other, the last one again and again."""

    def __init__(self, *plans, post=(202, {"requested": "one+two"})):
        self.plans = list(plans)
        self.posted = []
        self._post = post

    def __call__(self, method, path, body):
        if method == "POST":
            self.posted.append((path, json.loads(body)))
            status, answer = self._post
            return status, json.dumps(answer).encode()
        plan = self.plans.pop(0) if len(self.plans) > 1 else self.plans[0]
        return 200, json.dumps(plan).encode()


def test_it_waits_until_requests_run_on_the_new_plan():
    script = Script(SPLIT, SPLIT | {"is_planning": True}, SPLIT | {"regranulating_to": "one+two"}, SPLIT | {"grain": "one+two"})
    with answering(script) as url:
        said = grainwise("regranulate", "fused", "--admin", url)
    assert said.code == 0
    assert said.words == "requests run on: one+two (plan abc)"
    assert script.posted == [("/regranulate", {"grain": "fused"})]


def test_the_answer_as_json_and_the_app_by_name():
    script = Script(SPLIT)
    with answering(script) as url:
        said = grainwise("regranulate", "--admin", url, "--app", "text", "--json")
    assert said.code == 0
    assert said.json["grain"] == "one | two"
    assert script.posted == [("/regranulate", {"grain": None, "app": "text"})]


def test_a_refusal_exits_with_1_and_its_reason():
    script = Script(SPLIT, SPLIT | {"last_refusal": "one+two was refused: no room"})
    with answering(script) as url:
        said = grainwise("regranulate", "fused", "--admin", url)
    assert said.code == 1
    assert "one+two was refused: no room" in said.err


def test_the_same_refusal_for_the_second_time_is_a_refusal():
    script = Script(SPLIT | {"last_refusal": "one+two was refused: no room"})
    with answering(script) as url:
        said = grainwise("regranulate", "fused", "--admin", url)
    assert said.code == 1
    assert "one+two was refused: no room" in said.err


def test_an_illegal_grain_exits_with_1_and_what_the_server_says():
    script = Script(SPLIT, post=(400, {"error": "grain: app text has no stage 'five'"}))
    with answering(script) as url:
        said = grainwise("regranulate", "five", "--admin", url)
    assert said.code == 1
    assert "400" in said.err
    assert "no stage 'five'" in said.err


def test_only_asking_does_not_wait():
    script = Script(SPLIT | {"regranulating_to": "one+two"})
    with answering(script) as url:
        said = grainwise("regranulate", "fused", "--admin", url, "--wait", 0)
    assert said.code == 0
    assert "GET /plan" in said.words


def test_a_change_that_takes_longer_is_said_and_goes_on():
    script = Script(SPLIT, SPLIT | {"regranulating_to": "one+two"})
    with answering(script) as url:
        said = grainwise("regranulate", "fused", "--admin", url, "--wait", 0.3)
    assert said.code == 1
    assert "one+two did not end within 0.3 s" in said.err


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "/nowhere/admin.sock"])
def test_nobody_listens_there(address):
    said = grainwise("regranulate", "fused", "--admin", address)
    assert said.code == 2
    assert address in said.err
    assert "grainwise serve" in said.err


def test_an_answer_that_is_no_json_is_shown():
    with answering(lambda method, path, body: (502, b"<html>bad gateway</html>")) as url:
        said = grainwise("regranulate", "fused", "--admin", url)
    assert said.code == 1
    assert "bad gateway" in said.err


def test_the_answer_of_something_else_is_an_error():
    with answering(lambda method, path, body: (200, b"<html>welcome</html>")) as url:
        said = grainwise("regranulate", "fused", "--admin", url)
    assert said.code == 1
    assert url in said.err
    for body in (b"[]", b"{}", b""):
        with answering(lambda *_, body=body: (200, body)) as url:
            assert grainwise("regranulate", "fused", "--admin", url).code == 1


def test_the_token_file_is_read_and_must_be_private(tmp_path):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    token.chmod(0o644)
    said = grainwise("regranulate", "fused", "--admin-token-file", token)
    assert said.code == 2
    assert "chmod 600" in said.err
    assert grainwise("regranulate", "fused", "--admin-token-file", tmp_path / "no").code == 2


def test_a_client_that_is_not_open_says_so():
    import asyncio

    with pytest.raises(GrainwiseError, match="not open"):
        asyncio.run(AdminClient("http://127.0.0.1:9").get("/plan"))
