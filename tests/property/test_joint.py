"""The joint search over (group, configuration) against trying everything, on thousands of small random apps."""

from collections.abc import Mapping, Sequence
from math import inf
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from grainwise.domain.graph import Graph
from grainwise.planning.granularity import legal_groups
from grainwise.planning.joint import Found, Step, search
from grainwise.planning.lattice import Lattice
from grainwise.planning.steps import longest_path_us
from worlds.grains import members, partitions
from worlds.problems import chain_graph, graph_of, random_dag

Steps = Mapping[int, Sequence[Step]]
KEEPS = (1, 3, 5)


class Shape:
    """The granularities of one graph, found by taking away groups that wait for none until none is left."""

    def __init__(self, graph: Graph) -> None:
        self.predecessors = graph.predecessors
        self.masks = legal_groups(graph)
        self.granularities: list[list[tuple[int, list[int]]]] = []
        for groups in partitions(graph.all_mask, self.masks):
            ordered = self.ordered(groups)
            if ordered is not None:
                self.granularities.append(ordered)

    def ordered(self, groups: tuple[int, ...]) -> list[tuple[int, list[int]]] | None:
        """Groups in an order in which they can run, each with the places of those that it waits for."""
        before = {
            mask: [other for other in groups if other != mask and any(self.predecessors[at] & other for at in members(mask))]
            for mask in groups
        }
        order: list[int] = []
        while len(order) < len(groups):
            free = [mask for mask in groups if mask not in order and all(other in order for other in before[mask])]
            if not free:
                return None
            order.append(free[0])
        return [(mask, [order.index(other) for other in before[mask]]) for mask in order]


def everything(shape: Shape, steps: Steps) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(longest path, cost, amount of the first resource) of every granularity with every choice of configurations."""
    all_times, all_costs, all_amounts = [], [], []
    for groups in shape.granularities:
        if any(not steps.get(mask) for mask, _ in groups):
            continue
        finish: list[NDArray[np.float64]] = []
        cost, amount = np.zeros(()), np.zeros(())
        for axis, (mask, before) in enumerate(groups):
            along = [1] * len(groups)
            along[axis] = -1
            taken = np.array([step.time_us for step in steps[mask]]).reshape(along)
            start: NDArray[np.float64] = np.zeros(())
            for other in before:
                start = np.maximum(start, finish[other])
            finish.append(start + taken)
            cost = cost + np.array([step.cost for step in steps[mask]]).reshape(along)
            amount = amount + np.array([sum(step.resources) for step in steps[mask]]).reshape(along)
        longest: NDArray[np.float64] = np.zeros(())
        for end in finish:
            longest = np.maximum(longest, end)
        all_times.append((longest + 0 * cost).ravel())
        all_costs.append(cost.ravel())
        all_amounts.append(amount.ravel())
    if not all_times:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    return np.concatenate(all_times), np.concatenate(all_costs), np.concatenate(all_amounts)


def random_shape(rng: Random) -> Shape:
    kind = rng.randrange(4)
    if kind == 0:
        return Shape(chain_graph(rng.randint(1, 5)))
    if kind == 1:
        return Shape(graph_of((), (0,), (0,), (1, 2)))
    return Shape(random_dag(rng, rng.randint(2, 5)))


def random_steps(rng: Random, shape: Shape, *, is_bounded: bool = False) -> dict[int, list[Step]]:
    """Few different numbers, so that ties are common; a group now and then has no configuration, or none but single stages."""
    most = rng.randint(1, 4)
    is_split = rng.random() < 0.15
    return {
        mask: [
            Step(mask, float(rng.randint(1, 12)), float(rng.randint(1, 12)), at, (float(rng.randint(0, 4)),) * is_bounded)
            for at in range(rng.randint(1, most))
        ]
        for mask in shape.masks
        if rng.random() < 0.95 and not (is_split and mask.bit_count() > 1)
    }


def check_combinations(shape: Shape, found: Found, steps: Steps, limit: float) -> None:
    """What is returned is what it says: distinct partitions of all stages, in an order in which they can run, in time."""
    seen = set()
    for each in found.combinations:
        content = frozenset((step.mask, step.payload) for step in each.steps)
        assert content not in seen
        seen.add(content)
        masks = tuple(step.mask for step in each.steps)
        assert sorted(masks) in [sorted(mask for mask, _ in groups) for groups in shape.granularities]
        done = 0
        for step in each.steps:
            assert step in steps[step.mask]
            assert all(not shape.predecessors[at] & ~(done | step.mask) for at in members(step.mask))
            done |= step.mask
        assert each.time_us <= limit
        assert each.cost == sum(step.cost for step in each.steps)


def test_the_cheapest_combinations_equal_those_of_trying_everything_on_ten_thousand_apps() -> None:
    rng = Random(40)
    apps = infeasible = ties = 0
    for _ in range(420):
        shape = random_shape(rng)
        for _ in range(24):
            steps = random_steps(rng, shape)
            times, costs, _ = everything(shape, steps)
            limit = float(rng.randint(1, 30)) + rng.choice((0.0, 0.5))
            expected = np.sort(costs[times <= limit])
            for keep in KEEPS:
                found = search(shape.predecessors, steps, limit, keep)
                assert found.is_exact
                assert [each.cost for each in found.combinations] == expected[:keep].tolist()
                assert found.bound == (expected[0] if len(expected) else inf)
                check_combinations(shape, found, steps, limit)
            apps += 1
            infeasible += not len(expected)
            ties += len(expected) > 1 and bool(expected[0] == expected[1])
    assert apps >= 10_000
    assert 1000 < infeasible < 5000
    assert ties > 700


def test_with_a_resource_bounded_the_cheapest_combinations_equal_those_of_trying_everything() -> None:
    rng = Random(41)
    bounded = 0
    for _ in range(60):
        shape = random_shape(rng)
        for _ in range(12):
            steps = random_steps(rng, shape, is_bounded=True)
            times, costs, amounts = everything(shape, steps)
            limit, most = float(rng.randint(4, 30)), float(rng.randint(0, 10))
            expected = np.sort(costs[(times <= limit) & (amounts <= most)])
            bounded += len(expected) < int((times <= limit).sum())
            for keep in KEEPS:
                found = search(shape.predecessors, steps, limit, keep, resource_limits=(most,))
                assert [each.cost for each in found.combinations] == expected[:keep].tolist()
                check_combinations(shape, found, steps, limit)
    assert bounded > 200


def without_bounds(shape: Shape, steps: Steps, limit: float) -> tuple[list[float], int]:
    """The same layers of (group, configuration), tested against the limit when complete: costs, and labels made."""
    lattice = Lattice(shape.predecessors, steps)
    costs = {}
    labels = 0
    stack: list[tuple[int, tuple[Step, ...]]] = [(0, ())]
    while stack:
        state, chosen = stack.pop()
        if state == lattice.everything:
            if longest_path_us(shape.predecessors, chosen) <= limit:
                costs[frozenset((step.mask, step.payload) for step in chosen)] = sum(step.cost for step in chosen)
            continue
        for mask in lattice.moves(state):
            for step in steps[mask]:
                labels += 1
                stack.append((state | mask, (*chosen, step)))
    return sorted(costs.values()), labels


def test_without_its_bounds_the_search_finds_the_same_lists_and_never_makes_fewer_labels() -> None:
    rng = Random(42)
    saved = 0
    for _ in range(150):
        shape = random_shape(rng)
        steps = random_steps(rng, shape)
        limit = float(rng.randint(1, 30))
        costs, labels = without_bounds(shape, steps, limit)
        for keep in KEEPS:
            found = search(shape.predecessors, steps, limit, keep)
            assert [each.cost for each in found.combinations] == costs[:keep]
            assert found.expanded <= labels
            saved += found.expanded < labels
    assert saved > 300


def test_planning_anew_after_each_group_with_the_time_left_costs_what_the_first_plan_cost() -> None:
    rng = Random(43)
    replanned = 0
    while replanned < 400:
        count = rng.randint(2, 5)
        shape = Shape(chain_graph(count))
        steps = random_steps(rng, shape)
        limit = float(rng.randint(4, 30))
        found = search(shape.predecessors, steps, limit)
        if not found.combinations:
            continue
        first = found.combinations[0]
        spent, done, left_us = 0.0, 0, limit
        while done < count:
            rest = chain_graph(count - done).predecessors
            moved = {
                mask >> done: [Step(mask >> done, s.time_us, s.cost) for s in each]
                for mask, each in steps.items()
                if not mask & ((1 << done) - 1)
            }
            again = search(rest, moved, left_us).combinations[0]
            spent += again.steps[0].cost
            left_us -= again.steps[0].time_us
            done += again.steps[0].mask.bit_count()
        assert spent == first.cost
        assert left_us >= 0
        replanned += 1


def test_a_search_that_is_cut_off_says_so_and_its_bound_still_holds() -> None:
    rng = Random(44)
    cut = 0
    for _ in range(150):
        shape = random_shape(rng)
        steps = random_steps(rng, shape)
        limit = float(rng.randint(6, 30))
        exact = search(shape.predecessors, steps, limit, 3)
        found = search(shape.predecessors, steps, limit, 3, max_nodes=rng.randint(1, 12))
        costs = [each.cost for each in exact.combinations]
        assert found.bound <= min(costs, default=inf)
        if found.is_exact:
            assert [each.cost for each in found.combinations] == costs
        else:
            cut += 1
            check_combinations(shape, found, steps, limit)
    assert cut > 20


@pytest.mark.parametrize("graph", [graph_of((), (), (0, 1), (1, 0))])
def test_groups_that_wait_for_one_another_are_never_combined(graph: Graph) -> None:
    # {a, a'} and {b, b'} are each legal and would be by far the cheapest.
    steps = {mask: [Step(mask, 1.0, 0.0 if mask in {0b0101, 0b1010} else 9.0)] for mask in legal_groups(graph)}
    masks = {step.mask for step in search(graph.predecessors, steps, inf).combinations[0].steps}
    assert not {0b0101, 0b1010} <= masks
