"""What a problem may hold: every number in its range, before anything is derived from it; and what is made of the odd ones."""

import math
from collections.abc import Iterable

from grainwise.domain.errors import ConfigurationError
from grainwise.planning.problem import Problem
from grainwise.predictors.samples import SAMPLES


def refuse_wrong_input(problem: Problem) -> None:
    """Every problem passes here first.

    Raises:
        ConfigurationError: an SLO, a forecast or a quantile is outside its range or not a number, or the forecast is of another
            app than the one to plan.
    """
    name, slo, workload, graph = problem.app.name, problem.app.slo, problem.workload, problem.app.graph
    if not (math.isfinite(slo.latency_ms) and slo.latency_ms > 0):
        raise ConfigurationError(f"the SLO of {name} is {slo.latency_ms:g} ms: give a finite latency above 0")
    if not 0 < slo.target <= 1:
        raise ConfigurationError(
            f"the SLO of {name} has the target {slo.target:g}: give a fraction of requests above 0, at most 1"
        )
    if not 0 < problem.quantile < 1:
        raise ConfigurationError(f"{name} is planned at the quantile {problem.quantile:g}: give one between 0 and 1")
    _refuse(name, "rate_per_s", (workload.rate_per_s,))
    _refuse(name, "arrival_scv", (workload.arrival_scv,))
    stages, inputs = len(graph.stages), len(graph.input_names)
    per_stage = {"items": workload.items, "item_size": workload.item_size, "output_bytes": workload.output_bytes}
    per_stage |= {f"variants[{number}]": variant for number, variant in enumerate(workload.variants)}
    for field, values in per_stage.items():
        _refuse(name, field, values, stages)
    _refuse(name, "input_bytes", workload.input_bytes, inputs)


def notes(problem: Problem) -> str:
    """What was made of an input at the edge of its range, as the end of a sentence; empty where there is none."""
    said = ""
    if problem.app.slo.target == 1:
        said += f"; a target of 100% is taken as every one of the {SAMPLES:,} requests that a prediction looks at"
    if problem.workload.rate_per_s == 0:
        said += "; at a forecast of 0/s this is what a single request needs"
    return said


def _refuse(app: str, field: str, values: Iterable[float], count: int = 1) -> None:
    given = tuple(values)
    if len(given) != count:
        raise ConfigurationError(
            f"the forecast for {app} has {len(given)} values of {field}, the app needs {count}: use a forecast of this app"
        )
    wrong = next((value for value in given if not (math.isfinite(value) and value >= 0)), None)
    if wrong is not None:
        raise ConfigurationError(f"the forecast for {app} has {field} {wrong:g}: give finite numbers, 0 or above")
