"""INFless in use: batches wait until they are full or the part of the SLO is over, instances follow the rate."""

from random import Random

import msgspec
import pytest

from grainwise.control.actions import Action, Invoke, Respond, StartInstance
from grainwise.domain.app import Slo
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import Node
from grainwise.domain.plan import Plan
from grainwise.domain.time import SECOND
from grainwise.planning.published import infless
from grainwise.policies import autoscale_rate, batching_until_full
from grainwise.policies.autoscale import ScaleView
from grainwise.policies.batching import FULL, BatchView, Dispatch, WaitUntil
from grainwise.policies.batching_until_full import FILLS, PART_OVER
from grainwise.policies.own_sets import FIXED
from grainwise.policies.published.infless import INFLESS, INFLESS_CONFIGURATION
from grainwise.policies.sets import policy_set
from grainwise.simulation.app import SimulatedApp, simulated_app
from grainwise.simulation.cluster import ClusterNode
from worlds import gpu
from worlds.problems import chain_graph
from worlds.simulated import Seen, cluster

MARGIN = infless.MARGIN
SHAPES = (gpu.SUPER_RESOLUTION, gpu.CLASSIFICATION)
SLO_MS = 3000.0
RATE = 8.0


def waiting(now: int = 0, **changed: float) -> Dispatch | WaitUntil:
    """Two of eight items; a run of one takes 20 ms, of eight 90 ms, of all that is to come 40 ms."""
    facts = {
        "items": 2, "max_batch": 8, "oldest": 0, "due": 1_000_000, "remaining_us": 40_000.0, "fixed_us": 10_000.0,
        "item_us": 10_000.0, "items_per_s": 0.0, "wait_bound_fraction": 0.1,
    }  # fmt: skip
    return batching_until_full.decide(BatchView(**{**facts, **changed}), now)


def test_a_full_batch_goes_at_once_and_no_other_however_many_instances_are_idle() -> None:
    assert batching_until_full.full_batch(9, 8, 4) == Dispatch(8, FULL)
    assert batching_until_full.full_batch(1, 1, 1) == Dispatch(1, FULL)
    assert batching_until_full.full_batch(7, 8, 4) is None


def test_a_batch_may_fill_until_its_part_leaves_time_for_the_run_alone() -> None:
    # Half of a second is its part, and eight items are taken to run for 1.1 times 90 ms.
    until = int(500_000 - MARGIN * 90_000)
    assert waiting() == WaitUntil(until, FILLS)
    assert waiting(until - 1) == WaitUntil(until, FILLS)
    assert waiting(until) == Dispatch(2, PART_OVER)


def test_what_was_queued_late_has_less_to_wait() -> None:
    assert waiting(0, due=300_000) == WaitUntil(int(150_000 - MARGIN * 90_000), FILLS)
    assert waiting(0, due=150_000) == Dispatch(2, PART_OVER)
    assert waiting(0, due=-5) == Dispatch(2, PART_OVER)


def test_the_last_function_may_use_all_that_is_left_but_for_handing_the_result_on() -> None:
    assert waiting(remaining_us=20_000.0) == WaitUntil(int(1_000_000 - MARGIN * 90_000), FILLS)
    assert waiting(remaining_us=20_000.0, hop_us=10_000.0) == WaitUntil(int(990_000 - MARGIN * 100_000), FILLS)


def scaled(offered: float, instances: int, least: int = 0, most: int = 20) -> int:
    view = ScaleView(offered / MARGIN, 9e9, 1.0, instances, least, most)
    return autoscale_rate.held_above_alpha(view).instances


@pytest.mark.parametrize(
    ("offered", "instances", "expected"),
    [(4.9, 5, 5), (5.1, 5, 6), (4.1, 5, 5), (8.1, 10, 10), (7.9, 10, 8), (0.0, 3, 0), (9.5, 0, 10), (40.0, 5, 20)],
)
def test_instances_are_added_above_what_they_carry_and_let_go_below_alpha(
    offered: float, instances: int, expected: int
) -> None:
    assert scaled(offered, instances) == expected


def test_bounds_of_the_plan_hold_and_the_reason_is_given() -> None:
    assert scaled(0.0, 3, least=2) == 2
    assert scaled(9.0, 3, least=1, most=4) == 4
    held = autoscale_rate.held_above_alpha(ScaleView(4.5 / MARGIN, 0.0, 0.0, 5, 1, 9))
    assert held.because.rule == "they carry the rate, and not much more"
    grown = autoscale_rate.held_above_alpha(ScaleView(5.5 / MARGIN, 0.0, 0.0, 5, 1, 9))
    assert dict(grown.because.facts)["offered"] == pytest.approx(5.5)


def test_the_configuration_set_is_ours_but_for_the_configuration() -> None:
    assert policy_set("infless") is INFLESS
    assert policy_set("infless_configuration") is INFLESS_CONFIGURATION
    for name in ("batch_now", "batch_or_wait", "rank", "route", "scale", "keep", "place", "admit", "extent"):
        assert getattr(INFLESS_CONFIGURATION, name) is getattr(FIXED, name)
    assert INFLESS_CONFIGURATION.configure is infless.configure_as_ours
    assert {INFLESS.provenance.grade, INFLESS_CONFIGURATION.provenance.grade} == {"reconstructed"}


def planned(rate_per_s: float, slo_ms: float = SLO_MS) -> Plan:
    problem = gpu.problem_of(gpu.profile_of(*SHAPES), slo_ms, gpu.sliced(4), rate_per_s=rate_per_s)
    return infless.configure(problem).winner.plan


def deployed(plan: Plan, name: str, rate_per_s: float = RATE, slo_ms: float = SLO_MS) -> SimulatedApp:
    spec = msgspec.structs.replace(gpu.spec_of(chain_graph(2), slo_ms), slo=Slo(slo_ms, 0.95))
    return simulated_app(gpu.profile_of(*SHAPES), spec, plan, rate_per_s=rate_per_s, config=AppConfig(policies=name))


def served(plan: Plan, name: str, arrivals: list[int]) -> Seen:
    box = ClusterNode(Node("box", 32.0, 262_144.0, 0.0, gpu.sliced(4)))
    return Seen([deployed(plan, name)], [(at, "made") for at in arrivals], on=cluster(box)).run()


def poisson(rate_per_s: float, count: int, start: int = 0, seed: int = 3) -> list[int]:
    draws, at, found = Random(seed), start, []
    for _ in range(count):
        at += int(draws.expovariate(rate_per_s) * SECOND)
        found.append(at)
    return found


def acts(seen: Seen) -> list[tuple[Action, int]]:
    return [(action, now) for _, actions, now in seen.entries for action in actions]


def test_in_a_run_on_slices_batches_are_full_or_their_part_is_over() -> None:
    plan = planned(RATE)
    most = {1 << at: function.max_batch for at, function in enumerate(plan.functions)}
    assert max(most.values()) > 1
    seen = served(plan, "infless", poisson(RATE, 60))
    rules = {(len(each.inputs) == most[each.extent], each.because.rule) for each, _ in seen.actions(Invoke)}  # type: ignore[attr-defined]
    assert rules == {(True, FULL.rule), (False, PART_OVER.rule)}
    assert len(seen.actions(Respond)) == 60


def test_two_requests_that_no_third_follows_wait_for_their_part_and_are_in_time() -> None:
    plan = planned(RATE)
    seen = served(plan, "infless", [0, 1000])
    (first, _), *_ = seen.actions(Invoke)
    assert len(first.inputs) == (2 if plan.functions[0].max_batch > 1 else 1)  # type: ignore[attr-defined]
    ends = [at for _, at in seen.actions(Respond)]
    last = SLO_MS * 1000
    assert max(ends) <= last
    assert max(ends) > 0.5 * last
    # Ours does not wait so long.
    assert max(at for _, at in served(plan, "fixed", [0, 1000]).actions(Respond)) < max(ends)


@pytest.mark.parametrize("name", ["infless", "infless_configuration"])
def test_more_traffic_starts_instances_and_all_is_answered(name: str) -> None:
    plan = planned(2.0)
    few = sum(each.instances for each in plan.functions)
    seen = served(plan, name, [*poisson(2.0, 20), *poisson(16.0, 240, 10 * SECOND)])
    assert len(seen.actions(Respond)) == 260
    assert len(seen.actions(StartInstance)) > few


def test_the_same_run_has_the_same_actions() -> None:
    plan = planned(RATE)
    first, second = (acts(served(plan, "infless", poisson(RATE, 40))) for _ in range(2))
    assert first == second
