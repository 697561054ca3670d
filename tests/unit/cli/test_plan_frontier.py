"""``grainwise plan`` shows the frontier: in words, as a picture of characters, as JSON and as a page."""

import sys

import msgspec
import pytest
from command_line import CHAIN, ROOT, chain_app, grainwise, profile_of

from grainwise.cli.plan_command import PlanOutput
from grainwise.simulation import learning


def planned(folder, *options, source=CHAIN):
    app = chain_app(folder, source)
    return grainwise("plan", app, "--profile", profile_of(app, folder), *options)


def test_the_frontier_is_printed_below_the_table_with_a_picture_capacities_and_what_dispatch_runs_first(tmp_path):
    said = planned(tmp_path, "--rate", 5)
    assert said.code == 0, said.err
    for words in (
        "frontier of provisioned cost and attainment",
        "max/s at 99%",
        "✔● ABCD",
        "bound: no plan that meets the SLO by additive times costs less than $",
        "attainment over cost (┊ the bound):",
        "provisioned cost, USD per hour",
        "capacity, requests/s at 99% attainment (predicted):",
        "████",
        "ms left a request is late",
    ):
        assert words in said.words, words


def test_json_carries_the_frontier_and_the_staircase(tmp_path):
    said = planned(tmp_path, "--rate", 5, "--objective", "billed", "--json")
    output = msgspec.json.decode(said.out, type=PlanOutput)
    assert output.frontier is not None
    assert len(output.frontier.points) == len(output.table.options) == 8
    assert output.frontier.objective == "billed"
    assert output.frontier.bound_usd_per_hour == output.table.bound_usd_per_hour > 0
    (stair,) = output.stairs
    assert stair.head == "one" and stair.extents and stair.treads


def test_where_policies_fix_the_extents_there_is_no_staircase(tmp_path):
    said = planned(tmp_path, "--policy", "fixed", "--json")
    assert said.code == 0, said.err
    assert msgspec.json.decode(said.out, type=PlanOutput).stairs == ()


@pytest.mark.parametrize("evaluator", ["rollout", "learned"])
def test_what_an_evaluator_judged_stands_beside_what_was_predicted(tmp_path, evaluator):
    said = planned(tmp_path, "--rate", 5, "--evaluator", evaluator)
    assert said.code == 0, said.err
    assert f"by {evaluator}, of" in said.words
    assert f"attain by {evaluator}" in said.words
    assert f"attainment over cost, by {evaluator}" in said.words


def test_a_page_is_written_and_its_names_are_escaped(tmp_path):
    page = tmp_path / "plan.html"
    said = planned(tmp_path, "--rate", 5, "--evaluator", "rollout", "--html", page)
    assert said.code == 0, said.err
    text = page.read_text()
    assert text.count('class="figure"') == 3
    assert "Every granularity" in text and "attainment by rollout" in text
    assert f"page: {page}" in said.words


@pytest.mark.parametrize("app", ["vision/image_classification"])
def test_an_example_is_planned_with_the_profile_that_ships_beside_it(app):
    said = grainwise("plan", ROOT / "examples" / f"{app}.py")
    assert said.code == 0, said.err
    assert "frontier of provisioned cost" in said.words


@pytest.mark.parametrize("latency", [0.001, 1])
def test_an_slo_below_the_fastest_possible_has_a_stated_answer_and_a_picture(tmp_path, latency):
    said = planned(tmp_path, "--slo-ms", latency)
    assert said.code == 0, said.err
    for words in ("nothing meets the SLO; nearest:", "nearest feasible SLO", "≈●", "frontier of"):
        assert words in said.words, words


def test_a_target_of_all_requests_says_what_is_made_of_it(tmp_path):
    said = planned(tmp_path, source=CHAIN.replace("latency_ms=200", "latency_ms=200, target=1.0"))
    assert said.code == 0, said.err
    assert "a target of 100% is taken as every one of" in said.words


@pytest.mark.parametrize("target", ["0", "0.0", "1.5", "float('nan')"])
def test_a_target_that_is_none_is_refused_where_it_is_declared(tmp_path, target):
    app = chain_app(tmp_path, CHAIN.replace("latency_ms=200", f"latency_ms=200, target={target}"))
    said = grainwise("plan", app)
    assert said.code == 3
    assert "target in (0, 1]" in said.words and "Traceback" not in said.err


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--evaluator", "oracle"), "rollout"),
        (("--policy", "nosuch"), "residency"),
        (("--html", "/nowhere/plan.html"), "/nowhere"),
    ],
)
def test_what_is_no_option_is_refused_with_those_there_are(tmp_path, options, word):
    said = planned(tmp_path, *options)
    assert said.code == 2
    assert word in said.words and said.out == ""


def test_without_plotly_a_page_is_refused_before_anything_is_planned(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    said = planned(tmp_path, "--html", tmp_path / "plan.html")
    assert said.code == 7
    assert "grainwise[report]" in said.words and said.out == ""


def test_a_predictor_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv(learning.OVERRIDE, str(tmp_path / "none.json"))
    said = planned(tmp_path, "--evaluator", "learned")
    assert said.code == 2
    assert "grainwise predictor train" in said.words and said.out == ""


@pytest.fixture
def without_lightgbm(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    learning.load.cache_clear()
    yield
    learning.load.cache_clear()


@pytest.mark.usefixtures("without_lightgbm")
@pytest.mark.parametrize("command", ["plan", "serve", "simulate"])
def test_without_its_library_the_learned_evaluator_is_refused_before_anything_starts(tmp_path, command):
    app = chain_app(tmp_path)
    profile = profile_of(app, tmp_path)
    said = grainwise(command, app, "--evaluator", "learned", "--profile", profile)
    assert said.code == 7, said.words
    assert "grainwise[learned]" in said.words and said.out == ""
    assert not (tmp_path / ".grainwise").exists()
