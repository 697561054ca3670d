"""What a planning problem lets one imagine: kinds of requests whose means are the forecast's, machines as far as known."""

from random import Random

import pytest

from grainwise.domain.graph import Element, Graph
from grainwise.domain.machine import NOMINAL_PRICES, Node
from grainwise.planning.table import compute
from grainwise.predictors.latency import RESIDUAL_LEVELS
from grainwise.predictors.workload import Workload
from grainwise.simulation.cluster import Cluster, ClusterNode, Network
from grainwise.simulation.contents import Contents
from grainwise.simulation.imagined import imagined_cluster, residuals_between
from grainwise.simulation.imagined_kinds import KINDS, imagined_kinds
from grainwise.simulation.rollout import Rollout
from worlds.problems import HOP, NOISY, SOFT, chain_graph, problem_of, random_graph, random_problem, spec_of, stage_model


def is_sound(graph: Graph) -> bool:
    """Whether every fan-out is read by somebody inside."""
    read = {source for stage in range(len(graph.stages)) for source in graph.reads(stage)}
    read |= {each.result for each in graph.eaches} | {each.over for each in graph.eaches}
    return all(Element(each) in read for each in range(len(graph.eaches)))


@pytest.mark.parametrize("seed", range(40))
def test_kinds_have_the_means_of_the_forecast_and_agree_with_the_graph(seed: int) -> None:
    rng = Random(seed)
    graph = random_graph(rng, rng.randint(2, 8))
    problem = random_problem(rng, graph)
    kinds = imagined_kinds(problem.app, problem.model, problem.workload)
    contents = Contents(graph, kinds)
    for stage, expected in enumerate(problem.workload.items):
        mean = sum(kind.counts[stage] for kind in kinds) / len(kinds)
        assert abs(mean - expected) <= max(1.0, expected) / KINDS
        runs = [dict(call[:2] for call in contents.work(kind, graph.all_mask, (), 1.0).calls) for kind in range(len(kinds))]
        assert [found.get(stage, 0) for found in runs] == [kind.counts[stage] for kind in kinds]


def test_variants_keep_their_work_by_the_size_of_items_or_by_a_factor() -> None:
    graph = chain_graph(2)
    spec = spec_of(graph)
    problem = problem_of(spec, (stage_model(1000.0, 0.0, 3000.0), stage_model(4000.0, 0.0)))
    workload = Workload(1.0, (1.0, 1.0), (1.0, 1.0), (10.0, 10.0), (10.0,), variants=((0.5, 0.5), (1.5, 1.5)))
    kinds = imagined_kinds(spec, problem.model, workload)
    assert [kind.counts for kind in kinds] == [(1, 1)] * 2
    for kind, relative in zip(kinds, (0.5, 1.5), strict=True):
        first = (1000.0 + 3000.0 * kind.sizes[0]) * kind.factors[0]
        second = 4000.0 * kind.factors[1]
        assert (first, second) == (pytest.approx(4000.0 * relative), pytest.approx(4000.0 * relative))


def test_a_variant_that_does_nothing_in_a_stage_does_not_run_it() -> None:
    rng = Random(3)
    graph = next(
        found
        for found in (random_graph(rng, 5) for _ in range(200))
        if not found.eaches and any(node.guards for node in found.stages)
    )
    problem = random_problem(rng, graph)
    guarded = [bool(node.guards) for node in graph.stages]
    takes = tuple(0.0 if is_guarded else 1.0 for is_guarded in guarded)
    count = len(graph.stages)
    workload = Workload(1.0, (1.0,) * count, (1.0,) * count, (1.0,) * count, (1.0,), variants=(takes, (1.0,) * count))
    found = imagined_kinds(problem.app, problem.model, workload)[0]
    assert [count == 0 for count in found.counts] == guarded


def test_residuals_lie_between_their_quantiles() -> None:
    values = residuals_between(NOISY)
    ordered = sorted(values)
    for level, quantile in zip(RESIDUAL_LEVELS, NOISY, strict=True):
        assert ordered[min(len(ordered) - 1, int(level * len(ordered)))] == pytest.approx(quantile, abs=0.02)
    assert residuals_between((1.0,) * 7) == (1.0,)


def test_what_is_known_of_machines_counts() -> None:
    nodes = (Node("here", 2.0, 4000.0), Node("there", 2.0, 4000.0))
    slow = Cluster("known", (ClusterNode(nodes[0], speed=0.5), ClusterNode(nodes[1], speed=0.5)), Network("there", 2000))
    found = imagined_cluster(nodes, SOFT, NOMINAL_PRICES, slow)
    assert [each.speed for each in found.nodes] == [0.5, 0.5] and found.network.latency_us == 2000
    plain = imagined_cluster(nodes, SOFT, NOMINAL_PRICES)
    assert [each.speed for each in plain.nodes] == [1.0, 1.0] and plain.network == Network("here")
    graph = chain_graph(2)
    problem = problem_of(spec_of(graph, slo_ms=60.0), (stage_model(20_000.0, 0.0),) * 2, hop=HOP, rate_per_s=2.0, nodes=nodes)

    plan = compute(problem).winner.plan
    fast, late = (Rollout(events=500, cluster=known).judge(problem, (plan,))[0] for known in (None, slow))
    assert late.attainment.high < fast.attainment.low
