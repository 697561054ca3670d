"""Plans after ESG: split or as forced, the configurations of ESG_1Q, instances enough for the rate, and words that say it."""

from random import Random

import msgspec
import pytest

from grainwise.domain.errors import ConfigurationError, InfeasibleError
from grainwise.domain.machine import Node
from grainwise.planning.best import Groups
from grainwise.planning.options import explain_misfit
from grainwise.planning.problem import Problem
from grainwise.planning.published.esg_1q import Configuration
from grainwise.planning.published.esg_layers import GROUP
from grainwise.planning.published.esg_plan import choose, configure
from grainwise.planning.published.provided import provided
from grainwise.planning.scaled import HEADROOM
from grainwise.policies.own_sets import FIXED
from grainwise.policies.policy_set import PolicySet
from grainwise.policies.sets import policy_set
from grainwise.predictors.groups import group_facts
from worlds import gpu
from worlds.problems import HARD, chain_graph, graph_of, problem_of, random_graph, spec_of, stage_model


def chain(count: int, *, slo_ms: float = 1000.0, rate_per_s: float = 5.0, max_batch: int = 4) -> Problem:
    model = msgspec.structs.replace(
        stage_model(10_000.0, 2000.0), share_cores=(0.25, 0.5, 1.0, 2.0, 4.0), share_factors=(3.8, 1.95, 1.0, 0.55, 0.4)
    )
    spec = spec_of(chain_graph(count), slo_ms=slo_ms, max_batch=max_batch)
    return problem_of(spec, (model,) * count, rate_per_s=rate_per_s)


def test_every_stage_is_a_function_of_its_own_unless_a_granularity_is_forced():
    problem = chain(4)
    assert configure(problem).winner.plan.grain == (("s0",), ("s1",), ("s2",), ("s3",))
    grain = (("s0", "s1"), ("s2", "s3"))
    table = configure(msgspec.structs.replace(problem, grain=grain))
    assert table.winner.plan.grain == grain
    assert table.is_feasible and table.because.startswith(
        "after ESG, reconstructed, the configurations of the cheapest path in time: "
    )
    assert table.expanded_nodes > 0
    with pytest.raises(InfeasibleError, match="is no granularity"):
        configure(msgspec.structs.replace(problem, grain=(("s0", "s2"), ("s1",), ("s3",))))
    with pytest.raises(ConfigurationError, match="rate_per_s"):
        configure(msgspec.structs.replace(problem, workload=msgspec.structs.replace(problem.workload, rate_per_s=-1.0)))


def test_less_time_buys_dearer_configurations():
    costs = []
    for slo_ms in (1000.0, 120.0, 60.0, 30.0):
        (cheapest, *_) = choose(chain(4, slo_ms=slo_ms), (1, 2, 4, 8)).combinations
        costs.append(sum(each.cost for each in cheapest))
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


def test_the_paths_keep_the_parts_of_the_slo():
    for slo_ms in (60.0, 200.0):
        problem = chain(5, slo_ms=slo_ms)
        chosen = choose(problem, (1, 2, 4, 8, 16))
        assert not chosen.late
        for combination in chosen.combinations:
            whole = sum(each.time_us for each in combination)
            assert whole <= slo_ms * 1000
            assert sum(each.time_us for each in combination[:GROUP]) <= slo_ms * 1000 * GROUP / 5 + 1


def test_where_nothing_is_in_time_the_fastest_is_planned_and_it_is_said():
    table = configure(chain(3, slo_ms=1.0))
    assert not table.is_feasible
    assert "(none through s0, s1, s2 is in time, so the fastest)" in table.because
    assert table.nearest.startswith("this plan answers")
    assert {each.cpu_cores for each in table.winner.plan.functions} == {4.0}


def test_there_are_instances_for_the_rate_and_no_more_than_help():
    groups = Groups(chain(1, rate_per_s=150.0, slo_ms=1000.0))
    configuration = Configuration(12_000.0, 1.0, 1, 1, 1.0)
    plan = provided(groups, [(1, configuration)])
    assert plan is not None
    # 1.8 busy on the mean.
    assert plan.functions[0].instances >= 1.8 / HEADROOM
    assert groups.evaluation(plan).attainment(150.0) >= groups.problem.app.slo.target
    calm = provided(Groups(chain(1, rate_per_s=1.0)), [(1, configuration)])
    assert calm is not None and calm.functions[0].instances == 1


def test_what_does_not_fit_gives_way_to_the_minimum():
    # Four hard cores hold no three functions of two; a path that fits is taken, else the minimum configuration.
    problem = msgspec.structs.replace(chain(3, slo_ms=30.0), capabilities=HARD, nodes=(Node("here", 4.0, 8000.0),))
    table = configure(problem)
    assert explain_misfit(problem, table.winner.plan) is None
    assert "fit" in table.because
    tiny = msgspec.structs.replace(problem, nodes=(Node("here", 4.0, 150.0),))
    with pytest.raises(InfeasibleError):
        configure(tiny)


def test_on_devices_the_share_is_part_of_a_configuration():
    profile = gpu.profile_of(*gpu.CHAIN)
    shares: list[float] = []
    for slo_ms in (8000.0, 2500.0, 1600.0):
        table = configure(gpu.problem_of(profile, slo_ms, gpu.sliced()))
        functions = table.winner.plan.functions
        assert all(
            each.device == "gpu" and round(each.gpu_share_fraction * gpu.SLOTS, 6) in (1, 2, 3, 4, 7) for each in functions
        )
        shares.append(sum(each.gpu_share_fraction for each in functions))
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(5 / gpu.SLOTS)
    assert shares[0] < shares[-1]


def test_forks_and_fan_outs_are_planned_too():
    rng = Random(53)
    for _ in range(6):
        graph = random_graph(rng, 5)
        problem = problem_of(spec_of(graph, slo_ms=500.0, max_batch=4), (stage_model(),) * len(graph.stages))
        table = configure(problem)
        assert explain_misfit(problem, table.winner.plan) is None
    fork = problem_of(spec_of(graph_of((), (0,), (0,), (1, 2)), slo_ms=100.0), (stage_model(),) * 4)
    assert configure(fork).is_feasible
    assert group_facts(fork, 1).items == 1.0


def test_the_second_set_differs_from_fixed_in_what_makes_configurations_alone():
    parts = ("admit", "rank", "route", "scale", "keep", "place", "ask", "verdict", "measures_concurrency")
    alone: PolicySet = policy_set("esg_configuration")
    assert all(getattr(alone, part) is getattr(FIXED, part) for part in parts)
    own = policy_set("esg")
    assert {part for part in parts if getattr(own, part) is not getattr(alone, part)} == {"route", "scale", "place"}
    assert own.configure is alone.configure is configure
    assert own.provenance.grade == alone.provenance.grade == "reconstructed"
