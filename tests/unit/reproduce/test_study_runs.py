import msgspec
import pytest
from reproduce.granularity.asking import Answers
from reproduce.granularity.cells import CellMaker, Point
from reproduce.granularity.grid import read_grid
from reproduce.granularity.runs import World, run
from reproduce.granularity.ways import asked, fixed_way, granularity_names

from grainwise.domain.machine import Node
from grainwise.domain.plan import render_grain
from grainwise.simulation.cluster import ClusterNode

GRID = read_grid()
SIZE = msgspec.structs.replace(GRID.size("smoke"), requests=60, least_s=2.0)
POINT = Point(2, "broker", 2.0, 1.0, "provisioned", "light", "steady", 1, "cpu")
MAKER = CellMaker(GRID, SIZE)


@pytest.fixture(scope="module")
def world() -> World:
    return MAKER.world(POINT, (MAKER.app(POINT, 2, POINT.slo_factor),), (15.0,))


def answers(world: World) -> Answers:
    return Answers(GRID.planning, [(each.spec.name, each.workload) for each in world.samples])


def test_a_run_is_the_same_twice_and_its_windows_add_up(world: World) -> None:
    name = granularity_names(world.samples[0].spec.graph)[0]
    way = fixed_way(world, name)
    first = run(world, way.plans, "fixed", 1, answer=answers(world))
    assert first == run(world, way.plans, "fixed", 1, answer=answers(world))
    assert sum(each.offered for each in first.windows) == first.offered
    assert sum(each.met for each in first.windows) <= first.met
    assert first.regranulations == 0
    assert first.switch_usd_per_1000 == 0
    assert first.slice_s > 0


def test_every_granularity_is_a_way(world: World) -> None:
    graph = world.samples[0].spec.graph
    names = granularity_names(graph)
    assert len(names) == 4
    ways = [fixed_way(world, name) for name in names]
    assert [f"fixed:{render_grain(way.plans[0].grain)}" for way in ways] == list(names)
    assert sum(way.is_split for way in ways) == sum(way.is_fused for way in ways) == 1


def test_a_set_that_cannot_plan_is_a_way_that_failed(world: World) -> None:
    tiny = ClusterNode(Node("tiny", 1.0, 1.0))
    impossible = msgspec.structs.replace(world, cluster=msgspec.structs.replace(world.cluster, nodes=(tiny,)))
    assert "fits" in asked(impossible, "adaptive", "adaptive").failed


def test_questions_that_differ_by_less_than_a_step_are_answered_once(world: World) -> None:
    planner = answers(world)
    problem = world.problem(0, "adaptive")
    for rate in (15.0, 15.05, 15.1):
        workload = msgspec.structs.replace(problem.workload, rate_per_s=rate)
        assert planner(msgspec.structs.replace(problem, number=7, now=round(rate), workload=workload)).problem == 7
    assert (planner.asked, planner.answered) == (3, 1)


def test_several_apps_are_planned_for_their_parts(world: World) -> None:
    both = msgspec.structs.replace(world, samples=world.samples * 2)
    assert both.problem(0).nodes[0].cpu_cores == world.problem(0).nodes[0].cpu_cores / 2


def test_a_cell_too_long_for_a_size_is_skipped() -> None:
    maker = CellMaker(GRID, msgspec.structs.replace(SIZE, most_requests=1))
    maker.know({("cpu", 1, 2, "broker", 1.0, 3.0): 20.0})
    cell, found = maker.make(0, POINT)
    assert found is None
    assert "this size has at most 1" in cell.skipped
