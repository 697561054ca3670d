"""Plans after Aquatope: near to the best of all sizes, the same again, safe against errors of profiles, without the library."""

import sys
from itertools import product

import msgspec
import pytest

from grainwise.domain.errors import InfeasibleError, PlatformError
from grainwise.domain.machine import Node
from grainwise.planning.best import Groups
from grainwise.planning.options import explain_misfit
from grainwise.planning.problem import Problem
from grainwise.planning.published import aquatope
from grainwise.planning.published.sizes import Size, as_ours, ladders, placed, sized
from grainwise.predictors.analytic import with_errors
from grainwise.predictors.evaluate import Evaluation
from grainwise.predictors.groups import group_facts
from worlds import gpu
from worlds.problems import NOISY, chain_graph, problem_of, spec_of, stage_model

ROOMY = (Node("roomy", 8.0, 1e6),)


def pair(slo_ms: float = 150.0, *, rate_per_s: float = 2.0, scales_to: float = 8.0, nodes: tuple[Node, ...] = ROOMY) -> Problem:
    models = tuple(stage_model(each, 0, residuals=NOISY, scales_to=scales_to) for each in (20_000, 40_000))
    return problem_of(spec_of(chain_graph(2), slo_ms=slo_ms, target=0.95), models, rate_per_s=rate_per_s, nodes=nodes)


def best_usd_per_hour(problem: Problem) -> float:
    """The least cost of all pairs of sizes that meet the SLO with every stage slow."""
    facts = [group_facts(problem, 1 << stage) for stage in range(2)]
    slow, groups, found = with_errors(problem, 1), Groups(problem), []
    for shares in product(*(ladders(problem, each, 1).cpu for each in facts)):
        functions = [sized(problem, each, Size(share), 1, as_ours) for each, share in zip(facts, shares, strict=True)]
        plan = placed(problem, tuple(each for each in functions if each is not None))
        if plan is not None and Evaluation(slow, plan).attainment_at_forecast() >= problem.app.slo.target:
            found.append(groups.evaluation(plan).usd_per_hour(problem.objective))
    return min(found)


def test_it_comes_near_to_the_best_of_all_sizes_and_to_the_same_plan_again() -> None:
    problem = pair()
    table = aquatope.configure_as_ours(problem)
    assert table.is_feasible
    assert "after Aquatope, reconstructed" in table.because
    assert table.winner.predicted.provisioned_usd_per_hour <= 1.2 * best_usd_per_hour(problem)
    slow = Evaluation(with_errors(problem, 1), table.winner.plan)
    assert slow.attainment_at_forecast() >= problem.app.slo.target
    assert msgspec.json.encode(aquatope.configure_as_ours(problem)) == msgspec.json.encode(table)


def test_on_devices_it_meets_the_slo_with_slices_that_are_placed() -> None:
    problem = gpu.problem_of(gpu.profile_of(gpu.DEBLUR, gpu.SUPER_RESOLUTION, gpu.CLASSIFICATION), 600.0, gpu.sliced())
    table = aquatope.configure(problem)
    assert table.is_feasible
    assert explain_misfit(problem, table.winner.plan) is None
    assert {each.max_batch for each in table.winner.plan.functions} == {1}
    assert table.expanded_nodes > aquatope.FIRST_LOOKS


def test_the_pool_holds_two_deviations_more_than_the_mean() -> None:
    # One size only: four a second times 0.08 s and 0.16 s at a quarter of a core. 0.32 + 2 * 0.57 and 0.64 + 2 * 0.8.
    small = pair(500.0, rate_per_s=4.0, scales_to=1.0, nodes=(Node("quarter", 0.25, 1e6),) * 9)
    table = aquatope.configure(small)
    assert [each.instances for each in table.winner.plan.functions] == [2, 3]
    assert "there is one size for each function" in table.because


def test_an_slo_that_nothing_meets_gets_the_fastest_that_was_looked_at() -> None:
    table = aquatope.configure_as_ours(pair(slo_ms=3.0))
    assert not table.is_feasible
    assert table.winner.predicted.p95_ms < 40
    assert "this plan answers 95.0% within" in table.nearest


def test_what_fits_nowhere_is_refused_before_the_library_is_asked_for(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "bayes_opt.acquisition", None)
    with pytest.raises(InfeasibleError, match="no plan of made fits"):
        aquatope.configure(pair(nodes=(Node("tiny", 4.0, 50.0),)))
    with pytest.raises(PlatformError, match=r"pip install 'grainwise\[published\]'"):
        aquatope.configure(pair())
