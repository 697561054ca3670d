"""The page of a plan table in a real browser: every figure is drawn, without an error and without asking a network."""

from pathlib import Path

import msgspec

from grainwise.reports.frontier import frontier
from grainwise.reports.plan_page import plan_page
from grainwise.reports.stairs import stairs_of
from grainwise.simulation.planners import plan
from worlds.browser import DRAWN, INLINE, browser
from worlds.problems import chain_graph, problem_of, spec_of, stage_model


def test_the_page_of_a_plan_is_drawn_without_an_error_or_a_request(tmp_path: Path) -> None:
    door, executable = browser()
    made = problem_of(spec_of(chain_graph(3), slo_ms=60.0), tuple(stage_model() for _ in range(3)), rate_per_s=8.0)
    problem = msgspec.structs.replace(made, evaluator="rollout", is_stagewise=True, objective="billed")
    table = plan(problem)
    path = tmp_path / "plan.html"
    stairs = stairs_of(problem, table.winner.plan)
    path.write_text(plan_page(frontier(problem, table), stairs, 60.0, ["why: a < b </script>"], {}), encoding="utf-8")
    told: list[str] = []
    asked: list[str] = []
    with door() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        try:
            tab = opened.new_page(viewport={"width": 1300, "height": 900})
            tab.on("console", lambda message: told.append(f"{message.type}: {message.text}"))
            tab.on("pageerror", lambda error: told.append(str(error)))
            tab.on("request", lambda request: asked.append(request.url))
            tab.goto(path.as_uri(), wait_until="load")
            tab.wait_for_function(DRAWN)
            figures = tab.locator(".figure").count()
            text = tab.inner_text("body")
            wider = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        finally:
            opened.close()
    assert told == []
    assert [url for url in asked if not url.startswith(INLINE)] == []
    assert figures == 3
    assert "why: a < b </script>" in text
    assert wider <= 0
