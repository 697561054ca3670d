"""``grainwise predictor``: trained from scratch, compared with the others, and what it refuses."""

import msgspec
import pytest
from command_line import chain_app, grainwise

from grainwise.cli.predictor_contest import parse_wrong
from grainwise.cli.profiles import save_profile
from grainwise.domain.errors import ConfigurationError
from grainwise.predictors.predictor_file import read
from grainwise.runtimes.loading import load_app
from grainwise.simulation.sweep import read_swept
from live.serving_harness import made_profile

SOURCE = """
from grainwise import App, Batch, Slo

app = App("pair", slo=Slo(latency_ms=200))


@app.stage(max_batch=2)
def one(values: Batch[int]) -> Batch[int]:
    return [value + 1 for value in values]


@app.stage(max_batch=2)
def two(values: Batch[int]) -> Batch[int]:
    return [value * 2 for value in values]


@app.flow
def flow(value: int) -> int:
    return two(one(value))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An app of two stages, a predictor for it alone, and what the command said."""
    folder = tmp_path_factory.mktemp("predictor")
    app = chain_app(folder, SOURCE)
    spec = load_app(app).spec(app.read_bytes())
    save_profile(made_profile(spec, stage_us=20_000.0), app.with_suffix(".profile.json"))
    out, kept = folder / "pair.predictor.json", folder / "sweep.json"
    said = grainwise(
        "predictor", "train", app, "--settings", 10, "--requests", 20, "--only", "--out", out, "--keep", kept,
        "--processes", 1, "--json",
    )  # fmt: skip
    assert said.code == 0, said.err
    return app, out, kept, said


def test_training_says_what_it_was_made_of(trained):
    _, out, kept, said = trained
    predictor = read(out.read_bytes())
    assert not predictor.is_general
    assert [each.source for each in predictor.trained_on] == ["pair"]
    assert predictor.trained_on[0].profile_digest
    assert said.json["settings"] == predictor.settings <= 10
    assert said.json["rows"] == predictor.rows == sum(len(cells) for cells in read_swept(kept.read_bytes()).cells)
    assert said.json["held_out"] == predictor.held_out
    assert said.json["bytes"] == len(out.read_bytes())


def test_what_was_kept_trains_the_same_predictor(trained, tmp_path):
    _, out, kept, _ = trained
    again = tmp_path / "again.json"
    said = grainwise("predictor", "train", "--kept", kept, "--out", again)
    assert said.code == 0, said.err
    assert again.read_bytes() == out.read_bytes()
    assert "attainment" in said.out


def test_the_comparison_names_every_entrant_and_writes_what_it_prints(trained, tmp_path):
    app, out, _, _ = trained
    report = tmp_path / "report.md"
    said = grainwise(
        "predictor", "evaluate", app, "--settings", 1, "--requests", 20, "--only", "--wrong", "20", "--predictor", out,
        "--out", report, "--processes", 1, "--json",
    )  # fmt: skip
    assert said.code == 0, said.err
    found = said.json
    assert len(found["rounds"]) + found["left_out"] == 1
    entrants = {each["entrant"] for each in found["standings"] + found["standings_saturated"]}
    assert entrants == {"analytic", "learned", "rollout", "other runs", "constant", "fused", "split"}
    text = report.read_text()
    assert text.startswith("# Evaluators on held-out settings")
    assert "| ±20 % | rollout |" in text
    assert str(out) in text


def test_a_predictor_of_another_app_is_refused(trained, tmp_path):
    _, out, _, _ = trained
    said = grainwise("predictor", "evaluate", "--settings", 1, "--requests", 20, "--predictor", out, "--processes", 1)
    assert said.code == 4
    assert "Field `trained_on`" in said.err
    assert "'pair'" in said.err
    raw = msgspec.json.decode(out.read_bytes())
    raw["schema"] = 0
    other = tmp_path / "other.json"
    other.write_bytes(msgspec.json.encode(raw))
    said = grainwise("predictor", "evaluate", "--predictor", other)
    assert said.code == 4
    assert "Field `schema`" in said.err


@pytest.mark.parametrize("text", ["", "a", "0,-1", "91", "10,,20", "nan"])
def test_wrong_percentages_are_refused(text):
    with pytest.raises(ConfigurationError, match="--wrong"):
        parse_wrong(text)


def test_percentages_become_fractions():
    assert parse_wrong("0,10,20,10") == (0.0, 0.1, 0.2)


def test_options_that_cannot_be_used_are_refused_before_anything_runs(tmp_path):
    nowhere = tmp_path / "none" / "p.json"
    assert "--out" in grainwise("predictor", "train", "--out", nowhere).err
    assert "--keep" in grainwise("predictor", "train", "--out", tmp_path / "p.json", "--keep", nowhere).err
    assert "cannot be read" in grainwise("predictor", "train", "--out", tmp_path / "p.json", "--kept", nowhere).err
    assert "no app to draw settings of" in grainwise("predictor", "train", "--only", "--out", tmp_path / "p.json").err
    assert "cannot be read" in grainwise("predictor", "evaluate", "--predictor", nowhere).err
