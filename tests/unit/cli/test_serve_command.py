"""``grainwise serve`` refuses what it cannot serve with before a request could come."""

import msgspec
import psutil
import pytest
from command_line import TEXT_APP, chain_app, grainwise, profile_of

from grainwise.cli.server_status import control_status
from grainwise.control.status import AppStatus
from grainwise.domain.app import Slo
from grainwise.domain.config import AppConfig
from grainwise.domain.plan import Plan
from grainwise.gateway.admin import AdminListen
from grainwise.gateway.limits import Limits

REFUSED = {
    "an address that others reach, without a token": (["--admin-host", "0.0.0.0"], 2, "--admin-token-file"),
    "a token file that is not there": (["--admin-token-file", "/nowhere/token"], 2, "/nowhere/token"),
    "an illegal granularity": (["--grain", "split+five"], 2, "five"),
    "an slo of nought": (["--slo-ms", "0"], 2, "--slo-ms"),
    "a rate that is no number": (["--rate", "nan"], 2, "--rate"),
    "no host of this machine": (["--host", "203.0.113.1"], 2, "203.0.113.1"),
    "no profile where it should be": (["--profile", "/nowhere/p.json"], 4, "/nowhere/p.json"),
    "a log folder in a file": (["--log", "/dev/null/log"], 2, "/dev/null/log"),
    "an arena below the least": (["--arena-mib", "1"], 2, "arena-mib"),
    "no request at a time": (["--max-requests", "0"], 2, "max-requests"),
    "an unknown objective": (["--objective", "fame"], 2, "objective"),
    "a policy set that is none": (["--policy", "nosuch"], 2, "residency"),
    "a model that is none": (["--evaluator", "oracle"], 2, "rollout"),
    "a dwell time that is no number": (["--dwell", "nan"], 2, "dwell"),
    "replanning at no time": (["--replan-seconds", "inf"], 2, "--replan-seconds"),
    "what nobody does with late requests": (["--late", "hide"], 2, "cheapest"),
    "a key that is none": (["--scale-to-one"], 2, "scale-to-one"),
}


def serve(app, folder, *options):
    more = ("--port", 0, "--admin-port", 0, "--log", folder / "log", "--profile", profile_of(app, folder))
    before = psutil.Process().children(recursive=True)
    said = grainwise("serve", app, *more, *options)
    assert psutil.Process().children(recursive=True) == before
    assert said.out == ""
    return said


@pytest.mark.parametrize("what", REFUSED)
def test_it_does_not_begin_with(tmp_path, what):
    options, code, word = REFUSED[what]
    said = serve(TEXT_APP, tmp_path, *options)
    assert (said.code, word in said.words) == (code, True), said.words


def test_an_app_file_that_is_not_there(tmp_path):
    said = grainwise("serve", tmp_path / "no.py")
    assert said.code == 2
    assert "no.py" in said.err


def test_a_syntax_error_is_said_with_its_line(tmp_path):
    app = chain_app(tmp_path)
    made = profile_of(app, tmp_path)
    app.write_text("app = (\n")
    said = grainwise("serve", app, "--profile", made, "--log", tmp_path / "log")
    assert said.code == 3
    assert f"{app}:1" in said.words


def test_a_profile_of_another_app_is_refused_by_field(tmp_path):
    other = profile_of(TEXT_APP, tmp_path)
    said = grainwise("serve", chain_app(tmp_path), "--profile", other, "--log", tmp_path / "log")
    assert said.code == 4
    assert "`app`" in said.err


def test_a_profile_of_another_machine_is_refused_by_field(tmp_path):
    made = profile_of(TEXT_APP, tmp_path, device_class="cpu:another:64")
    said = grainwise("serve", TEXT_APP, "--profile", made, "--log", tmp_path / "log")
    assert said.code == 4
    assert "`device_class`" in said.err
    assert "--accept-profile" in said.err


def test_without_a_profile_and_without_time_to_make_one_it_says_how_to(tmp_path):
    app = chain_app(tmp_path)
    said = grainwise("serve", app, "--profile-budget", 0)
    assert said.code == 4
    assert f"grainwise profile {app}" in said.words


def test_a_log_folder_that_holds_a_log_is_refused(tmp_path):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "segment-00000.log").write_bytes(b"")
    said = serve(TEXT_APP, tmp_path)
    assert said.code == 4
    assert "already holds a log" in said.err


@pytest.mark.parametrize("kind", [AppConfig, Limits, AdminListen, Slo])
def test_a_key_of_the_configuration_that_is_unknown_is_refused(kind):
    known = {"latency_ms": 1.0} if kind is Slo else {}
    assert msgspec.convert(known, kind) == kind(**known)
    with pytest.raises(msgspec.ValidationError, match="max_reqests"):
        msgspec.convert(known | {"max_reqests": 3}, kind)


def test_an_operator_sees_what_decides_and_what_it_last_decided():
    now = AppStatus(
        app="text", plan=Plan("text", ()), plan_id="abc", grain="split | join", regranulating_to="", asked_by="",
        regranulations=1, in_flight=0, is_planning=False, last_refusal="refused", last_change="changed", last_verdict="held",
        is_ready=True, instances=(), queues=(), device_class="cpu", last_ask="asked",
    )  # fmt: skip
    shown = control_status(AppConfig(policies="extent", evaluator="rollout", late="drop", dwell_us=1_500_000), now)
    assert (shown.policies, shown.evaluator, shown.late, shown.dwell_s) == ("extent", "rollout", "drop", 1.5)
    assert (shown.last_ask, shown.last_verdict, shown.last_change, shown.last_refusal) == (
        "asked",
        "held",
        "changed",
        "refused",
    )
    assert (shown.grain, shown.plan_id) == ("split | join", "abc")
