"""Adaptive control by each evaluator, live: it changes the granularity by itself, answers right meanwhile, and says why."""

import asyncio
import os

import pytest

from grainwise.cli.load_command import outputs_equal
from grainwise.cli.load_generator import Call, run_load, summarise
from grainwise.control.actions import (
    ComputePlan,
    Invoke,
    KillInstance,
    LoadStages,
    Reject,
    Respond,
    StartInstance,
    StopInstance,
)
from grainwise.control.events import PlanFailed, PlanReady, PlanRequested, RequestArrived
from grainwise.domain.config import AppConfig
from grainwise.domain.errors import ArtifactError, PlatformError
from grainwise.domain.plan import render_grain
from grainwise.domain.time import SECOND
from grainwise.simulation.learning import OVERRIDE, load
from grainwise.workloads.arrivals import Phase, arrivals

from .serving_harness import TEXT_APP, run, serve
from .test_regranulation import TEXT, WORDS, while_open

SPLIT = "split | clean | count | join"
STEP = (Phase(5.0, 3 * SECOND), Phase(20.0, 600 * SECOND))
ANSWERS = 10
EXPLAINED = (ComputePlan, Invoke, KillInstance, LoadStages, Reject, StartInstance, StopInstance)


def served(folder, evaluator):
    """The text app, at first in four functions, where one is a quarter as dear at such a rate and such an SLO."""
    folder.mkdir()
    config = AppConfig(policies="adaptive", evaluator=evaluator, replan_us=SECOND // 2, dwell_us=2 * SECOND)
    return serve(TEXT_APP, folder, grain="split", slo_ms=1000.0, rate_per_s=5.0, config=config)


class Verdicts:
    """What the status says each time that the planner has answered, as an observer of the driver."""

    def __init__(self, live):
        self.live = live
        self.seen = []

    def __call__(self, event, actions, now):
        if isinstance(event, PlanReady):
            status = self.live.serving.plan(self.live.app)
            self.seen.append((status.last_verdict, status.regranulating_to or status.grain))


def test_a_step_of_the_rate_changes_the_granularity_and_everything_is_explained(tmp_path):
    """Both servers at once, as the policy counts seconds before it asks. On leaving, both logs are replayed elsewhere."""

    async def main():
        async with served(tmp_path / "analytic", "analytic") as one, served(tmp_path / "rollout", "rollout") as other:
            await asyncio.gather(step_and_check(one, "analytic"), step_and_check(other, "rollout"))

    run(main())


async def step_and_check(live, evaluator):
    verdicts = Verdicts(live)
    live.serving.driver.observe(verdicts)
    assert live.serving.plan(live.app).grain == SPLIT
    is_done = asyncio.Event()
    answered = []

    async def wait_for_the_change():
        try:
            await live.until(lambda: live.serving.plan(live.app).regranulations >= 1)
            seen = len(answered)
            await live.until(lambda: len(answered) >= seen + ANSWERS)
        finally:
            is_done.set()

    live.serving.driver.observe(lambda event, actions, now: answered.extend(a for a in actions if isinstance(a, Respond)))
    waiting = asyncio.create_task(wait_for_the_change())
    call = Call(live.url, TEXT, "application/json", lambda body: outputs_equal(body, WORDS))
    samples = await run_load([call], while_open(arrivals(STEP, "poisson", 11), is_done))
    await waiting
    report = summarise(samples)
    assert report.right == report.offered, report
    entries = live.entries()
    check_asked(entries, evaluator)
    check_explained(entries)
    check_verdicts(verdicts.seen, live.serving.plan(live.app))


def check_asked(entries, evaluator):
    """Every problem names the evaluator, a rollout goes on from a snapshot, and that evaluator has answered."""
    asked = [action for entry in entries for action in entry.actions if isinstance(action, ComputePlan)]
    tables = [entry.event.table for entry in entries if isinstance(entry.event, PlanReady)]
    assert not [entry.event for entry in entries if isinstance(entry.event, PlanFailed)]
    assert len(asked) >= len(tables) >= 2, "a change needs two votes"
    for each in asked:
        problem = each.problem
        assert (problem.evaluator, problem.policies, problem.is_stagewise) == (evaluator, "adaptive", True)
        assert bool(problem.snapshot) == (evaluator == "rollout")
        assert any(name == "planned_rate_per_s" for name, _ in each.because.facts)
    for table in tables:
        assert table.evaluator == table.winner.judged.by == table.current_judged.by == evaluator
        assert table.because
    if evaluator == "rollout":
        assert arrived_meanwhile(entries), "nobody asked for anything while plans were rolled out"


def arrived_meanwhile(entries):
    """The requests that came while the planner was at work."""
    is_planning, found = False, 0
    for entry in entries:
        is_planning = is_planning and not isinstance(entry.event, PlanReady)
        found += is_planning and isinstance(entry.event, RequestArrived)
        is_planning = is_planning or any(isinstance(action, ComputePlan) for action in entry.actions)
    return found


def check_explained(entries):
    actions = [action for entry in entries for action in entry.actions if isinstance(action, EXPLAINED)]
    assert {ComputePlan, Invoke, StartInstance} <= {type(action) for action in actions}
    assert [action for action in actions if not action.because.render()] == []


def check_verdicts(seen, status):
    """Why each answer was taken or not, and why the granularity was changed."""
    assert all(verdict for verdict, _ in seen), seen
    reasons = [verdict.partition(":")[0] for verdict, _ in seen]
    change = reasons.index("cheaper at the SLO")
    assert reasons[change - 1].startswith("better, ")
    verdict, grain = seen[change]
    assert grain != SPLIT
    assert f"best {grain}" in verdict
    assert {grain for _, grain in seen[:change]} == {SPLIT}
    assert status.last_ask
    assert status.last_change


def test_a_plan_on_command_is_judged_by_the_learned_predictor(tmp_path):
    try:
        load(os.environ.get(OVERRIDE, ""))
    except (ArtifactError, PlatformError) as reason:
        pytest.skip(f"there is no predictor to ask: {reason}")

    async def main():
        async with served(tmp_path / "learned", "learned") as live:
            grain = await live.change_to(None)
            status, body = await live.post({"text": "Deep  GRAIN, wise words"})
            assert (status, body["outputs"]["output"]) == (200, WORDS)
            entries = live.entries()
            (asked,) = live.actions(ComputePlan)
            (table,) = [entry.event.table for entry in entries if isinstance(entry.event, PlanReady)]
            assert [entry for entry in entries if isinstance(entry.event, PlanRequested)]
            assert asked.problem.evaluator == table.evaluator == "learned"
            assert not asked.problem.snapshot
            assert table.winner.judged.by == "learned" or table.winner.judged.handed_on
            assert render_grain(table.winner.plan.grain) == grain
            check_explained(entries)

    run(main())
