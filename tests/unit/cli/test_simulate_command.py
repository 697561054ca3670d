"""``grainwise simulate``: wrong inputs are named, a seed gives the same bytes, settings are compared in pairs."""

import json
import sys
from pathlib import Path

import msgspec
import pytest
from command_line import CHAIN, ROOT, chain_app, grainwise, profile_of

from grainwise.cli.scenarios import SimulateOptions, make_trials
from grainwise.cli.trials import run_trials, traces
from grainwise.domain.config import AppConfig
from grainwise.domain.time import SECOND
from grainwise.profiles.artifact import read, write

SHORT = ("--workload", "poisson:40:3s")
LAPTOP = ROOT / "examples" / "clusters" / "laptop.yaml"


@pytest.fixture
def app(tmp_path):
    """An app whose shipped profile lies beside it."""
    path = chain_app(tmp_path)
    profile_of(path, tmp_path).rename(tmp_path / "chain.profile.json")
    return path


def test_one_run_prints_its_tables_and_how_fast_it_was(app):
    said = grainwise("simulate", app, *SHORT)
    assert said.code == 0, said.words
    assert "simulated on" in said.words and "attainment" in said.words
    assert "times as fast" in said.err
    assert "service times measured on" in said.words


def test_json_is_the_result(app):
    said = grainwise("simulate", app, *SHORT, "--json", "--seed", "7", "--cluster", LAPTOP)
    assert said.json["kind"] == "simulated"
    assert said.json["provenance"]["seed"] == 7
    assert said.json["provenance"]["workload"] == "poisson:40:3s"
    (result,) = said.json["apps"]
    assert result["name"] == "chain"
    assert result["offered"] == result["answered"] > 80
    assert said.err == ""


def test_a_seed_gives_the_same_bytes_and_another_seed_others(app, tmp_path):
    def result(name, seed):
        out = tmp_path / name
        assert grainwise("simulate", app, *SHORT, "--seed", seed, "--out", out, "--json").code == 0
        return out.read_bytes()

    assert result("a.json", 3) == result("b.json", 3)
    assert result("c.json", 4) != result("a.json", 3)


def test_what_lies_beside_an_app_shadows_nothing_in_processes_that_simulate(app, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [path for path in sys.path if path != str(tmp_path)])
    (tmp_path / "copy.py").write_text("raise RuntimeError('not the copy of Python')")
    trials = make_trials(SimulateOptions((app,), workload="poisson:5:1s"), traces())
    assert len(trials) == 1 and str(tmp_path) not in sys.path
    (tmp_path / "copy.py").unlink()


def test_the_number_of_processes_changes_nothing(app):
    options = SimulateOptions((app,), workload="poisson:20:1s", replications=2)
    trials = make_trials(options, traces())
    seen = []
    alone = run_trials(trials, lambda at, done: seen.append((at, done)), processes=1)
    together = run_trials(trials, lambda at, done: None, processes=2)
    assert [msgspec.json.encode(one) for one in alone] == [msgspec.json.encode(one) for one in together]
    assert [result.provenance.seed for result in together] == [1, 2]
    assert seen[-1] == (1, 1.0)


def test_settings_see_the_same_arrivals_and_are_compared(app, tmp_path):
    out = tmp_path / "both.json"
    options = SimulateOptions((app,), workload="poisson:20:1s", policies=("adaptive", "fixed:split"), replications=2)
    results = run_trials(make_trials(options, traces()), lambda at, done: None, processes=1)
    offered = [result.app("chain").offered for result in results]
    assert offered[:2] == offered[2:]
    assert results[2].app("chain").grain == "one | two | three | four"
    said = grainwise(
        "simulate", app, "--workload", "poisson:20:1s", "--policy", "fixed", "--policy", "fixed:split", "--out", out
    )
    assert said.code == 0, said.words
    assert "fixed:split − fixed" in said.words
    saved = json.loads(out.read_bytes())
    assert [setting["name"] for setting in saved["settings"]] == ["fixed", "fixed:split"]
    assert saved["comparison"]["settings"] == ["fixed", "fixed:split"]


def test_requests_and_log_are_written(app, tmp_path):
    rows, log = tmp_path / "requests.csv", tmp_path / "log"
    said = grainwise("simulate", app, *SHORT, "--requests", rows, "--log", log, "--json")
    offered = said.json["apps"][0]["offered"]
    assert len(rows.read_text().splitlines()) == offered + 1
    replayed = grainwise("replay", log)
    assert replayed.code == 0
    assert f"replayed {offered} requests for chain" in replayed.words


def test_tenants_users_and_failures(app, tmp_path):
    workload = tmp_path / "workload.yaml"
    workload.write_text(
        "name: mixed\nduration_s: 5\nstreams:\n"
        "  - {app: chain, tenant: shops, arrivals: {process: poisson, rate_per_s: 20}}\n"
        "  - {app: chain, tenant: desk, arrivals: {process: users, count: 3, think_s: 0.1}}\n"
    )
    said = grainwise("simulate", app, "--workload", workload, "--failures", "crash:at=2s", "--json")
    (result,) = said.json["apps"]
    tenants = {tenant["name"]: tenant["offered"] for tenant in result["tenants"]}
    assert sum(tenants.values()) == result["offered"]
    assert tenants["desk"] > 20
    assert result["failures"] == {"lost": 1}
    notes = said.json["provenance"]["notes"]
    assert any("crash:at=2s" in note for note in notes)
    assert "1 failure struck, 0 found nothing to strike" in notes


def test_a_log_says_that_it_does_not_tell_tenants_apart(app, tmp_path):
    workload = tmp_path / "workload.yaml"
    workload.write_text(
        "name: a\nduration_s: 1\nstreams: [{app: chain, tenant: shops, arrivals: {process: poisson, rate_per_s: 20}}]\n"
    )
    said = grainwise("simulate", app, "--workload", workload, "--log", tmp_path / "log", "--json")
    assert said.json["apps"][0]["tenants"]
    reported = grainwise("report", tmp_path / "log", "--json").json
    assert not reported["apps"][0]["tenants"]
    assert any("tenants shops" in note for note in reported["provenance"]["notes"])
    assert reported["provenance"]["digests"] == said.json["provenance"]["digests"]


def test_failures_that_find_nothing_are_counted(app):
    said = grainwise("simulate", app, "--workload", "poisson:5:3s", "--failures", "return_node:at=1s,crash:at=2s", "--json")
    assert "1 failure struck, 1 found nothing to strike" in said.json["provenance"]["notes"]
    calm = grainwise("simulate", app, "--workload", "poisson:5:1s", "--json")
    assert not any("to strike" in note for note in calm.json["provenance"]["notes"])


@pytest.mark.parametrize("in_file", [False, True])
def test_a_result_says_that_a_trace_is_generated(app, tmp_path, in_file):
    workload = "trace:fitted:azure_llm_2023_code:window=0s..2s"
    if in_file:
        workload = tmp_path / "workload.yaml"
        replay = "{process: trace, trace: 'fitted:azure_llm_2023_code', until_s: 2}"
        workload.write_text(f"name: a\nstreams: [{{app: chain, arrivals: {replay}}}]\n")
    said = grainwise("simulate", app, "--workload", workload, "--log", tmp_path / "log", "--json")
    assert said.code == 0, said.words
    reported = grainwise("report", tmp_path / "log", "--json").json["provenance"]
    assert set(said.json["provenance"]["notes"]) < set(reported["notes"])
    assert reported["digests"] == said.json["provenance"]["digests"]
    told = [note for note in said.json["provenance"]["notes"] if note.startswith("trace fitted:azure_llm_2023_code: ")]
    assert len(told) == 1 and "not the trace" in told[0]


def test_granularities_that_differ_in_signs_alone_write_different_files(app, tmp_path):
    options = SimulateOptions(
        (app,),
        workload="poisson:5:1s",
        policies=("fixed:one+two|three+four", "fixed:one|two+three|four"),
        log=tmp_path / "log",
        requests=tmp_path / "rows.csv",
        replications=2,
    )
    trials = make_trials(options, traces())
    assert len({trial.log for trial in trials}) == len({trial.requests for trial in trials}) == 4


def test_nothing_of_the_progress_stays_above_an_error(app):
    said = grainwise("simulate", app, "--workload", "nothing.yaml")
    assert said.code == 2
    assert "planning" not in said.words


def test_a_trace_that_is_given_as_a_workload_file(app, tmp_path):
    trace = tmp_path / "x.csv"
    trace.write_text("t_ms\n0\n100\n400\n")
    said = grainwise("simulate", app, "--workload", trace)
    assert said.code == 2 and f"--workload trace:{trace}" in said.words


def test_a_long_line_of_failures_is_no_name_of_a_file(app):
    line = ",".join(f"crash:at={at}ms" for at in range(100, 200, 2))
    assert len(line) > 500
    said = grainwise("simulate", app, "--workload", "poisson:5:1s", "--failures", line, "--json")
    assert said.code == 0, said.words


def test_a_file_of_failures_that_cannot_be_read_is_named(app, tmp_path, monkeypatch):
    failures = tmp_path / "failures.yaml"
    failures.write_text("entries: []\n")
    read_bytes = Path.read_bytes

    def refused(path):
        if path == failures:
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    said = grainwise("simulate", app, "--failures", failures)
    assert said.code == 2 and f"--failures {failures} cannot be read: Permission denied" in said.words


def test_the_sleep_example_is_simulated_with_the_profile_that_ships():
    folder = ROOT / "examples" / "sleep"
    said = grainwise(
        "simulate", folder / "app.py", "--profile", folder / "app.profile.json", "--workload", "poisson:5:2s", "--json"
    )
    assert said.code == 0, said.words


def test_a_cold_beginning_counts_the_cold_starts(app):
    cold = grainwise("simulate", app, *SHORT, "--cold", "--json").json["apps"][0]
    warm = grainwise("simulate", app, *SHORT, "--json").json["apps"][0]
    assert cold["shares"]["cold_ms"] > warm["shares"]["cold_ms"] == 0


def test_several_apps_share_a_line(app, tmp_path):
    second = tmp_path / "second.py"
    second.write_text(app.read_text().replace('App("chain"', 'App("second"'))
    profile_of(second, tmp_path).rename(tmp_path / "second.profile.json")
    said = grainwise("simulate", app, second, *SHORT, "--json")
    assert [each["name"] for each in said.json["apps"]] == ["chain", "second"]
    assert all(each["offered"] > 80 for each in said.json["apps"])


WRONG = [
    (("--policy", "clever"), 2, "no policy set 'clever'"),
    (("--policy", "fixed", "--policy", "fixed"), 2, "fixed is given twice"),
    (("--policy", "fixed:one+three | two | four"), 2, "--grain"),
    (("--workload", "poisson:40"), 2, "has no end"),
    (("--workload", "nothing.yaml"), 2, "nothing.yaml cannot be read"),
    (("--workload", "trace:nowhere"), 2, "there is no trace 'nowhere'"),
    (("--cluster", "nothing.yaml"), 2, "nothing.yaml cannot be read"),
    (("--failures", "explode:at=1s"), 2, "explode"),
    (("--slo-ms", "-3"), 2, "--slo-ms must be a number above 0"),
    (("--replications", "0"), 2, "replications"),
    (("--requests", "rows.txt"), 2, "neither .parquet nor .csv"),
    (("--out", "nowhere/at/all.json"), 2, "no folder nowhere/at"),
    (("--profile", "nothing.json"), 2, "--profile nothing.json cannot be read"),
]


@pytest.mark.parametrize(
    ("options", "code", "message"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_what_is_wrong_is_named(app, options, code, message):
    said = grainwise("simulate", app, *options)
    assert said.code == code, said.words
    assert message in said.words


def test_a_missing_profile_says_what_to_run(tmp_path):
    path = chain_app(tmp_path)
    said = grainwise("simulate", path)
    assert said.code == 4
    assert f"run: grainwise profile {path}" in said.words


def test_a_profile_of_another_app_is_refused(app, tmp_path):
    changed = profile_of(app, tmp_path, app_digest="0" * 16)
    said = grainwise("simulate", app, "--profile", changed)
    assert said.code == 4 and "app_digest" in said.words
    other = tmp_path / "other.profile.json"
    other.write_bytes(write(msgspec.structs.replace(read(changed.read_bytes()), app="other")))
    said = grainwise("simulate", app, "--profile", other)
    assert said.code == 2 and "'other', which is not given" in said.words


def test_a_workload_for_an_app_that_is_not_given(app, tmp_path):
    workload = tmp_path / "workload.yaml"
    workload.write_text("name: a\nduration_s: 5\nstreams: [{app: ocr, arrivals: {process: poisson, rate_per_s: 20}}]\n")
    said = grainwise("simulate", app, "--workload", workload)
    assert said.code == 2
    assert "'ocr', which is not given (given: chain)" in said.words


def test_a_wrong_cluster_file_names_the_key(app, tmp_path):
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text("name: a\nnodes: [{name: n, cpu_cores: -1, memory_gib: 4}]\nprices: {}\n")
    said = grainwise("simulate", app, "--cluster", cluster)
    assert said.code == 2
    assert "cpu_cores" in said.words and "above 0" in said.words


def test_a_cluster_without_room_says_so(app, tmp_path):
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text(LAPTOP.read_text().replace("memory_gib: ", "memory_gib: 0.01 # "))
    said = grainwise("simulate", app, "--cluster", cluster)
    assert said.code == 5, said.words
    assert "no plan of chain fits" in said.words


def test_an_app_for_a_gpu_on_machines_without_one(tmp_path):
    path = chain_app(tmp_path, CHAIN.replace("max_batch=4)\ndef two", 'max_batch=4, device="gpu")\ndef two'))
    said = grainwise("simulate", path, "--profile", profile_of(path, tmp_path), "--cluster", LAPTOP)
    assert said.code == 5, said.words
    assert "GPU" in said.words or "device" in said.words


def test_an_app_given_twice(app, tmp_path):
    again = tmp_path / "again.py"
    again.write_text(app.read_text())
    said = grainwise("simulate", app, again)
    assert said.code == 2 and "are both the app 'chain'" in said.words


def test_who_judges_and_the_rest_of_control_are_those_of_the_options(app):
    said = grainwise(
        "simulate", app, "--workload", "poisson:20:2s", "--policy", "residency", "--policy", "extent:split",
        "--evaluator", "rollout", "--late", "drop", "--dwell", "7", "--json",
    )  # fmt: skip
    assert said.code == 0, said.err
    names = [each["name"] for each in said.json["settings"]]
    assert names == ["residency by rollout", "extent:split by rollout"]
    config = AppConfig(evaluator="rollout", late="drop", dwell_us=7 * SECOND)
    options = SimulateOptions((app,), workload="poisson:20:2s", policies=("extent:split",), config=config)
    (trial,) = make_trials(options, traces())
    assert trial.scenario.apps[0].config == msgspec.structs.replace(config, policies="extent")


@pytest.mark.parametrize(
    ("options", "word"),
    [(("--evaluator", "oracle"), "rollout"), (("--dwell", "nan"), "dwell"), (("--policy", "nosuch:split"), "residency")],
)
def test_control_that_is_none_is_refused(app, options, word):
    said = grainwise("simulate", app, *SHORT, *options)
    assert said.code == 2
    assert word in said.words
