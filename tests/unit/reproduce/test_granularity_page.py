import io
import json
from pathlib import Path

import msgspec
import pytest
from benchmarks.measuring import Check, Machine, Result
from benchmarks.measuring import Table as MeasuredTable
from reproduce.granularity.grid import Study
from reproduce.granularity.page import page, write_page
from reproduce.granularity.page_grains import grains_of
from reproduce.granularity.page_views import choices_of_frontier, dots, map_groups, squares
from reproduce.granularity.records import Change, Results
from reproduce.granularity.statistics import Comparison
from reproduce.granularity.tables import Column, StudyTable, as_html, shown
from reproduce.granularity.tables_all import show, study_tables
from reproduce.granularity.tables_axes import axis_results
from reproduce.granularity.tables_cells import shortened, why
from reproduce.granularity.tables_findings import Findings
from reproduce.granularity.tables_live import live_sentence, read_live
from rich.console import Console

from grainwise.domain.errors import ArtifactError
from worlds.browser import browser, drawn
from worlds.study import EVIL, study

RULE = Study("http", "provisioned", (1, 2), (3, 4, 5), 1, 0.6, 0.01, 0.01)
LIVE = Result(
    "live",
    "2026-01-02T03:04:05Z",
    Machine("Real CPU", 2, 8.0, "6.1", "3.11.7", "2.0", "0.21"),
    False,
    0.01,
    (MeasuredTable("vision within 600 ms (measured)", ("way", "in time"), (("adaptive", "99.0%"), ("fused", "97.0%"))),),
    (Check("vision, adaptive, beside the best fixed one", "+2.0 points", ">= -3 points", True),),
)


@pytest.fixture(scope="module")
def results() -> Results:
    return study(changes=(Change("2026-01-01", "first committed", "ab" * 32), Change("2026-01-02", "a wrong rate", "cd" * 32)))


@pytest.fixture(scope="module")
def findings(results: Results) -> Findings:
    return Findings(results, RULE)


@pytest.fixture(scope="module")
def tables(results: Results) -> dict[str, StudyTable]:
    return {table.key: table for table in study_tables(results, RULE, LIVE)}


@pytest.fixture(scope="module")
def small(results: Results) -> Results:
    """One app at one hop."""
    cells = tuple(cell for cell in results.cells if (cell.app, cell.hop) == ("vision", "http"))
    numbers = {cell.number for cell in cells}
    return msgspec.structs.replace(
        results, cells=cells, runs=tuple(run for run in results.runs if run.cell in numbers), capacities=()
    )


def column(table: StudyTable, title: str) -> list[object]:
    at = [each.title for each in table.columns].index(title)
    return [row[at] for row in table.rows]


def test_the_page_says_what_it_is(results: Results) -> None:
    text = page(results, RULE, LIVE)
    for said in (
        "Everything on this page is simulated", "2 cores of Imaginary CPU", "0123456789abcdef", "a wrong rate", "10.000%",
        "+29.2 %", "-24.6 %", "claim, not reproduced", "esg_configuration (after its paper, reconstructed)", "null result",
        "Winner map: vision", "Live targets (measured)", "Real CPU", "stationary table", "no_batching",
        "Levels of the hop", "object_store",
    ):  # fmt: skip
        assert said in text.replace("&#x27;", "'"), said


def test_a_page_is_the_same_every_time_and_says_where_nothing_was_measured(small: Results) -> None:
    text = page(small, RULE, None)
    assert text == page(small, RULE, None)
    assert text.count("Nothing has been measured live here") == 2


def test_a_change_of_the_grid_without_a_reason_is_on_the_page(small: Results) -> None:
    header = msgspec.structs.replace(small.header, grid_changed="the grid has another digest: it was changed without a reason")
    tables = {each.key: each for each in study_tables(msgspec.structs.replace(small, header=header), RULE, None)}
    assert tables["changes"].rows[-1][1] == header.grid_changed
    assert any(header.grid_changed in str(value) for _, value in tables["grid"].rows)


def test_names_stay_text(small: Results) -> None:
    cells = tuple(msgspec.structs.replace(cell, apps=(EVIL,), hop=EVIL) for cell in small.cells)
    runs = tuple(msgspec.structs.replace(run, way=run.way + EVIL) if run.group != "fixed" else run for run in small.runs)
    text = page(msgspec.structs.replace(small, cells=cells, runs=runs, capacities=study(name=EVIL).capacities[:8]), RULE, None)
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;[red]&amp;" in text


def test_a_study_without_a_figure_still_has_a_page(results: Results) -> None:
    empty = msgspec.structs.replace(results, runs=(), capacities=(), decisions=())
    text = page(empty, RULE, None)
    assert "Nothing of this is in the results" in text
    assert "No two cells of the results differ in SLO and load alone" in text


def test_the_page_opens_without_a_word_to_the_console(tmp_path: Path, small: Results) -> None:
    door, executable = browser()
    heavy = tuple(msgspec.structs.replace(cell, weights=12.0, number=cell.number + 1000) for cell in small.cells)
    runs = tuple(msgspec.structs.replace(run, cell=run.cell + 1000) for run in small.runs)
    both = msgspec.structs.replace(
        small, cells=(*small.cells, *heavy), runs=(*small.runs, *runs), capacities=study().capacities[:8]
    )  # fmt: skip
    with drawn(write_page(tmp_path / "page.html", both, RULE, LIVE), door, executable) as tab:
        # Every axis has a title, and the menu of the first map shows the other size of the models.
        titles = tab.locator(".xtitle, .ytitle, .annotation-text").all_text_contents()
        assert sum("(fraction of the base latency L)" in title for title in titles) >= 2
        assert "cost (USD per 1,000 offered requests)" in titles
        first = tab.locator(".figure").first
        first.locator(".updatemenu-header").click()
        first.locator(".updatemenu-dropdown-button", has_text="models x12").click()
        assert first.locator(".hm").count() == 2


def test_figures_are_those_of_the_runs(findings: Findings) -> None:
    assert map_groups(findings) == [("recalled-shape", app, "slices") for app in ("vision", "text", "mixed")]
    found = {
        (square.cell.hop, square.cell.slo_factor, square.cell.load): square
        for square in squares(findings, "recalled-shape", "vision", "slices")
        if square.cell.billing == "billed"
    }
    assert found["shared", 1.0, "light"].text == "1|2|3"
    assert found["http", 1.0, "light"].text.startswith("123")
    assert not found["http", 0.8, "busy"].is_usable
    assert "not usable" in found["http", 0.8, "busy"].hover
    assert len(dots(findings)) == len(findings.usable) == 66
    choices = choices_of_frontier(findings)
    assert {way.group for way in choices[0].ways} == {"fixed", "adaptive", "reconstructed", "configuration", "ablation"}


def test_granularities_are_written_in_digits(results: Results) -> None:
    grains = grains_of("recalled-shape", "vision", results.cells, results.runs)
    assert [grains.short(way) for way in ("fixed:a | b | c", "fixed:a+b | c", "adaptive")] == ["1|2|3", "12|3", "adaptive"]
    assert [grains.cut(way) for way in ("fixed:a | b | c", "fixed:a+b | c", "fixed:a+b+c")] == [1.0, 0.5, 0.0]
    mixed = grains_of("recalled-shape", "mixed", results.cells, results.runs)
    assert [mixed.short("fixed:partial"), mixed.cut("fixed:partial"), mixed.cut("fixed:split")] == ["partial", 0.5, 1.0]


def test_an_axis_along_which_nothing_changes_is_a_null_result(findings: Findings, tables: dict[str, StudyTable]) -> None:
    by_axis = {each.axis: each for each in axis_results(findings)}
    # Costs of both billings are in proportion, hops decide between split and fused, and there is one number of nodes.
    assert by_axis["billing"].is_null is True
    assert by_axis["hop"].is_null is False
    assert by_axis["nodes"].is_null is None
    said = dict(zip(column(tables["axes"], "axis"), column(tables["axes"], "result"), strict=True))
    assert said["billing"] == "null result: nothing changes along it"


def test_switches_are_charged_and_free(tables: dict[str, StudyTable]) -> None:
    table = tables["ablations"]
    assert column(table, "way") == ["adaptive itself", "residency", "no_batching", "fixed_oracle"]
    own = table.rows[0]
    # A twentieth of the provisioned cost, which half of the cells have.
    assert own[4] == pytest.approx(-0.0125, abs=0.001)
    assert column(table, "attainment against adaptive")[1] == pytest.approx(-1, abs=0.2)


def test_capacity_stands_beside_every_baseline(tables: dict[str, StudyTable]) -> None:
    row = tables["capacity"].rows[0]
    said = dict(zip((each.title for each in tables["capacity"].columns), row, strict=True))
    assert said["adaptive /s"] == pytest.approx(17.35)
    assert said["adaptive / split"] == pytest.approx(17.35 / 14.35)
    assert said["adaptive / best baseline"] == pytest.approx(17.35 / 16.35)


def test_it_says_by_what_a_cell_is_missed() -> None:
    def told(points: float, low: float, cost: float, high: float) -> str:
        return why(Comparison(0, "adaptive", "x", points, low, cost, high))

    assert told(-2, -3, 0, 0) == "attainment"
    assert told(-2, -3, 0.03, 0.04) == "attainment and cost"
    assert told(0, -2, 0, 0) == "the interval of attainment alone; its mean is within"


def test_tables_are_text_and_json(results: Results) -> None:
    console = Console(file=io.StringIO(), width=200)
    show(results, RULE, as_json=False, console=console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Verdicts" in text
    assert "Where adaptive is not within the tolerances" in text
    console = Console(file=io.StringIO(), width=80)
    show(results, RULE, as_json=True, console=console)
    found = json.loads(console.file.getvalue())  # type: ignore[attr-defined]
    assert found["header"]["size"] == "smoke"
    assert len(found["tables"]["cells"]["rows"]) == 72
    assert {len(row) for row in found["tables"]["cells"]["rows"]} == {len(found["tables"]["cells"]["columns"])}


def test_values_say_their_unit() -> None:
    assert [shown(1.234, "points"), shown(-0.0123, "change"), shown(0.5, "percent"), shown(1.2, "ratio")] == [
        "+1.23 points", "-1.23 %", "50.0 %", "1.20x",
    ]  # fmt: skip
    assert shown(None, "verdict") == "not told"
    assert [shown(None, "points"), shown(True, "verdict"), shown(False, "verdict"), shown(12345, "count")] == [
        "–", "met", "missed", "12,345",
    ]  # fmt: skip


def test_a_long_table_is_folded_and_says_what_is_left_out() -> None:
    table = StudyTable("x", "T", (Column("a", "count"),), tuple((at,) for at in range(100)))
    assert "<details><summary>60 rows" in as_html(shortened(table))
    assert "The first 60 of 100 rows" in as_html(shortened(table))


def test_what_was_measured_live_is_read_or_said_to_be_missing(tmp_path: Path) -> None:
    assert read_live(tmp_path / "live.json") is None
    assert "python -m benchmarks live" in live_sentence(None)
    path = tmp_path / "live.json"
    path.write_bytes(msgspec.json.encode(LIVE))
    assert read_live(path) == LIVE
    path.write_text("{}")
    with pytest.raises(ArtifactError, match=r"live\.json is no result of a benchmark"):
        read_live(path)
