"""Cutting a DAG at its dominators, and a time among its pieces, to the microsecond."""

from collections.abc import Sequence
from random import Random

import networkx as nx
import pytest

from grainwise.planning.dominators import (
    Leaf,
    Parallel,
    Piece,
    Serial,
    Share,
    cut_points,
    decompose,
    distribute,
    dominators,
    immediate_dominators,
    mask_of,
    normalised_lengths,
    post_dominators,
    remaining,
    weight,
)
from worlds.problems import chain_graph, graph_of, random_dag

SOURCE, SINK = -1, -2
NESTED = graph_of((), (0,), (1,), (1,), (2, 3), (0,), (4, 5), (6,)).predecessors
"""0 → (1 → (2 | 3) → 4 | 5) → 6 → 7."""


def members(mask: int) -> list[int]:
    return [index for index in range(mask.bit_length()) if mask >> index & 1]


def with_ends(predecessors: Sequence[int]) -> nx.DiGraph:
    dag = nx.DiGraph()
    dag.add_nodes_from([SOURCE, SINK, *range(len(predecessors))])
    for stage, before in enumerate(predecessors):
        dag.add_edges_from((other, stage) for other in members(before) or [SOURCE])
    dag.add_edges_from((stage, SINK) for stage in range(len(predecessors)) if not dag.out_degree(stage))
    return dag


def test_dominators_are_those_of_an_independent_implementation_on_300_dags() -> None:
    rng = Random(50)
    for _ in range(300):
        predecessors = random_dag(rng, rng.randint(1, 9)).predecessors
        dag = with_ends(predecessors)
        expected = nx.immediate_dominators(dag, SOURCE)
        found = immediate_dominators(predecessors)
        for stage, nearest in enumerate(found):
            assert (SOURCE if nearest is None else nearest) == expected[stage]
        # On every way from the one end to the other: removing the stage parts the ends.
        apart = [stage for stage in range(len(predecessors)) if not nx.has_path(dag.subgraph(set(dag) - {stage}), SOURCE, SINK)]
        assert list(cut_points(predecessors)) == apart
        every = (1 << len(predecessors)) - 1
        behind, before = post_dominators(predecessors), dominators(predecessors)
        assert all(before[stage] & behind[stage] == 1 << stage for stage in range(len(predecessors)))
        assert mask_of(decompose(predecessors)) == every


def longest(piece: Piece, times: Sequence[float]) -> float:
    return weight(piece, times)


def test_the_pieces_of_a_dag_hold_every_stage_once_and_never_understate_the_longest_path() -> None:
    rng = Random(51)
    equal = 0
    for _ in range(300):
        predecessors = random_dag(rng, rng.randint(1, 9)).predecessors
        times = [float(rng.randint(1, 9)) for _ in predecessors]
        finish: list[float] = []
        for stage, before in enumerate(predecessors):
            finish.append(times[stage] + max((finish[other] for other in members(before)), default=0.0))
        estimate = longest(decompose(predecessors), times)
        assert estimate >= max(finish)
        equal += estimate == max(finish)
    assert equal > 150


def test_nested_fork_joins_are_cut_again() -> None:
    assert decompose(NESTED) == Serial(
        (
            Leaf(0),
            Parallel((Serial((Leaf(1), Parallel((Leaf(2), Leaf(3))), Leaf(4))), Leaf(5))),
            Leaf(6),
            Leaf(7),
        )
    )


def test_an_edge_that_passes_stages_by_makes_no_branch() -> None:
    assert decompose(graph_of((), (0,), (0, 1)).predecessors) == Serial((Leaf(0), Leaf(1), Leaf(2)))


def test_tangled_stages_are_taken_depth_by_depth() -> None:
    tangled = graph_of((), (), (0, 1), (0, 1)).predecessors
    assert decompose(tangled) == Serial((Parallel((Leaf(0), Leaf(1))), Parallel((Leaf(2), Leaf(3)))))


def test_the_weight_of_a_stage_is_its_mean_part_under_the_same_configuration() -> None:
    found = normalised_lengths([(1.0, 30.0), (3.0, 10.0)])
    assert found == pytest.approx(((0.25 + 0.75) / 2, (0.75 + 0.25) / 2))
    assert sum(normalised_lengths([(1.0, 2.0), (5.0, 0.5), (2.0, 2.0)])) == pytest.approx(1.0)
    assert weight(decompose(NESTED), [1.0] * 8) == 1 + 3 + 1 + 1


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_on_a_chain_the_parts_add_up_to_the_time_left_and_hold_at_most_k_stages(most: int) -> None:
    rng = Random(52)
    for _ in range(100):
        count = rng.randint(1, 12)
        weights = [rng.uniform(0.01, 1.0) for _ in range(count)]
        time_us = rng.randint(0, 10**7)
        shares = distribute(decompose(chain_graph(count).predecessors), time_us, weights, most)
        assert sum(share.time_us for share in shares) == time_us
        assert all(share.time_us >= 0 for share in shares)
        assert all(share.mask.bit_count() <= most for share in shares)
        assert len(shares) == -(-count // most)
        total = sum(weights)
        for share in shares:
            fair = time_us * sum(weights[stage] for stage in members(share.mask)) / total
            assert share.time_us == pytest.approx(fair, abs=len(shares))


def check(shares: Sequence[Share], time_us: int) -> int:
    assert sum(share.time_us for share in shares) == time_us
    forks = 0
    for share in shares:
        for branch in share.branches:
            forks += 1
            forks += check(branch, share.time_us)
    return forks


def test_each_branch_gets_the_whole_time_of_its_segment_however_deep() -> None:
    rng = Random(53)
    assert check(distribute(decompose(NESTED), 1_000_003, [1.0] * 8), 1_000_003) == 4
    forks = 0
    for _ in range(200):
        graph = random_dag(rng, rng.randint(2, 10))
        weights = [rng.uniform(0.01, 1.0) for _ in graph.stages]
        time_us = rng.randint(0, 10**7)
        forks += check(distribute(decompose(graph.predecessors), time_us, weights), time_us)
    assert forks > 100


def test_after_an_overrun_what_remains_gets_exactly_the_time_that_is_left() -> None:
    piece = decompose(chain_graph(7).predecessors)
    weights = [0.1, 0.2, 0.1, 0.3, 0.1, 0.1, 0.1]
    planned = distribute(piece, 1_000_000, weights)
    left_us = 1_000_000 - planned[0].time_us - 123_457
    rest = remaining(piece, planned[0].mask)
    assert rest is not None
    again = distribute(rest, left_us, weights)
    assert sum(share.time_us for share in again) == left_us
    assert sum(share.time_us for share in again) < sum(share.time_us for share in planned[1:])
    assert remaining(piece, 0b1111111) is None


def test_remaining_takes_away_what_has_run_inside_branches_too() -> None:
    rest = remaining(decompose(NESTED), 0b00000111)
    assert rest == Serial((Parallel((Serial((Leaf(3), Leaf(4))), Leaf(5))), Leaf(6), Leaf(7)))
