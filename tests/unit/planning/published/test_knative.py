"""Plans after Knative's defaults: one shape whatever the SLO, as many as the autoscaler's target asks for."""

from random import Random

import msgspec
import pytest

from grainwise.domain.errors import InfeasibleError
from grainwise.domain.machine import Node
from grainwise.planning.options import explain_misfit
from grainwise.planning.problem import Problem
from grainwise.planning.published import knative
from worlds import gpu
from worlds.problems import HARD, chain_graph, problem_of, random_graph, random_problem, spec_of, stage_model

ROOMY = (Node("roomy", 64.0, 1e6),)


def chain(slo_ms: float = 500.0, *, rate_per_s: float = 1.0, nodes: tuple[Node, ...] = ROOMY, max_batch: int = 4) -> Problem:
    models = (stage_model(100_000, 0, scales_to=8.0), stage_model(20_000, 0, scales_to=8.0))
    spec = spec_of(chain_graph(2), slo_ms=slo_ms, max_batch=max_batch)
    return problem_of(spec, models, rate_per_s=rate_per_s, nodes=nodes)


def test_one_core_without_batches_whatever_the_slo() -> None:
    for slo_ms in (500.0, 50.0):
        table = knative.configure(chain(slo_ms))
        assert [(each.cpu_cores, each.max_batch) for each in table.winner.plan.functions] == [(1.0, 1), (1.0, 1)]
        assert table.is_feasible == (slo_ms == 500.0)
    assert "this plan answers" in table.nearest


def test_no_more_than_seventy_percent_of_the_instances_are_in_use() -> None:
    # 20 a second times 0.1 s keep two busy, times 0.02 s four tenths of one.
    table = knative.configure(chain(rate_per_s=20.0))
    assert [each.instances for each in table.winner.plan.functions] == [3, 1]


def test_under_our_dispatcher_it_has_the_batches_that_are_declared() -> None:
    table = knative.configure_as_ours(chain())
    assert [(each.cpu_cores, each.max_batch) for each in table.winner.plan.functions] == [(1.0, 4), (1.0, 4)]


def test_less_than_a_core_where_no_node_has_one() -> None:
    table = knative.configure(chain(nodes=(Node("small", 0.5, 8000.0),)))
    assert {each.cpu_cores for each in table.winner.plan.functions} == {0.5}


@pytest.mark.parametrize("configure", [knative.configure, knative.configure_as_ours])
def test_on_devices_the_smallest_share_that_holds_it(configure) -> None:
    profile = gpu.profile_of(gpu.DEBLUR, gpu.CLASSIFICATION)
    for devices, share in ((gpu.sliced(), 1 / 7), (gpu.shared(), 1 / 8)):
        problem = gpu.problem_of(profile, 4000.0, devices)
        plan = configure(problem).winner.plan
        assert [each.gpu_share_fraction for each in plan.functions] == pytest.approx([share, share])
        assert explain_misfit(problem, plan) is None


def test_a_batch_that_no_device_holds_is_made_smaller() -> None:
    hungry = msgspec.structs.replace(gpu.DEBLUR, activation_gib=20.0)
    problem = gpu.problem_of(gpu.profile_of(hungry), 4000.0, gpu.sliced())
    (function,) = knative.configure_as_ours(problem).winner.plan.functions
    assert function.max_batch == 1
    assert function.gpu_share_fraction > 1 / 7


@pytest.mark.parametrize("seed", range(4))
def test_every_plan_fits_the_nodes(seed: int) -> None:
    rng = Random(seed)
    problem = random_problem(rng, random_graph(rng, 5))
    for configure in (knative.configure, knative.configure_as_ours):
        try:
            table = configure(problem)
        except InfeasibleError as error:
            assert "no plan of made fits" in str(error)
            continue
        assert explain_misfit(problem, table.winner.plan) is None
        assert "after Knative's defaults, reconstructed" in table.because


def test_instances_are_given_up_one_by_one_where_cores_are_short() -> None:
    crowded = msgspec.structs.replace(chain(rate_per_s=100.0, nodes=(Node("three", 3.0, 8000.0),)), capabilities=HARD)
    table = knative.configure(crowded)
    assert sum(each.instances for each in table.winner.plan.functions) == 3
    assert not table.is_feasible
    assert "overloaded" in table.nearest
    with pytest.raises(InfeasibleError, match="no plan of made fits"):
        knative.configure(msgspec.structs.replace(crowded, nodes=(Node("one", 1.0, 8000.0),)))
