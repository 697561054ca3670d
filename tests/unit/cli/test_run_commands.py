"""``compare``, ``report`` and ``observe``: what a run leaves behind is read again, live or simulated alike."""

import json
import threading

import msgspec
import pytest
from command_line import chain_app, grainwise, profile_of
from fake_server import answering

from grainwise.cli.log_results import result_of_log
from grainwise.control.controller import Controller
from grainwise.control.log import Entry, Header
from grainwise.runtimes.log_reader import follow, records
from grainwise.runtimes.log_writer import LogWriter
from grainwise.simulation.log_file import LogFile
from grainwise.workloads.traces.observed import read_observed
from worlds.apps import SHAPES
from worlds.control import World


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A simulated run: its app, its log and its result."""
    folder = tmp_path_factory.mktemp("run")
    app = chain_app(folder)
    profile_of(app, folder).rename(folder / "chain.profile.json")
    said = grainwise(
        "simulate", app, "--workload", "poisson:40:3s", "--log", folder / "log", "--out", folder / "first.json", "--json"
    )
    assert said.code == 0, said.words
    return folder


@pytest.fixture
def world():
    world = World(SHAPES["fan"](4))
    for value in range(20):
        world.ask(value % 9)
        world.run_for(7000)
    world.drain()
    return world


def test_the_report_of_a_simulated_log_is_the_result_of_the_run(run):
    simulated = json.loads((run / "first.json").read_bytes())
    reported = grainwise("report", run / "log", "--json").json
    assert simulated["apps"][0]["offered"] == simulated["apps"][0]["answered"] > 80
    # Only what nothing but the options say differs.
    assert simulated["provenance"].pop("notes") and reported["provenance"].pop("notes")
    assert reported == simulated
    assert "seed 1" in grainwise("report", run / "log").words


def test_a_live_log_is_reported_as_measured(world, tmp_path):
    writer = LogWriter(tmp_path / "log", note="grainwise serve", digests={"device_class": "cpu:test:2"})
    for entry in world.log:
        writer.append(entry.seq, entry.now, entry.event, entry.actions, Controller())
    writer.close()
    out = tmp_path / "result.json"
    said = grainwise("report", tmp_path / "log", "--out", out, "--requests", tmp_path / "rows.csv")
    assert said.code == 0, said.words
    assert "measured on cpu:test:2" in said.words
    assert json.loads(out.read_bytes())["apps"][0]["answered"] == 20
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 21


def segmented(world, folder):
    """The log of a world in segments that each hold a few entries, with true snapshots."""
    controller = Controller()
    with LogFile(folder, seed=1, segment_bytes=2_000) as file:
        for entry in world.log:
            controller.handle(entry.event, entry.now)
            file.append(entry.seq, entry.now, entry.event, entry.actions, controller)
    return sorted(folder.glob("segment-*.log"))


def test_a_log_in_segments_replays_whole_and_from_each_snapshot(world, tmp_path):
    segments = segmented(world, tmp_path / "log")
    assert len(segments) >= 3
    whole = grainwise("replay", tmp_path / "log", "--json").json
    assert whole["divergence"] is None and whole["segments"] == len(segments) and whole["requests"] == 20
    for segment in segments:
        assert grainwise("replay", segment).code == 0
    assert "from the snapshot before entry" in grainwise("replay", segments[1]).words


def test_a_log_without_its_first_segment_is_reported_from_its_snapshot(world, tmp_path):
    segments = segmented(world, tmp_path / "log")
    for segment in segments[: len(segments) // 2]:
        segment.unlink()
    result = result_of_log(tmp_path / "log")
    (app,) = result.apps
    assert 0 < app.answered < 20
    assert app.cost.provisioned_usd > 0
    assert any("from its snapshot" in note for note in result.provenance.notes)


def test_a_missing_segment_in_the_middle_is_refused(world, tmp_path):
    segments = segmented(world, tmp_path / "log")
    segments[1].unlink()
    for command in ("report", "replay"):
        said = grainwise(command, tmp_path / "log")
        assert said.code == 4 and "are missing" in said.words


@pytest.mark.parametrize("command", [("report",), ("replay",)])
def test_no_log_and_an_empty_log_are_told_apart(command, tmp_path):
    assert "there is no log at" in grainwise(*command, tmp_path / "nowhere").words
    (tmp_path / "segment-00000.log").write_bytes(b"")
    said = grainwise(*command, tmp_path)
    assert said.code == 4 and "is empty" in said.words


def test_results_are_compared_side_by_side(run, tmp_path):
    for name, seed in (("second", 1), ("third", 2)):
        out = tmp_path / f"{name}.json"
        said = grainwise(
            "simulate", run / "chain.py", "--workload", "poisson:40:3s", "--grain", "split", "--seed", seed, "--out", out
        )
        assert said.code == 0, said.words
    said = grainwise("compare", run / "first.json", tmp_path / "second.json", tmp_path / "third.json", "--json")
    assert said.json["settings"] == ["first", "second", "third"]
    paired = {each["setting"]: each["is_paired"] for each in said.json["differences"] if each["metric"] == "p50"}
    assert paired == {"second": True, "third": False}
    shown = grainwise("compare", run / "first.json", tmp_path / "second.json")
    assert shown.code == 0 and "second − first" in shown.words


@pytest.fixture(scope="module")
def several(run):
    """One file with two policies and two seeds of each."""
    out = run / "several.json"
    said = grainwise(
        *("simulate", run / "chain.py", "--workload", "poisson:40:1s", "--replications", 2, "--out", out),
        *("--policy", "fixed:split", "--policy", "fixed"),
    )
    assert said.code == 0, said.words
    return out


def test_files_of_several_runs_are_compared(run, several, tmp_path):
    alone = grainwise("compare", several, "--json")
    assert alone.code == 0, alone.words
    assert alone.json["settings"] == ["several fixed:split", "several fixed"]
    assert alone.json["seeds"] == {"several fixed:split": [1, 2], "several fixed": [1, 2]}
    seeds = tmp_path / "seeds.json"
    said = grainwise("simulate", run / "chain.py", "--workload", "poisson:40:1s", "--replications", 3, "--out", seeds)
    assert said.code == 0, said.words
    said = grainwise("compare", seeds)
    assert said.code == 0 and "seeds" in said.words
    both = grainwise("compare", seeds, several, run / "first.json", "--html", tmp_path / "page.html", "--json")
    assert both.code == 0, both.words
    assert both.json["settings"] == ["seeds", "several fixed:split", "several fixed", "first"]
    assert [len(seeds) for seeds in both.json["seeds"].values()] == [3, 2, 2, 1]
    assert (tmp_path / "page.html").stat().st_size > 1000


def test_a_saved_result_is_reported_as_its_run_was(run, tmp_path):
    said = grainwise("report", run / "first.json", "--html", tmp_path / "page.html")
    assert said.code == 0, said.words
    assert "simulated on" in said.words and "seed 1" in said.words
    assert (tmp_path / "page.html").stat().st_size > 1000
    again = grainwise("report", run / "first.json", "--json")
    assert again.json == json.loads((run / "first.json").read_bytes())


def test_each_of_several_saved_results_is_reported(several, tmp_path):
    said = grainwise("report", several, "--html", tmp_path / "page.html")
    assert said.code == 0, said.words
    for name in ("fixed:split, seed 1", "fixed:split, seed 2", "fixed, seed 1", "fixed, seed 2", "fixed − fixed:split"):
        assert name in said.words
    assert (tmp_path / "page.html").stat().st_size > 1000


def test_what_only_a_log_can_tell_is_refused_of_a_saved_result(run, tmp_path):
    said = grainwise("report", run / "first.json", "--requests", tmp_path / "rows.csv")
    assert said.code == 2 and "--requests needs a log" in said.words
    wrong = tmp_path / "wrong.json"
    wrong.write_text("")
    said = grainwise("report", wrong)
    assert said.code == 4 and "is no result of a run" in said.words


def test_what_cannot_be_compared_is_named(run, tmp_path):
    assert "nothing to compare it with" in grainwise("compare", run / "first.json").words
    assert "is given twice" in grainwise("compare", run / "first.json", run / "first.json").words
    assert "there is no result at" in grainwise("compare", tmp_path / "nothing.json", run / "first.json").words
    wrong = tmp_path / "wrong.json"
    for text in ("{", "[]", '{"settings": 3}', '{"schema": 99}'):
        wrong.write_text(text)
        said = grainwise("compare", wrong, run / "first.json")
        assert said.code == 4 and str(wrong) in said.words


def test_a_recorded_trace_is_replayed_by_simulate_and_by_load(run, tmp_path):
    trace = tmp_path / "observed.csv"
    said = grainwise("observe", run / "log", "--out", trace, "--json")
    assert said.code == 0, said.words
    offered = json.loads((run / "first.json").read_bytes())["apps"][0]["offered"]
    assert said.json["requests"] == said.json["answered"] == offered
    again = grainwise("simulate", run / "chain.py", "--workload", f"trace:{trace}", "--json")
    assert again.code == 0, again.words
    # The last arrival of a trace is at its very end.
    assert offered - 1 <= again.json["apps"][0]["offered"] <= offered
    with answering(lambda method, path, body: (200, b'{"outputs": "1"}')) as url:
        loaded = grainwise(
            "load", f"{url}/v1/apps/chain", "--workload", f"trace:{trace}:time-scale=4", "--json-body", '{"value": 1}', "--json"
        )
    assert loaded.code == 0, loaded.words
    assert offered - 1 <= loaded.json["offered"] <= offered


def test_observe_takes_what_falls_into_its_seconds(run, tmp_path):
    trace = tmp_path / "observed.parquet"
    said = grainwise("observe", run / "log", "--out", trace, "--seconds", "1")
    assert said.code == 0 and f"trace:{trace}" in said.words
    rows = list(read_observed(trace, "observed"))
    assert 10 < len(rows) < 80
    assert all(row.t_us < 1_000_000 and row.outcome == "answered" and row.latency_us for row in rows)


def test_what_cannot_be_observed_is_named(run, tmp_path):
    assert "should end in .csv or .parquet" in grainwise("observe", run / "log", "--out", tmp_path / "a.txt").words
    said = grainwise("observe", run / "log", "--out", tmp_path / "a.csv", "--app", "other")
    assert said.code == 2 and "no request for other arrived" in said.words
    said = grainwise("observe", tmp_path / "admin.sock", "--out", tmp_path / "a.csv")
    assert said.code == 2 and "no admin API answers" in said.words
    status = msgspec.json.encode({"log": str(tmp_path / "elsewhere")})
    with answering(lambda method, path, body: (200, status)) as url:
        said = grainwise("observe", url, "--out", tmp_path / "a.csv")
    assert said.code == 2 and "not on this machine" in said.words
    assert not list(tmp_path.glob("*.csv"))


def test_a_growing_log_is_followed_from_now_on_over_its_segments(world, tmp_path):
    log = tmp_path / "log"
    before, after = world.log[:10], world.log[10:]
    controller = Controller()

    def write(file, entries):
        for entry in entries:
            controller.handle(entry.event, entry.now)
            file.append(entry.seq, entry.now, entry.event, entry.actions, controller)

    file = LogFile(log, seed=1, segment_bytes=2_000)
    write(file, before)
    file._file.flush()
    is_written = threading.Event()
    polls = 0

    def is_over():
        # The first look comes when what was there has been passed over.
        nonlocal polls
        polls += 1
        if polls == 2:
            write(file, after)
            file.close()
            is_written.set()
        return is_written.is_set() and polls > 3

    followed = [record for record in follow(log, is_over) if isinstance(record, Entry)]
    assert [entry.seq for entry in followed] == [entry.seq for entry in after]
    assert len(list(log.glob("segment-*.log"))) > 1
    assert sum(isinstance(record, Header) for record in records(log)) > 1
