"""What the documents show runs: apps in them are declared rightly, and assertions in them hold."""

import asyncio
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from grainwise.cli.main import cli
from grainwise.cli.profiles import save_profile
from grainwise.runtimes.loading import load_app
from live.serving_harness import made_profile, serve

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
APP_PAGES = [page for page in PAGES if re.search(r"^app = App\(", page.read_text(), re.MULTILINE)]

FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = ("", "console", "bash", "sh", "text")
# What `curl -d` says of a body when it is told nothing.
CURL = {"Content-Type": "application/x-www-form-urlencoded"}


def blocks(page: Path, *languages: str) -> list[str]:
    """What stands between fences of these languages; every fence is read, so that an end is never taken for a beginning."""
    return [content for language, content in FENCED.findall(page.read_text()) if language in languages]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", APP_PAGES, ids=name)
def test_an_app_that_a_page_shows_can_be_served_and_its_assertions_hold(page: Path, tmp_path: Path) -> None:
    shown = blocks(page, "python")
    first = next(index for index, block in enumerate(shown) if "app = App(" in block)
    path = tmp_path / "shown.py"
    path.write_text("\n\n".join(block for block in shown[first:] if "import tritonclient" not in block))
    runpy.run_path(str(path))
    assert load_app(path).graph.stages


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_of_python_is_python(page: Path) -> None:
    for block in blocks(page, "python"):
        source = "def inside():\n" + re.sub("^", "    ", block, flags=re.MULTILINE) if block.startswith("return") else block
        compile(source, name(page), "exec")


def shown_commands(page: Path) -> list[list[str]]:
    """The words after ``grainwise`` of every command in a block of a shell, with or without a prompt before it."""
    found: list[list[str]] = []
    for block in blocks(page, *SHELL):
        for line in block.splitlines():
            words = re.match(r"(?:\$ )?(?:\S*/)?grainwise (\S.*)", line)
            if words is not None:
                found.append(shlex.split(words[1], comments=True))
    return found


def test_the_commands_of_the_readme_are_found() -> None:
    assert {words[0] for words in shown_commands(ROOT / "README.md")} >= {"check", "profile", "plan", "serve", "load", "replay"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_that_a_page_shows_exists_with_its_options(page: Path) -> None:
    group = get_command(cli)
    assert isinstance(group, TyperGroup)
    for words in shown_commands(page):
        if words[0].startswith("-"):
            continue
        command = group.commands.get(words[0])
        assert command is not None, words
        # Parses as the real one does, without running it: options, their values, and how many arguments there are.
        command.make_context(words[0], [word for word in words[1:] if word != "--help"], parent=None)


def run(*words: object) -> str:
    """What a command prints, in a process of its own; it must succeed."""
    environment = os.environ | {"COLUMNS": "200", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-m", "grainwise", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_commands_that_change_nothing_run_as_shown(page: Path, tmp_path: Path) -> None:
    """``check`` and ``plan`` of the example, as README, tutorial and guides show them; the profile is made up."""
    pytest.importorskip("onnxruntime", reason="the pages show the OCR example, which needs its extra")
    safe = [words for words in shown_commands(page) if words[0] in ("check", "plan") and "examples/ocr/app.py" in words]
    if not safe:
        return
    path = ROOT / "examples" / "ocr" / "app.py"
    save_profile(made_profile(load_app(path).spec(path.read_bytes())), tmp_path / "profile.json")
    for words in safe:
        said = run(*words, *(["--profile", tmp_path / "profile.json"] if words[0] == "plan" else []))
        assert "recognise" in said


def test_the_first_app_does_what_its_tutorial_says(tmp_path: Path) -> None:
    """Its file is checked and served, its request gets the answer shown, its load and its change run, and its log replays."""
    page = ROOT / "docs" / "tutorial" / "first-app.md"
    path = tmp_path / "words.py"
    path.write_text(next(block for block in blocks(page, "python") if "app = App(" in block))
    commands = {words[0]: words for words in shown_commands(page)}
    assert "join" in run("check", path)
    sent = re.search(r"curl -d '(.*)' localhost:8000(/v1/apps/words)", page.read_text())
    assert sent is not None
    (answer,) = blocks(page, "json")

    async def main() -> None:
        async with serve(path, tmp_path, grain="fused") as live:
            url = live.serving.addresses.url
            async with live.session.post(url + sent[2], data=sent[1].encode(), headers=CURL) as response:
                assert await response.json() == json.loads(answer)
            load = [word.replace("http://127.0.0.1:8000", url) for word in commands["load"]]
            loading = asyncio.create_task(asyncio.to_thread(run, *load, "--seconds", "3", "--json"))
            regranulate = [*commands["regranulate"], "--admin", live.serving.addresses.admin]
            assert "requests run on: split | clean | join (plan " in await asyncio.to_thread(run, *regranulate)
            report = json.loads(await loading)
            assert report["offered"] == report["right"] > 0, report

    asyncio.run(asyncio.wait_for(main(), 60))


def test_the_index_of_decisions_names_every_record() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "index.md").read_text()
    for record in folder.glob("0*.md"):
        assert f"({record.name})" in index
        assert [line for line in record.read_text().splitlines() if line.startswith("## ")] == [
            "## Context",
            "## Decision",
            "## Consequences",
        ]


SIMULATED = ("simulate", "compare", "report", "replay")


def test_capacity_is_planned_as_its_guide_says(tmp_path: Path) -> None:
    """What takes seconds is run as shown, in order: one seed, one fixed granularity, and no server."""
    pytest.importorskip("onnxruntime", reason="the guide shows the OCR example, which needs its extra")
    pytest.importorskip("plotly", reason="the guide writes pages, which needs the report extra")
    guide = ROOT / "docs" / "how-to" / "plan-capacity.md"
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (described,) = blocks(guide, "yaml")
    (tmp_path / "two.yaml").write_text(described)
    shown = [words for words in shown_commands(guide) if words[0] in SIMULATED]
    slow = ("--replications", "monday.yaml", "trace:")
    quick = [words for words in shown if not any(each in word for word in words for each in slow)]
    assert {words[0] for words in quick} == set(SIMULATED)
    runner = CliRunner()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        for words in quick:
            if words[0] == "simulate":
                # What was shipped, whatever has been measured in this working copy.
                words = [*words, "--profile", str(ROOT / "examples" / "ocr" / "app.profile.json")]
            said = runner.invoke(cli, words)
            assert said.exit_code == 0, f"{words}: {said.output}"
    assert {path.name for path in tmp_path.iterdir()} >= {"laptop.html", "laptop.json", "two.json", "simulated.json"}
