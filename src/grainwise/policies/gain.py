"""What a plan gains over the present one: money and attainment in one currency, beyond the error of the two judgements.

Attainment up to the SLO's target is priced so that it dominates; beyond the target it is worth nothing. A gain counts only if
it exceeds what the error bands of the two judgements make of it by chance.
"""

from msgspec import Struct

from grainwise.domain.because import Because
from grainwise.domain.plan import Prediction, render_grain
from grainwise.domain.time import SECOND, Micros
from grainwise.planning.problem import Option, PlanTable
from grainwise.predictors.evaluator import Judgement

MISS_VALUE = 10.0
"""What an hour with all requests late loses, in hours of the dearer plan's cost: a point of attainment is 10 % of cost."""

OWN_ERROR = 0.25
"""The part of a judgement's variance that is the plan's own: one model errs alike about plans of one app and one forecast."""

ATTAINMENT_ERROR = 0.05
ERROR_OF_MISSES = 3.0
"""How far off an attainment that comes without a range may be: so much, and near 1 not beyond so many times its misses."""

US_PER_HOUR = 3600.0 * SECOND


class Change(Struct, frozen=True):
    """What carrying out a plan would cost: instances to start, until when the last is up, what they cost meanwhile in USD."""

    starts: int
    start_us: float
    usd: float


FREE = Change(0, 0.0, 0.0)


class Figures(Struct, frozen=True):
    """A plan's attainment and cost, with how far off each may be on its worse and on its better side."""

    attainment: float
    attainment_below: float
    attainment_above: float
    usd_per_hour: float
    usd_below: float
    usd_above: float


class Gain(Struct, frozen=True):
    """An option that is better by enough: per hour, and over the time for which it can be trusted, less the change."""

    option: Option
    change: Change
    usd_per_hour: float
    net_usd: float
    because: Because


def gain_of(
    table: PlanTable,
    option: Option,
    change: Change,
    trusted_us: Micros,
    target: float,
    least_fraction: float,
    home: Option | None = None,
) -> Gain | None:
    """What ``option`` gains over the present plan; nothing where that is less than ``least_fraction`` of cost, or than chance.

    Args:
        table: the planner's answer, which judges the present plan too.
        option: one of its options.
        change: what getting there costs.
        trusted_us: for how long the forecast is held to be good.
        target: the SLO's.
        least_fraction: of the present cost.
        home: the best that can be done at the present granularity: another must gain over this too.
    """
    old, new = present_figures(table, option.plan.objective), figures(table, option)
    if new is None:
        return None
    if old is None:
        return Gain(option, change, 1.0, 1.0, Because("nothing is known of the present plan"))
    worth = worth_usd_per_hour(old, new, target, least_fraction)
    at_home = figures(table, home) if home is not None else None
    if at_home is not None:
        worth = min(worth, worth_usd_per_hour(at_home, new, target, least_fraction))
    if worth <= 0:
        return None
    if option.judged is not None and option.judged.by == "rollout":
        # It went on from the present instances: what the change costs is in its figures.
        change = FREE
    facts = (
        ("best", render_grain(option.plan.grain)),
        ("attainment", old.attainment),
        ("new_attainment", new.attainment),
        ("usd_per_hour", old.usd_per_hour),
        ("new_usd_per_hour", new.usd_per_hour),
        ("gain_usd_per_hour", worth),
        ("for_s", trusted_us / SECOND),
        ("starts", change.starts),
        ("change_usd", change.usd),
    )
    rule = "the present plan is predicted to miss the SLO" if old.attainment < target else "cheaper at the SLO"
    return Gain(option, change, worth, worth * trusted_us / US_PER_HOUR - change.usd, Because(rule, facts))


def worth_usd_per_hour(old: Figures, new: Figures, target: float, least_fraction: float) -> float:
    """What ``new`` is worth over ``old``, in USD per hour; 0 where that is too little, or no more than chance."""
    saved = old.usd_per_hour - new.usd_per_hour
    if new.attainment < target:
        if old.attainment >= target:
            return 0.0
        # While the SLO is missed either way, fewer instances are no saving.
        saved = min(saved, 0.0)
    price = MISS_VALUE * max(old.usd_per_hour, new.usd_per_hour)
    worth = saved + price * (_capped(new.attainment, target) - _capped(old.attainment, target))
    old_error = price * (_capped(old.attainment + old.attainment_above, target) - _capped(old.attainment, target))
    new_error = price * (_capped(new.attainment, target) - _capped(new.attainment - new.attainment_below, target))
    chance = old_error * old_error + new_error * new_error + old.usd_below * old.usd_below + new.usd_above * new.usd_above
    is_enough = worth > least_fraction * old.usd_per_hour and worth * worth > OWN_ERROR * chance
    return worth if is_enough else 0.0


def present_figures(table: PlanTable, objective: str) -> Figures | None:
    """The present plan's, by the problem's evaluator where it was asked."""
    if table.current_judged is not None:
        return _of_judgement(table.current_judged)
    return None if table.current is None else _of_prediction(table.current, objective)


def figures(table: PlanTable, option: Option) -> Figures | None:
    """An option's, by the same means as the present plan's; nothing where it was not judged and the present plan was."""
    if table.current_judged is not None:
        return None if option.judged is None else _of_judgement(option.judged)
    return _of_prediction(option.predicted, option.plan.objective)


def _capped(attainment: float, target: float) -> float:
    """Attainment beyond the target is worth nothing."""
    return max(0.0, min(attainment, target))


def _of_judgement(judged: Judgement) -> Figures:
    met, cost = judged.attainment, judged.usd_per_hour
    return Figures(
        met.value, met.value - met.low, met.high - met.value, cost.value, cost.value - cost.low, cost.high - cost.value
    )  # fmt: skip


def _of_prediction(predicted: Prediction, objective: str) -> Figures:
    cost = predicted.provisioned_usd_per_hour if objective == "provisioned" else predicted.billed_usd_per_hour
    error = min(ATTAINMENT_ERROR, ERROR_OF_MISSES * max(0.0, 1.0 - predicted.attainment))
    return Figures(predicted.attainment, error, error, cost, 0.0, 0.0)
