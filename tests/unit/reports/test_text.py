import io

import msgspec
from rich.console import Console, RenderableType

from grainwise.reports.text import render_comparison, render_result
from grainwise.telemetry.compare import Replicated, compare
from grainwise.telemetry.result import RunResult, TenantResult
from grainwise.telemetry.run_recorder import RunRecorder

EVIL = "</script><script>alert(1)</script><b>&[red]"


def shown(renderable: RenderableType, width: int = 200) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_first_line_says_what_kind_of_run_it_is_and_on_what(runs: tuple[RunResult, ...]) -> None:
    lines = shown(render_result(runs[0]))
    assert lines[0].strip() == "simulated on the virtual world"
    said = "\n".join(lines)
    for word in ("attainment", "p50 / p95 / p99", "provisioned", "queue", "hop", "utilisation", EVIL, "re-granulated at"):
        assert word in said


def test_tables_of_functions_fit_into_80_columns_without_a_break_in_a_word(runs: tuple[RunResult, ...]) -> None:
    said = "\n".join(shown(render_result(runs[2]), 80))
    for word in ("runs", "cold start", "service", "most", "utilisation", "billed", "provisioned", "plus_one#2"):
        assert f" {word} " in said


def test_tenants_are_a_row_each_over_all_apps(runs: tuple[RunResult, ...]) -> None:
    one, two = (
        msgspec.structs.replace(app, tenants=(TenantResult("shops", 100, 90, 80, share, app.latency),))
        for app, share in zip(runs[0].apps, (0.8, 0.7), strict=True)
    )
    lines = [line for line in shown(render_result(msgspec.structs.replace(runs[0], apps=(one, two)))) if "tenant shops" in line]
    assert len(lines) == 1
    assert "80.00 % of 100" in lines[0]
    assert "70.00 % of 100" in lines[0]


def test_the_wait_for_the_last_answers_is_told(runs: tuple[RunResult, ...]) -> None:
    longer = msgspec.structs.replace(runs[0], duration_s=20.0, offered_s=15.0)
    assert "20 s measured (requests came for 15 s) after" in "\n".join(shown(render_result(longer)))
    assert "requests came" not in "\n".join(shown(render_result(msgspec.structs.replace(longer, offered_s=20.0))))


def test_a_comparison_shows_intervals_and_what_is_resolved(runs: tuple[RunResult, ...]) -> None:
    lines = shown(render_comparison(compare([Replicated("slack", runs[:2]), Replicated("plain", runs[2:])])))
    assert lines[0].strip() == "simulated on the virtual world"
    said = "\n".join(lines)
    assert " ± " in said
    assert "plain − slack" in said
    assert "(differs)" in said
    assert EVIL in said


def test_settings_that_do_the_same_are_said_to_be_the_same(runs: tuple[RunResult, ...]) -> None:
    said = "\n".join(shown(render_comparison(compare([Replicated("one", runs[:2]), Replicated("two", runs[:2])]))))
    assert "same" in said
    assert "resolved)" not in said
    assert "p50 (ms)" in said


def test_an_empty_run_is_rendered() -> None:
    assert shown(render_result(RunRecorder("measured").result()))[0].strip() == "measured on hardware that was not named"
