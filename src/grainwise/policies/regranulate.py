"""Is it time to plan again, and is the answer worth a change?

A change must pay: either the present plan is predicted to miss the SLO and the new one to meet it (or to miss it by less),
or the new plan is cheaper by a margin. Two answers in a row must agree, so that noise at a crossover does not flap.
"""

from msgspec import Struct

from grainwise.domain.because import Because
from grainwise.domain.plan import Plan, Prediction, render_grain
from grainwise.domain.time import Instant, Micros
from grainwise.planning.problem import PlanTable


class AskView(Struct, frozen=True):
    """When the last plan was asked for and under which rate; the present rate in requests per second."""

    last_asked: Instant
    last_rate_per_s: float
    rate_per_s: float
    replan_us: Micros
    is_settled: bool
    has_candidate: bool


class Ask(Struct, frozen=True):
    """Compute a plan now."""

    because: Because


class Hold(Struct, frozen=True):
    """Leave things as they are; look again at ``until``. ``vote`` is a granularity that wins if the next answer agrees."""

    until: Instant
    because: Because
    vote: str = ""


class Switch(Struct, frozen=True):
    """Re-granulate to ``plan``."""

    plan: Plan
    because: Because


RATE_CHANGE = 0.2
"""The relative change of rate below which the last plan is taken to be still the answer."""


def ask(view: AskView, now: Instant) -> Ask | Hold:
    """Plan again at most every ``replan_us``, and only when the rate has moved or a candidate waits for its second vote."""
    due = view.last_asked + view.replan_us
    if not view.is_settled:
        return Hold(now + view.replan_us, Because("a re-granulation is under way"))
    if now < due:
        return Hold(due, Because("planned recently"))
    moved = abs(view.rate_per_s - view.last_rate_per_s) > RATE_CHANGE * max(view.last_rate_per_s, 0.1)
    facts = (("rate_per_s", view.rate_per_s), ("last_rate_per_s", view.last_rate_per_s))
    if view.has_candidate:
        return Ask(Because("the last answer waits for a second vote", facts))
    if moved:
        return Ask(Because("the rate has moved", facts))
    return Hold(now + view.replan_us, Because("the rate is as it was", facts))


class VerdictView(Struct, frozen=True):
    """The planner's answer beside the present plan. ``candidate_id`` is the vote of the last answer."""

    table: PlanTable
    current: Plan
    target: float
    gain_fraction: float
    candidate_id: str


def verdict(view: VerdictView, now: Instant) -> Switch | Hold:
    """Whether the winner is worth a change now."""
    winner = view.table.winner
    present = view.table.current
    if winner.plan.id == view.current.id:
        return Hold(now, Because("the present plan is still the best"))
    if present is None:
        return Switch(winner.plan, Because("nothing is known of the present plan"))
    reason = _reason(winner.predicted, present, view)
    if reason is None:
        return Hold(now, Because("no plan is better by enough", (("best", render_grain(winner.plan.grain)),)))
    vote = render_grain(winner.plan.grain)
    if winner.plan.grain != view.current.grain and view.candidate_id != vote:
        return Hold(now, Because("better, and waits for a second vote", (("best", vote),)), vote)
    return Switch(winner.plan, reason)


def _reason(winner: Prediction, present: Prediction, view: VerdictView) -> Because | None:
    objective = view.table.winner.plan.objective
    new_cost = winner.provisioned_usd_per_hour if objective == "provisioned" else winner.billed_usd_per_hour
    old_cost = present.provisioned_usd_per_hour if objective == "provisioned" else present.billed_usd_per_hour
    facts = (
        ("attainment", present.attainment),
        ("new_attainment", winner.attainment),
        ("usd_per_hour", old_cost),
        ("new_usd_per_hour", new_cost),
    )
    if present.attainment < view.target and winner.attainment > present.attainment + 0.02:
        return Because("the present plan is predicted to miss the SLO", facts)
    if winner.attainment >= view.target and new_cost < old_cost * (1 - view.gain_fraction):
        return Because("cheaper at the SLO", facts)
    return None


ONLY_ON_COMMAND = Because("this app is planned again on command only")


def never_ask(view: AskView, now: Instant) -> Hold:
    """Keep the plan."""
    return Hold(now + view.replan_us, ONLY_ON_COMMAND)


def never_switch(view: VerdictView, now: Instant) -> Hold:
    """Keep the plan, whatever the planner found."""
    return Hold(now, ONLY_ON_COMMAND)
