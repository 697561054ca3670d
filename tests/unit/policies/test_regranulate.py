"""The slow loop's two questions: when to plan again, and whether the answer is worth a change."""

import msgspec
import pytest

from grainwise.domain.plan import Plan, Prediction
from grainwise.domain.time import MILLISECOND, SECOND
from grainwise.planning.problem import Option, PlanTable
from grainwise.policies import regranulate
from grainwise.policies.gain import Change
from grainwise.predictors.evaluator import Band, Judgement
from worlds.apps import chain
from worlds.grains import plan_for

STAGES = chain().graph.names(chain().graph.all_mask)
FUSED = plan_for("chain", (STAGES,))
HALVES = plan_for("chain", (STAGES[:2], STAGES[2:]))
SPLIT = plan_for("chain", tuple((stage,) for stage in STAGES))
VOTE = "plus_one+double | negate+plus_one#2"
NOW = 1000 * SECOND


def asks(**changed: object) -> regranulate.Ask | regranulate.Hold:
    facts = {
        "last_asked": NOW - 10 * SECOND, "rate_per_s": 10.0, "lowest_per_s": 8.0, "highest_per_s": 12.0,
        "replan_us": SECOND, "dwell_us": 30 * SECOND, "is_settled": True, "has_candidate": False,
    }  # fmt: skip
    return regranulate.ask(regranulate.AskView(**{**facts, **changed}), NOW)


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"rate_per_s": 12.1}, "left the range"),
        ({"rate_per_s": 7.9}, "left the range"),
        ({"has_candidate": True}, "second vote"),
        ({"is_other_machine": True}, "the nodes are others"),
        ({"last_asked": NOW - 12 * SECOND}, "is old"),
        ({"has_failed": True, "blocked_until": NOW}, "could not be computed"),
        ({"rate_per_s": 20.0, "changed": NOW - 30 * SECOND}, "left the range"),
        ({"rate_per_s": 20.0, "changed": NOW - SECOND, "is_panic": True, "is_missing": True}, "left the range"),
    ],
)
def test_a_plan_is_asked_for(changed, rule):
    decision = asks(**changed)
    assert isinstance(decision, regranulate.Ask)
    assert rule in decision.because.rule


@pytest.mark.parametrize(
    ("changed", "rule", "until"),
    [
        ({}, "where it was", NOW + SECOND),
        ({"is_settled": False, "rate_per_s": 20.0}, "under way", NOW + SECOND),
        ({"last_asked": NOW - SECOND // 2, "rate_per_s": 20.0}, "recently", NOW + SECOND // 2),
        ({"changed": NOW - 10 * SECOND, "rate_per_s": 20.0}, "dwell", NOW + 20 * SECOND),
        ({"changed": NOW - 10 * SECOND, "rate_per_s": 20.0, "is_panic": True}, "dwell", NOW + 20 * SECOND),
        ({"has_candidate": True, "vote_due": NOW + 7}, "waits until it pays", NOW + 7),
        ({"has_failed": True, "blocked_until": NOW + 9, "rate_per_s": 20.0}, "could not be computed", NOW + 9),
    ],
)
def test_nothing_is_asked_for(changed, rule, until):
    decision = asks(**changed)
    assert isinstance(decision, regranulate.Hold)
    assert rule in decision.because.rule
    assert decision.until == until


def predicted(attainment: float, usd: float) -> Prediction:
    return Prediction(1.0, 2.0, 3.0, attainment, 9.0, usd, usd, 0.1)


def judged(attainment: float, usd: float, error: float, by: str = "analytic") -> Judgement:
    return Judgement(
        Band(attainment, max(0.0, attainment - error), min(1.0, attainment + error)),
        Band(usd, usd * (1 - error), usd * (1 + error)),
        by,
    )


def view(table: PlanTable, vote: str = VOTE, current: Plan = FUSED, **more: object) -> regranulate.VerdictView:
    times = {"dwell_us": 30 * SECOND, "trusted_us": 30 * SECOND}
    return regranulate.VerdictView(table, current, 0.99, 0.05, vote, **{**times, **more})


def verdict(old: tuple[float, float], new: tuple[float, float], vote: str = VOTE, plan: Plan = HALVES, **more: object):
    table = PlanTable(1, (Option(plan, predicted(*new), True),), "", True, current=predicted(*old))
    return regranulate.verdict(view(table, vote, **more), NOW)


def test_a_change_that_meets_the_slo_waits_for_a_second_vote_and_is_then_made():
    first = verdict((0.5, 1.0), (1.0, 2.0), "")
    assert isinstance(first, regranulate.Hold)
    assert first.vote == VOTE
    switch = verdict((0.5, 1.0), (1.0, 2.0), first.vote)
    assert isinstance(switch, regranulate.Switch)
    assert switch.because.rule == "the present plan is predicted to miss the SLO"


def test_a_change_that_is_cheaper_at_the_slo_is_made():
    switch = verdict((1.0, 1.0), (1.0, 0.9))
    assert isinstance(switch, regranulate.Switch)
    assert switch.because.rule == "cheaper at the SLO"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((1.0, 1.0), (1.0, 0.97)),
        ((1.0, 1.0), (0.9, 0.1)),
        ((0.5, 1.0), (0.51, 0.1)),
        ((0.5, 1.0), (0.5, 0.1)),
        ((0.5, 1.0), (0.51, 0.5)),
        ((0.9899, 1.0), (1.0, 1.2)),
    ],
)
def test_a_change_that_gains_little_or_misses_the_slo_is_not_made(old, new):
    decision = verdict(old, new)
    assert isinstance(decision, regranulate.Hold)
    assert not decision.vote


def test_a_change_waits_until_the_load_has_lasted_to_pay_for_it():
    # It saves 0.36 USD per hour, 0.0001 USD per second: the change costs sixty seconds of that.
    cost = (Change(2, 1e6, 0.006),)
    young = verdict((1.0, 1.0), (1.0, 0.64), changes=cost, trusted_us=40 * SECOND)
    assert isinstance(young, regranulate.Hold)
    assert "once the load has lasted" in young.because.rule
    assert (young.vote, young.until) == (VOTE, NOW + 20 * SECOND)
    assert isinstance(verdict((1.0, 1.0), (1.0, 0.64), changes=cost, trusted_us=61 * SECOND), regranulate.Switch)
    never = verdict((1.0, 1.0), (1.0, 0.64), changes=(Change(2, 1e6, 1.0),), trusted_us=3600 * SECOND)
    assert isinstance(never, regranulate.Hold)
    assert not never.vote


def test_nothing_is_changed_within_the_dwell_time_whatever_it_gains():
    held = verdict((0.0, 1.0), (1.0, 1.0), changed=NOW - 29 * SECOND)
    assert isinstance(held, regranulate.Hold)
    assert (held.vote, held.until) == (VOTE, NOW + SECOND)
    assert isinstance(verdict((0.0, 1.0), (1.0, 1.0), changed=NOW - 30 * SECOND), regranulate.Switch)


def test_another_number_of_instances_is_no_change():
    more = plan_for("chain", (STAGES,), instances=3)
    held = verdict((0.5, 1.0), (1.0, 0.5), plan=more)
    assert isinstance(held, regranulate.Hold)
    assert held.because.rule == "the present plan is still the best"


def test_another_share_of_the_same_granularity_needs_two_votes_and_a_dwell_time_of_its_own():
    wider = plan_for("chain", (STAGES,), cpu_cores=2.0)
    first = verdict((0.5, 1.0), (1.0, 0.5), "", plan=wider)
    assert isinstance(first, regranulate.Hold)
    assert isinstance(verdict((0.5, 1.0), (1.0, 0.5), first.vote, plan=wider), regranulate.Switch)
    assert isinstance(verdict((0.5, 1.0), (1.0, 0.5), first.vote, plan=wider, tuned=NOW - SECOND), regranulate.Hold)
    assert isinstance(verdict((0.5, 1.0), (1.0, 0.5), tuned=NOW - SECOND), regranulate.Switch)


def test_what_was_refused_lately_is_passed_over_for_the_next_best():
    options = (Option(HALVES, predicted(1.0, 0.5), True), Option(SPLIT, predicted(1.0, 0.8), True))
    table = PlanTable(1, options, "", True, current=predicted(1.0, 1.0))
    assert regranulate.verdict(view(table), NOW).plan is HALVES
    vote = " | ".join(STAGES)
    assert regranulate.verdict(view(table, vote, refused=(VOTE,)), NOW).plan is SPLIT


def test_the_option_that_costs_less_to_reach_can_be_worth_more():
    options = (Option(HALVES, predicted(1.0, 0.5), True), Option(SPLIT, predicted(1.0, 0.6), True))
    table = PlanTable(1, options, "", True, current=predicted(1.0, 1.0))
    changes = (Change(4, 1e6, 0.003), Change(0, 0.0, 0.0))
    assert regranulate.verdict(view(table, "", changes=changes), NOW).vote == " | ".join(STAGES)


def test_a_candidate_keeps_its_vote_against_one_that_is_a_little_better():
    options = (Option(SPLIT, predicted(1.0, 0.5), True), Option(HALVES, predicted(1.0, 0.55), True))
    table = PlanTable(1, options, "", True, current=predicted(1.0, 1.0))
    assert regranulate.verdict(view(table), NOW).plan is HALVES


@pytest.mark.parametrize(("error", "is_beyond"), [(0.01, True), (0.4, False)])
def test_judgements_count_beyond_their_error_only(error, is_beyond):
    option = Option(HALVES, predicted(0.0, 9.0), True, judged=judged(1.0, 0.7, error))
    table = PlanTable(1, (option,), "", True, current=predicted(1.0, 0.1), current_judged=judged(1.0, 1.0, error))
    assert isinstance(regranulate.verdict(view(table), NOW), regranulate.Switch) == is_beyond


def test_a_rollout_has_counted_the_change_itself():
    option = Option(HALVES, predicted(1.0, 0.7), True, judged=judged(1.0, 0.7, 0.01, "rollout"))
    table = PlanTable(1, (option,), "", True, current=predicted(1.0, 1.0), current_judged=judged(1.0, 1.0, 0.01, "rollout"))
    assert isinstance(regranulate.verdict(view(table, changes=(Change(9, 1e6, 9.0),)), NOW), regranulate.Switch)
    analytic = msgspec.structs.replace(option, judged=judged(1.0, 0.7, 0.01))
    dear = view(msgspec.structs.replace(table, options=(analytic,)), changes=(Change(9, 1e6, 9.0),))
    assert isinstance(regranulate.verdict(dear, NOW), regranulate.Hold)


def test_an_option_that_was_not_judged_is_no_candidate_beside_judged_ones():
    option = Option(HALVES, predicted(1.0, 0.1), True)
    table = PlanTable(1, (option,), "", True, current=predicted(1.0, 1.0), current_judged=judged(1.0, 1.0, 0.01))
    assert isinstance(regranulate.verdict(view(table), NOW), regranulate.Hold)


def test_fixed_sets_never_ask_and_never_switch():
    facts = regranulate.AskView(0, 9.0, 0.0, 0.0, SECOND, SECOND, True, True)
    assert isinstance(regranulate.never_ask(facts, NOW), regranulate.Hold)
    table = PlanTable(1, (Option(HALVES, predicted(1.0, 0.1), True),), "", True, current=predicted(0.0, 1.0))
    assert isinstance(regranulate.never_switch(view(table), NOW + MILLISECOND), regranulate.Hold)


def test_nothing_is_asked_for_in_a_burst_that_may_end_before_a_change_could_be_made():
    young = asks(rate_per_s=50.0, trusted_us=5 * SECOND, dwell_us=30 * SECOND, replan_us=5 * SECOND)
    assert isinstance(young, regranulate.Hold)
    assert young.until == NOW + 15 * SECOND
    known = {"rate_per_s": 50.0, "trusted_us": 20 * SECOND, "dwell_us": 30 * SECOND, "replan_us": 5 * SECOND}
    assert isinstance(asks(**known), regranulate.Ask)
    assert isinstance(asks(**known, is_panic=True), regranulate.Hold)
