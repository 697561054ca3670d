"""What every published scheduler that plans a whole app once begins and ends with: the functions to plan, and the table."""

import msgspec

from grainwise.domain.plan import Plan, render_grain
from grainwise.planning.best import Groups
from grainwise.planning.checked import notes, refuse_wrong_input
from grainwise.planning.problem import Option, PlanTable, Problem
from grainwise.planning.scaled import as_scaled
from grainwise.planning.table import refuse_missing_gpu, wanted_granularities
from grainwise.predictors.analytic import Analytic
from grainwise.predictors.evaluate import Evaluation
from grainwise.predictors.groups import group_facts


def functions_of(problem: Problem) -> tuple[Groups, tuple[int, ...]]:
    """The functions to plan, as masks with their facts: those that the problem forces, else one for each stage.

    Raises:
        InfeasibleError: the forced granularity is none, or a stage wants a GPU and no node has one.
        ConfigurationError: the problem holds a value outside its range.
    """
    refuse_wrong_input(problem)
    refuse_missing_gpu(problem)
    graph = problem.app.graph
    split = tuple(graph.names(1 << stage) for stage in range(len(graph.stages)))
    (masks,) = wanted_granularities(problem if problem.grain is not None else msgspec.structs.replace(problem, grain=split))
    groups = Groups(problem)
    for mask in masks:
        groups.facts[mask] = group_facts(problem, mask)
    return groups, masks


def table_of(groups: Groups, plan: Plan, how: str, expanded: int) -> PlanTable:
    """A table of one option. ``how`` says after whom it was found and how; ``expanded`` how many plans were looked at.

    Where it misses the SLO, ``nearest`` says what this plan, not another one, would meet.
    """
    problem = groups.problem
    slo, rate = problem.app.slo, problem.workload.rate_per_s
    evaluation = groups.evaluation(plan)
    predicted = evaluation.predict()
    is_met = predicted.attainment >= slo.target
    current = None if problem.current is None else as_scaled(problem, problem.current, groups.facts)
    judged = Analytic().judge(problem, [plan] if current is None else [plan, current])
    cost = evaluation.usd_per_hour(problem.objective)
    verdict = "meets" if is_met else "misses"
    because = (
        f"{how}: {render_grain(plan.grain)} {verdict} the SLO ({predicted.attainment:.1%} within {slo.latency_ms:g} ms, "
        f"asked for {slo.target:.1%}) at {rate:g}/s, {problem.objective} cost ${cost:.4f}/h"
    )
    return PlanTable(
        problem=problem.number,
        options=(Option(plan, predicted, is_met, judged=judged[0]),),
        because=because + notes(problem),
        is_feasible=is_met,
        nearest="" if is_met else _nearest(groups, evaluation, predicted.utilisation),
        current=None if current is None else groups.evaluation(current).predict(),
        device_class=problem.model.device_class,
        expanded_nodes=expanded,
        current_judged=None if current is None else judged[1],
    )


def _nearest(groups: Groups, evaluation: Evaluation, utilisation: float) -> str:
    slo, rate = groups.problem.app.slo, groups.problem.workload.rate_per_s
    if utilisation >= 1:
        said = f"this plan is overloaded at {rate:g}/s"
    else:
        said = f"this plan answers {slo.target:.1%} within {evaluation.latency_ms(slo.target):.0f} ms at {rate:g}/s"
    return f"{said}; it carries {evaluation.capacity_per_s(slo.target):.3g}/s at {slo.latency_ms:g} ms"
