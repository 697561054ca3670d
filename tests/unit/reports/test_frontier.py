"""The frontier of a plan table, its pictures of characters, and the staircase that dispatch will follow."""

import msgspec
import pytest

from grainwise.planning.best import Groups
from grainwise.planning.problem import Problem
from grainwise.predictors.samples import SAMPLES
from grainwise.reports.frontier import MAX_CAPACITIES, Frontier, frontier, undominated
from grainwise.reports.marks import BAR_WIDTH, HEIGHT, WIDTH, Mark, bar, height_of, scatter
from grainwise.reports.plan_text import MAX_TREADS, capacities, handed_on, listed, picture, stair_lines
from grainwise.reports.stairs import stairs_of
from grainwise.simulation.planners import plan
from grainwise.workloads.integers import SplitMix64
from worlds.problems import chain_graph, problem_of, spec_of, stage_model


def problem(**changes: object) -> Problem:
    app = spec_of(chain_graph(3), slo_ms=100.0)
    made = problem_of(app, tuple(stage_model() for _ in range(3)), rate_per_s=8.0)
    return msgspec.structs.replace(made, **({"is_stagewise": True} | changes))


@pytest.fixture(scope="module")
def found() -> Frontier:
    return frontier(problem(), plan(problem()))


def test_what_no_other_beats_is_what_a_comparison_of_all_with_all_says() -> None:
    rng = SplitMix64(7)
    for _ in range(300):
        figures = [(float(rng.below(6)), float(rng.below(6)) / 5) for _ in range(rng.below(9))]
        beaten = {
            at
            for at, (cost, attained) in enumerate(figures)
            if any(
                other_cost <= cost and other_attained >= attained and (other_cost < cost or other_attained > attained)
                for other_cost, other_attained in figures
            )
        }
        assert undominated(figures) == frozenset(range(len(figures))) - beaten


def test_a_frontier_has_every_option_the_chosen_one_first_and_capacities_as_they_are_predicted(found: Frontier) -> None:
    table = plan(problem())
    assert [point.grain for point in found.points] == [option.plan.grain for option in table.options]
    assert found.chosen.number == 1 and found.bound_usd_per_hour == table.bound_usd_per_hour > 0
    groups = Groups(problem())
    for point, option in zip(found.points, table.options, strict=True):
        assert point.attainment == option.predicted.attainment
        assert point.capacity_per_s == groups.evaluation(option.plan).capacity_per_s(0.99)
        assert point.capacity_per_s <= option.predicted.capacity_per_s + 1e-6
    assert found.best and all(point.is_on_frontier for point in found.best)


def test_capacities_of_a_long_table_are_sought_for_the_first_alone() -> None:
    table = plan(problem())
    long = msgspec.structs.replace(table, options=table.options + (table.options[-1],) * MAX_CAPACITIES)
    points = frontier(problem(), long).points
    on = sum(point.is_on_frontier for point in points[MAX_CAPACITIES:])
    assert sum(point.capacity_per_s is not None for point in points) == MAX_CAPACITIES + on


def test_where_a_rollout_decides_its_figures_are_compared_with_each_other_alone() -> None:
    asked = problem(evaluator="rollout")
    judged = frontier(asked, plan(asked))
    assert judged.is_judged and judged.chosen.judged is not None
    assert all(point.judged is not None for point in judged.points if point.is_on_judged_frontier)
    assert any(point.is_on_judged_frontier for point in judged.points)
    assert handed_on(judged) == ""


def test_the_tread_of_a_remaining_time_is_the_least_cost_of_all_first_extents() -> None:
    asked = problem(objective="billed")
    (stair,) = stairs_of(asked, plan(asked).winner.plan)
    assert stair.head == asked.app.graph.stages[0].name
    assert [tread.from_ms for tread in stair.treads] == sorted(tread.from_ms for tread in stair.treads)
    rng = SplitMix64(3)
    for _ in range(200):
        left_ms = stair.treads[0].from_ms + rng.below(300_000) / 1000
        tread = [each for each in stair.treads if each.from_ms <= left_ms][-1]
        least = min(
            usd
            for extent in stair.extents
            for at_ms, usd in zip(extent.times_ms, extent.usd_per_million, strict=True)
            if at_ms <= left_ms
        )
        assert tread.usd_per_million == least
    lines = stair_lines([stair], {})
    assert "a request is late" in lines[0] and 2 <= len(lines) <= MAX_TREADS + 2


def test_where_extents_are_fixed_there_is_no_staircase() -> None:
    asked = problem(is_stagewise=False)
    assert stairs_of(asked, plan(asked).winner.plan) == ()


def test_the_picture_holds_its_marks_within_its_frame(found: Frontier) -> None:
    lines = picture(found)
    assert len(lines) == HEIGHT + 2
    assert max(map(len, lines)) <= WIDTH + 9
    assert any("●1" in line for line in lines) and any("┊" in line for line in lines)
    assert len(capacities(found, {})) == len(listed(found)) == len(found.points)


@pytest.mark.parametrize("attainment", [0.0, 0.5, 0.99, 1.0])
def test_a_lone_mark_stands_where_its_attainment_is(attainment: float) -> None:
    lines = scatter([Mark(0.0, attainment, "●1")], "cost")
    (row,) = [at for at, line in enumerate(lines) if "●1" in line]
    assert (row == 0) == (attainment == 1.0)
    assert (row == HEIGHT - 1) == (attainment == 0.0)


def test_nines_end_where_a_prediction_tells_no_more_apart() -> None:
    assert height_of(0.9) == pytest.approx(1.0)
    assert height_of(1.0) == height_of(1 - 0.1 / SAMPLES)


def test_bars_are_as_long_as_their_values() -> None:
    assert bar(2.0, 2.0) == "█" * BAR_WIDTH
    assert bar(1.0, 2.0) == "█" * (BAR_WIDTH // 2)
    assert bar(0.0, 2.0) == bar(0.0, 0.0) == ""
    assert bar(1 / 16, BAR_WIDTH / 2) == "▏"
