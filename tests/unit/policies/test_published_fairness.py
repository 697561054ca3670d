"""Published sets are compared fairly: configuration sets have our parts for the rest, and all are asked the same."""

from dataclasses import fields, replace

import msgspec
import pytest
from reproduce.granularity.runs import World
from reproduce.granularity.ways import asked
from reproduce.granularity.worlds import cluster

from grainwise.planning.problem import PlanTable, Problem
from grainwise.planning.table import compute
from grainwise.policies.own_sets import FIXED
from grainwise.policies.policy_set import PolicySet
from grainwise.policies.published import PUBLISHED
from grainwise.policies.sets import SETS
from grainwise.simulation import planners
from grainwise.simulation.made_apps import made
from grainwise.workloads.integers import SplitMix64
from grainwise.workloads.processes import Poisson

CONFIGURATION = "_configuration"
NEVER_SHARED = {"name", "provenance", "configure"}
ALSO_CONFIGURATION = {"esg_configuration": {"offer", "extent", "batch_now", "batch_or_wait"}}
"""ESG configures at dispatch, and a batch is part of a configuration, so these parts are its configuration."""

CONFIGURATIONS = [each for each in PUBLISHED if each.name.endswith(CONFIGURATION)]


@pytest.mark.parametrize("one", CONFIGURATIONS, ids=lambda one: one.name)
def test_only_the_configuration_is_its_own(one: PolicySet) -> None:
    own = {field.name for field in fields(PolicySet) if getattr(one, field.name) != getattr(FIXED, field.name)}
    assert own == NEVER_SHARED | ALSO_CONFIGURATION.get(one.name, set())


def test_every_system_has_both_sets_from_one_source() -> None:
    whole = [each for each in PUBLISHED if each not in CONFIGURATIONS]
    assert {each.name + CONFIGURATION for each in whole} == {each.name for each in CONFIGURATIONS}
    for each in whole:
        beside = SETS[each.name + CONFIGURATION]
        assert each.provenance.source == beside.provenance.source != ""
        assert each.provenance.grade == beside.provenance.grade


def test_every_published_set_is_asked_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app, its model and its hops, the load, the machines and the prices; ``is_stagewise`` is the set's own."""
    seen: list[Problem] = []

    def configure(problem: Problem) -> PlanTable:
        seen.append(problem)
        return table

    world = World((made(SplitMix64(2)),), cluster(2, "cpu", None), (Poisson(5.0),), "billed", 1)
    table = compute(world.problem(0))
    watched = {each.name: replace(each, configure=configure) for each in PUBLISHED}
    monkeypatch.setattr(planners, "policy_set", watched.__getitem__)
    for each in PUBLISHED:
        assert asked(world, each.name, "reconstructed").plans == (table.winner.plan,)
    assert [each.policies for each in seen] == [each.name for each in PUBLISHED]
    assert [each.is_stagewise for each in seen] == [each.extent is not None for each in PUBLISHED]
    alike = {msgspec.json.encode(msgspec.structs.replace(each, policies="", is_stagewise=False)) for each in seen}
    assert len(alike) == 1
    assert (seen[0].prices, seen[0].nodes) == (world.cluster.prices, world.cluster.domain_nodes)
