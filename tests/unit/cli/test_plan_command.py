"""``grainwise plan`` and ``grainwise profile``'s refusals."""

import msgspec
import pytest
from command_line import CHAIN, TEXT_APP, chain_app, grainwise, profile_of

from grainwise.cli.plan_command import PlanOutput
from grainwise.cli.profiles import profile_path, read_profile, save_profile, unfinished_profile
from grainwise.domain.errors import ArtifactError
from grainwise.domain.plan import render_grain
from grainwise.runtimes.loading import load_app
from worlds.grains import legal_grains


def planned(app, folder, *options, **changes):
    return grainwise("plan", app, "--profile", profile_of(app, folder, **changes), *options)


def test_a_chain_of_four_has_eight_granularities(tmp_path):
    app = chain_app(tmp_path)
    said = planned(app, tmp_path, "--rate", 5, "--json")
    assert said.code == 0, said.err
    output = msgspec.json.decode(said.out, type=PlanOutput)
    found = {render_grain(option.plan.grain) for option in output.table.options}
    assert found == {render_grain(grain) for grain in legal_grains(load_app(app).graph)}
    assert len(output.table.options) == 8
    assert output.chosen == render_grain(output.table.winner.plan.grain)
    assert output.rate_per_s == 5
    assert output.table.is_feasible
    assert output.table.because


def test_every_granularity_of_the_text_app_is_there(tmp_path):
    said = planned(TEXT_APP, tmp_path, "--json")
    output = msgspec.json.decode(said.out, type=PlanOutput)
    graph = load_app(TEXT_APP).graph
    assert {option.plan.grain for option in output.table.options} == set(legal_grains(graph))


def test_the_table_says_what_won_and_why_and_where_it_was_measured(tmp_path):
    said = planned(chain_app(tmp_path), tmp_path, "--rate", 5, device_class="cpu:another:64")
    assert said.code == 0, said.err
    assert "8 granularities" in said.words
    assert "chosen: one+two+three+four" in said.words
    assert "why:" in said.words
    assert "cpu:another:64" in said.words
    assert "held-out error" in said.words
    assert "A one, B two, C three, D four" in said.words


def test_a_forced_granularity_is_the_only_one(tmp_path):
    said = planned(chain_app(tmp_path), tmp_path, "--grain", "one+two | three | four", "--json")
    output = msgspec.json.decode(said.out, type=PlanOutput)
    assert [render_grain(option.plan.grain) for option in output.table.options] == ["one+two | three | four"]


@pytest.mark.parametrize("grain", ["split", "fused"])
def test_fused_and_split_are_words(tmp_path, grain):
    said = planned(chain_app(tmp_path), tmp_path, "--grain", grain, "--json")
    assert said.code == 0
    assert (" | " in said.json["chosen"]) == (grain == "split")


def test_what_cannot_meet_the_slo_is_said_with_the_nearest_that_can(tmp_path):
    said = planned(chain_app(tmp_path), tmp_path, "--slo-ms", 1, "--rate", 5)
    assert said.code == 0
    assert "nothing meets the SLO" in said.words
    assert "nearest" in said.words
    as_json = planned(chain_app(tmp_path), tmp_path, "--slo-ms", 1, "--rate", 5, "--json").json
    assert as_json["table"]["is_feasible"] is False
    assert as_json["table"]["nearest"]
    assert as_json["slo"]["latency_ms"] == 1


def test_a_rate_beyond_the_machine_is_said_with_the_nearest_rate(tmp_path):
    said = planned(chain_app(tmp_path), tmp_path, "--rate", 100_000, "--cores", 2)
    assert "nothing meets the SLO" in said.words


@pytest.mark.parametrize(
    ("option", "value"),
    [("--rate", 0), ("--rate", -1), ("--rate", "nan"), ("--rate", "inf"), ("--slo-ms", 0), ("--slo-ms", "nan"), ("--cores", 0)],
)
def test_a_number_out_of_range_is_refused_by_name(tmp_path, option, value):
    said = planned(chain_app(tmp_path), tmp_path, option, value)
    assert said.code == 2
    assert option in said.err


@pytest.mark.parametrize(
    ("grain", "why"),
    [
        ("one+three | two | four", "one"),
        ("one+two | three", "four"),
        ("one+two+three+five", "five"),
        ("one+one | two | three | four", "twice"),
        ("", "''"),
    ],
)
def test_an_illegal_granularity_says_why(tmp_path, grain, why):
    said = planned(chain_app(tmp_path), tmp_path, "--grain", grain)
    assert said.code == 2, said.words
    assert "--grain" in said.err
    assert why in said.err


def test_a_profile_of_another_app_is_refused_by_field(tmp_path):
    other = profile_of(TEXT_APP, tmp_path)
    said = grainwise("plan", chain_app(tmp_path), "--profile", other)
    assert said.code == 4
    assert "`app`" in said.err
    assert "'text'" in said.err
    assert "'chain'" in said.err


def test_a_profile_of_an_earlier_version_of_the_file_is_refused_by_field(tmp_path):
    app = chain_app(tmp_path)
    made = profile_of(app, tmp_path)
    app.write_text(CHAIN + "\n# changed\n")
    said = grainwise("plan", app, "--profile", made)
    assert said.code == 4
    assert "source_digest" in said.err


def test_no_profile_says_how_to_make_one(tmp_path):
    app = chain_app(tmp_path)
    said = grainwise("plan", app)
    assert said.code == 4
    assert f"grainwise profile {app}" in said.words


def test_what_is_no_profile_is_refused(tmp_path):
    path = tmp_path / "profile.json"
    for content in ("", "{}", "[1, 2]", '{"schema": 99}', "\udcff".encode(errors="surrogateescape")):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        said = grainwise("plan", chain_app(tmp_path), "--profile", path)
        assert said.code == 4, content
        assert "Traceback" not in said.err


def test_a_machine_without_room_is_said(tmp_path):
    app = chain_app(tmp_path)
    made = read_profile(app, profile_of(app, tmp_path))
    huge = tuple(msgspec.structs.replace(stage, memory_mib=1e9) for stage in made.stages)
    path = tmp_path / "huge.json"
    save_profile(msgspec.structs.replace(made, stages=huge), path)
    said = grainwise("plan", app, "--profile", path)
    assert said.code == 5
    assert "MiB" in said.err


def test_an_input_that_cannot_be_read_is_named(tmp_path):
    said = grainwise("profile", chain_app(tmp_path), "--input", tmp_path / "no.png")
    assert said.code == 2
    assert "no.png" in said.err


def test_profiling_wants_an_app_file(tmp_path):
    assert grainwise("profile", tmp_path / "no.py").code == 2


def test_an_interrupted_profile_is_gone_on_with_on_the_same_machine_only(tmp_path):
    app = chain_app(tmp_path)
    path = profile_path(app)
    assert unfinished_profile(path) is None
    made = read_profile(app, profile_of(app, tmp_path))
    save_profile(made, path)
    assert unfinished_profile(path) is None
    save_profile(msgspec.structs.replace(made, is_complete=False), path)
    assert unfinished_profile(path) is not None
    save_profile(msgspec.structs.replace(made, is_complete=False, device_class="another"), path)
    assert unfinished_profile(path) is None
    path.write_bytes(b"nonsense")
    assert unfinished_profile(path) is None


def test_an_interrupted_profile_of_an_earlier_version_is_begun_anew(tmp_path, monkeypatch):
    app = chain_app(tmp_path)
    begun = msgspec.structs.replace(read_profile(app, profile_of(app, tmp_path)), is_complete=False)
    save_profile(begun, profile_path(app))
    seen = []

    async def profile(app_path, *, previous, save, **_):
        seen.append(previous)
        if previous is not None:
            raise ArtifactError("Field `source_digest` differs")
        return msgspec.structs.replace(begun, is_complete=True)

    monkeypatch.setattr("grainwise.profiler.run.profile", profile)
    assert grainwise("profile", app, "--budget", 1).code == 0
    assert seen == [begun, None]
    assert read_profile(app, None).is_complete
    assert grainwise("profile", app, "--budget", 1).code == 0
    assert seen == [begun, None, None]
