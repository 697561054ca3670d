"""The page of several runs in a real browser: drawn without an error, and without asking any network for anything."""

from pathlib import Path

from grainwise.reports.page import page
from grainwise.telemetry.compare import Replicated, compare
from grainwise.telemetry.result import RunResult
from worlds.apps import chain
from worlds.browser import browser, drawn
from worlds.runs import lively

INK = "[getComputedStyle(document.body).color, getComputedStyle(document.querySelector('.figure .xtick text')).fill]"


def runs() -> list[RunResult]:
    app = chain(slo_ms=60)
    split = tuple((name,) for name in ("plus_one", "double", "negate", "plus_one#2"))
    pairs = (("plus_one", "double"), ("negate", "plus_one#2"))
    return [
        lively(app, grains=(split,), regrain=regrain, seed=seed, requests=80, policy=policy, note="</script><b>")
        for policy, regrain in (("slack", pairs), ("plain", None))
        for seed in (1, 2)
    ]


def test_the_page_is_drawn_without_an_error_or_a_request_and_follows_light_and_dark(tmp_path: Path) -> None:
    door, executable = browser()
    made = runs()
    path = tmp_path / "page.html"
    comparison = compare([Replicated("slack </script>", tuple(made[:2])), Replicated("plain", tuple(made[2:]))])
    path.write_text(page((made[0], made[2]), comparison, "Two policies <b>"), encoding="utf-8")
    with drawn(path, door, executable, color_scheme="light") as tab:
        figures = tab.locator(".figure").count()
        text = tab.inner_text("body")
        title = tab.title()
        inks = tab.evaluate(INK)
        tab.emulate_media(color_scheme="dark")
        tab.wait_for_function(f"({INK}).every(ink => ink === 'rgb(230, 233, 238)')")
        wider = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    # Five figures for the app, and the instances of two runs.
    assert figures == 7
    assert title == "Two policies <b>"
    assert "slack </script>" in text
    assert wider <= 0
    assert inks == ["rgb(28, 35, 48)"] * 2
