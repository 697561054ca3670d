"""Live changes of the granularity: adopt, load, start, make room; refused where there is no way; never a request lost."""

import pytest

from grainwise.control.actions import AdoptPlan, ComputePlan, Invoke, KillInstance, LoadStages, StartInstance, StopInstance
from grainwise.control.events import AppDeployed, PlanFailed, PlanReady, PlanRequested
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import NOMINAL_PRICES, Node
from grainwise.domain.plan import Prediction
from grainwise.domain.time import MILLISECOND, SECOND
from grainwise.planning.problem import PlanTable
from worlds.apps import SHAPES, chain, fan
from worlds.control import World
from worlds.grains import legal_grains, plan_for

STAGES = ("plus_one", "double", "negate", "plus_one#2")
FUSED = (STAGES,)
SPLIT = tuple((stage,) for stage in STAGES)
HALVES = (STAGES[:2], STAGES[2:])


def extents(world: World, since: int = 0) -> set[int]:
    return {invoke.extent for invoke in world.seen(Invoke, since)}


def test_fused_to_split_starts_nothing_loads_nothing_and_switches_at_once():
    world = World(chain())
    before = len(world.actions)
    world.regranulate(SPLIT)
    assert world.status().grain == "plus_one | double | negate | plus_one#2"
    world.ask(1)
    world.drain()
    assert extents(world, before) == {1, 2, 4, 8}
    assert not world.seen(StartInstance, before)
    assert not world.seen(LoadStages, before)


def test_split_to_fused_serves_on_while_it_gets_what_is_missing():
    world = World(chain(), grains=[SPLIT])
    before = len(world.actions)
    world.regranulate(FUSED)
    assert world.status().regranulating_to
    first = world.ask(1)
    world.run(lambda: world.asked[first].is_over, "the first is answered")
    assert extents(world, before) == {1, 2, 4, 8}
    world.run(lambda: not world.status().regranulating_to, "the change is over")
    second = world.ask(2)
    world.drain()
    assert world.asked[second].code == "ok"
    assert 15 in extents(world, before)
    assert len(world.seen(StartInstance, before)) == 1


def test_split_to_fused_loads_only_what_is_missing_where_an_instance_can_be_spared():
    plan = plan_for("chain", HALVES, instances=2)
    world = World(chain(), plans=[plan])
    world.run(lambda: sum(each.phase == "ready" for each in world.status().instances) == 4, "four are ready")
    before = len(world.actions)
    world.regranulate(FUSED)
    world.run(lambda: not world.status().regranulating_to, "the change is over")
    assert [action.stages for action in world.seen(LoadStages, before)] == [12]
    assert not world.seen(StartInstance, before)


def test_what_only_the_old_plan_needed_ends_after_its_last_request():
    world = World(chain(), grains=[SPLIT])
    world.invoked = lambda action: "hang" if action.extent == 8 else "done"
    old = world.ask(1, within_us=1900 * MILLISECOND)
    world.run(lambda: bool(world.busy) and world.busy[0].extent == 8, "the last function runs")
    world.regranulate(FUSED)
    world.run(lambda: not world.status().regranulating_to, "the change is over")
    assert len(world.state_of().plans) == 2
    world.run(lambda: world.asked[old].is_over, "the old request has ended")
    world.run(lambda: not world.controller.state.invocations, "its invocation has ended")
    world.invoked = lambda action: "done"
    assert len(world.state_of().plans) == 1
    world.run(lambda: [each.stages for each in world.status().instances] == [STAGES], "only the fused one is left")


def test_a_change_without_room_is_refused_with_what_is_missing_and_changes_nothing():
    world = World(chain(), grains=[HALVES], nodes=(Node("here", 4.0, 500.0),))
    before = len(world.actions)
    world.regranulate(FUSED)
    assert not world.status().regranulating_to
    assert world.status().grain == "plus_one+double | negate+plus_one#2"
    assert "330 MiB" in world.status().last_refusal
    assert not world.seen(StartInstance, before) + world.seen(LoadStages, before) + world.seen(StopInstance, before)
    assert list(world.state_of().plans) == [world.status().plan_id]
    world.ask(1)
    world.drain()


def test_on_a_full_machine_what_can_be_spared_makes_room():
    plan = plan_for("chain", SPLIT, instances=2)
    world = World(chain(), plans=[plan], nodes=(Node("here", 8.0, 8 * 110.0 + 50),))
    world.run(lambda: sum(each.phase == "ready" for each in world.status().instances) == 8, "eight are ready")
    world.regranulate(FUSED)
    for value in range(40):
        world.ask(value)
        world.run_for(20 * MILLISECOND)
    world.run(lambda: not world.status().regranulating_to, "the change is over")
    world.drain()
    assert world.status().grain == "+".join(STAGES)
    assert set(world.outcomes()) == {"ok"}


def test_a_change_can_be_redirected_midway():
    world = World(chain(), grains=[SPLIT])
    world.regranulate(FUSED)
    world.run_for(10 * MILLISECOND)
    world.regranulate(HALVES)
    assert "plus_one+double | " in world.status().regranulating_to
    world.ask(1)
    world.run(lambda: not world.status().regranulating_to, "the change is over")
    world.ask(2)
    world.drain()
    assert world.status().grain == "plus_one+double | negate+plus_one#2"
    assert world.status().regranulations == 1
    assert len(world.state_of().plans) == 1


def test_a_change_can_be_taken_back():
    world = World(chain(), grains=[SPLIT])
    world.regranulate(FUSED)
    world.regranulate(SPLIT)
    assert not world.status().regranulating_to
    world.run(lambda: len(world.instances) == 4, "what was started for nothing has ended")
    assert len(world.state_of().plans) == 1


def test_the_present_plan_forced_again_is_no_change():
    world = World(chain())
    before = len(world.actions)
    world.regranulate(FUSED)
    world.run_for(SECOND)
    assert world.status().regranulations == 0
    assert not world.seen(StartInstance, before)


def test_the_present_grain_with_another_share_switches_without_a_start():
    world = World(chain())
    before = len(world.actions)
    world.regranulate(FUSED, cpu_cores=2.0)
    assert world.status().plan.functions[0].cpu_cores == 2.0
    assert world.status().regranulations == 0
    assert not world.seen(StartInstance, before)
    world.ask(1)
    assert world.busy[0].cpu_cores == 2.0
    world.drain()


def test_a_change_whose_starts_fail_three_times_is_given_up_and_the_app_serves_on():
    world = World(chain(), grains=[SPLIT])
    world.started = lambda action: "fail" if action.stages == 15 else "ok"
    world.regranulate(FUSED)
    world.run(lambda: not world.status().regranulating_to, "it is given up")
    assert "3 starts failed" in world.status().last_refusal
    world.ask(1)
    world.drain()
    assert world.outcomes() == ["ok"]


def test_a_load_that_fails_leaves_the_old_residency_and_counts_as_a_failure():
    plan = plan_for("chain", HALVES, instances=2)
    world = World(chain(), plans=[plan])
    world.run(lambda: sum(each.phase == "ready" for each in world.status().instances) == 4, "four are ready")
    memory = world.controller.state.nodes["here"].memory_mib
    world.loaded = lambda action: "fail"
    world.regranulate(FUSED)
    world.run(lambda: not world.status().regranulating_to, "it is given up")
    assert "out of luck" in world.status().last_refusal
    assert world.controller.state.nodes["here"].memory_mib == memory
    assert {each.stages for each in world.status().instances} == set(HALVES)


def test_a_load_that_is_never_answered_ends_the_instance():
    plan = plan_for("chain", HALVES, instances=2)
    world = World(chain(), plans=[plan])
    world.run(lambda: sum(each.phase == "ready" for each in world.status().instances) == 4, "four are ready")
    world.loaded = lambda action: "hang"
    world.regranulate(FUSED)
    world.run(lambda: not world.status().regranulating_to, "it is over")
    world.ask(1)
    world.drain()
    assert world.outcomes() == ["ok"]


def test_the_limit_of_a_load_that_is_over_ends_no_later_load():
    plan = plan_for("chain", HALVES, instances=2)
    world = World(chain(), plans=[plan])
    world.run(lambda: sum(each.phase == "ready" for each in world.status().instances) == 4, "four are ready")
    world.loaded = lambda action: "fail"
    world.regranulate(FUSED)
    world.run(lambda: not world.status().regranulating_to, "it is given up")
    world.run_for(55 * SECOND)
    world.loaded = lambda action: "hang"
    world.regranulate(FUSED)
    (loading,) = [each for each in world.status().instances if each.phase == "loading"]
    world.run_for(30 * SECOND)
    assert not world.seen(KillInstance)
    world.run_for(40 * SECOND)
    assert [action.instance for action in world.seen(KillInstance)] == [loading.instance]


@pytest.mark.parametrize("name", ["chain", "diamond", "fan", "nested", "choice_within"])
def test_ten_changes_under_load_lose_no_request_and_answer_none_twice(name):
    app = SHAPES[name]()
    grains = legal_grains(app.graph)
    world = World(app, config=AppConfig(replan_us=0, keep_alive_us=2 * SECOND))
    for change in range(10):
        world.regranulate(grains[(change * 7 + 3) % len(grains)])
        for value in range(15):
            world.ask(value % 8)
            world.run_for(9 * MILLISECOND)
    world.drain()
    assert set(world.outcomes()) == {"ok"}
    assert world.status().regranulations >= 5


def test_a_stale_answer_of_the_planner_is_dropped():
    world = World(chain())
    world.post(PlanRequested("chain", "someone", SPLIT))
    world.post(PlanRequested("chain", "someone", HALVES))
    first, second = world.problems
    table = PlanTable(first.number, (), "stale", True)
    world.post(PlanReady("chain", table))
    assert world.status().is_planning
    world.answer(plan_for("chain", HALVES))
    world.answer(plan_for("chain", SPLIT))
    assert second.grain == HALVES
    assert world.status().grain == "plus_one+double | negate+plus_one#2"


def test_an_answer_without_any_plan_is_a_refusal_that_names_the_nearest():
    world = World(chain())
    world.post(PlanRequested("chain", "someone"))
    world.post(PlanReady("chain", PlanTable(world.problems[-1].number, (), "nothing fits", False, nearest="700 MiB would do")))
    assert "nothing fits" in world.status().last_refusal
    assert "700 MiB would do" in world.status().last_refusal


def test_a_planner_that_fails_leaves_the_plan():
    world = World(chain())
    world.post(PlanRequested("chain", "someone"))
    world.post(PlanFailed("chain", world.problems[-1].number, "it was killed"))
    assert "it was killed" in world.status().last_refusal
    assert not world.status().is_planning


def better(attainment: float, usd: float) -> Prediction:
    return Prediction(1.0, 2.0, 3.0, attainment, 100.0, usd, usd, 0.1)


def test_the_policy_asks_when_the_rate_has_moved_and_switches_after_two_votes():
    world = World(fan(), config=AppConfig(replan_us=2 * SECOND, dwell_us=SECOND))
    cheaper = plan_for("fan", legal_grains(fan().graph)[1])
    answered = 0
    for value in range(800):
        world.ask(value % 9)
        world.run_for(10 * MILLISECOND if value > 200 else 40 * MILLISECOND)
        while answered < len(world.problems):
            answered += 1
            world.answer(cheaper, current=better(1.0, 1.0), predicted=better(1.0, 0.5))
            if answered == 1:
                assert world.status().regranulations == 0
                assert "second vote" in world.status().last_verdict
    assert answered >= 2
    assert world.status().plan_id == cheaper.id
    world.drain()


def test_the_policy_holds_where_the_gain_is_small():
    world = World(fan(), config=AppConfig(replan_us=2 * SECOND, dwell_us=SECOND))
    other = plan_for("fan", legal_grains(fan().graph)[1])
    for value in range(200):
        world.ask(value % 9)
        world.run_for(40 * MILLISECOND)
    world.answer(other, current=better(1.0, 1.0), predicted=better(1.0, 0.97))
    assert "better by enough" in world.status().last_verdict
    assert world.status().regranulations == 0


def test_the_forecast_is_what_was_seen():
    world = World(fan(), grains=[legal_grains(fan().graph)[-1]])
    for _ in range(100):
        world.ask(4)
        world.run_for(50 * MILLISECOND)
    world.drain()
    world.post(PlanRequested("fan", "someone"))
    workload = world.seen(ComputePlan)[-1].problem.workload
    assert workload.items == (1.0, 4.0, 4.0, 1.0)
    assert 17 <= workload.rate_per_s <= 23
    assert workload.item_size[3] == 4.0


def test_deploying_the_same_declaration_again_moves_to_its_plan():
    world = World(chain())
    deployed = world.state_of().deployed
    world.post(
        AppDeployed(
            deployed.app, deployed.model, deployed.hop, deployed.workload, plan_for("chain", SPLIT), deployed.capabilities,
            NOMINAL_PRICES, AppConfig(replan_us=0),
        )
    )  # fmt: skip
    assert world.status().grain == "plus_one | double | negate | plus_one#2"
    world.ask(1)
    world.drain()


def test_another_declaration_of_a_served_app_is_refused():
    world = World(chain())
    deployed = world.state_of().deployed
    other = World(chain(8, slo_ms=50)).state_of().deployed
    world.post(
        AppDeployed(
            other.app, other.model, other.hop, other.workload, plan_for("chain", SPLIT), other.capabilities, NOMINAL_PRICES,
            AppConfig(),
        )
    )  # fmt: skip
    assert world.state_of().deployed == deployed
    assert "another declaration" in world.status().last_refusal


def test_the_log_says_when_another_plan_is_followed_and_why():
    world = World(chain())
    world.regranulate(SPLIT)
    adopted = world.seen(AdoptPlan)
    assert [action.plan.grain for action in adopted] == [SPLIT]
    assert "on command" in adopted[0].because.render()
