"""Planning against brute force on random problems: every combination of every granularity, judged one by one."""

from collections.abc import Sequence
from itertools import product
from math import inf
from random import Random

import msgspec
import pytest

from grainwise.domain.errors import InfeasibleError
from grainwise.domain.graph import Graph
from grainwise.domain.plan import Plan
from grainwise.planning.best import layers_of
from grainwise.planning.granularity import check_granularity, granularities
from grainwise.planning.options import Choice, choices, explain_misfit, fits
from grainwise.planning.problem import PlanTable, Problem
from grainwise.planning.search import cheapest, longest_path_us
from grainwise.planning.table import compute
from grainwise.predictors.evaluate import Evaluation
from grainwise.predictors.groups import group_facts
from worlds.problems import chain_graph, random_dag, random_graph, random_problem


def small_graph(rng: Random) -> Graph:
    kind = rng.randrange(3)
    if kind == 0:
        return chain_graph(rng.randint(1, 5))
    return random_dag(rng, rng.randint(2, 5)) if kind == 1 else random_graph(rng, rng.randint(2, 4))


def tightened(rng: Random, problem: Problem) -> Problem:
    """The problem with an SLO that is often hopeless."""
    slo = msgspec.structs.replace(problem.app.slo, latency_ms=problem.app.slo.latency_ms * rng.choice((0.1, 0.2, 0.4, 1.0)))
    return msgspec.structs.replace(problem, app=msgspec.structs.replace(problem.app, slo=slo))


def sums_fit(problem: Problem, combination: Sequence[Choice]) -> bool:
    return fits(
        problem,
        sum(choice.demand_cores for choice in combination),
        sum(choice.hard_cores for choice in combination),
        sum(choice.memory_mib for choice in combination),
    )


def test_the_joint_search_over_granularities_and_configurations_equals_brute_force_on_500_problems() -> None:
    feasible = 0
    for seed in range(500):
        rng = Random(seed)
        graph = small_graph(rng)
        problem = random_problem(rng, graph)
        found_by_mask: dict[int, tuple[Choice, ...]] = {}
        limit_us = rng.uniform(0.3, 3.0) * problem.app.slo.latency_ms * 1000
        best_searched = best_tried = inf
        for groups in granularities(graph):
            for mask in groups:
                if mask not in found_by_mask:
                    found = choices(problem, group_facts(problem, mask))
                    found_by_mask[mask] = tuple(
                        sorted(rng.sample(found, min(len(found), rng.randint(1, 4))), key=lambda c: c.cost)
                    )
            order, before = layers_of(graph, groups)
            layers = [found_by_mask[groups[at]] for at in order]
            searched = cheapest(problem, layers, before, limit_us, 3)
            tried = sorted(
                sum(choice.cost for choice in combination)
                for combination in product(*layers)
                if longest_path_us(combination, before) <= limit_us and sums_fit(problem, combination)
            )
            assert searched.is_exact
            costs = [sum(choice.cost for choice in combination) for combination in searched.combinations]
            assert costs == pytest.approx(tried[:3]), f"seed {seed}"
            best_searched = min([best_searched, *costs])
            best_tried = min([best_tried, *tried])
        assert best_searched == pytest.approx(best_tried)
        feasible += best_tried < inf
    assert 100 < feasible < 450


def brute_force_cost(problem: Problem) -> float:
    """The cost of the cheapest plan that the evaluator says meets the SLO, over all granularities and configurations."""
    best = inf
    for groups in granularities(problem.app.graph):
        layers = [choices(problem, group_facts(problem, mask)) for mask in groups]
        for combination in product(*layers):
            cost = sum(choice.cost for choice in combination)
            if cost >= best or not sums_fit(problem, combination):
                continue
            plan = Plan("made", tuple(choice.function for choice in combination))
            if Evaluation(problem, plan).attainment(problem.workload.rate_per_s) >= problem.app.slo.target:
                best = cost
    return best


def test_under_queueing_the_table_finds_what_judging_every_plan_finds() -> None:
    feasible = infeasible = 0
    for seed in range(120):
        rng = Random(seed)
        problem = tightened(rng, random_problem(rng, random_dag(rng, rng.randint(1, 3))))
        best = brute_force_cost(problem)
        table = table_or_none(problem)
        if table is None or not table.is_feasible:
            assert best == inf, f"seed {seed}"
            infeasible += 1
            continue
        feasible += 1
        assert table.winner.predicted.provisioned_usd_per_hour == pytest.approx(best, rel=1e-6), f"seed {seed}"
    assert feasible > 25
    assert infeasible > 25


def table_or_none(problem: Problem) -> PlanTable | None:
    try:
        return compute(problem)
    except InfeasibleError:
        return None


def test_every_plan_of_a_table_is_legal_fits_and_stands_where_it_should() -> None:
    for seed in range(80):
        rng = Random(1000 + seed)
        problem = random_problem(rng, small_graph(rng))
        table = table_or_none(problem)
        if table is None:
            continue
        graph = problem.app.graph
        target = problem.app.slo.target
        grains = [option.plan.grain for option in table.options]
        assert len(set(grains)) == len(grains)
        for option in table.options:
            masks = tuple(graph.mask(function.stages) for function in option.plan.functions)
            assert check_granularity(graph, masks) is None
            assert explain_misfit(problem, option.plan) is None
            assert option.meets_slo == (option.predicted.attainment >= target)
            for function in option.plan.functions:
                assert 1 <= function.min_instances <= function.instances <= function.max_instances
        meeting = [option.predicted.provisioned_usd_per_hour for option in table.options if option.meets_slo]
        assert table.is_feasible == bool(meeting)
        assert [option.meets_slo for option in table.options] == [True] * len(meeting) + [False] * (len(grains) - len(meeting))
        assert meeting == sorted(meeting) or meeting == pytest.approx(sorted(meeting))
        assert table.winner.lacks == ""
        assert all(option.lacks for option in table.options[1:])
        assert bool(table.nearest) != table.is_feasible


def test_what_a_table_calls_the_nearest_feasible_is_feasible() -> None:
    checked = 0
    for seed in range(70):
        rng = Random(2000 + seed)
        problem = tightened(rng, random_problem(rng, random_dag(rng, rng.randint(1, 4))))
        table = table_or_none(problem)
        if table is None or table.is_feasible:
            continue
        for part in table.nearest.split("; "):
            said = part.rpartition(": ")[2].split(" with ")[0]
            if part.startswith("nearest feasible SLO"):
                slo = msgspec.structs.replace(problem.app.slo, latency_ms=float(said.removesuffix(" ms")))
                eased = msgspec.structs.replace(problem, app=msgspec.structs.replace(problem.app, slo=slo))
            elif part.startswith("highest feasible rate"):
                rate = float(said.removesuffix("/s"))
                assert rate < problem.workload.rate_per_s
                eased = msgspec.structs.replace(problem, workload=msgspec.structs.replace(problem.workload, rate_per_s=rate))
            else:
                continue
            assert compute(eased).is_feasible, f"seed {seed}: {part}"
            checked += 1
    assert checked > 12


def test_a_table_survives_json_and_is_the_same_every_time() -> None:
    for seed in range(20):
        rng = Random(3000 + seed)
        problem = random_problem(rng, small_graph(rng))
        table = table_or_none(problem)
        if table is None:
            continue
        data = msgspec.json.encode(table)
        assert msgspec.json.decode(data, type=PlanTable) == table
        again = msgspec.json.decode(msgspec.json.encode(problem), type=Problem)
        assert msgspec.json.encode(compute(again)) == data
