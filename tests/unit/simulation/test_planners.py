"""The one planner that every door injects."""

from pathlib import Path

import msgspec
import pytest

from grainwise.domain.errors import ConfigurationError
from grainwise.planning.judged import compute_judged
from grainwise.simulation.learning import OVERRIDE
from grainwise.simulation.planners import plan
from worlds.problems import chain_graph, problem_of, spec_of, stage_model


def test_the_analytic_planner_answers_as_the_search_with_judgements() -> None:
    problem = problem_of(spec_of(chain_graph(2)), (stage_model(), stage_model()))
    assert plan(problem) == compute_judged(problem)
    assert plan(problem).winner.judged is not None


def test_an_evaluator_that_is_unknown_is_an_error_with_a_way_out() -> None:
    problem = problem_of(spec_of(chain_graph(2)), (stage_model(), stage_model()))
    with pytest.raises(ConfigurationError, match="use one of analytic, learned, rollout"):
        plan(msgspec.structs.replace(problem, evaluator="guess"))


def test_a_rollout_decides_and_says_so_with_figures() -> None:
    app = spec_of(chain_graph(2), slo_ms=300.0)
    problem = msgspec.structs.replace(problem_of(app, (stage_model(), stage_model()), rate_per_s=5.0), evaluator="rollout")
    table = plan(problem)
    assert table.evaluator == "rollout"
    assert table.winner.judged is not None
    assert table.because.startswith("by rollout, of 2 granularities judged, ")
    assert msgspec.msgpack.encode(plan(problem)) == msgspec.msgpack.encode(table)


def test_a_learned_model_that_is_not_there_is_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(OVERRIDE, str(tmp_path / "missing.json"))
    problem = problem_of(spec_of(chain_graph(2)), (stage_model(), stage_model()))
    with pytest.raises(ConfigurationError, match="grainwise predictor train"):
        plan(msgspec.structs.replace(problem, evaluator="learned"))
