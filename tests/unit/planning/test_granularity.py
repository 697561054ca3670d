"""Which groupings are legal: the definition, told another way, gives the same set."""

from collections.abc import Iterator
from random import Random

import networkx as nx
import pytest

from grainwise.domain.errors import InfeasibleError
from grainwise.domain.graph import EachNode, Element, Gathered, Graph, Input, Output, StageNode
from grainwise.planning.granularity import (
    MAX_STAGES,
    check_granularity,
    explain_illegal,
    granularities,
    is_acyclic,
    legal_groups,
)
from worlds.problems import chain_graph, graph_of, random_dag, random_graph


def fan_out(before: int, body: int, after: int) -> Graph:
    """A chain whose middle ``body`` stages run for each element of a list."""
    stages = []
    for index in range(before + body + after):
        scope: tuple[int, ...] = (0,) if before <= index < before + body else ()
        source = Element(0) if index == before else Gathered(0) if index == before + body else Output(index - 1)
        stages.append(StageNode(f"s{index}", f"s{index}", (Input(0) if not index and before else source,), scope))
    each = EachNode(Output(before - 1) if before else Input(0), Output(before + body - 1))
    last = Output(before + body + after - 1) if after else Gathered(0)
    return Graph(("value",), tuple(stages), (each,), (last,), ("out",))


def as_networkx(graph: Graph) -> nx.DiGraph:
    found = nx.DiGraph()
    found.add_nodes_from(range(len(graph.stages)))
    for index in range(len(graph.stages)):
        for source in graph.reads(index):
            found.add_edges_from((producer, index) for producer in graph.producers(source))
    return found


def is_legal(graph: Graph, dag: nx.DiGraph, group: frozenset[int]) -> bool:
    if not nx.is_weakly_connected(dag.subgraph(group)):
        return False
    for outside in set(dag) - group:
        if nx.ancestors(dag, outside) & group and nx.descendants(dag, outside) & group:
            return False
    for each in range(len(graph.eaches)):
        body = {index for index, node in enumerate(graph.stages) if each in node.scope}
        if group & body and not group <= body and not body <= group:
            return False
    return True


def partitions(items: list[int]) -> Iterator[list[frozenset[int]]]:
    if not items:
        yield []
        return
    for rest in partitions(items[1:]):
        yield [frozenset(items[:1]), *rest]
        for at in range(len(rest)):
            yield [*rest[:at], rest[at] | {items[0]}, *rest[at + 1 :]]


def brute_force(graph: Graph) -> set[frozenset[frozenset[int]]]:
    dag = as_networkx(graph)
    found = set()
    for groups in partitions(list(range(len(graph.stages)))):
        if not all(is_legal(graph, dag, group) for group in groups):
            continue
        if nx.is_directed_acyclic_graph(nx.quotient_graph(dag, groups)):
            found.add(frozenset(groups))
    return found


def enumerated(graph: Graph) -> list[frozenset[frozenset[int]]]:
    return [
        frozenset(frozenset(index for index in range(len(graph.stages)) if mask >> index & 1) for mask in groups)
        for groups in granularities(graph)
    ]


@pytest.mark.parametrize("count", range(1, 9))
def test_a_chain_has_a_granularity_for_every_subset_of_its_edges(count: int) -> None:
    found = enumerated(chain_graph(count))
    assert len(found) == 2 ** (count - 1)
    assert set(found) == brute_force(chain_graph(count))


def test_two_hundred_random_dags_have_exactly_the_granularities_of_brute_force() -> None:
    rng = Random(20)
    for _ in range(200):
        graph = random_dag(rng, rng.randint(1, 7))
        found = enumerated(graph)
        assert len(set(found)) == len(found)
        assert set(found) == brute_force(graph)


def test_random_flows_with_fan_outs_and_branches_have_exactly_those_of_brute_force() -> None:
    rng = Random(21)
    scoped = 0
    for _ in range(120):
        graph = random_graph(rng, rng.randint(1, 5))
        if len(graph.stages) > 7:
            continue
        scoped += bool(graph.eaches)
        assert set(enumerated(graph)) == brute_force(graph)
    assert scoped > 30


def test_groups_that_are_convex_but_wait_for_one_another_are_refused() -> None:
    # a -> a', b -> b', a -> b', b -> a'
    graph = graph_of((), (), (0, 1), (1, 0))
    groups = (0b0101, 0b1010)
    assert all(explain_illegal(graph, mask) is None for mask in groups)
    assert not is_acyclic(graph, groups)
    assert "wait for one another" in (check_granularity(graph, groups) or "")
    assert groups not in set(granularities(graph))


@pytest.mark.parametrize(
    ("before", "body", "after", "count"), [(1, 1, 1, 4), (2, 1, 1, 8), (1, 2, 1, 5), (0, 2, 1, 3), (1, 3, 0, 5)]
)
def test_a_fan_out_of_several_stages_is_cut_inside_or_left_whole(before: int, body: int, after: int, count: int) -> None:
    # Cut anywhere (2**(body-1) ways inside) with both ends of the body cut off, or whole with any ends.
    assert len(enumerated(fan_out(before, body, after))) == count


@pytest.mark.parametrize(
    ("graph", "mask", "said"),
    [
        (chain_graph(3), 0, "at least one"),
        (chain_graph(3), 0b101, "not connected"),
        (graph_of((), (0,), (0, 1)), 0b101, "through s1"),
        (fan_out(1, 2, 1), 0b0011, "s2 missing"),
        (fan_out(1, 2, 1), 0b1100, "s1 missing"),
    ],
)
def test_an_illegal_group_says_why(graph: Graph, mask: int, said: str) -> None:
    assert said in (explain_illegal(graph, mask) or "")


@pytest.mark.parametrize(
    ("groups", "said"),
    [((0b011, 0b110), "s1 stand in two"), ((0b011,), "s2 stand in no"), ((0b101, 0b010), "not connected")],
)
def test_what_is_no_partition_says_why(groups: tuple[int, ...], said: str) -> None:
    assert said in (check_granularity(chain_graph(3), groups) or "")


def test_the_order_is_the_same_every_time() -> None:
    graph = random_dag(Random(3), 6)
    assert list(granularities(graph)) == list(granularities(graph))
    assert all(check_granularity(graph, groups) is None for groups in granularities(graph))
    assert legal_groups(graph) == tuple(sorted(legal_groups(graph)))


def test_too_many_stages_are_refused_with_the_limit() -> None:
    with pytest.raises(InfeasibleError, match=str(MAX_STAGES)):
        list(granularities(chain_graph(MAX_STAGES + 1)))
