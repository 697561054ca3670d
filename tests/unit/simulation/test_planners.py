"""The one planner that every door injects."""

import msgspec
import pytest

from grainwise.domain.errors import ConfigurationError
from grainwise.planning.judged import compute_judged
from grainwise.simulation.planners import plan
from worlds.problems import chain_graph, problem_of, spec_of, stage_model


def test_the_analytic_planner_answers_as_the_search_with_judgements() -> None:
    problem = problem_of(spec_of(chain_graph(2)), (stage_model(), stage_model()))
    assert plan(problem) == compute_judged(problem)
    assert plan(problem).winner.judged is not None


def test_an_evaluator_that_is_unknown_is_an_error_with_a_way_out() -> None:
    problem = problem_of(spec_of(chain_graph(2)), (stage_model(), stage_model()))
    with pytest.raises(ConfigurationError, match="use one of analytic"):
        plan(msgspec.structs.replace(problem, evaluator="guess"))
