"""The SLO distributed over functions, to the microsecond, and what ESG's configurations take and cost."""

from random import Random

import msgspec
import pytest

from grainwise.domain.graph import EachNode, Element, Gathered, Graph, Input, Output, StageNode
from grainwise.planning.dominators import Parallel, decompose, mask_of
from grainwise.planning.published.esg_layers import GROUP, Distribution, configurations, lengths
from grainwise.predictors.groups import group_facts
from worlds.problems import EVEN, NOISY, chain_graph, graph_of, problem_of, random_dag, spec_of, stage_model

DIAMOND = graph_of((), (0,), (0,), (1, 2)).predecessors
NESTED = graph_of((), (0,), (1,), (1,), (2, 3), (0,), (4, 5), (6,)).predecessors
"""0 → (1 → (2 | 3) → 4 | 5) → 6 → 7."""


def drawn_weights(rng: Random, count: int) -> list[float]:
    return [rng.choice((0.0, 1.0, rng.random())) for _ in range(count)]


def test_on_a_chain_the_parts_add_up_to_the_time_left_also_after_overruns():
    rng = Random(51)
    for _ in range(300):
        count = rng.randint(1, 12)
        distribution = Distribution(chain_graph(count).predecessors, drawn_weights(rng, count))
        left_us = rng.randint(0, 10**9)
        for stage in range(count):
            runs = distribution.runs((1 << stage) - 1, left_us)
            assert sum(run.time_us for run in runs) == left_us
            assert [each for run in runs for each in run.functions] == list(range(stage, count))
            assert all(len(run.functions) <= GROUP for run in runs)
            assert distribution.run_from((1 << stage) - 1, stage, left_us) == runs[0]
            # What a stage takes has nothing to do with the part that it had.
            left_us = max(0, left_us - rng.randint(0, left_us // 2 + 1))


def test_parts_are_in_proportion_to_the_lengths():
    runs = Distribution(chain_graph(5).predecessors, [1.0, 2.0, 3.0, 4.0, 10.0]).runs(0, 200)
    assert [(run.functions, run.time_us) for run in runs] == [((0, 1, 2), 60), ((3, 4), 140)]


def test_every_branch_has_the_whole_time_of_its_segment():
    runs = Distribution(DIAMOND, [1.0, 2.0, 5.0, 2.0]).runs(0, 8000)
    assert [(run.functions, run.time_us) for run in runs] == [((0,), 1000), ((1,), 5000), ((2,), 5000), ((3,), 2000)]


def test_branches_within_branches_are_distributed_alike():
    # The outer fork weighs what its longer branch does: 1 + 3 + 2; within it the inner fork gets 3 of these 6.
    runs = Distribution(NESTED, [1.0, 1.0, 3.0, 2.0, 2.0, 4.0, 1.0, 2.0]).runs(0, 10_000)
    times = {each: run.time_us for run in runs for each in run.functions}
    assert times == {0: 1000, 1: 1000, 2: 3000, 3: 3000, 4: 2000, 5: 6000, 6: 3000, 7: 3000}


def test_what_is_left_of_a_fork_is_distributed_as_what_follows():
    distribution = Distribution(NESTED, [1.0] * 8)
    # Of the fork only 2 → 4 is left: with 6 and 7 they are a chain of four.
    runs = distribution.runs(0b101011, 4000)
    assert [(run.functions, run.time_us) for run in runs] == [((2, 4, 6), 3000), ((7,), 1000)]


def test_on_any_dag_no_way_is_given_more_than_the_time_left():
    rng = Random(52)
    for _ in range(200):
        predecessors = random_dag(rng, rng.randint(1, 9)).predecessors
        left_us = rng.randint(1, 10**8)
        runs = Distribution(predecessors, drawn_weights(rng, len(predecessors))).runs(0, left_us)
        assert sorted(each for run in runs for each in run.functions) == list(range(len(predecessors)))
        finish = [0] * len(predecessors)
        of = {each: run for run in runs for each in run.functions}
        for stage, before in enumerate(predecessors):
            ready = max((finish[other] for other in range(stage) if before >> other & 1), default=0)
            inside = [each for each in of[stage].functions if each < stage]
            finish[stage] = ready if inside else ready + of[stage].time_us
        assert max(finish) <= left_us


def test_nothing_is_distributed_where_nothing_is_left():
    distribution = Distribution(DIAMOND, [1.0] * 4)
    assert distribution.runs(0b1111, 1000) == ()
    with pytest.raises(ValueError, match="function 0 has run"):
        distribution.run_from(0b0001, 0, 1000)
    assert isinstance(decompose(DIAMOND, 0b0110), Parallel)
    assert mask_of(decompose(DIAMOND)) == 0b1111


def test_a_request_pays_its_part_of_a_batch_at_the_price_of_cores_and_share():
    spec = spec_of(chain_graph(1), max_batch=4)
    problem = problem_of(spec, (stage_model(10_000.0, 2000.0, scales_to=2.0, residuals=EVEN),))
    found = configurations(problem, group_facts(problem, 1), [(1, 1.0, 0.0), (4, 1.0, 0.0), (4, 2.0, 0.0), (4, 4.0, 0.0)], 1)
    per_us = problem.prices.usd_per_second(1.0, 0.0) / 1e6
    # Four cores make nothing faster than two.
    assert [(each.batch, each.requests, each.cpu_cores, each.time_us) for each in found] == [
        (1, 1, 1.0, 12_000.0), (4, 4, 1.0, 18_000.0), (4, 4, 2.0, 9000.0),
    ]  # fmt: skip
    assert [each.cost for each in found] == pytest.approx([12_000 * per_us, 4500 * per_us, 4500 * per_us])


def test_times_keep_a_margin_and_costs_do_not():
    spec = spec_of(chain_graph(1))
    even = problem_of(spec, (stage_model(residuals=EVEN),))
    noisy = problem_of(spec, (stage_model(residuals=NOISY),))
    (calm,) = configurations(even, group_facts(even, 1), [(1, 1.0, 0.0)], 1)
    (rough,) = configurations(noisy, group_facts(noisy, 1), [(1, 1.0, 0.0)], 1)
    assert rough.time_us > calm.time_us
    assert rough.cost < rough.time_us / calm.time_us * calm.cost
    kinds = msgspec.structs.replace(
        even, workload=msgspec.structs.replace(even.workload, variants=((0.5,), (1.5,)))
    )  # fmt: skip
    (mixed,) = configurations(kinds, group_facts(kinds, 1), [(1, 1.0, 0.0)], 1)
    assert mixed.time_us == pytest.approx(1.5 * calm.time_us)


def test_the_items_of_a_fan_out_are_shared_out_over_instances():
    graph = Graph(
        ("value",),
        (StageNode("list", "list", (Input(0),)), StageNode("item", "item", (Element(0),), (0,))),
        (EachNode(Output(0), Output(1)),),
        (Gathered(0),),
        ("result",),
    )
    spec = spec_of(graph, max_batch=16)
    problem = problem_of(spec, (stage_model(), stage_model(10_000.0, 0.0)), items=(1.0, 8.0))
    facts = group_facts(problem, 0b10)
    ways = [(2, 1.0, 0.0), (8, 1.0, 0.0), (16, 1.0, 0.0)]
    one, four = configurations(problem, facts, ways, 1), configurations(problem, facts, ways, 4)
    assert [each.time_us for each in one] == [40_000.0, 10_000.0, 10_000.0]
    assert [each.time_us for each in four] == [10_000.0, 10_000.0, 10_000.0]
    # Eight items are one request's, so sixteen are two requests that pay half each.
    assert [each.requests for each in one] == [1, 1, 2]
    assert one[0].cost == pytest.approx(4 * one[1].cost)
    assert one[2].cost == pytest.approx(one[1].cost / 2)


def test_lengths_are_mean_parts_over_configurations():
    spec = spec_of(chain_graph(2), batches=(4, 1))
    problem = problem_of(spec, (stage_model(0.0, 1000.0), stage_model(0.0, 3000.0)))
    facts = [group_facts(problem, 1), group_facts(problem, 2)]
    # Where the second stage takes one at a time, four of the first are 4 : 3.
    found = lengths(problem, facts, (4, 1), [(1, 1.0, 0.0), (4, 1.0, 0.0)])
    assert found == pytest.approx(((1 / 4 + 4 / 7) / 2, (3 / 4 + 3 / 7) / 2))
