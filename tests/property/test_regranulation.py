"""The slow loop cannot flap: a real controller in virtual time, a scripted planner, loads of every shape.

Arrivals are counted without requests behind them, so that an hour of load takes a moment; reviews, verdicts and changes are the
controller's own.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from grainwise.control.actions import LoadStages, StartInstance
from grainwise.control.events import PlanReady
from grainwise.domain.config import AppConfig
from grainwise.domain.plan import Plan, Prediction
from grainwise.domain.time import SECOND
from grainwise.planning.problem import Option, PlanTable, Problem
from worlds.apps import SHAPES, chain
from worlds.control import World
from worlds.grains import legal_grains, plan_for

DWELL_S = 30
CONFIG = AppConfig(replan_us=5 * SECOND, dwell_us=DWELL_S * SECOND)
STAGES = chain().graph.names(chain().graph.all_mask)
COARSE = plan_for("chain", (STAGES[:2], STAGES[2:]), max_instances=2)
FINE = plan_for("chain", tuple((stage,) for stage in STAGES), max_instances=2)
CROSSOVER = 10.0
"""Below this rate the coarse plan is the better one, above it the fine one."""

Planner = Callable[[Problem], PlanTable]


def by_cost(problem: Problem) -> PlanTable:
    """One plan costs half of the other."""
    fine = 1.0 if problem.workload.rate_per_s <= CROSSOVER else 0.25
    return table(problem, {COARSE.id: (1.0, 0.5), FINE.id: (1.0, fine)})


def by_attainment(problem: Problem) -> PlanTable:
    """One plan meets the SLO and the other does not."""
    is_low = problem.workload.rate_per_s <= CROSSOVER
    return table(problem, {COARSE.id: (1.0 if is_low else 0.3, 1.0), FINE.id: (0.3 if is_low else 1.0, 1.0)})


def table(problem: Problem, figures: dict[str, tuple[float, float]]) -> PlanTable:
    def predicted(plan: Plan) -> Prediction:
        attainment, usd = figures[plan.id]
        return Prediction(1.0, 2.0, 3.0, attainment, 100.0, usd, usd, 0.1)

    options = [Option(plan, predicted(plan), predicted(plan).attainment > 0.9) for plan in (COARSE, FINE)]
    options.sort(key=lambda each: (not each.meets_slo, each.predicted.provisioned_usd_per_hour))
    assert problem.current is not None
    return PlanTable(problem.number, tuple(options), "scripted", True, current=predicted(problem.current))


def changes(counts: Sequence[int], planner: Planner) -> list[float]:
    """Seconds at which the granularity was changed under so many arrivals in each second."""
    world = World(chain(), plans=[COARSE], config=CONFIG, is_checked=False)
    app = world.state_of()
    began = world.now
    found: list[float] = []
    answered = 0
    for count in counts:
        if count:
            app.rate.add(world.now, count)
        app.last_arrival = world.now
        world.run_for(SECOND)
        while answered < len(world.problems):
            problem = world.problems[answered]
            answered += 1
            world.post(PlanReady("chain", planner(problem)))
        if app.regranulations > len(found):
            found.append((app.changed_at - began) / SECOND)
    assert app.regranulations == len(found)
    return found


@settings(max_examples=20, deadline=None)
@given(
    st.integers(2, 240),
    st.floats(0.05, 0.95),
    st.integers(0, 8),
    st.integers(13, 60),
    st.sampled_from([by_cost, by_attainment]),
)
def test_a_square_wave_of_any_period_changes_at_most_once_per_dwell_time(period, duty, low, high, planner):
    counts = [high if at % period < duty * period else low for at in range(400)]
    found = changes(counts, planner)
    assert all(later - earlier >= DWELL_S for earlier, later in pairwise(found)), found


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 40), st.sampled_from([by_cost, by_attainment]))
def test_a_constant_load_changes_nothing_after_settling(rate, planner):
    found = changes([rate] * 400, planner)
    assert len(found) <= 1
    assert all(at <= 3 * DWELL_S for at in found), found


def test_nor_does_a_noisy_load_whose_mean_is_constant():
    runs, restless = 0, []
    for rate in (3.0, 6.0, 16.0, 40.0):
        for seed in range(12):
            random = Random(seed)
            counts = []
            for _ in range(400):
                count, at = 0, random.expovariate(rate)
                while at < 1:
                    count, at = count + 1, at + random.expovariate(rate)
                counts.append(count)
            found = changes(counts, by_cost)
            runs += 1
            if len(found) > 1 or any(at > 3 * DWELL_S for at in found):
                restless.append((rate, seed, found))
    # Noise may look like a step for a while; it must be rare.
    assert len(restless) <= runs // 20, restless


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 7), st.integers(13, 60), st.booleans(), st.integers(60, 200), st.sampled_from([by_cost, by_attainment]))
def test_a_lasting_step_changes_once_within_three_dwell_times(low, high, is_up, lasted, planner):
    before, after = (low, high) if is_up else (high, low)
    found = changes([before] * lasted + [after] * (6 * DWELL_S), planner)
    settled = [at for at in found if at <= lasted]
    stepped = [at for at in found if at > lasted]
    assert len(settled) == (0 if is_up else 1)
    assert len(stepped) == 1
    assert stepped[0] - lasted <= 3 * DWELL_S


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_changing_what_is_run_at_once_starts_nothing_where_residency_covers_it(data):
    app = SHAPES[data.draw(st.sampled_from(sorted(SHAPES)))]()
    grains = legal_grains(app.graph)
    world = World(app, plans=[plan_for(app.name, grains[0])], config=AppConfig(replan_us=0), is_checked=False)
    before = len(world.actions)
    for _ in range(3):
        grain = data.draw(st.sampled_from(grains))
        world.regranulate(grain)
        assert world.status().plan.grain == grain
    assert not world.seen(StartInstance, before)
    assert not world.seen(LoadStages, before)


def test_the_policy_changes_it_without_a_start_too():
    fused = plan_for("chain", (STAGES,), max_instances=2)
    world = World(chain(), plans=[fused], config=CONFIG, is_checked=False)
    app = world.state_of()
    before, answered = len(world.actions), 0
    while not app.regranulations:
        app.rate.add(world.now, 3)
        app.last_arrival = world.now
        world.run_for(SECOND)
        assert world.now < 100 * SECOND
        if answered < len(world.problems):
            answered = len(world.problems)
            cheap, dear = (Prediction(1.0, 2.0, 3.0, 1.0, 9.0, usd, usd, 0.1) for usd in (0.5, 1.0))
            world.answer(FINE, current=dear, predicted=cheap)
    assert not world.seen(StartInstance, before)
    assert not world.seen(LoadStages, before)
