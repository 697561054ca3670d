"""Apps with too many stages to enumerate: they get a plan, what was left out is said, and the bound of every table holds."""

from random import Random

import msgspec
import pytest

from grainwise.domain.graph import Graph
from grainwise.domain.machine import Node
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.planning.granularity import check_granularity, legal_groups
from grainwise.planning.large import grown_groups, is_large
from grainwise.planning.problem import Problem
from grainwise.planning.table import compute
from worlds.problems import HOP, chain_graph, graph_of, problem_of, random_dag, random_graph, spec_of, stage_model


def problem_on(graph: Graph, slo_ms: float) -> Problem:
    rng = Random(1)
    models = tuple(
        stage_model(rng.uniform(5e3, 3e4), 1000.0, scales_to=rng.choice((1.0, 2.0)), memory_mib=rng.uniform(20, 100))
        for _ in graph.stages
    )
    spec = spec_of(graph, slo_ms=slo_ms, target=0.95)
    return problem_of(spec, models, rate_per_s=2.0, hop=HOP, nodes=(Node("here", 8.0, 64000.0),))


def wide(branches: int, length: int) -> Graph:
    needs: list[tuple[int, ...]] = [()]
    for _ in range(branches):
        needs += [(len(needs) - 1 if at else 0,) for at in range(length)]
    return graph_of(*needs, tuple(length * (branch + 1) for branch in range(branches)))


def test_groups_that_are_grown_are_all_the_legal_ones_of_small_apps() -> None:
    rng = Random(70)
    for number in range(60):
        graph = random_graph(rng, rng.randint(1, 5)) if number % 3 == 0 else random_dag(rng, rng.randint(1, 7))
        if len(graph.stages) <= 8:
            assert grown_groups(graph) == (legal_groups(graph), len(graph.stages))


def test_an_app_is_large_by_its_granularities_too() -> None:
    assert not is_large(chain_graph(11))
    assert is_large(chain_graph(12))
    assert is_large(chain_graph(17))


def test_many_groups_are_cut_to_those_of_few_stages_and_everything_in_one() -> None:
    graph = wide(6, 3)
    found, most = grown_groups(graph)
    assert 3 <= most < len(graph.stages)
    assert graph.all_mask in found
    assert all(mask.bit_count() <= most for mask in found if mask != graph.all_mask)


@pytest.mark.parametrize(("graph", "slo_ms"), [(chain_graph(24), 900.0), (chain_graph(24), 6000.0), (wide(4, 4), 400.0)])
def test_an_app_of_many_stages_gets_a_plan_and_a_bound(graph: Graph, slo_ms: float) -> None:
    assert is_large(graph)
    table = compute(problem_on(graph, slo_ms))
    assert table.is_feasible
    assert "stages are too many to plan every granularity" in table.because
    for option in table.options:
        masks = tuple(graph.mask(function.stages) for function in option.plan.functions)
        assert check_granularity(graph, masks) is None
    assert 0 < table.bound_usd_per_hour <= table.winner.predicted.provisioned_usd_per_hour * (1 + 1e-6)


def test_the_present_granularity_of_a_large_app_is_looked_at() -> None:
    problem = problem_on(chain_graph(17), 900.0)
    groups = [("s0", "s1"), *((f"s{at}",) for at in range(2, 17))]
    functions = tuple(FunctionPlan(stages, 1.0) for stages in groups)
    table = compute(msgspec.structs.replace(problem, current=Plan("made", functions)))
    assert Plan("made", functions).grain in [option.plan.grain for option in table.options]


def test_the_bound_of_a_table_is_below_its_winner_and_equal_to_it_where_nobody_waits() -> None:
    problem = problem_on(chain_graph(4), 2000.0)
    table = compute(problem)
    assert table.is_feasible
    assert 0 < table.bound_usd_per_hour <= table.winner.predicted.provisioned_usd_per_hour * (1 + 1e-6)
    assert "additive times" in table.because
    idle = compute(msgspec.structs.replace(problem, workload=msgspec.structs.replace(problem.workload, rate_per_s=0.01)))
    assert idle.bound_usd_per_hour == pytest.approx(idle.winner.predicted.provisioned_usd_per_hour, rel=1e-4)
    assert "no plan within 1.2 times the SLO by additive times costs less" in idle.because
