"""Figures of the study in README and docs: each stands between marks, as the committed results have it."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from reproduce.granularity.records import write_results

from worlds.study import study

ROOT = Path(__file__).parents[3]
TOOL = SimpleNamespace(**runpy.run_path(str(ROOT / "tools" / "figures.py")))
BEGIN, END = "<!-- figure: ", "<!-- /figure -->"


def quote(key: str, value: str) -> str:
    return f"{BEGIN}{key} -->{value}{END}"


def test_every_quoted_figure_is_that_of_the_committed_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert TOOL.main(["--check"]) == 0, capsys.readouterr().out


def test_a_figure_that_differs_is_told_and_written() -> None:
    text = f"One\n{quote('laptop.cells', '7')} and {quote('laptop.runs', '8')}\n"
    known = {"laptop.cells": "5", "laptop.runs": "8"}
    (told,) = TOOL.complaints("README.md", text, known)
    assert "README.md:2: laptop.cells is quoted as '7', the result has '5'" in told
    new = TOOL.written(text, known)
    assert TOOL.complaints("README.md", new, known) == []
    assert new == text.replace("-->7<", "-->5<")


def test_a_figure_that_no_result_has_is_told_and_kept() -> None:
    text = quote("paper.cells", "7")
    assert "no result has a figure paper.cells" in TOOL.complaints("x", text, {})[0]
    assert TOOL.written(text, {}) == text


def test_a_mark_that_is_never_closed_is_told() -> None:
    text = f"{BEGIN}laptop.cells -->5 and\n{quote('laptop.cells', '5')}"
    (told,) = TOOL.complaints("x", text, {"laptop.cells": "5"})
    assert told.startswith("x:1: a quoted figure must be")


def test_figures_come_from_results_as_their_tables_say_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = write_results(study(), tmp_path / "smoke.json")
    known = TOOL.known(tmp_path)
    assert known["smoke.cells"] == "72"
    assert known["smoke.fraction"] == "10.00%"
    assert known["smoke.verdict.no_single_granularity_wins_in_every_cell"] == "met"
    assert known["smoke.capacity_over_split.mean"] == "1.20x"
    assert known["smoke.beside.fused.points"].endswith(" points")
    assert "hop" in known["smoke.beside.fused.points.most.where"]
    assert TOOL.main(["--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{key} {value}" for key, value in known.items()]
    written.rename(tmp_path / f"laptop{written.name.removeprefix('smoke')}")
    assert TOOL.known(tmp_path, {"smoke"}) == {}
    assert all(key.startswith("laptop.") for key in TOOL.known(tmp_path, {"laptop"}))
