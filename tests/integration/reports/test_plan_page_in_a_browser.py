"""The page of a plan table in a real browser: every figure is drawn, without an error and without asking a network."""

from pathlib import Path

import msgspec

from grainwise.reports.frontier import frontier
from grainwise.reports.plan_page import plan_page
from grainwise.reports.stairs import stairs_of
from grainwise.simulation.planners import plan
from worlds.browser import browser, drawn
from worlds.problems import chain_graph, problem_of, spec_of, stage_model


def test_the_page_of_a_plan_is_drawn_without_an_error_or_a_request(tmp_path: Path) -> None:
    door, executable = browser()
    made = problem_of(spec_of(chain_graph(3), slo_ms=60.0), tuple(stage_model() for _ in range(3)), rate_per_s=8.0)
    problem = msgspec.structs.replace(made, evaluator="rollout", is_stagewise=True, objective="billed")
    table = plan(problem)
    path = tmp_path / "plan.html"
    stairs = stairs_of(problem, table.winner.plan)
    path.write_text(plan_page(frontier(problem, table), stairs, 60.0, ["why: a < b </script>"], {}), encoding="utf-8")
    with drawn(path, door, executable) as tab:
        figures = tab.locator(".figure").count()
        text = tab.inner_text("body")
        wider = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert figures == 3
    assert "why: a < b </script>" in text
    assert wider <= 0
