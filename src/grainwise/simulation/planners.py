"""The one planner: every door injects ``plan``, and a planner process imports it by name. The problem says who judges.

It lives here because a rollout runs the controller in virtual time, which planning must not know. The runs of a rollout plan
by the search alone (``planning.table.compute``), whatever their problems name: they never roll out again.
"""

from collections.abc import Callable, Mapping

from grainwise.domain.config import AppConfig
from grainwise.domain.errors import ConfigurationError
from grainwise.planning.dispatched import served_ways
from grainwise.planning.judged import compute_judged
from grainwise.planning.problem import PlanTable, Problem
from grainwise.policies.sets import policy_set
from grainwise.predictors.analytic import Analytic
from grainwise.predictors.evaluator import PlanEvaluator
from grainwise.simulation.learning import evaluator_for
from grainwise.simulation.rollout import Rollout


def _analytic(problem: Problem) -> PlanEvaluator:
    return Analytic(served=served_ways if problem.is_stagewise else None)


def _rollout(problem: Problem) -> PlanEvaluator:
    return Rollout(config=AppConfig(policies=problem.policies))


_EVALUATORS: Mapping[str, Callable[[Problem], PlanEvaluator]] = {
    "analytic": _analytic,
    "learned": evaluator_for,
    "rollout": _rollout,
}


def plan(problem: Problem) -> PlanTable:
    """Answer a planning problem as its policy set configures apps: without a way of its own, with the evaluator that it names.

    Raises:
        InfeasibleError: no plan fits the nodes at all.
        ConfigurationError: a value outside its range, or an evaluator of no known name.
        ArtifactError: the learned evaluator has no predictor, or one for another app or of another version.
        PlatformError: the learned evaluator needs a library that is not installed.
    """
    configure = policy_set(problem.policies).configure
    if configure is not None:
        return configure(problem)
    choose = _EVALUATORS.get(problem.evaluator)
    if choose is None:
        raise ConfigurationError(
            f"the evaluator {problem.evaluator!r} of {problem.app.name} is unknown here: use one of {', '.join(_EVALUATORS)}"
        )
    return compute_judged(problem, choose(problem))
