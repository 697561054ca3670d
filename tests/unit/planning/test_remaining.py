"""The bound on what is still to be chosen never exceeds the truth, and a search with it finds what one without it finds."""

from itertools import product
from random import Random

import pytest

from grainwise.domain.plan import FunctionPlan
from grainwise.planning import search
from grainwise.planning.options import Choice
from grainwise.planning.remaining import MOST_POINTS, LeastCost
from grainwise.planning.search import cheapest
from worlds.problems import chain_graph, problem_of, spec_of, stage_model


def layer(rng: Random, count: int) -> list[Choice]:
    found = []
    for number in range(count):
        time = rng.uniform(1, 100)
        cost = rng.uniform(0.5, 1.5) * 100 / time
        found.append(Choice(FunctionPlan((f"f{number}",), 1.0), time, time, cost, 0.01, 0.0, 1.0, 0.1))
    return sorted(found, key=lambda each: each.cost)


def test_the_bound_is_the_least_cost_or_less_and_infinite_only_where_time_is_too_short() -> None:
    for seed in range(60):
        rng = Random(seed)
        layers = [layer(rng, rng.randint(1, 7)) for _ in range(rng.randint(1, 4))]
        bound = LeastCost(layers)
        assert bound.at(len(layers), 0.0) == 0.0
        for _ in range(10):
            limit = rng.uniform(1, 300)
            for position in range(len(layers)):
                sums = [
                    sum(each.cost for each in combination)
                    for combination in product(*layers[position:])
                    if sum(each.time_us for each in combination) <= limit
                ]
                assert bound.at(position, limit) == pytest.approx(min(sums, default=float("inf")))
                assert bound.at(position, limit) <= min(sums, default=float("inf"))


def test_a_long_front_is_thinned_downwards() -> None:
    rng = Random(5)
    layers = [layer(rng, 150) for _ in range(2)]
    bound = LeastCost(layers)
    sums = sorted((a.time_us + b.time_us, a.cost + b.cost) for a, b in product(*layers))
    loosest = 0.0
    for limit in range(5, 200, 5):
        known = min((cost for time, cost in sums if time <= limit), default=float("inf"))
        assert bound.at(0, limit) <= known
        if known < float("inf"):
            loosest = max(loosest, known / bound.at(0, limit))
    # What thinning gives away is small beside what knowing the time gains.
    assert 1.0 <= loosest < 1.3
    assert len(bound._times[0]) <= MOST_POINTS


def test_a_search_with_the_bound_finds_what_it_finds_without(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of(spec_of(chain_graph(3)), (stage_model(),) * 3)
    before = [[], [0], [1]]
    for seed in range(25):
        rng = Random(seed)
        layers = [layer(rng, 12) for _ in range(3)]
        limit = rng.uniform(20, 200)
        monkeypatch.setattr(search, "MAX_NODES", 1 << 30)
        plain = cheapest(problem, layers, before, limit, 3)
        # One that might be cut off has the bound; it makes no more labels than this, and is not cut off.
        monkeypatch.setattr(search, "MAX_NODES", 1727)
        bounded = cheapest(problem, layers, before, limit, 3)
        assert bounded.is_exact
        assert bounded.expanded <= plain.expanded
        assert bounded.combinations == plain.combinations
