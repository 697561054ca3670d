"""ESG_1Q beside the brute force: exact with both blades and without, no error where nothing fits, the same when asked again."""

import itertools
from collections.abc import Iterator, Sequence
from functools import cache
from random import Random

import pytest

from grainwise.planning.published.esg_1q import Configuration, Layers

INSTANCES = 4_000
KEEPS = (1, 3, 5)

Drawn = tuple[tuple[tuple[Configuration, ...], ...], int, int]


@cache
def drawn() -> tuple[Drawn, ...]:
    """Layers with whole times and costs, a limit and a queue: 1 to 4 stages of 1 to 7 configurations."""
    rng = Random(50)
    found: list[Drawn] = []
    for _ in range(INSTANCES):
        layers = tuple(tuple(configuration(rng) for _ in range(rng.randint(1, 7))) for _ in range(rng.randint(1, 4)))
        found.append((layers, rng.randint(1, 20 * len(layers)), rng.randint(1, 8)))
    return tuple(found)


def configuration(rng: Random) -> Configuration:
    batch = rng.choice((1, 1, 2, 4))
    return Configuration(rng.randint(1, 20), rng.randint(0, 20), batch, batch)


def every_path(layers: Sequence[Sequence[Configuration]], queue: int) -> Iterator[tuple[Configuration, ...]]:
    """All ways in which no stage batches more than the one before hands on, and the first no more than waits."""
    for path in itertools.product(*layers):
        if path[0].batch <= queue and all(after.requests <= before.requests for before, after in itertools.pairwise(path)):
            yield path


def brute_force(layers: Sequence[Sequence[Configuration]], limit_us: float, keep: int, queue: int) -> list[float]:
    costs = [
        sum(each.cost for each in path) for path in every_path(layers, queue) if sum(each.time_us for each in path) <= limit_us
    ]
    return sorted(costs)[:keep]


def test_the_cheapest_paths_are_those_of_the_brute_force_and_the_blades_lose_none():
    feasible = saved = 0
    for layers, limit_us, queue in drawn():
        ready = Layers(layers)
        for keep in KEEPS:
            found = ready.search(limit_us, keep, queue)
            costs = [path.cost for path in found.paths]
            assert costs == brute_force(layers, limit_us, keep, queue)
            bare = ready.search(limit_us, keep, queue, is_pruned=False)
            assert [path.cost for path in bare.paths] == costs
            assert found.expanded <= bare.expanded
            feasible += bool(costs)
            saved += bare.expanded - found.expanded
    assert feasible > INSTANCES
    assert saved > 0


def test_every_path_is_one_and_says_what_it_takes():
    for layers, limit_us, queue in drawn()[:500]:
        for path in Layers(layers).search(limit_us, 5, queue).paths:
            taken = tuple(layer[place] for layer, place in zip(layers, path.places, strict=True))
            assert taken in set(every_path(layers, queue))
            assert (path.time_us, path.cost) == (sum(each.time_us for each in taken), sum(each.cost for each in taken))
            assert path.time_us <= limit_us


def test_where_no_path_is_in_time_there_is_none_and_the_fastest_is_known():
    seen = 0
    for layers, limit_us, queue in drawn():
        if brute_force(layers, limit_us, 1, queue):
            continue
        ready = Layers(layers)
        assert ready.search(limit_us, 5, queue).paths == ()
        ways = list(every_path(layers, queue))
        fastest = ready.fastest(queue)
        assert (fastest is None) == (not ways)
        if fastest is not None:
            seen += 1
            times = [(sum(each.time_us for each in way), sum(each.cost for each in way)) for way in ways]
            assert (fastest.time_us, fastest.cost) == min(times)
    assert seen > 100


def test_asked_again_before_every_stage_the_path_costs_what_the_first_plan_said():
    checked = 0
    for layers, limit_us, queue in drawn():
        planned = Layers(layers).search(limit_us, 1, queue).paths
        if not planned:
            continue
        checked += 1
        left_us, cap, paid = float(limit_us), queue, 0.0
        for stage in range(len(layers)):
            place = Layers(layers[stage:]).search(left_us, 1, cap).paths[0].places[0]
            taken = layers[stage][place]
            left_us, cap, paid = left_us - taken.time_us, taken.requests, paid + taken.cost
        assert paid == planned[0].cost
    assert checked > 1_000


def test_first_configurations_come_once_each_and_cheapest_first():
    layers = Layers(
        [
            [Configuration(10, 1.0), Configuration(5, 3.0), Configuration(1, 9.0)],
            [Configuration(10, 1.0), Configuration(9, 1.5)],
        ]
    )
    found = layers.search(100, 5)
    assert [path.cost for path in found.paths] == [2.0, 2.5, 4.0, 4.5, 10.0]
    assert [(path.places, path.cost) for path in found.firsts] == [((0, 0), 2.0), ((1, 0), 4.0), ((2, 0), 10.0)]


def test_no_stage_batches_more_than_waits_or_than_the_stage_before_hands_on():
    stage = [Configuration(10, 1.0, 1, 1), Configuration(12, 0.5, 2, 2), Configuration(16, 0.25, 4, 4)]
    layers = Layers([stage, stage])
    assert layers.search(100, 1, queue=3).paths[0].places == (1, 1)
    assert layers.search(100, 1, queue=4).paths[0].places == (2, 2)
    # Only the batch of one is in time twice, and a larger one after it would be of requests that are not there.
    assert layers.search(20, 3, queue=4).paths[0].places == (0, 0)
    assert layers.search(30, 9, queue=4).firsts[0].places == (2, 1)


@pytest.mark.parametrize("keep", KEEPS)
def test_what_costs_nothing_is_found(keep: int):
    free = [Configuration(10, 0.0), Configuration(20, 0.0)]
    assert [path.cost for path in Layers([free, free]).search(30, keep).paths] == [0.0] * min(keep, 3)
