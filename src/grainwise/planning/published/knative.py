"""Every stage as a function of its own with one shape of instance, as many as Knative's autoscaler would keep at the rate.

After Knative Serving's published defaults (knative.dev), reconstructed: no model and no SLO decide anything. The shape is
the declared one: one core, or what there is of one, and for a stage on a device the smallest share that holds it; batches of
one, or as the stages declare them. Of the plan's instances 70 % are in use at the forecast rate, which is where the
autoscaler settles (``policies.autoscale_concurrency``). The plan is predicted as any other is.
"""

from grainwise.domain.errors import InfeasibleError
from grainwise.domain.plan import FunctionPlan
from grainwise.planning.options import useful_batch
from grainwise.planning.problem import PlanTable, Problem
from grainwise.planning.published.answer import functions_of, table_of
from grainwise.planning.published.sizes import Enough, Size, as_ours, ladders, mean_concurrency, placed, sized
from grainwise.planning.table import nothing_fits
from grainwise.predictors.groups import GroupFacts
from grainwise.predictors.station import Station

ONE_CORE = 1.0
TARGET_UTILISATION = 0.7
"""The default of Knative's ``container-concurrency-target-percentage``."""


def configure(problem: Problem) -> PlanTable:
    """Plan the functions that the problem forces, else every stage as one, each of one shape and without batches.

    Raises:
        InfeasibleError: not even one instance of each function fits the nodes, the forced granularity is none, or a stage wants
            a GPU and no node has one.
        ConfigurationError: the problem holds a value outside its range.
    """
    return _configure(problem, is_on_target, is_batching=False)


def configure_as_ours(problem: Problem) -> PlanTable:
    """The same with the batches that the stages declare, and as many instances as our autoscaler would have up.

    Raises:
        InfeasibleError: as ``configure``.
        ConfigurationError: as ``configure``.
    """
    return _configure(problem, as_ours, is_batching=True)


def _configure(problem: Problem, enough: Enough, *, is_batching: bool) -> PlanTable:
    groups, masks = functions_of(problem)
    functions: list[FunctionPlan] = []
    for mask in masks:
        facts = groups.facts[mask]
        size, batch = None, 1
        # A batch takes memory on a device: where no part of one holds it, the next smaller one is declared.
        batch = useful_batch(facts) if is_batching else 1
        while (size := _shape(problem, facts, batch)) is None and batch > 1:
            batch //= 2
        function = None if size is None else sized(problem, facts, size, batch, enough)
        if function is None:
            raise InfeasibleError(nothing_fits(groups))
        functions.append(function)
    plan = placed(problem, tuple(functions))
    if plan is None:
        raise InfeasibleError(nothing_fits(groups))
    batches = "batches as declared" if is_batching else "no batches"
    return table_of(groups, plan, f"after Knative's defaults, reconstructed: one core for each function, {batches}", 1)


def _shape(problem: Problem, facts: GroupFacts, batch: int) -> Size | None:
    """One core, or the nearest that the platform gives, and the smallest share of a device that holds a batch."""
    ladder = ladders(problem, facts, batch)
    if not ladder.cpu:
        return None
    return Size(min(ladder.cpu, key=lambda share: (abs(share - ONE_CORE), share)), ladder.gpu[0])


def is_on_target(station: Station, instances: int) -> bool:
    """Whether no more of the instances is in use than the autoscaler's target."""
    return mean_concurrency(station, instances) <= TARGET_UTILISATION * instances
