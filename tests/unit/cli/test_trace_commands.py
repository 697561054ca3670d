"""``grainwise trace``: what it prints of a trace, where it looks for one, and what it says of a download."""

import hashlib

import pytest
from command_line import grainwise
from fake_server import answering

from grainwise.cli.trace_output import plot, render_span
from grainwise.workloads.traces import download
from grainwise.workloads.traces.catalogue import PublicTrace

ROWS = "t_s,size\n" + "".join(f"{at / 2},{at % 7}\n" for at in range(400))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAINWISE_TRACES", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "even.csv").write_text(ROWS)
    return tmp_path


def public(url, data, **changes):
    fields = {"sha256": hashlib.sha256(data).hexdigest(), "licence": "free", "citation": "A. Uthor", "what": "a test"} | changes
    return PublicTrace("made", "made.csv", url, **fields)


def test_a_trace_is_described_for_people_in_80_columns(folder):
    said = grainwise("trace", "describe", "even")
    assert said.code == 0, said.err
    assert "even.csv: recorded arrivals" in said.words
    assert "400 arrivals in 3.325 min, mean 2.005/s" in said.words
    assert "index of dispersion" in said.words
    assert "█" in said.out
    assert max(map(len, said.out.splitlines())) <= 80


def test_figures_are_json_of_the_part_at_the_rate_and_speed_asked_for(folder):
    said = grainwise("trace", "describe", "even.csv", "--window", "50s..150s", "--rate-scale", 3, "--time-scale", 2, "--json")
    assert said.json["arrivals"] == 600
    assert said.json["span_s"] == 50
    assert said.json["mean_per_s"] == 12
    assert said.json["note"] == "recorded arrivals; window 50:150 s; rate × 3; time × 2"
    assert [scale["scale_s"] for scale in said.json["scales"]] == [1]
    assert said.json["sizes"]["largest"] == 6


def test_a_path_needs_no_folder_and_a_format_may_be_forced(folder, monkeypatch):
    monkeypatch.delenv("GRAINWISE_TRACES")
    assert grainwise("trace", "describe", folder / "even.csv", "--format", "t_s", "--json").json["arrivals"] == 400
    said = grainwise("trace", "describe", folder / "even.csv", "--format", "t_ms")
    assert (said.code, said.words) == (4, "grainwise: even.csv has no column t_ms among t_s, size")


def test_a_trace_that_is_not_there_is_told_with_those_that_are(folder, monkeypatch):
    said = grainwise("trace", "describe", "azure_llm_2023_code")
    assert said.code == 2
    assert "(there: even)" in said.err
    assert "grainwise trace get azure_llm_2023_code" in said.err
    assert "fitted:azure_llm_2023_code is a generator fitted to its published statistics" in said.err
    monkeypatch.delenv("GRAINWISE_TRACES")
    assert "there is no trace 'x', and GRAINWISE_TRACES names no folder" in grainwise("trace", "describe", "x").err
    monkeypatch.setenv("GRAINWISE_TRACES", "/nowhere")
    assert "names /nowhere, which is no folder" in grainwise("trace", "describe", "x").err


@pytest.mark.parametrize("window", ["5", "9s..3s", "a..b", "-1s..3s", "0s..inf", "600..1200"])
def test_a_window_that_is_none_is_refused(folder, window):
    said = grainwise("trace", "describe", "even", f"--window={window}")
    assert said.code == 2
    assert "is not START..END" in said.err


def test_a_window_may_be_open(folder):
    assert grainwise("trace", "describe", "even", "--window=..50s", "--json").json["span_s"] == 50
    assert grainwise("trace", "describe", "even", "--window=100s..", "--json").json["note"].endswith("window 100:199.5 s")


def test_a_stand_in_says_that_it_is_none_of_the_trace():
    said = grainwise("trace", "describe", "fitted:azure_llm_2023_conv")
    assert "fitted to the published statistics of azure_llm_2023_conv, not the trace" in said.words


def test_what_there_is_and_can_be_had_is_listed(folder, monkeypatch):
    said = grainwise("trace", "list")
    assert "even.csv" in said.out
    assert "azure_functions_2019" in said.out
    assert "fitted:azure_llm_2023_code" in said.out
    assert grainwise("trace", "list", "--json").json["here"] == ["even.csv"]
    monkeypatch.delenv("GRAINWISE_TRACES")
    assert "GRAINWISE_TRACES names no folder" in grainwise("trace", "list").words


def test_a_download_says_by_what_it_was_checked_and_can_be_described(folder, monkeypatch):
    data = ROWS.encode()
    with answering(lambda method, path, body: (200, data)) as url:
        monkeypatch.setattr(download, "CATALOGUE", (public(f"{url}/t", data),))
        said = grainwise("trace", "get", "made")
        assert said.code == 0, said.err
        assert "its hash is the published one" in said.words
        assert "licence: free" in said.words
        assert grainwise("trace", "describe", "made", "--json").json["arrivals"] == 400
        monkeypatch.setattr(download, "CATALOGUE", (public(f"{url}/t", data, sha256=None, unpack="tar xf made.csv"),))
        said = grainwise("trace", "get", "made", "--to", folder / "other")
        assert "NOT VERIFIED" in said.words
        assert "tar xf made.csv" in said.words
        assert grainwise("trace", "get", "made", "--to", folder / "other", "--json").json["trust"] == "recorded"


def test_a_wrong_hash_fails_and_leaves_no_file(folder, monkeypatch):
    with answering(lambda method, path, body: (200, b"other")) as url:
        monkeypatch.setattr(download, "CATALOGUE", (public(f"{url}/t", b"right"),))
        said = grainwise("trace", "get", "made")
    assert said.code == 4
    assert "was deleted" in said.err
    assert [path.name for path in folder.iterdir()] == ["even.csv"]


def test_a_download_needs_a_folder(monkeypatch):
    monkeypatch.delenv("GRAINWISE_TRACES", raising=False)
    said = grainwise("trace", "get", "azure_llm_2023_code")
    assert said.code == 2
    assert "--to FOLDER, or set GRAINWISE_TRACES" in said.err


def test_bars_of_a_plot_reach_from_nothing_to_the_top():
    assert plot([0.0, 0.001, 1.0, 2.0], 2) == ["   █", " ▁██"]
    assert plot([0.0], 1) == [" "]
    assert [render_span(seconds) for seconds in (1.5, 300, 7200, 864_000)] == ["1.5 s", "5 min", "2 h", "10 days"]
