"""The table of a problem, decided by the evaluator that the problem names, not by the search's own closed form alone.

A learned model or a rollout is too dear, or too coarse, to be asked about every configuration. So the search proposes the best
plan of every granularity as before, the plans that come into question are judged all at once, and the judgements decide.

In question are, of a table in its order, at most ``MAX_JUDGED`` options: always its winner, the fused and the split one and the
granularity of the present plan; then the ``BY_COST`` cheapest of those predicted to come within ``NEARLY`` of the target; then
the ``BY_ATTAINMENT`` that are predicted to attain most.

Of the judged, those that meet the SLO come first, the cheapest of them wins; where some do, a plan that misses the target by
no more than ``SAME_AS_TARGET``, and whose band reaches it, is not told apart from them. Where none meets it, the cheapest of
those that attain as much as the best does. Errors of a model are largely common to all plans of one app, so a band says little
about the difference of two plans: figures count as the same where one lies within the other's band, yet never if they differ
by more than ``SAME_COST`` or ``SAME_ATTAINMENT``. Of plans that cost the same the present granularity is kept, else the one
with the fewest functions wins among equals to the last digit, else the order of the search decides.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from grainwise.domain.plan import Plan, render_grain
from grainwise.planning.problem import Option, PlanTable, Problem
from grainwise.planning.scaled import as_scaled
from grainwise.planning.table import compute
from grainwise.predictors.analytic import Analytic
from grainwise.predictors.evaluator import Band, Judgement, PlanEvaluator

MAX_JUDGED = 8
BY_COST = 4
BY_ATTAINMENT = 2

NEARLY = 0.03
"""How far below the target a prediction may be for its plan to be worth asking about."""

SAME_COST = 1.02
"""The most by which costs that are called the same may differ, as a factor."""

SAME_ATTAINMENT = 0.01
"""The most by which attainments that are called the same may differ."""

SAME_AS_TARGET = 0.005
"""The most by which an attainment may lie below the target and count as reaching it, if its band does.

No model is so sure: where the price depends on it, hundredths of a point would decide about tens of percents.
"""


class _Candidate(Struct, frozen=True):
    """One judged option; ``place`` is its place in the table of the search."""

    place: int
    option: Option
    judged: Judgement

    @property
    def name(self) -> str:
        return render_grain(self.option.plan.grain)

    @property
    def attainment(self) -> Band:
        return self.judged.attainment

    @property
    def cost(self) -> Band:
        return self.judged.usd_per_hour


def compute_judged(problem: Problem, evaluator: PlanEvaluator | None = None) -> PlanTable:
    """Answer a planning problem by the judgement of ``evaluator``; by the search's own order with the analytic one or none.

    Raises:
        InfeasibleError: no plan fits the nodes at all, see ``planning.table.compute``.
        ConfigurationError: the problem holds a value outside its range, or the evaluator cannot be asked about this app.
    """
    table = compute(problem)
    asked: PlanEvaluator = Analytic() if evaluator is None else evaluator
    places = in_question(problem, table)
    current = _current(problem, asked)
    plans = [table.options[place].plan for place in places]
    # The same plan twice would be judged twice.
    known = next((at for at, plan in enumerate(plans) if current is not None and plan.id == current.id), None)
    extra = [current] if current is not None and known is None else []
    judgements = asked.judge(problem, [*plans, *extra], problem.snapshot)
    candidates = [_Candidate(place, table.options[place], judged) for place, judged in zip(places, judgements, strict=False)]
    current_judged = None if current is None else judgements[known if known is not None else -1]
    if asked.name == "analytic":
        options = list(table.options)
        for each in candidates:
            options[each.place] = msgspec.structs.replace(each.option, judged=each.judged)
        return msgspec.structs.replace(table, options=tuple(options), current_judged=current_judged)
    return _decided(problem, table, asked, candidates, current_judged)


def in_question(problem: Problem, table: PlanTable) -> tuple[int, ...]:
    """The places of the options that are worth judging, at most ``MAX_JUDGED``, in the order of the table."""
    options = table.options
    counts = [len(option.plan.functions) for option in options]
    chosen = [0, counts.index(min(counts)), counts.index(max(counts))]
    if problem.current is not None:
        grain = problem.current.grain
        chosen.extend(place for place, option in enumerate(options) if option.plan.grain == grain)
    near = [place for place, option in enumerate(options) if option.predicted.attainment >= problem.app.slo.target - NEARLY]
    chosen.extend(sorted(near, key=lambda place: (_predicted_cost(problem, options[place]), place))[:BY_COST])
    by_attainment = sorted(
        range(len(options)),
        key=lambda place: (-options[place].predicted.attainment, _predicted_cost(problem, options[place]), place),
    )
    chosen.extend(by_attainment[:BY_ATTAINMENT])
    return tuple(sorted(list(dict.fromkeys(chosen))[:MAX_JUDGED]))


def _predicted_cost(problem: Problem, option: Option) -> float:
    predicted = option.predicted
    return predicted.provisioned_usd_per_hour if problem.objective == "provisioned" else predicted.billed_usd_per_hour


def _current(problem: Problem, evaluator: PlanEvaluator) -> Plan | None:
    """The present plan as it is judged: a rollout scales it itself, the others judge what the autoscaler will make of it."""
    if problem.current is None or evaluator.name == "rollout":
        return problem.current
    return as_scaled(problem, problem.current, {})


def _decided(
    problem: Problem,
    table: PlanTable,
    evaluator: PlanEvaluator,
    candidates: Sequence[_Candidate],
    current_judged: Judgement | None,
) -> PlanTable:
    target = problem.app.slo.target
    present = None if problem.current is None else problem.current.grain
    decision = decide(
        [each.judged for each in candidates],
        target,
        functions=[len(each.option.plan.functions) for each in candidates],
        overloads=[round(max(1.0, each.option.predicted.utilisation), 6) for each in candidates],
        present=next((at for at, each in enumerate(candidates) if each.option.plan.grain == present), None),
    )
    winner, pool = candidates[decision.winner], [candidates[at] for at in decision.pool]
    meeting = {candidates[at].place for at in decision.pool} if decision.is_met else set()
    judged_at = {each.place: each for each in candidates}
    options: list[Option] = []
    for place in (winner.place, *(place for place in range(len(table.options)) if place != winner.place)):
        option, judged = table.options[place], judged_at.get(place)
        if judged is not None:
            option = msgspec.structs.replace(option, judged=judged.judged, meets_slo=place in meeting)
        lacks = "" if place == winner.place else _lacks(problem, winner, option)
        options.append(msgspec.structs.replace(option, lacks=lacks))
    nearest = table.nearest
    if decision.is_met:
        nearest = ""
    elif table.is_feasible:
        nearest = f"by {evaluator.name} nothing that was judged meets the SLO; {winner.name} comes nearest"
    return msgspec.structs.replace(
        table,
        options=tuple(options),
        because=_because(problem, table, evaluator, winner, pool, candidates, decision.is_met) + decision.kept,
        is_feasible=decision.is_met,
        nearest=nearest,
        evaluator=evaluator.name,
        current_judged=current_judged,
    )


class Decision(Struct, frozen=True):
    """``winner`` and, in ``pool``, all that it was the cheapest of, as places; ``kept`` says what else than cost decided.

    ``is_met``: whether the pool is of those that meet the target.
    """

    winner: int
    pool: tuple[int, ...]
    is_met: bool
    kept: str = ""


def decide(
    judgements: Sequence[Judgement],
    target: float,
    *,
    functions: Sequence[int] = (),
    overloads: Sequence[float] = (),
    present: int | None = None,
) -> Decision:
    """Choose among judged plans: the cheapest that reaches the target, else of those that attain as much as the best one.

    Args:
        judgements: at least one, in the order of the search.
        target: the fraction of requests that is to be in time.
        functions: of each plan how many it has; the fewest win among equals to the last digit.
        overloads: of each plan its predicted utilisation where it is above 1, else 1; the least count where none attains
            the target.
        present: the place of the present granularity, which is kept among plans that cost the same.
    """
    meeting = _meeting(judgements, target)
    pool = meeting or _attaining_most(judgements, overloads)
    costs = [each.usd_per_hour for each in judgements]
    first = min(pool, key=lambda at: (costs[at].value, functions[at] if functions else 0, at))
    most = min(max(costs[first].high, costs[first].value), costs[first].value * SAME_COST)
    same = [at for at in pool if costs[at].value <= most]
    is_met = bool(meeting)
    if len(same) == 1:
        return Decision(first, tuple(pool), is_met)
    names = f"; {len(same)} cost the same within the error of the model"
    if present in same:
        return Decision(present, tuple(pool), is_met, f"{names}, and the present granularity is kept")
    if all(costs[at].value == costs[first].value for at in same):
        return Decision(first, tuple(pool), is_met, f"{names}, and none has fewer functions")
    return Decision(same[0], tuple(pool), is_met, f"{names}, and the order of the search decides")


def _meeting(judgements: Sequence[Judgement], target: float) -> list[int]:
    """Those that meet the target and those not told apart from them, see ``SAME_AS_TARGET``; none where none meets it."""
    attainments = [each.attainment for each in judgements]
    if not any(each.value >= target for each in attainments):
        return []
    nearly = target - SAME_AS_TARGET
    return [at for at, each in enumerate(attainments) if each.value >= target or (each.value >= nearly and each.high >= target)]


def _attaining_most(judgements: Sequence[Judgement], overloads: Sequence[float]) -> list[int]:
    """Those that attain as much as the best; where nothing attains anything, those that are overloaded least."""
    best = max(judgements, key=lambda each: each.attainment.value).attainment
    least = max(best.low, best.value - SAME_ATTAINMENT)
    pool = [at for at, each in enumerate(judgements) if each.attainment.value >= least]
    if not overloads:
        return pool
    lowest = min(overloads[at] for at in pool)
    return [at for at in pool if overloads[at] == lowest]


def _because(
    problem: Problem,
    table: PlanTable,
    evaluator: PlanEvaluator,
    winner: _Candidate,
    pool: Sequence[_Candidate],
    candidates: Sequence[_Candidate],
    is_met: bool,
) -> str:
    slo = problem.app.slo
    count = f"{len(candidates)} granularit{'ies' if len(candidates) > 1 else 'y'}"
    if is_met:
        said = f"by {evaluator.name}, of {count} judged, {winner.name} meets the SLO at the least {problem.objective} cost"
    else:
        said = (
            f"by {evaluator.name}, of {count} judged, none answers {slo.target:.1%} within {slo.latency_ms:g} ms; "
            f"{winner.name} comes nearest"
        )
    said += f": {figures(winner.judged)}"
    others = [each for each in pool if each is not winner] or [each for each in candidates if each is not winner]
    if others:
        if len(pool) > 1:
            second = min(others, key=lambda each: (each.cost.value, each.place))
        else:
            second = max(others, key=lambda each: (each.attainment.value, -each.cost.value, -each.place))
        said += f"; the runner-up {second.name}: {figures(second.judged)}"
    handed_on = next((each.judged.handed_on for each in candidates if each.judged.by != evaluator.name), "")
    if handed_on:
        said += f"; handed on to the analytic model: {handed_on}"
    if winner.place:
        said += f"; the search by itself would have taken {render_grain(table.winner.plan.grain)}"
    return said


def figures(judged: Judgement) -> str:
    """A judgement as people read it: both figures with the range in which they should lie."""
    attained, cost = judged.attainment, judged.usd_per_hour
    return (
        f"{attained.value:.1%} ({attained.low:.1%} to {attained.high:.1%}) "
        f"at ${cost.value:.4f}/h ({cost.low:.4f} to {cost.high:.4f})"
    )


def _lacks(problem: Problem, winner: _Candidate, option: Option) -> str:
    """What an option has against it beside the winner, by its judgement, else by its prediction."""
    if option.judged is not None and option.judged.handed_on and option.judged.by == winner.judged.by:
        return f"judged not to be reached from here: {option.judged.handed_on}"
    if option.judged is not None:
        said, attained, cost = "judged to", option.judged.attainment.value, option.judged.usd_per_hour.value
        against = winner.cost.value
    else:
        said, attained, cost = "not judged, predicted to", option.predicted.attainment, _predicted_cost(problem, option)
        against = _predicted_cost(problem, winner.option)
    if attained < min(problem.app.slo.target, winner.attainment.value):
        return f"{said} attain {attained:.1%}"
    if cost > against > 0:
        return f"{said} cost {cost / against - 1:.1%} more"
    return f"{said} cost as much" if cost >= against else f"{said} cost {1 - cost / against:.1%} less"
