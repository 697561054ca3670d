"""Plans judged by the controller in virtual time: fresh ones as a trial finds them, changes with what they cost."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from grainwise.domain.config import AppConfig
from grainwise.domain.errors import ConfigurationError
from grainwise.domain.machine import NOMINAL_PRICES, Node
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.domain.time import SECOND
from grainwise.planning.problem import PlanTable, Problem
from grainwise.planning.table import compute
from grainwise.predictors.evaluator import Judgement
from grainwise.simulation.bands import fraction_band, mean_band
from grainwise.simulation.cluster import Cluster, ClusterNode, Network
from grainwise.simulation.imagined import imagined
from grainwise.simulation.rollout import Rollout
from grainwise.simulation.run import Scenario, Simulation
from grainwise.simulation.trial import Trial, run_trial
from grainwise.workloads.processes import Poisson
from grainwise.workloads.recorded import Recorded
from grainwise.workloads.traffic import Stream, Traffic, open_arrivals
from worlds.problems import HOP, NOISY, SOFT, chain_graph, problem_of, spec_of, stage_model

GRAPH = chain_graph(3)
NAMES = tuple(node.name for node in GRAPH.stages)


def problem(rate: float = 12.0, memory_mib: float = 8000.0, slo_ms: float = 140.0, cores: float = 8.0) -> Problem:
    models = tuple(stage_model(20_000.0, 5000.0, residuals=NOISY) for _ in NAMES)
    spec = spec_of(GRAPH, slo_ms=slo_ms, target=0.9, max_batch=2)
    return problem_of(spec, models, rate_per_s=rate, hop=HOP, nodes=(Node("here", cores, memory_mib),))


def plan(*groups: int, instances: int = 1, batch: int = 1, objective: str = "provisioned") -> Plan:
    """Functions of so many stages each."""
    functions: list[FunctionPlan] = []
    at = 0
    for count in groups:
        functions.append(FunctionPlan(NAMES[at : at + count], 1.0, batch, instances, instances, instances))
        at += count
    return Plan("made", tuple(functions), objective)


def no_trace(name: str, column: str | None) -> Recorded:
    raise AssertionError(f"{name} is not asked for")


@dataclass
class Running:
    """A deployment in virtual time, from which snapshots are taken."""

    of: Problem
    simulation: Simulation

    @classmethod
    def under(cls, of: Problem, served: Plan, seconds: float = 3.0) -> "Running":
        app = imagined(of.app, of.model, of.hop, of.workload, served, AppConfig(replan_us=0, dwell_us=SECOND))
        on = Cluster("here", tuple(ClusterNode(each) for each in of.nodes), Network(of.nodes[0].name), capabilities=SOFT)
        traffic = Traffic("test", (Stream("made", Poisson(of.workload.rate_per_s)),), 60.0)
        simulation = Simulation(Scenario(on, (app,), 60 * SECOND), open_arrivals(traffic, 2))
        simulation.deploy()
        simulation.begin()
        simulation.loop.run_until(simulation.origin + round(seconds * SECOND))
        return cls(of, simulation)

    def judge(self, *plans: Plan, events: int = 2000) -> tuple[Judgement, ...]:
        snapshot = self.simulation.controller.snapshot()
        now = msgspec.structs.replace(self.of, now=self.simulation.loop.now, snapshot=snapshot)
        return Rollout(events=events).judge(now, plans, snapshot)


def test_a_fresh_plan_is_judged_as_a_trial_of_it_comes_out() -> None:
    asked = problem()
    plans = (plan(3), plan(1, 2), plan(1, 1, 1))
    found = Rollout(events=4000).judge(asked, plans)
    on = Cluster("here", tuple(ClusterNode(each) for each in asked.nodes), Network("here"), capabilities=asked.capabilities)
    traffic = Traffic("test", (Stream("made", Poisson(12.0)),), 60.0)
    for candidate, judged in zip(plans, found, strict=True):
        app = imagined(asked.app, asked.model, asked.hop, asked.workload, candidate, AppConfig(replan_us=0))
        result = run_trial(Trial(Scenario(on, (app,), 60 * SECOND, 9), traffic, "test", "test"), no_trace).apps[0]
        assert judged.attainment.low - 0.02 <= result.attainment <= judged.attainment.high + 0.02
        assert judged.usd_per_hour.value == pytest.approx(result.cost.provisioned_usd * 60, rel=0.02)
        assert judged.by == "rollout" and not judged.handed_on
    assert found[0].attainment.value != found[2].attainment.value


def test_invocations_are_billed_where_that_is_the_objective() -> None:
    asked = problem(rate=6.0)
    judged = Rollout(events=3000).judge(asked, (plan(3, objective="billed"), plan(3)))
    busy_s = 6.0 * (3 * 0.025 + HOP.latency_us(1000) / 1e6)
    memory = asked.model.memory_mib(0b111, HOP.process_mib)
    fee = 3600 * 6.0 * NOMINAL_PRICES.usd_per_million_requests / 1e6
    assert judged[0].usd_per_hour.value == pytest.approx(
        3600 * busy_s * NOMINAL_PRICES.usd_per_second(1.0, memory) + fee, rel=0.15
    )
    assert judged[1].usd_per_hour.value == pytest.approx(3600 * NOMINAL_PRICES.usd_per_second(1.0, memory))


def test_the_better_plan_is_judged_better_from_a_state_and_a_change_pays_for_itself() -> None:
    small = plan(3)
    running = Running.under(problem(rate=18.0), small)
    staying, growing = running.judge(small, plan(3, instances=3))
    assert growing.attainment.low > staying.attainment.high


def test_a_change_costs_what_it_holds_twice_and_an_instance_that_holds_everything_serves_every_plan() -> None:
    of, whole, halves = problem(rate=4.0), plan(3), plan(1, 2)
    fresh = Rollout(events=2000).judge(of, (whole, halves))
    fused, split = Running.under(of, whole).judge(whole, halves)
    assert fused.usd_per_hour.value == pytest.approx(fresh[0].usd_per_hour.value)
    assert split.usd_per_hour.value < fresh[1].usd_per_hour.value
    fused, split = Running.under(of, halves).judge(whole, halves)
    assert split.usd_per_hour.value == pytest.approx(fresh[1].usd_per_hour.value)
    assert fused.usd_per_hour.value > fresh[0].usd_per_hour.value * 1.005


def test_a_problem_of_a_review_carries_the_state_that_its_rollout_goes_on_from() -> None:
    of = problem(rate=12.0)
    asked: list[Problem] = []

    def note(found: Problem) -> PlanTable:
        asked.append(found)
        return compute(found)

    config = AppConfig(replan_us=SECOND, dwell_us=SECOND, evaluator="rollout")
    app = imagined(of.app, of.model, of.hop, of.workload, plan(1, 2), config)
    on = Cluster("here", tuple(ClusterNode(each) for each in of.nodes), Network("here"), capabilities=of.capabilities)
    traffic = Traffic("test", (Stream("made", Poisson(12.0)),), 12.0)
    simulation = Simulation(Scenario(on, (app,), 12 * SECOND), open_arrivals(traffic, 2), compute=note)
    simulation.run()
    assert asked and all(each.evaluator == "rollout" and each.snapshot for each in asked)
    for each in asked[:2]:
        present = each.current or plan(3)
        going, changing = Rollout(events=800).judge(each, (present, plan(1, 1, 1)), each.snapshot)
        assert 0 < going.attainment.value <= 1 and not going.handed_on
        assert 0 < changing.attainment.value <= 1


def answers() -> str:
    """From a state and fresh, as bytes in hexadecimal."""
    going = Running.under(problem(), plan(1, 2), seconds=2.017).judge(plan(3), plan(1, 2), events=800)
    return msgspec.msgpack.encode((going, Rollout(events=500).judge(problem(), (plan(2, 1),)))).hex()


def test_the_same_question_has_the_same_answer_whatever_the_seed_of_hashes() -> None:
    here = answers()
    assert here == answers()
    there = subprocess.run(
        [sys.executable, "-c", "import test_rollout; print(test_rollout.answers())"],
        env={
            **os.environ,
            "PYTHONHASHSEED": "1234",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]),
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert there.stdout.strip() == here


def test_a_plan_that_finds_no_room_is_judged_with_what_it_lacks() -> None:
    of = problem(memory_mib=400.0, rate=4.0)
    fits, misfit = Rollout(events=1000).judge(of, (plan(3), plan(1, 1, 1, instances=2)))
    assert fits.attainment.value > 0.9 and not fits.handed_on
    assert misfit.attainment.high == 0 and "find no room" in misfit.handed_on and misfit.usd_per_hour.value > 0


def test_a_change_that_is_refused_is_judged_with_the_reason() -> None:
    of, halves = problem(memory_mib=400.0, rate=4.0), plan(1, 2)
    staying, refused = Running.under(of, halves).judge(halves, plan(3), events=1000)
    assert staying.attainment.value > 0.9 and not staying.handed_on
    assert refused.attainment.high == 0 and "no room" in refused.handed_on


def test_a_forecast_of_nothing_and_of_nonsense() -> None:
    judged = Rollout().judge(problem(rate=0.0), (plan(3),))[0]
    assert (judged.attainment.value, judged.attainment.low, judged.attainment.high) == (1.0, 0.0, 1.0)
    with pytest.raises(ConfigurationError, match="the forecast for made is nan requests/s"):
        Rollout().judge(problem(rate=float("nan")), (plan(3),))
    with pytest.raises(ConfigurationError, match="no machine"):
        Rollout().judge(msgspec.structs.replace(problem(), nodes=()), (plan(3),))
    assert Rollout().judge(problem(), ()) == ()


def test_capacity_is_bisected_where_it_is_asked_for() -> None:
    judged = Rollout(with_capacity=True, events=500).judge(problem(rate=4.0, slo_ms=300.0), (plan(3),))[0]
    assert judged.capacity_per_s is not None
    # One instance that takes 90 ms for two requests carries less than 22 a second; the runs are short.
    assert 1.0 < judged.capacity_per_s.low <= judged.capacity_per_s.value <= judged.capacity_per_s.high < 22.0


def test_the_budget_bounds_what_is_run() -> None:
    plans = (plan(3), plan(1, 2), plan(2, 1))
    rough, fine = (Rollout(events=events).judge(problem(), plans)[1].attainment for events in (300, 4000))
    assert rough.high - rough.low > fine.high - fine.low


def test_a_plan_without_doubt_has_a_narrow_range_and_one_with_bursts_a_wide_one() -> None:
    assert fraction_band([100] * 5, [100] * 5).low > 0.99
    even, uneven = fraction_band([50] * 10, [100] * 10), fraction_band([100] * 5 + [0] * 5, [100] * 10)
    assert even.value == uneven.value == 0.5
    assert uneven.high - uneven.low > 3 * (even.high - even.low)
    course = fraction_band([0, 50, 100] * 4, [100] * 12, runs=4)
    assert course.high - course.low == pytest.approx(even.high - even.low, rel=0.2)
    apart = fraction_band([0] * 3 + [100] * 3, [100] * 6, runs=2)
    assert apart.high - apart.low > 0.5
    assert fraction_band([0], [0]) == fraction_band([], [])
    assert mean_band([1.0, 1.0, 1.0], 10).low == 1.0 and mean_band([1.0, 3.0], 10).high > 3.0
