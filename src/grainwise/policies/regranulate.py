"""Is it time to plan again, and is the answer worth a change?

A change must pay (``policies.gain``) over the time for which the forecast can be trusted, which is as long as the load has been
what it is. So a change that costs something waits until the load has lasted long enough to pay it back, as one buys skis once
rents have added up to their price (Karlin, Manasse, Rudolph and Sleator, Algorithmica 3, 1988). A change binds for a dwell,
so it waits until the load has lasted as long: who follows a burst is bound to its plan when it is over. Two answers in a row
must agree on the granularity, and after a change of granularity a dwell time passes before the next, however the load behaves.
"""

from msgspec import Struct

from grainwise.domain.because import Because
from grainwise.domain.plan import Plan, render_grain
from grainwise.domain.time import SECOND, Instant, Micros
from grainwise.planning.problem import PlanTable
from grainwise.policies.gain import FREE, US_PER_HOUR, Change, Gain, gain_of

RATE_CHANGE = 0.2
"""The relative change of rate below which the last plan is taken to be still the answer."""

STALE_INTERVALS = 12
"""An answer is looked at again after so many planning intervals: what requests are made of drifts too."""

LONGEST_TRUST_US: Micros = 3600 * SECOND


class AskView(Struct, frozen=True):
    """When the last plan was asked for, what has changed since, and what speaks against another.

    ``rate_per_s`` is the rate to plan for now, ``lowest_per_s`` to ``highest_per_s`` those for which the last answer is held to
    be good. ``is_settled`` is false while the planner or a change is at work. A candidate is looked at again at ``vote_due``.
    ``changed`` is when the last change of granularity was completed, 0 for never. Where planning failed it is not tried again
    before ``blocked_until``. ``is_missing``: the present plan was predicted to miss the SLO. ``planning_us`` is how long the
    last plan took, ``trusted_us`` for how long the load has been what it is.
    """

    last_asked: Instant
    rate_per_s: float
    lowest_per_s: float
    highest_per_s: float
    replan_us: Micros
    dwell_us: Micros
    is_settled: bool
    has_candidate: bool
    vote_due: Instant = 0
    changed: Instant = 0
    blocked_until: Instant = 0
    is_panic: bool = False
    is_missing: bool = False
    has_failed: bool = False
    is_other_machine: bool = False
    planning_us: Micros = 0
    trusted_us: Micros = LONGEST_TRUST_US


class Ask(Struct, frozen=True):
    """Compute a plan now."""

    because: Because


class Hold(Struct, frozen=True):
    """Leave things as they are; look again at ``until``. ``vote`` is a granularity that wins if the next answer agrees."""

    until: Instant
    because: Because
    vote: str = ""


class Switch(Struct, frozen=True):
    """Re-granulate to ``plan``, or serve the same granularity as it says."""

    plan: Plan
    because: Because


VOTES = 2
"""Answers that must agree before the granularity is changed."""

QUICK_US: Micros = SECOND
REST_FACTOR = 10
"""So many times what a plan took beyond ``QUICK_US`` passes before the next is asked for."""

UNDER_WAY = Because("a re-granulation or a plan is under way")
RECENT = Because("planned recently")
FAILED = Because("the last plan could not be computed")
YOUNG = Because("the load has not lasted for long enough to change for it")
DWELLING = Because("the granularity was changed within the dwell time")


def ask(view: AskView, now: Instant) -> Ask | Hold:
    """Plan again when the forecast has left the range of the last answer, at most every ``replan_us``.

    What takes longer than ``QUICK_US`` is asked for less often: it may run on the machine that serves.
    After a change of granularity nothing is asked until the dwell time is over, unless the SLO is missed in a burst: then an
    answer may be at hand when it is.
    """
    if not view.is_settled:
        return Hold(now + view.replan_us, UNDER_WAY)
    due = view.last_asked + max(view.replan_us, REST_FACTOR * (view.planning_us - QUICK_US))
    if view.last_asked and now < due:
        return Hold(due, RECENT)
    if view.has_failed and now < view.blocked_until:
        return Hold(view.blocked_until, FAILED)
    rested = view.changed + view.dwell_us
    if view.changed and now < rested and not (view.is_panic and view.is_missing):
        return Hold(rested, DWELLING)
    facts = (("rate_per_s", view.rate_per_s), ("from_per_s", view.lowest_per_s), ("to_per_s", view.highest_per_s))
    if view.is_other_machine:
        return Ask(Because("the nodes are others"))
    if view.has_failed:
        return Ask(FAILED)
    # Two answers before a change may be made; any earlier one would be computed in the middle of a burst and come to nothing.
    votes_us = 0 if view.is_panic else VOTES * view.replan_us
    young_us = view.dwell_us - votes_us - view.trusted_us
    if young_us > 0:
        return Hold(now + young_us, YOUNG)
    if not view.lowest_per_s <= view.rate_per_s <= view.highest_per_s:
        return Ask(Because("the forecast has left the range of the last answer", facts))
    if view.has_candidate:
        if now < view.vote_due:
            return Hold(view.vote_due, Because("a better plan waits until it pays", facts))
        return Ask(Because("the last answer waits for a second vote", facts))
    if now >= view.last_asked + STALE_INTERVALS * view.replan_us:
        return Ask(Because("the last answer is old", facts))
    return Hold(now + view.replan_us, Because("the forecast is where it was", facts))


class VerdictView(Struct, frozen=True):
    """The planner's answer beside the present plan.

    ``changes`` has the cost of the change to each option, in their order; missing ones are free. ``candidate_id`` is the vote
    of the last answer. ``trusted_us`` is for how long the forecast should last. ``changed`` and ``tuned`` are when the
    granularity, or only how it is run, was last changed (0: never). ``refused`` could not be carried out lately.
    """

    table: PlanTable
    current: Plan
    target: float
    gain_fraction: float
    candidate_id: str
    changes: tuple[Change, ...] = ()
    trusted_us: Micros = 0
    dwell_us: Micros = 0
    changed: Instant = 0
    tuned: Instant = 0
    refused: tuple[str, ...] = ()


def verdict(view: VerdictView, now: Instant) -> Switch | Hold:
    """Whether one of the options is worth a change now."""
    found = _best(view, max(view.trusted_us, view.dwell_us, 1))
    if found is None:
        winner = view.table.winner.plan
        if is_run_alike(winner, view.current):
            return Hold(now, Because("the present plan is still the best"))
        return Hold(now, Because("no plan is better by enough", (("best", render_grain(winner.grain)),)))
    plan = found.option.plan
    vote = render_grain(plan.grain)
    is_tuning = plan.grain == view.current.grain
    last = max(view.changed, view.tuned) if is_tuning else view.changed
    rested = last + view.dwell_us if last else 0
    if found.net_usd <= 0:
        needed_us = found.change.usd / found.usd_per_hour * US_PER_HOUR
        if needed_us > LONGEST_TRUST_US:
            return Hold(now, Because("better, and not worth what the change costs", found.because.facts))
        until = now + max(1, int(needed_us) - view.trusted_us)
        return Hold(max(until, rested), Because("better, once the load has lasted to pay for it", found.because.facts), vote)
    if view.trusted_us < view.dwell_us:
        until = max(rested, now + view.dwell_us - view.trusted_us)
        return Hold(until, Because("better, once the load has lasted as long as a change binds", found.because.facts), vote)
    if now < rested:
        return Hold(rested, Because("better, and waits for the dwell time to end", found.because.facts), vote)
    if view.candidate_id != vote:
        return Hold(now, Because("better, and waits for a second vote", found.because.facts), vote)
    return Switch(plan, found.because)


def is_run_alike(one: Plan, other: Plan) -> bool:
    """Whether two plans differ at most in how many instances they begin with, which is the autoscaler's business."""
    if len(one.functions) != len(other.functions):
        return False
    return all(
        (a.stages, a.cpu_cores, a.max_batch, a.device, a.device_fraction)
        == (b.stages, b.cpu_cores, b.max_batch, b.device, b.device_fraction)
        and (a.min_instances, max(a.max_instances, a.instances)) == (b.min_instances, max(b.max_instances, b.instances))
        for a, b in zip(one.functions, other.functions, strict=True)
    )


def _best(view: VerdictView, trusted_us: Micros) -> Gain | None:
    """The option that gains most, or the one that was voted for where it gains about as much.

    A plan is judged with the instances that it would best have, so another granularity must gain over what the present one
    could be as well, and not only over what it is.
    """
    best: Gain | None = None
    voted: Gain | None = None
    trusted_us = min(trusted_us, LONGEST_TRUST_US)
    home = next((option for option in view.table.options if option.plan.grain == view.current.grain), None)
    for at, option in enumerate(view.table.options):
        name = render_grain(option.plan.grain)
        if name in view.refused or is_run_alike(option.plan, view.current):
            continue
        change = view.changes[at] if at < len(view.changes) else FREE
        other = None if option.plan.grain == view.current.grain else home
        found = gain_of(view.table, option, change, trusted_us, view.target, view.gain_fraction, other)
        if found is None:
            continue
        if best is None or found.net_usd > best.net_usd:
            best = found
        if name == view.candidate_id and (voted is None or found.net_usd > voted.net_usd):
            voted = found
    if best is None or voted is None or voted.usd_per_hour < best.usd_per_hour / 2:
        return best
    return voted


ONLY_ON_COMMAND = Because("this app is planned again on command only")


def never_ask(view: AskView, now: Instant) -> Hold:
    """Keep the plan."""
    return Hold(now + view.replan_us, ONLY_ON_COMMAND)


def never_switch(view: VerdictView, now: Instant) -> Hold:
    """Keep the plan, whatever the planner found."""
    return Hold(now, ONLY_ON_COMMAND)
