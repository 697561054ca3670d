"""The one planner: every door injects ``plan``, and a planner process imports it by name. The problem says who judges.

It lives here because a rollout runs the controller in virtual time, which planning must not know. The runs of a rollout plan
by the search alone (``planning.table.compute``), whatever their problems name: they never roll out again.
"""

from collections.abc import Callable, Mapping

from grainwise.domain.errors import ConfigurationError
from grainwise.planning.judged import compute_judged
from grainwise.planning.problem import PlanTable, Problem
from grainwise.predictors.analytic import Analytic
from grainwise.predictors.evaluator import PlanEvaluator


def _analytic(problem: Problem) -> PlanEvaluator:
    return Analytic()


_EVALUATORS: Mapping[str, Callable[[Problem], PlanEvaluator]] = {"analytic": _analytic}


def plan(problem: Problem) -> PlanTable:
    """Answer a planning problem with the evaluator that it names.

    Raises:
        InfeasibleError: no plan fits the nodes at all.
        ConfigurationError: a value outside its range, or an evaluator that cannot be asked about this app.
    """
    choose = _EVALUATORS.get(problem.evaluator)
    if choose is None:
        raise ConfigurationError(
            f"the evaluator {problem.evaluator!r} of {problem.app.name} is unknown here: use one of {', '.join(_EVALUATORS)}"
        )
    return compute_judged(problem, choose(problem))
