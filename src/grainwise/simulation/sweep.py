"""Sweeps: every candidate plan of a setting, simulated, beside what is known of it before anything runs."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from grainwise.domain.errors import ArtifactError, ConfigurationError
from grainwise.domain.plan import Plan, Prediction
from grainwise.domain.time import SECOND, Micros
from grainwise.planning.judged import in_question
from grainwise.planning.problem import Option, Problem
from grainwise.planning.table import compute
from grainwise.predictors.evaluate import CAPACITY_ATTAINMENT
from grainwise.predictors.features import FEATURES_VERSION, features
from grainwise.simulation.capacity import bisect_rate
from grainwise.simulation.run import Scenario
from grainwise.simulation.settings import Setting
from grainwise.simulation.trial import Trial, run_trial
from grainwise.workloads.integers import derive_seed
from grainwise.workloads.recorded import Recorded

_CAPACITY_RESOLUTION = 0.12
_SATURATED = 0.5
"""Where no candidate attains this much, a setting says how plans fail, not which is best."""


class Outcome(Struct, frozen=True):
    """What a simulated run came to: fraction of offered requests within the SLO, and both costs in USD per hour."""

    attainment: float
    billed_usd_per_hour: float
    provisioned_usd_per_hour: float

    def usd_per_hour(self, objective: str) -> float:
        """The cost that an objective asks for."""
        return self.billed_usd_per_hour if objective == "billed" else self.provisioned_usd_per_hour


class Cell(Struct, frozen=True):
    """One candidate of one setting. ``pattern`` is its granularity by the positions of stages, ``0+1 | 2``.

    ``capacity_per_s`` is ``None`` where it was not sought. ``outcome`` is the mean of ``runs``, where there were several.
    """

    setting: int
    source: str
    stages: int
    target: float
    objective: str
    pattern: str
    features: tuple[float, ...]
    predicted: Prediction
    outcome: Outcome
    capacity_per_s: float | None = None
    runs: tuple[Outcome, ...] = ()

    @property
    def usd_per_hour(self) -> float:
        """Simulated cost by the setting's objective."""
        return self.outcome.usd_per_hour(self.objective)

    @property
    def predicted_usd_per_hour(self) -> float:
        """Cost by the setting's objective in closed form."""
        return predicted_usd_per_hour(self.predicted, self.objective)


def predicted_usd_per_hour(predicted: Prediction, objective: str) -> float:
    """The cost that an objective asks for."""
    return predicted.billed_usd_per_hour if objective == "billed" else predicted.provisioned_usd_per_hour


def candidates(problem: Problem) -> tuple[Option, ...]:
    """The plans that an evaluator would be asked about, in the order of the search; fused and split are among them.

    Raises:
        InfeasibleError: no plan of any granularity fits the machines.
    """
    table = compute(problem)
    return tuple(table.options[place] for place in in_question(problem, table))


def pattern(problem: Problem, plan: Plan) -> str:
    """A granularity by the positions of stages, so that those of two apps with as many stages compare."""
    index = problem.app.graph.index_by_name
    return " | ".join("+".join(str(index[name]) for name in function.stages) for function in plan.functions)


def simulate(setting: Setting, plan: Plan, *, seed: int, duration_us: Micros, rate_per_s: float | None = None) -> Outcome:
    """One run of a setting under a plan; the same seed gives every plan the same arrivals and the same kinds of requests.

    Raises:
        CapacityError: the plan does not become ready on the machines.
    """
    scenario = Scenario(setting.cluster, (setting.app(plan),), duration_us, seed)
    trial = Trial(scenario, setting.traffic(duration_us, rate_per_s), "fixed", "simulated")
    result = run_trial(trial, _no_trace)
    app = result.app(setting.spec.name)
    hours = result.duration_s / 3600
    return Outcome(app.attainment, app.cost.billed_usd / hours, app.cost.provisioned_usd / hours)


def _no_trace(name: str, expected: str | None) -> Recorded:
    raise ConfigurationError(f"a setting draws its arrivals and has no trace {name}")


def capacity_per_s(setting: Setting, plan: Plan, first: float, *, seed: int, requests: int) -> float:
    """The highest rate at which a simulated run attains ``CAPACITY_ATTAINMENT``, within ``_CAPACITY_RESOLUTION``."""

    def attains(rate_per_s: float) -> bool:
        duration_us = max(1, round(requests / rate_per_s * SECOND))
        run = simulate(setting, plan, seed=seed, duration_us=duration_us, rate_per_s=rate_per_s)
        return run.attainment >= CAPACITY_ATTAINMENT

    return bisect_rate(attains, first, resolution=_CAPACITY_RESOLUTION, most=8 * first)


def sweep(setting: Setting, *, requests: int, is_capacity_sought: bool = False, replications: int = 1) -> tuple[Cell, ...]:
    """Simulate every candidate of a setting.

    Args:
        setting: what is simulated.
        requests: about how many requests a run has.
        is_capacity_sought: of the first candidate the capacity is found too, which takes several runs.
        replications: runs of each candidate, with arrivals of their own; the outcome is their mean.

    Raises:
        InfeasibleError: no plan of any granularity fits the machines.
        CapacityError: a plan does not become ready on them.
    """
    problem = setting.problem
    duration_us = setting.duration_us(requests)
    seeds = [setting.seed, *(derive_seed(setting.seed, "again", at) for at in range(1, replications))]
    cells: list[Cell] = []
    for at, option in enumerate(candidates(problem)):
        capacity = None
        if is_capacity_sought and at == 0 and option.predicted.capacity_per_s > 0:
            seed = derive_seed(setting.seed, "capacity")
            capacity = capacity_per_s(setting, option.plan, option.predicted.capacity_per_s, seed=seed, requests=requests)
        runs = tuple(simulate(setting, option.plan, seed=seed, duration_us=duration_us) for seed in seeds)
        cells.append(
            Cell(
                setting=setting.number,
                source=setting.sample.source,
                stages=len(problem.app.graph.stages),
                target=problem.app.slo.target,
                objective=setting.objective,
                pattern=pattern(problem, option.plan),
                features=features(problem, option.plan, option.predicted),
                predicted=option.predicted,
                outcome=_mean(runs),
                capacity_per_s=capacity,
                runs=runs if len(runs) > 1 else (),
            )
        )
    return tuple(cells)


def _mean(outcomes: Sequence[Outcome]) -> Outcome:
    count = len(outcomes)
    return Outcome(
        sum(each.attainment for each in outcomes) / count,
        sum(each.billed_usd_per_hour for each in outcomes) / count,
        sum(each.provisioned_usd_per_hour for each in outcomes) / count,
    )


def best(cells: Sequence[Cell]) -> int:
    """The place of the best candidate in simulation: the cheapest that reaches the target, else the one that attains most."""
    return best_of([(cell.outcome.attainment, cell.usd_per_hour) for cell in cells], cells[0].target)


def best_of(figures: Sequence[tuple[float, float]], target: float) -> int:
    """The same of attainments and costs."""
    places = range(len(figures))
    meeting = [at for at in places if figures[at][0] >= target]
    if meeting:
        return min(meeting, key=lambda at: (figures[at][1], at))
    return min(places, key=lambda at: (-figures[at][0], figures[at][1], at))


def is_saturated(cells: Sequence[Cell]) -> bool:
    """Whether no candidate of a setting can carry its load."""
    return max(cell.outcome.attainment for cell in cells) < _SATURATED


class Swept(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole sweep, to be learned from: the cells of each setting, and what they were drawn from.

    ``digests`` has the profile of each profiled app by its name.
    """

    features_version: int
    seed: int
    requests: int
    is_general: bool
    digests: dict[str, str]
    cells: tuple[tuple[Cell, ...], ...]


def read_swept(data: bytes, name: str = "the sweep") -> Swept:
    """A sweep from its JSON.

    Raises:
        ArtifactError: it is malformed, or its features are of another version.
    """
    try:
        found = msgspec.json.decode(data, type=Swept)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{name} is no sweep: {error}; simulate again with --keep") from error
    if found.features_version != FEATURES_VERSION:
        raise ArtifactError(
            f"Field `features_version` of {name} is {found.features_version}, this version computes {FEATURES_VERSION}; "
            "simulate again with --keep"
        )
    return found
