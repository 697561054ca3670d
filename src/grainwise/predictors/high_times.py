"""A time that few invocations exceed: the margin that a dispatch keeps, as a figure of its own and not hidden in a search."""

import math
from collections.abc import Sequence

from grainwise.predictors.groups import GroupFacts, Scenario
from grainwise.predictors.samples import factor_moments

QUANTILE = 0.95
"""The level of run times that a request's slack is held against."""


def high_us(scenario: Scenario, facts: GroupFacts, times: Sequence[float], together: int) -> float:
    """The run time of an invocation that few exceed, in microseconds.

    Args:
        scenario: the app with everything that is known about it.
        facts: the group that runs.
        times: mean run time of each of its stages, see ``stage_times_us``.
        together: requests that share the invocation: large kinds of them even out among several.
    """
    stages, variants = facts.extent.stages, scenario.workload.variants
    # Exact sums: those of Python differ between its versions.
    total, noisy = math.fsum(times), 0.0
    for stage, time in zip(stages, times, strict=True):
        model = scenario.model.stages[stage]
        noisy += time * model.quantile_factor(QUANTILE) / factor_moments(model.residual_quantiles)[0]
    if not variants or total <= 0:
        return noisy
    works = sorted(math.fsum(time * variant[stage] for stage, time in zip(stages, times, strict=True)) for variant in variants)
    large = max(1.0, works[min(len(works) - 1, int(QUANTILE * len(works)))] / total)
    return noisy * (1 + (large - 1) / math.sqrt(together))
