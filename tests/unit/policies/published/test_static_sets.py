"""Orion, Aquatope and Knative as policy sets: what is their own, and runs on CPUs and on devices that end well."""

from dataclasses import fields, replace

import msgspec
import pytest

from grainwise.control.actions import Respond, StartInstance
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import Node
from grainwise.domain.time import SECOND
from grainwise.planning.problem import PlanTable, Problem
from grainwise.policies.own_sets import FIXED
from grainwise.policies.policy_set import PolicySet
from grainwise.policies.published import PUBLISHED, aquatope, knative, orion
from grainwise.policies.sets import SETS
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.cluster import ClusterNode
from grainwise.simulation.contents import Kind
from grainwise.simulation.planners import plan
from worlds import gpu
from worlds.problems import chain_graph, problem_of, spec_of, stage_model
from worlds.simulated import Seen, cluster

OWN = (*orion.SETS, *aquatope.SETS, *knative.SETS)


def parts(policies: PolicySet) -> dict[str, object]:
    return {field.name: getattr(policies, field.name) for field in fields(policies)}


def simulated(problem: Problem, name: str) -> tuple[SimulatedApp, PlanTable]:
    """The app of a problem as it is planned by a set, every request the mean one; and the table of that plan."""
    table = plan(msgspec.structs.replace(problem, policies=name))
    stages = len(problem.app.graph.stages)
    kind = Kind((1,) * stages, (1.0,) * stages, (1000,) * stages, (1000,))
    config = AppConfig(replan_us=0, policies=name)
    found = SimulatedApp(problem.app, problem.model, problem.hop, problem.workload, (kind,), table.winner.plan, config=config)
    return found, table


def on_cpus() -> Problem:
    models = (stage_model(50_000, 0), stage_model(30_000, 0))
    return problem_of(spec_of(chain_graph(2), slo_ms=1000.0, target=0.95), models, rate_per_s=4.0)


def on_devices() -> Problem:
    profile = gpu.profile_of(gpu.DEBLUR, gpu.CLASSIFICATION)
    return msgspec.structs.replace(gpu.problem_of(profile, 2500.0, gpu.sliced(2)), objective="provisioned")


@pytest.mark.parametrize("policies", OWN, ids=lambda policies: policies.name)
def test_each_is_registered_and_says_whose_it_is(policies: PolicySet) -> None:
    assert SETS[policies.name] is policies
    assert policies in PUBLISHED
    assert policies.provenance.grade == "reconstructed"
    assert policies.provenance.source


@pytest.mark.parametrize("policies", [each for each in OWN if each.name.endswith("_configuration")], ids=lambda each: each.name)
def test_for_a_comparison_of_configurations_all_else_is_ours(policies: PolicySet) -> None:
    ours = replace(FIXED, name=policies.name, provenance=policies.provenance, configure=policies.configure)
    assert parts(policies) == parts(ours)


@pytest.mark.parametrize("make", [on_cpus, on_devices])
@pytest.mark.parametrize("policies", OWN, ids=lambda policies: policies.name)
def test_under_each_every_request_is_answered_by_the_first_plan(policies: PolicySet, make) -> None:
    problem = make()
    app, table = simulated(problem, policies.name)
    node = ClusterNode(problem.nodes[0])
    seen = Seen([app], [(at * SECOND // 4, "made") for at in range(40)], on=cluster(node)).run()
    assert len(seen.actions(Respond)) == 40
    assert table.is_feasible or policies in knative.SETS
    shares = {round(each.gpu_share_fraction, 9) for each in app.plan.functions}
    assert {round(each.gpu_share_fraction, 9) for each, _ in seen.actions(StartInstance)} <= shares


@pytest.mark.parametrize("name", ["orion", "fixed"])
def test_orion_starts_instances_of_the_last_stage_before_the_first_one_hands_on(name: str) -> None:
    # Six seconds a stage at half a core; four requests at once after a time in which the last stage saw one.
    models = (stage_model(3_000_000, 0), stage_model(3_000_000, 0))
    spec = spec_of(chain_graph(2), slo_ms=60_000.0)
    nodes = (Node("roomy", 64.0, 1e6),)
    problem = problem_of(spec, models, rate_per_s=0.05, nodes=nodes)
    app, _ = simulated(problem, "orion_configuration")
    assert {each.cpu_cores for each in app.plan.functions} == {0.5}
    app = msgspec.structs.replace(app, config=AppConfig(replan_us=0, policies=name, keep_alive_us=SECOND))
    arrivals = [(0, "made"), *((40 * SECOND + at, "made") for at in range(4))]
    seen = Seen([app], arrivals, on=cluster(ClusterNode(nodes[0]))).run()
    started = [at for action, at in seen.actions(StartInstance) if action.stages == 0b10 and at > 30 * SECOND]
    assert started
    assert (started[0] < 46 * SECOND) == (name == "orion")
