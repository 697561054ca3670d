"""The one way in which commands ask for a plan: from a declaration and a profile to the problem for the one planner."""

from msgspec import Struct

from grainwise.domain.app import AppSpec
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import NOMINAL_PRICES, Capabilities, HopModel, Node, Prices
from grainwise.domain.plan import Grain, Objective
from grainwise.planning.problem import Problem
from grainwise.policies.sets import policy_set
from grainwise.predictors.fit import hop_model, latency_model, workload_of
from grainwise.profiles.artifact import Profile
from grainwise.simulation.learning import evaluator_for


class Machines(Struct, frozen=True):
    """What a plan is for: the nodes, what their platform can do, its prices; ``hop`` where it is not that of the profile."""

    nodes: tuple[Node, ...]
    capabilities: Capabilities
    prices: Prices = NOMINAL_PRICES
    hop: HopModel | None = None


def problem_of(
    spec: AppSpec,
    measured: Profile,
    machines: Machines,
    *,
    rate_per_s: float,
    objective: Objective = "provisioned",
    grain: Grain | None = None,
    config: AppConfig | None = None,
) -> Problem:
    """The planning problem of an app before anything runs.

    Args:
        spec: the app, under the SLO that is asked for.
        measured: its profile.
        machines: where it is to run.
        rate_per_s: the forecast.
        objective: which cost to minimise.
        grain: a granularity that is forced.
        config: how the app will be controlled, by default as ``AppConfig`` says: its policies and its evaluator.

    Raises:
        ConfigurationError: there is no policy set of that name.
    """
    config = config if config is not None else AppConfig()
    return Problem(
        number=0,
        app=spec,
        model=latency_model(measured, spec),
        hop=machines.hop if machines.hop is not None else hop_model(measured),
        workload=workload_of(measured, rate_per_s),
        nodes=machines.nodes,
        capabilities=machines.capabilities,
        prices=machines.prices,
        objective=objective,
        grain=grain,
        evaluator=config.evaluator,
        policies=config.policies,
        is_stagewise=policy_set(config.policies).extent is not None,
    )


def refuse_untrained(problem: Problem) -> None:
    """Refuse an evaluator that could not answer, before anything starts.

    Raises:
        ArtifactError: the learned one has no predictor, or one for another app or of another version.
        ConfigurationError: its predictor cannot be read.
        PlatformError: it needs a library that is not installed.
    """
    if problem.evaluator == "learned":
        evaluator_for(problem)
