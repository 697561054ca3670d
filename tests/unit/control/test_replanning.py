"""What the controller asks the planner for, and what it makes of failures, refusals and changes of the machine."""

from itertools import pairwise

import msgspec
import pytest

from grainwise.control.actions import ComputePlan, StartInstance
from grainwise.control.controller import Controller
from grainwise.control.events import CapacityChanged, PlanFailed, PlanReady, PlanRequested
from grainwise.control.rates import RateMeter, dispersion
from grainwise.control.state import ControllerState
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import Node
from grainwise.domain.plan import Plan, Prediction
from grainwise.domain.time import MILLISECOND, SECOND
from grainwise.planning.problem import Option, PlanTable
from worlds.apps import chain
from worlds.control import World, model_of
from worlds.grains import plan_for

STAGES = ("plus_one", "double", "negate", "plus_one#2")
FUSED = (STAGES,)
SPLIT = tuple((stage,) for stage in STAGES)
HALVES = (STAGES[:2], STAGES[2:])
CONFIG = AppConfig(replan_us=2 * SECOND, dwell_us=10 * SECOND)


def feed(world: World, per_s: int, seconds: int) -> None:
    """Arrivals that are counted, without requests behind them."""
    app = world.state_of()
    for _ in range(seconds):
        if per_s:
            app.rate.add(world.now, per_s)
        app.last_arrival = world.now
        world.run_for(SECOND)


def predicted(attainment: float, usd: float) -> Prediction:
    return Prediction(1.0, 2.0, 3.0, attainment, 9.0, usd, usd, 0.1)


def answer(world: World, *plans: Plan, old: tuple[float, float] = (0.2, 1.0), new: tuple[float, float] = (1.0, 1.0)) -> None:
    options = tuple(Option(plan, predicted(*new), True) for plan in plans)
    world.post(PlanReady("chain", PlanTable(world.problems[-1].number, options, "", True, current=predicted(*old))))


def test_the_planned_rate_is_the_forecast_and_never_that_of_a_young_trough():
    world = World(chain(), config=CONFIG)
    feed(world, 20, 100)
    assert world.problems[-1].workload.rate_per_s == pytest.approx(20.0)
    world.post(PlanFailed("chain", world.problems[-1].number, "it was killed"))
    feed(world, 2, 8)
    assert world.problems[-1].workload.rate_per_s > 15
    feed(world, 2, 25)
    world.post(PlanFailed("chain", world.problems[-1].number, "it was killed"))
    feed(world, 2, 20)
    assert world.problems[-1].workload.rate_per_s < 4


def test_before_anything_came_a_command_plans_for_the_rate_of_the_deployment():
    world = World(chain())
    world.post(PlanRequested("chain", "someone"))
    assert world.problems[-1].workload.rate_per_s == world.state_of().deployed.workload.rate_per_s
    assert "no whole second" in world.seen(ComputePlan)[-1].because.render()


def test_an_idle_app_is_planned_for_at_the_least_rate():
    world = World(chain())
    world.state_of().rate.add(world.now, 3)
    world.run_for(1000 * SECOND)
    world.post(PlanRequested("chain", "someone"))
    assert world.problems[-1].workload.rate_per_s == 0.1


@pytest.mark.parametrize(("counts", "low", "high"), [([9] * 20, 0.5, 0.9), ([0, 0, 0, 40] * 8, 5.0, 12.0)])
def test_the_variability_of_arrivals_is_measured_and_drawn_towards_what_is_known(counts, low, high):
    world = World(chain(), config=AppConfig(replan_us=0))
    for count in counts:
        feed(world, count, 1)
    world.post(PlanRequested("chain", "someone"))
    assert low < world.problems[-1].workload.arrival_scv < high


def test_dispersion_is_variance_over_mean():
    assert dispersion([]) == dispersion([4]) == dispersion([0, 0, 0]) == 1.0
    assert dispersion([3, 3, 3]) == 0.0
    assert dispersion([0, 4]) == 4.0


def test_whole_seconds_are_counted_with_those_in_which_nothing_came():
    meter = RateMeter()
    for at in (SECOND, SECOND + 1, 3 * SECOND, 5 * SECOND):
        meter.add(at)
    assert meter.whole_seconds(0, 5) == [0, 2, 0, 1, 0]
    assert meter.whole_seconds(3, 3) == meter.whole_seconds(4, 3) == []


@pytest.mark.parametrize(("evaluator", "has_snapshot"), [("analytic", False), ("learned", False), ("rollout", True)])
def test_only_a_rollout_is_given_the_memory_from_which_it_goes_on(evaluator, has_snapshot):
    world = World(chain(), config=AppConfig(replan_us=0, evaluator=evaluator))
    world.ask(1)
    world.post(PlanRequested("chain", "someone"))
    problem = world.problems[-1]
    assert (problem.evaluator, problem.now, bool(problem.snapshot)) == (evaluator, world.now, has_snapshot)
    if has_snapshot:
        state = msgspec.msgpack.decode(problem.snapshot, type=ControllerState)
        assert state.apps["chain"].problem == problem.number
        assert list(state.requests) == [1]
        assert Controller.restore(problem.snapshot).status("chain").is_planning


def test_a_memory_that_is_too_large_is_left_out_and_that_is_said(monkeypatch):
    monkeypatch.setattr("grainwise.control.replanning.MAX_SNAPSHOT_BYTES", 100)
    world = World(chain(), config=AppConfig(replan_us=0, evaluator="rollout"))
    world.post(PlanRequested("chain", "someone"))
    assert not world.problems[-1].snapshot
    assert "is left out" in world.seen(ComputePlan)[-1].because.render()


def test_a_planner_that_fails_is_asked_again_and_later_each_time():
    world = World(chain(), config=CONFIG)
    asked: list[float] = []
    for _ in range(120):
        feed(world, 5, 1)
        if world.state_of().problem:
            asked.append(world.now / SECOND)
            world.post(PlanFailed("chain", world.problems[-1].number, "it was killed"))
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    # Reviews are a second apart, so each gap is up to that much longer.
    assert all(wait <= gap <= wait + 1.1 for wait, gap in zip((2, 4, 8, 16, 32), gaps, strict=False))
    assert len(asked) >= 6
    assert "could not be computed" in world.state_of().last_ask.render()
    feed(world, 5, 40)
    answer(world, plan_for("chain", FUSED))
    assert world.state_of().planning.failures == 0


def test_a_change_that_was_refused_is_not_tried_again_soon_and_the_next_best_is():
    world = World(chain(), grains=[HALVES], nodes=(Node("here", 4.0, 500.0),), config=CONFIG, model=model_of)
    fused, split = plan_for("chain", FUSED), plan_for("chain", SPLIT)
    for _ in range(2):
        while not world.state_of().problem:
            feed(world, 5, 1)
        answer(world, fused)
    assert "was refused" in world.status().last_refusal
    refused_at = world.now
    assert world.state_of().refusals["+".join(STAGES)].until == refused_at + 10 * SECOND
    while world.now < refused_at + 9 * SECOND:
        feed(world, 9, 1)
        if world.state_of().problem:
            answer(world, fused)
            assert not world.status().regranulating_to
    feed(world, 30, 8)
    for _ in range(2):
        while not world.state_of().problem:
            feed(world, 30, 1)
        answer(world, split)
    assert world.status().plan.grain == SPLIT


def test_other_nodes_are_a_reason_to_plan():
    world = World(chain(), config=CONFIG)
    feed(world, 5, 7)
    answer(world, plan_for("chain", FUSED))
    feed(world, 5, 5)
    before = len(world.problems)
    world.post(CapacityChanged((Node("here", 8.0, 10_000.0), Node("there", 8.0, 10_000.0))))
    feed(world, 5, 2)
    assert len(world.problems) == before + 1
    assert world.seen(ComputePlan)[-1].because.rule == "the nodes are others"
    assert len(world.problems[-1].nodes) == 2


def test_a_change_at_a_trough_brings_the_instances_that_the_long_run_needs():
    plan = plan_for("chain", HALVES, max_batch=1)
    world = World(chain(), plans=[plan], config=CONFIG, model=lambda spec: model_of(spec, fixed_us=50_000.0))
    feed(world, 10, 120)
    feed(world, 0, 9)
    before = len(world.actions)
    world.regranulate(FUSED, max_batch=1)
    world.run(lambda: not world.status().regranulating_to, "the change is over")
    world.run_for(5 * SECOND)
    assert len(world.seen(StartInstance, before)) >= 3
    assert any("planned rate" in start.because.rule for start in world.seen(StartInstance, before))


def test_why_a_plan_is_not_asked_for_can_be_seen():
    world = World(chain(), config=CONFIG)
    feed(world, 5, 7)
    answer(world, plan_for("chain", FUSED))
    feed(world, 5, 4)
    assert world.status().last_ask.startswith("the forecast is where it was: rate_per_s 5")
    assert world.status().last_verdict == "the present plan is still the best"
    world.run_for(100 * MILLISECOND)


def test_a_plan_that_took_long_is_asked_for_less_often():
    world = World(chain(), config=CONFIG)
    feed(world, 5, 7)
    feed(world, 5, 3)
    answer(world, plan_for("chain", FUSED))
    feed(world, 50, 10)
    assert len(world.problems) == 1
    assert world.status().last_ask == "planned recently"
    feed(world, 50, 25)
    assert len(world.problems) == 2
