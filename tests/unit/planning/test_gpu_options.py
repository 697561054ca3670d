"""Shares of devices in the search: what is offered, how many fit, what a plan takes, and what a coarse ladder costs."""

from random import Random

import msgspec
import pytest

from grainwise.domain.errors import InfeasibleError
from grainwise.domain.machine import Device, Node, SliceProfile
from grainwise.domain.parts import DeviceNeed, DeviceView, Grant, grant
from grainwise.domain.plan import FunctionPlan, Plan, render_grain
from grainwise.planning.devices import SOFT_SHARES, device_shares, given_to, room_on_devices
from grainwise.planning.options import Choice, choices, explain_misfit, fits, with_spare_room
from grainwise.planning.problem import Option, PlanTable, Problem
from grainwise.planning.search import cheapest
from grainwise.planning.table import compute
from grainwise.policies import placement
from grainwise.predictors.groups import device_memory_mib, group_facts
from grainwise.profiles.artifact import Profile
from worlds import gpu

TWO = (gpu.CLASSIFICATION, gpu.BACKGROUND)
WHOLES_ONLY = (SliceProfile(7, 1.0, (0,)),)


def node(*devices: Device) -> tuple[Node, ...]:
    return (Node("box", 32.0, 262_144.0, 0.0, devices),)


@pytest.fixture(scope="module")
def profile() -> Profile:
    return gpu.profile_of(*TWO)


def of(table: PlanTable, grain: str) -> Option:
    return next(each for each in table.options if render_grain(each.plan.grain) == grain)


def test_devices_offer_their_slices_or_a_ladder_where_memory_is_enough() -> None:
    assert device_shares(node(*gpu.sliced(2)), 1000.0) == pytest.approx((1 / 7, 2 / 7, 3 / 7, 4 / 7, 1.0))
    assert device_shares(node(*gpu.shared(1)), 1000.0) == SOFT_SHARES
    # A slice of three sevenths has half of the memory: 3g and 4g are the least with more than 10 GiB of 40.
    assert device_shares(node(*gpu.sliced(1)), 11 * 1024) == pytest.approx((3 / 7, 4 / 7, 1.0))
    assert device_shares(node(*gpu.shared(1), *gpu.sliced(1)), 41 * 1024) == ()
    both = device_shares(node(*gpu.shared(1), *gpu.sliced(1)), 0.0)
    assert len(both) == len(SOFT_SHARES) + 4
    assert device_shares(node(), 0.0) == ()


@pytest.mark.parametrize(
    ("devices", "share", "mib", "room"),
    [
        (gpu.sliced(1), 1 / 7, 5000.0, 7), (gpu.sliced(1), 2 / 7, 5000.0, 3), (gpu.sliced(1), 3 / 7, 5000.0, 2),
        (gpu.sliced(1), 4 / 7, 5000.0, 1), (gpu.sliced(2), 1 / 7, 6000.0, 6), (gpu.sliced(1), 1 / 7, 99_000.0, 0),
        (gpu.shared(1), 1 / 8, 100.0, 8), (gpu.shared(1), 1 / 3, 100.0, 3), (gpu.shared(1), 2 / 3, 100.0, 1),
        (gpu.shared(2), 1 / 8, 20_000.0, 4), ((*gpu.shared(1), *gpu.sliced(1)), 1 / 6, 1000.0, 9),
    ],
)  # fmt: skip
def test_so_many_instances_fit_on_devices(devices: tuple[Device, ...], share: float, mib: float, room: int) -> None:
    assert room_on_devices(node(*devices), DeviceNeed(share, mib)) == room


def test_every_choice_fits_the_devices_and_no_instances_beyond_them_are_offered(profile: Profile) -> None:
    for devices in (gpu.sliced(1), gpu.shared(1)):
        problem = gpu.problem_of(profile, 2000.0, devices, rate_per_s=3.0)
        for mask in (0b01, 0b10, 0b11):
            found = choices(problem, group_facts(problem, mask))
            assert len({each.function.gpu_share_fraction for each in found}) > 2
            for each in found:
                function = each.function
                need = DeviceNeed(function.gpu_share_fraction, device_memory_mib(problem, mask, function.max_batch))
                assert function.device == "gpu"
                assert function.instances <= function.max_instances <= room_on_devices(problem.nodes, need)
                assert each.devices == pytest.approx(function.instances * function.gpu_share_fraction)


def test_a_smaller_share_is_slower_and_cheaper_by_the_hour(profile: Profile) -> None:
    problem = msgspec.structs.replace(gpu.problem_of(profile, 9000.0, gpu.sliced(), rate_per_s=0.01), objective="provisioned")
    found = [each for each in choices(problem, group_facts(problem, 0b10)) if each.function.cpu_cores == 1.0]
    by_share = {each.function.gpu_share_fraction: each for each in found if each.function.instances == 1}
    shares = sorted(by_share)
    assert len(shares) == 5
    assert [by_share[share].time_us for share in shares] == sorted((each.time_us for each in by_share.values()), reverse=True)
    assert [by_share[share].cost for share in shares] == sorted(each.cost for each in by_share.values())


def test_a_stage_that_was_not_profiled_on_a_device_is_planned_on_whole_ones(profile: Profile) -> None:
    problem = gpu.problem_of(profile, 5000.0, gpu.sliced(3))
    stages = tuple(msgspec.structs.replace(stage, device=None) for stage in problem.model.stages)
    blind = msgspec.structs.replace(problem, model=msgspec.structs.replace(problem.model, stages=stages))
    found = choices(blind, group_facts(blind, 0b11))
    assert {each.function.gpu_share_fraction for each in found} == {1.0}
    assert {each.function.max_instances for each in found} <= {1, 2, 3}


def test_a_group_of_both_kinds_runs_on_its_share_of_a_device_and_the_other_stage_has_none(profile: Profile) -> None:
    problem = gpu.problem_of(profile, 5000.0, gpu.sliced(), on_cpu=(0,))
    table = compute(problem)
    split = of(table, "s0 | s1").plan.functions
    assert [each.device for each in split] == ["cpu", "gpu"]
    assert split[0].gpu_share_fraction == 0.0
    fused = of(table, "s0+s1").plan.functions[0]
    assert (fused.device, fused.gpu_share_fraction > 0) == ("gpu", True)


def packed(problem: Problem, plan: Plan) -> bool:
    """Whether the controller's placer finds a part for every instance, the largest first."""
    devices = {each.name: DeviceView(each) for each in problem.nodes[0].devices}
    instances = [function for function in plan.functions for _ in range(function.instances)]
    for function in sorted(instances, key=lambda each: (-each.device_fraction, -each.memory_mib, -each.cpu_cores)):
        mask = problem.app.graph.mask(function.stages)
        need = DeviceNeed(function.device_fraction, device_memory_mib(problem, mask, function.max_batch))
        view = placement.NodeView("box", 1e9, 1e9, 1e9, tuple(devices.values()), 0.0, True)
        place = placement.decide((view,), function.memory_mib, 0.1, False, need)
        if isinstance(place, placement.NoRoom) or not isinstance(place.grant, Grant):
            return False
        devices[place.grant.device] = given_to(devices[place.grant.device], place.grant, need)
    return True


def test_a_plan_fits_where_the_placer_places_it() -> None:
    profile = gpu.profile_of(*TWO)
    verdicts = []
    for seed in range(120):
        rng = Random(seed)
        devices = (*gpu.sliced(rng.randint(0, 2)), *(msgspec.structs.replace(each, name="soft") for each in gpu.shared(1)))
        problem = gpu.problem_of(profile, 5000.0, devices)
        functions = tuple(
            FunctionPlan((name,), 1.0, rng.choice((1, 8)), rng.randint(1, 4), 0, 9, "gpu", share, 100.0)
            for name, share in (("s0", rng.choice(gpu.SHARES)), ("s1", rng.choice(SOFT_SHARES)))
        )
        plan = Plan("made", functions)
        misfit = explain_misfit(problem, plan)
        verdicts.append(misfit is None)
        assert (misfit is None) == packed(problem, plan), f"seed {seed}"
        if misfit is None:
            for before, after in zip(plan.functions, with_spare_room(problem, plan).functions, strict=True):
                assert before.instances <= after.max_instances <= before.max_instances
                # Each function alone may grow so far, beside the others as they are.
                rest = sum(each.instances * each.device_fraction for each in plan.functions if each is not before)
                assert rest + after.max_instances * after.device_fraction <= len(devices) + 1e-6
        else:
            assert "of a device and" in misfit
    assert 20 < sum(verdicts) < 100


def test_functions_together_never_take_more_than_the_devices(profile: Profile) -> None:
    problem = gpu.problem_of(profile, 3000.0, gpu.shared(1), rate_per_s=1.5)
    table = compute(problem)
    for each in table.options:
        assert sum(one.instances * one.gpu_share_fraction for one in each.plan.functions) <= 1 + 1e-6
        assert explain_misfit(problem, each.plan) is None
    # Two stages of which each needs a whole device do not fit one device apart, and do together.
    whole = gpu.problem_of(profile, 3000.0, gpu.sliced(1, WHOLES_ONLY), rate_per_s=0.1)
    assert [render_grain(each.plan.grain) for each in compute(whole).options] == ["s0+s1"]
    with pytest.raises(InfeasibleError, match="fits"):
        compute(msgspec.structs.replace(whole, grain=(("s0",), ("s1",))))


def test_a_coarser_ladder_makes_fused_dearer_at_a_tight_slo() -> None:
    profile = gpu.profile_of(*gpu.CHAIN[:3])
    slo_ms = 0.8 * sum(shape.t0_ms for shape in gpu.CHAIN[:3])
    halves = (SliceProfile(4, 0.5, (0,)), SliceProfile(3, 0.5, (4,)), SliceProfile(7, 1.0, (0,)))
    costs = []
    for profiles in ((), halves, WHOLES_ONLY):
        problem = gpu.problem_of(profile, slo_ms, gpu.sliced(4, profiles), rate_per_s=0.3)
        problem = msgspec.structs.replace(problem, grain=(("s0", "s1", "s2"),))
        option = compute(problem).winner
        assert option.meets_slo
        costs.append(option.predicted.billed_usd_per_hour)
    assert costs[0] < costs[1] < costs[2]


def test_one_share_for_all_stages_costs_more_than_a_share_for_each_group_at_a_tight_slo() -> None:
    profile = gpu.profile_of(*gpu.CHAIN[:3])
    slo_ms = 0.8 * sum(shape.t0_ms for shape in gpu.CHAIN[:3])
    table = compute(gpu.problem_of(profile, slo_ms, gpu.sliced()))
    cost = {render_grain(each.plan.grain): each.predicted.billed_usd_per_hour for each in table.options if each.meets_slo}
    assert min(cost, key=lambda grain: cost[grain]) == "s0+s1 | s2"
    assert cost["s0+s1+s2"] > 1.02 * cost["s0+s1 | s2"]
    partial = of(table, "s0+s1 | s2").plan.functions
    assert len({each.gpu_share_fraction for each in partial}) == 2


def test_grants_are_what_the_geometry_says() -> None:
    view, need = DeviceView(gpu.sliced(1)[0]), DeviceNeed(3 / 7, 100.0)
    first = grant(view, need)
    assert first is not None
    second = grant(given_to(view, first, need), need)
    assert second is not None
    assert grant(given_to(given_to(view, first, need), second, need), DeviceNeed(1 / 7, 100.0)) is None


def test_what_does_not_fit_a_device_is_refused_with_what_it_needs_there(profile: Profile) -> None:
    small = (Device("gpu0", "t4", 1024.0),)
    with pytest.raises(InfeasibleError, match=r"on a device its least group needs 1075 MiB, the largest device has 1024 MiB"):
        compute(gpu.problem_of(profile, 3000.0, small))


def test_shares_that_add_up_and_cannot_be_placed_are_no_combination(profile: Profile) -> None:
    problem = gpu.problem_of(profile, 9000.0, gpu.sliced(1))

    def choice(name: str, slots: int, instances: int) -> Choice:
        function = FunctionPlan((name,), 1.0, 1, instances, 0, 9, "gpu", slots / 7, 100.0)
        return Choice(function, 1.0, 1.0, float(slots), 0.1, 0.0, 100.0, 0.1, instances * slots / 7)

    # Two slices of three block all seven slots: the sum leaves one, the geometry none.
    three, one = choice("s0", 3, 2), choice("s1", 1, 1)
    assert fits(problem, 0.2, 0.0, 200.0, three.devices + one.devices)
    assert cheapest(problem, [[three], [one]], [[], [0]], 1e9, 1).combinations == ()
    two = choice("s0", 2, 3)
    assert cheapest(problem, [[two, three], [one]], [[], [0]], 1e9, 1).combinations == ((two, one),)
