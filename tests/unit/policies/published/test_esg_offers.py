"""What ESG offers at dispatch: the first steps of the cheapest paths for the time left, best effort, the minimum in the end."""

import msgspec
import pytest

from grainwise.domain.app import Slo
from grainwise.domain.graph import Graph
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.domain.time import MILLISECOND
from grainwise.planning.published.esg_1q import Layers
from grainwise.planning.published.esg_layers import PATHS, configurations
from grainwise.policies.extent import ExtentView
from grainwise.policies.published.esg_offers import (
    BEST_EFFORT,
    CHEAP_EFFORT,
    CHEAPEST,
    FORCED,
    NEXT,
    RECHECKS,
    EsgOffers,
    Ranked,
    decide,
)
from grainwise.predictors.effects import Setting, setting
from grainwise.predictors.groups import group_facts
from worlds.problems import HARD, SOFT, chain_graph, graph_of, problem_of, spec_of, stage_model

CORES = (0.25, 0.5, 1.0, 2.0, 4.0)


def scenario(graph: Graph, *, slo_ms: float = 1000.0, max_batch: int = 4, is_hard: bool = False) -> Setting:
    """Stages of 10 ms and 2 ms an item on one core, with four not four times as fast."""
    model = msgspec.structs.replace(stage_model(10_000.0, 2000.0), share_cores=CORES, share_factors=(3.8, 1.95, 1.0, 0.55, 0.4))
    models = tuple(model for _ in graph.stages)
    spec = spec_of(graph, slo_ms=slo_ms, max_batch=max_batch)
    return setting(problem_of(spec, models, capabilities=HARD if is_hard else SOFT))


def split(app: Setting, cpu_cores: float = 1.0) -> Plan:
    functions = tuple(FunctionPlan((node.name,), cpu_cores, 4) for node in app.app.graph.stages)
    return Plan("made", functions, "billed")


def offered(app: Setting, plan: Plan, done: int, head: int, items: int, slack_ms: float, tries: int = 0) -> list[Ranked]:
    return list(EsgOffers(app, plan).offers(done, head, items, 1, slack_ms * 1000, tries))


def test_offers_are_the_first_steps_of_the_cheapest_paths_through_the_next_functions():
    app = scenario(chain_graph(3))
    ways = [(batch, cores, 0.0) for batch in (1, 2, 4) for cores in CORES]
    layers = Layers([configurations(app, group_facts(app, 1 << stage), ways, 1) for stage in range(3)])
    for slack_ms in (20.0, 50.0, 100.0, 200.0):
        for items in (1, 2, 5):
            found = offered(app, split(app), 0, 0, items, slack_ms)
            expected = layers.search(slack_ms * 1000, PATHS, items).firsts
            assert [(each.cpu_cores, each.batch) for each in found] == [
                (layers.layers[0][path.places[0]].cpu_cores, layers.layers[0][path.places[0]].batch) for path in expected
            ]
            assert [each.costs for each in found] == [(path.cost,) for path in expected]
            assert [each.because.rule for each in found] == [CHEAPEST, *[NEXT] * (len(found) - 1)]
            assert all(each.mask == 1 and each.times_us[0] <= slack_ms * 1000 for each in found)


def test_less_time_buys_more_cores_and_what_waits_bounds_the_batch():
    app = scenario(chain_graph(2))
    first = [offered(app, split(app), 0, 0, 1, slack_ms)[0].cpu_cores for slack_ms in (500, 60, 30, 12)]
    assert first == sorted(first)
    assert first[0] < first[-1]
    assert [offered(app, split(app), 0, 0, items, 1000)[0].batch for items in (1, 2, 3, 4, 100)] == [1, 2, 2, 4, 4]


def test_where_no_path_is_in_time_one_is_best_effort_as_the_app_asks_for_and_says_so():
    app = scenario(chain_graph(2))
    for slack_ms in (1.0, 0.0, -50.0):
        found = tuple(offered(app, split(app), 0, 0, 4, slack_ms))
        fast = decide(ExtentView(0, found, 0.0, 1.0, "fastest"), 0)
        assert (fast.step.cpu_cores, fast.step.batch) == (4.0, 1)
        assert fast.because.render().startswith(BEST_EFFORT)
        cheap = decide(ExtentView(0, found, 0.0, 1.0, "cheapest"), 0)
        assert cheap.step.costs[0] == min(each.costs[0] for each in found)
        assert cheap.because.render().startswith(CHEAP_EFFORT)
        # Where nothing but the fastest fits it is taken.
        assert decide(ExtentView(0, found[:1], 0.0, 1.0, "cheapest"), 0).step is found[0]


def test_where_presence_is_paid_for_nothing_is_offered_that_can_never_be_free():
    app = scenario(chain_graph(2))
    plan = msgspec.structs.replace(split(app), objective="provisioned")
    assert {each.cpu_cores for slack in (1.0, 20.0, 200.0) for each in offered(app, plan, 0, 0, 4, slack)} <= {
        0.25,
        0.5,
        1.0,
        2.0,
    }


def test_the_first_that_fits_is_taken_as_it_is():
    app = scenario(chain_graph(2))
    found = offered(app, split(app), 0, 0, 4, 100)
    assert len(found) > 1
    for first in range(len(found)):
        decision = decide(ExtentView(0, tuple(found[first:]), 0.0, 1.0, "cheapest"), 0)
        assert decision.step is found[first]
        assert decision.is_exact


def test_after_so_many_re_checks_the_minimum_is_forced():
    app = scenario(chain_graph(2))
    assert offered(app, split(app), 0, 0, 4, 30, RECHECKS - 1) == offered(app, split(app), 0, 0, 4, 30)
    (least,) = offered(app, split(app), 0, 0, 4, 30, RECHECKS)
    assert (least.cpu_cores, least.batch, least.because.rule) == (0.25, 1, FORCED)


def test_the_time_left_is_rounded_down_and_answers_are_kept():
    app = scenario(chain_graph(2), slo_ms=2000.0)
    offers = EsgOffers(app, split(app))
    found = offers.offers(0, 0, 1, 1, 59_999.0, 0)
    assert offers.offers(0, 0, 1, 1, 50_000.0, 0) is found
    assert offers.offers(0, 0, 1, 1, 60_000.0, 0) is not found
    # Where the whole SLO is short, so are the steps.
    quick = EsgOffers(msgspec.structs.replace(app, app=msgspec.structs.replace(app.app, slo=Slo(100.0))), split(app))
    assert quick.offers(0, 0, 1, 1, 30_999.0, 0) is quick.offers(0, 0, 1, 1, 30_000.0, 0)
    assert quick.offers(0, 0, 1, 1, 31_000.0, 0) is not quick.offers(0, 0, 1, 1, 30_000.0, 0)


def test_before_every_function_the_time_is_distributed_over_what_is_left():
    app = scenario(chain_graph(5))
    # Of five alike functions three have three fifths of the time, of the last three all of it.
    assert offered(app, split(app), 0, 0, 1, 100)[0].because.facts[0] == ("has_ms", 60.0)
    assert offered(app, split(app), 0b11, 2, 1, 100)[0].because.facts[0] == ("has_ms", 100.0)
    assert offered(app, split(app), 0b1111, 4, 1, 100)[0].because.facts[0] == ("has_ms", 100.0)


def test_a_branch_has_the_whole_time_of_its_fork():
    app = scenario(graph_of((), (0,), (0,), (1, 2)))
    for head in (1, 2):
        assert offered(app, split(app), 0b0001, head, 1, 100)[0].because.facts[0] == ("has_ms", 50.0)
    assert offered(app, split(app), 0b0011, 2, 1, 100)[0].because.facts[0] == ("has_ms", 100.0)


@pytest.mark.parametrize("is_hard", [True, False])
def test_other_cores_are_offered_only_where_the_platform_can_change_them(is_hard: bool):
    app = scenario(chain_graph(1), is_hard=is_hard)
    found = {each.cpu_cores for slack_ms in (8, 16, 40, 200) for each in offered(app, split(app, 1.0), 0, 0, 4, slack_ms)}
    assert (found == {1.0}) == is_hard
    assert found <= set(CORES)


def test_a_coarser_function_is_run_whole_and_one_with_two_entries_stage_by_stage():
    app = scenario(chain_graph(3))
    coarse = Plan("made", (FunctionPlan(("s0", "s1"), 1.0, 4), FunctionPlan(("s2",), 1.0, 4)))
    assert offered(app, coarse, 0, 0, 1, 500)[0].mask == 0b011
    assert offered(app, coarse, 0b011, 2, 1, 500)[0].mask == 0b100
    # A request that began under another plan stands in the middle of a function.
    assert offered(app, coarse, 0b001, 1, 1, 500)[0].mask == 0b010
    joined = scenario(graph_of((), (), (0, 1)))
    whole = Plan("made", (FunctionPlan(("s0", "s1", "s2"), 1.0, 4),))
    assert [offered(joined, whole, 0, head, 1, 500)[0].mask for head in (0, 1, 2)] == [0b001, 0b010, 0b100]


def test_a_part_of_a_device_and_its_memory_are_as_planned():
    app = scenario(chain_graph(2))
    stages = tuple(msgspec.structs.replace(each, device="gpu") for each in app.app.stages)
    app = msgspec.structs.replace(app, app=msgspec.structs.replace(app.app, stages=stages))
    plan = Plan("made", tuple(FunctionPlan((f"s{at}",), 1.0, 2, device="gpu", gpu_share_fraction=0.5) for at in range(2)))
    offers = EsgOffers(app, plan)
    assert offers.useful(0b01) == 2
    assert {each.batch for each in offers.offers(0, 0, 8, 1, 10 * 1000 * MILLISECOND, 0)} <= {1, 2}
    assert offers.needs(0b01) == ()
