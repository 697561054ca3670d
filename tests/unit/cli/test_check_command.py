"""``grainwise check``, and what all commands have in common."""

import pytest
from command_line import OCR_APP, ROOT, TEXT_APP, chain_app, grainwise

from grainwise.cli.errors import EXIT_CODES, exit_code
from grainwise.cli.main import cli
from grainwise.domain import errors

COMMANDS = sorted(command.callback.__name__ for command in cli.registered_commands)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_holds_an_example_and_exits_with_0(command):
    said = grainwise(*command.split(), "--help")
    assert said.code == 0
    assert "Example: grainwise" in said.words


def test_there_are_the_promised_commands():
    serving = ["check", "demo", "load", "plan", "profile", "regranulate", "serve"]
    studying = ["calibrate", "compare", "observe", "policies", "replay", "report", "simulate"]
    assert sorted(COMMANDS) == sorted(serving + studying)


def test_an_unknown_command_and_an_unknown_option_exit_with_2():
    assert grainwise("bake").code == 2
    assert grainwise("check", TEXT_APP, "--hard").code == 2
    assert grainwise("check").code == 2


def test_every_kind_of_error_has_an_exit_code_of_its_own():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {exit_code(kind("why")) for kind in kinds}
    assert len(codes) == len(kinds) == len(EXIT_CODES)
    assert 0 not in codes


@pytest.mark.parametrize("app", [TEXT_APP, OCR_APP, OCR_APP.with_name("app_accurate.py")])
def test_an_example_passes(app):
    said = grainwise("check", app)
    assert said.code == 0, said.err
    assert "granularities" in said.out


def test_annotations_are_shown_as_they_were_written():
    said = grainwise("check", TEXT_APP)
    assert "list[str]" in said.out
    assert "each of split" in said.out


def test_the_declaration_as_json():
    said = grainwise("check", TEXT_APP, "--json")
    assert said.code == 0
    assert [node["name"] for node in said.json["graph"]["stages"]] == ["split", "clean", "count", "join"]


def test_there_is_no_such_file(tmp_path):
    said = grainwise("check", tmp_path / "nothing.py")
    assert said.code == 2
    assert str(tmp_path / "nothing.py") in said.words
    assert said.out == ""


def test_a_folder_is_no_app_file(tmp_path):
    assert grainwise("check", tmp_path).code == 2


def test_a_syntax_error_is_said_with_its_line(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("x = 1\n\ndef f(:\n    pass\n")
    said = grainwise("check", path)
    assert said.code == 3
    assert f"{path}:3" in said.err
    assert "Traceback" not in said.err


def test_an_error_at_import_is_said_with_its_line(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import os\n\nos.nothing_such\n")
    said = grainwise("check", path)
    assert said.code == 3
    assert f"{path}:3" in said.err
    assert "nothing_such" in said.err


def test_a_file_without_an_app_says_what_to_write(tmp_path):
    path = tmp_path / "empty.py"
    path.write_text("")
    said = grainwise("check", path)
    assert said.code == 3
    assert "App(" in said.err


def test_a_value_that_may_not_cross_an_edge_is_named_with_its_type(tmp_path):
    path = chain_app(tmp_path)
    path.write_text(
        path.read_text().replace("def two(values: Batch[int]) -> Batch[int]", "def two(values: Batch[int]) -> Batch[set[int]]")
    )
    said = grainwise("check", path)
    assert said.code == 3
    assert "set[int]" in said.err
    assert "two" in said.err


def test_the_module_is_a_program():
    import subprocess
    import sys

    result = subprocess.run(
        [sys.executable, "-m", "grainwise", "check", "examples/text/app.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "4 stages" in result.stdout
    assert result.stderr == ""
