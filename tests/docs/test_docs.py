"""What the documents show runs: apps in them are declared rightly, and assertions in them hold."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from grainwise.cli.main import cli
from grainwise.runtimes.loading import load_app

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
APP_PAGES = [page for page in PAGES if re.search(r"^app = App\(", page.read_text(), re.MULTILINE)]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


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


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_that_a_page_shows_exists_with_its_options(page: Path) -> None:
    from typer.main import get_command

    commands = get_command(cli).commands  # type: ignore[attr-defined]
    for block in blocks(page, ""):
        for line in block.splitlines():
            found = re.match(r"(?:\S*/)?grainwise (.*)", line)
            if found is None or found[1].startswith("-"):
                continue
            words = shlex.split(found[1], comments=True)
            assert words[0] in commands, line
            known = {option for parameter in commands[words[0]].params for option in parameter.opts} | {"--help"}
            assert {word for word in words[1:] if word.startswith("--")} <= known, line


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
