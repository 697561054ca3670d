"""Staircases against judging every way to finish, at every slack; on chains and where branches run side by side."""

from collections.abc import Mapping, Sequence
from itertools import product
from random import Random

import pytest

from grainwise.domain.errors import InfeasibleError
from grainwise.planning.granularity import legal_groups
from grainwise.planning.joint import Step, search
from grainwise.planning.staircase import Choice, FirstStep, Staircases, build
from worlds.grains import members, partitions
from worlds.problems import chain_graph, graph_of, random_dag

Steps = Mapping[int, Sequence[Step]]


def begins_at_one_stage(predecessors: Sequence[int], mask: int) -> bool:
    """Told another way than by descendants: exactly one stage of the group waits for none of the group."""
    return sum(not predecessors[index] & mask for index in members(mask)) == 1


def longest_path(predecessors: Sequence[int], chosen: Sequence[Step]) -> float | None:
    """The longest path through the groups, ``None`` where they wait for one another."""
    finish: dict[int, float] = {}
    left = list(chosen)
    while left:
        for step in left:
            before = [
                other
                for other in chosen
                if other is not step and any(predecessors[index] & other.mask for index in members(step.mask))
            ]
            if all(other.mask in finish for other in before):
                finish[step.mask] = step.time_us + max((finish[other.mask] for other in before), default=0.0)
                left.remove(step)
                break
        else:
            return None
    return max(finish.values(), default=0.0)


def waits_for_no_more_than_its_first_stage(predecessors: Sequence[int], groups: Sequence[int], left: int) -> bool:
    """Whether every group can start as soon as its first stage can, whatever the times."""
    home = {index: mask for mask in groups for index in members(mask)}

    def finished_before(stage: int) -> set[int]:
        found: set[int] = set()
        for other in members(predecessors[stage] & left):
            found |= {home[other]} | finished_before(members(home[other])[0])
        return found

    for mask in groups:
        root = members(mask)[0]
        known = {index for other in finished_before(root) for index in members(other)}
        if any(index not in known for stage in members(mask) for index in members(predecessors[stage] & left & ~mask)):
            return False
    return True


def ways_to_finish(predecessors: Sequence[int], steps: Steps, done: int) -> list[tuple[float, float, tuple[Step, ...]]]:
    masks = [mask for mask in steps if begins_at_one_stage(predecessors, mask)]
    found = []
    left = ((1 << len(predecessors)) - 1) & ~done
    for groups in partitions(left, masks):
        if not waits_for_no_more_than_its_first_stage(predecessors, groups, left):
            continue
        for chosen in product(*(steps[mask] for mask in groups)):
            time = longest_path(predecessors, chosen)
            if time is not None:
                found.append((time, sum(step.cost for step in chosen), chosen))
    return found


def states(predecessors: Sequence[int]) -> list[int]:
    everything = (1 << len(predecessors)) - 1
    return [done for done in range(everything) if not any(predecessors[index] & ~done for index in members(done))]


def random_steps(rng: Random, masks: Sequence[int], most: int) -> dict[int, list[Step]]:
    return {
        mask: [
            Step(mask, float(rng.randint(1, 9)), float(rng.randint(1, 9)), payload) for payload in range(rng.randint(1, most))
        ]
        for mask in masks
    }


def best(found: Sequence[tuple[float, float, tuple[Step, ...]]], slack: float) -> tuple[float, float] | None:
    fitting = [(cost, time) for time, cost, _ in found if time <= slack]
    return min(fitting) if fitting else None


def as_pair(choice: Choice | None) -> tuple[float, float] | None:
    return None if choice is None else (choice.remaining_cost, choice.remaining_us)


def check_head(
    rng: Random, made: Staircases, predecessors: Sequence[int], steps: Steps, done: int, head: int, ways: Sequence[object]
) -> int:
    """Compares one head of one state at every slack that matters; the number of comparisons."""
    by_step: dict[tuple[int, int], list[tuple[float, float, tuple[Step, ...]]]] = {}
    for time, cost, chosen in ways:  # type: ignore[misc]
        for step in chosen:
            if step.mask >> head & 1 and not any(predecessors[index] & ~(done | step.mask) for index in members(step.mask)):
                by_step.setdefault((step.mask, step.payload), []).append((time, cost, chosen))
    firsts = made.first_steps(done, head)
    assert {(first.step.mask, first.step.payload) for first in firsts} == set(by_step)
    able = {key for key in by_step if rng.random() < 0.6}

    def is_able(first: FirstStep) -> bool:
        return (first.step.mask, first.step.payload) in able

    every = [way for found in by_step.values() for way in found]
    some = [way for key, found in by_step.items() if key in able for way in found]
    edges = sorted({time for time, _, _ in every})
    slacks = [edge + off for edge in edges for off in (-1.0, 0.0, 1.0)] + [rng.uniform(0, 40) for _ in range(3)] + [-5.0]
    for slack in slacks:
        assert as_pair(made.pick(done, head, slack)) == best(every, slack)
        assert as_pair(made.pick(done, head, slack, is_able)) == best(some, slack)
        chosen = made.pick(done, head, slack, is_able)
        assert chosen is None or is_able(chosen.first)
        for first in firsts:
            within = first.within(slack)
            expected = best(by_step[first.step.mask, first.step.payload], slack)
            assert (None if within is None else (within[1], within[0])) == expected
    if some:
        fastest = min((time, cost) for time, cost, _ in some)
        found = made.fastest(done, head, is_able)
        assert found is not None
        assert (found.remaining_us, found.remaining_cost) == fastest
        assert as_pair(made.cheapest(done, head, is_able)) == min((cost, time) for time, cost, _ in some)
    else:
        assert made.fastest(done, head, is_able) is None
        assert made.cheapest(done, head, is_able) is None
    return len(slacks)


def check_app(rng: Random, predecessors: Sequence[int], steps: Steps) -> int:
    made = build(predecessors, steps)
    assert made.is_exact
    compared = 0
    for done in states(predecessors):
        ways = ways_to_finish(predecessors, steps, done)
        for head in range(len(predecessors)):
            if done >> head & 1 or predecessors[head] & ~done:
                assert made.first_steps(done, head) == ()
            else:
                compared += check_head(rng, made, predecessors, steps, done, head, ways)
    return compared


def test_on_chains_every_slack_gets_what_judging_every_way_to_finish_gets() -> None:
    rng = Random(31)
    compared = 0
    for _ in range(60):
        graph = chain_graph(rng.randint(1, 4))
        steps = random_steps(rng, legal_groups(graph), 3)
        compared += check_app(rng, graph.predecessors, steps)
    assert compared > 2000


def test_where_branches_run_side_by_side_every_slack_gets_what_judging_every_way_to_finish_gets() -> None:
    rng = Random(32)
    compared = 0
    for number in range(60):
        graph = random_dag(rng, rng.randint(2, 5)) if number % 2 else graph_of((), (0,), (0,), (1, 2))
        steps = random_steps(rng, legal_groups(graph), 2)
        compared += check_app(rng, graph.predecessors, steps)
    assert compared > 2000


def test_on_chains_a_fresh_request_gets_what_the_joint_search_finds() -> None:
    rng = Random(33)
    feasible = 0
    for _ in range(80):
        graph = chain_graph(rng.randint(1, 7))
        steps = random_steps(rng, legal_groups(graph), 4)
        made = build(graph.predecessors, steps)
        for _ in range(6):
            slack = float(rng.randint(1, 40))
            found = search(graph.predecessors, steps, slack).combinations
            chosen = made.pick(0, 0, slack)
            assert (chosen.remaining_cost if chosen else None) == (found[0].cost if found else None)
            feasible += bool(found)
    assert 100 < feasible < 470


def test_points_that_are_thinned_out_cost_no_more_than_the_gap_that_is_said() -> None:
    rng = Random(34)
    thinned = 0
    for number in range(40):
        graph = chain_graph(6) if number % 2 else graph_of((), (0,), (0,), (1,), (2,), (3, 4))
        steps = {
            mask: [
                Step(mask, rng.uniform(1, 90) * mask.bit_count(), rng.uniform(1, 90) * mask.bit_count(), payload)
                for payload in range(6)
            ]
            for mask in legal_groups(graph)
        }
        exact = build(graph.predecessors, steps)
        made = build(graph.predecessors, steps, max_labels=5)
        assert exact.is_exact
        thinned += not made.is_exact
        for _ in range(20):
            slack = rng.uniform(20, 400)
            best_choice, choice = exact.pick(0, 0, slack), made.pick(0, 0, slack)
            assert (best_choice is None) == (choice is None)
            if best_choice is not None and choice is not None:
                assert choice.remaining_us <= slack
                assert best_choice.remaining_cost <= choice.remaining_cost
                assert choice.remaining_cost <= best_choice.remaining_cost * (1 + made.gap) * (1 + 1e-9)
    assert thinned > 20


def test_large_tangles_run_in_two_steps_and_every_answer_is_a_way_to_finish() -> None:
    rng = Random(35)
    # Each of five entries feeds two of five results: far more states than are solved as they are.
    graph = graph_of((), (), (), (), (), (0, 1), (1, 2), (2, 3), (3, 4), (4, 0))
    steps = {mask: each for mask, each in random_steps(rng, legal_groups(graph), 2).items() if mask.bit_count() == 1}
    made = build(graph.predecessors, steps)
    fastest = made.fastest(0, 0)
    assert fastest is not None
    assert made.is_stepwise
    assert not made.is_exact
    shortest = max(min(step.time_us for step in steps[1 << at]) for at in range(5)) + max(
        min(step.time_us for step in steps[1 << at]) for at in range(5, 10)
    )
    assert fastest.remaining_us == shortest
    cheapest = made.cheapest(0, 0)
    assert cheapest is not None
    assert cheapest.remaining_cost == sum(min(step.cost for step in each) for each in steps.values())


def test_a_wide_app_is_answered_when_it_is_asked_about() -> None:
    branches = 12
    graph = graph_of((), *((0,) for _ in range(branches)), tuple(range(1, branches + 1)))
    steps = {1 << at: [Step(1 << at, 10.0, 4.0), Step(1 << at, 20.0, 1.0, 1)] for at in range(branches + 2)}
    made = build(graph.predecessors, steps)
    assert made.is_exact
    assert as_pair(made.pick(0, 0, 60.0)) == (branches + 2, 60.0)
    assert as_pair(made.pick(0, 0, 50.0)) == (branches + 2 + 3, 50.0)
    # Eight branches and the end are left after the one that starts now: the branches or the end must hurry.
    assert as_pair(made.pick(0b1111, 4, 30.0)) == (9 + 1 + 3, 30.0)
    assert made.pick(0, 0, 29.0) is None


def test_only_extents_within_a_residency_are_offered_and_what_cannot_finish_is_refused() -> None:
    graph = chain_graph(3)
    steps = {mask: [Step(mask, 1.0, 1.0)] for mask in legal_groups(graph)}
    made = build(graph.predecessors, steps, residencies=(0b011, 0b110))
    assert [first.step.mask for first in made.first_steps(0, 0)] == [0b001, 0b011]
    assert [first.step.mask for first in made.first_steps(0b001, 1)] == [0b010, 0b110]
    with pytest.raises(InfeasibleError, match="cannot finish"):
        build(graph.predecessors, steps, residencies=(0b011,))
