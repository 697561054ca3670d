"""Planning piece by piece beside planning everything at once: never cheaper, never late, and by how much dearer is said."""

from collections.abc import Sequence
from math import inf
from random import Random

from grainwise.planning.granularity import legal_groups
from grainwise.planning.joint import Step, search
from grainwise.planning.split import split_search
from worlds.problems import chain_graph, graph_of, random_dag


def steps_of(rng: Random, masks: Sequence[int], stages: int) -> dict[int, list[Step]]:
    """Configurations that are faster the more they cost; a group costs a little less time and a little more money."""
    base = [rng.randint(20, 90) for _ in range(stages)]
    found = {}
    for mask in masks:
        work = sum(base[at] for at in range(stages) if mask >> at & 1)
        found[mask] = [
            Step(
                mask,
                float(work * 4 // share + 10),
                float(work * (3 + share) + 5 * mask.bit_count() + rng.randint(0, 30)),
                share,
            )
            for share in (1, 2, 4)
        ]
    return found


def test_pieces_are_within_the_limit_no_cheaper_than_the_whole_and_within_their_gap() -> None:
    rng = Random(60)
    compared = dearer = 0
    for number in range(40):
        graph = chain_graph(9) if number % 2 else random_dag(rng, rng.randint(5, 9))
        steps = steps_of(rng, legal_groups(graph), len(graph.stages))
        slowest = search(graph.predecessors, steps, inf).combinations[0].time_us
        limit = slowest * rng.uniform(0.2, 1.0)
        whole = search(graph.predecessors, steps, limit)
        pieces = split_search(graph.predecessors, steps, limit, most=3)
        assert pieces.bound <= whole.bound * (1 + 1e-9)
        if pieces.combination is None:
            assert pieces.gap == inf
            continue
        compared += 1
        assert pieces.combination.time_us <= limit * (1 + 1e-9)
        assert pieces.combination.cost >= whole.combinations[0].cost
        assert sum(step.mask for step in pieces.combination.steps) == graph.all_mask
        assert pieces.combination.cost <= pieces.bound * (1 + pieces.gap) * (1 + 1e-9)
        dearer += pieces.combination.cost > whole.combinations[0].cost
    assert compared > 25
    assert dearer > 5


def test_with_no_time_to_lose_the_pieces_take_their_fastest_ways() -> None:
    graph = chain_graph(8)
    masks = [mask for mask in legal_groups(graph) if mask.bit_count() <= 2 and mask not in {0b110, 0b11000, 0b1100000}]
    steps = steps_of(Random(61), masks, 8)
    fastest = search(graph.predecessors, {mask: [each[-1]] for mask, each in steps.items()}, inf, 1 << 10)
    shortest = min(each.time_us for each in fastest.combinations)
    found = split_search(graph.predecessors, steps, shortest, most=4)
    assert found.combination is not None
    assert found.combination.time_us <= shortest
    assert split_search(graph.predecessors, steps, shortest - 1.0, most=4).combination is None


def test_a_wide_fork_join_is_planned_branch_by_branch() -> None:
    needs: list[tuple[int, ...]] = [()]
    for _ in range(4):
        needs += [(0,), (len(needs),), (len(needs) + 1,)]
    graph = graph_of(*needs, (3, 6, 9, 12))
    masks = [0b1 << at for at in range(14)] + [0b11 << at for at in range(1, 13) if at % 3]
    steps = steps_of(Random(62), masks, 14)
    slowest = search(graph.predecessors, steps, inf).combinations[0].time_us
    found = split_search(graph.predecessors, steps, slowest / 2, most=3)
    assert found.combination is not None
    assert found.combination.time_us <= slowest / 2
    assert found.gap < 0.2
