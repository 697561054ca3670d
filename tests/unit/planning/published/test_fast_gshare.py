"""Plans after FaST-GShare: the share of each function against all shares, the cores beside a device, and what is refused."""

import math
from random import Random

import msgspec
import pytest

from grainwise.domain.app import Slo
from grainwise.domain.errors import ConfigurationError, InfeasibleError
from grainwise.domain.machine import Node
from grainwise.domain.plan import FunctionPlan
from grainwise.planning.options import explain_misfit
from grainwise.planning.problem import Problem
from grainwise.planning.published import fast_gshare, infless
from grainwise.planning.published.answer import functions_of
from grainwise.planning.published.in_turn import choose
from grainwise.predictors.groups import group_facts, stage_times_us
from worlds import gpu
from worlds.problems import HARD, chain_graph, problem_of, random_graph, random_problem, spec_of, stage_model

LARGE = (Node("large", 64.0, 1e7),)
CORES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
SLICES = tuple(slots / 7 for slots in (1, 2, 3, 4, 7))


def request_us(problem: Problem, stage: int, cores: float, share: float) -> float:
    """What one item takes from invoke to result, from the model alone."""
    facts = group_facts(problem, 1 << stage)
    return problem.hop.latency_us(facts.bytes_in) + sum(stage_times_us(problem, facts, 1, cores, share))


def in_time(problem: Problem, stage: int, part_us: float, cores: float, share: float) -> bool:
    facts, one_us = group_facts(problem, 1 << stage), request_us(problem, stage, cores, share)
    instances = max(1, math.ceil(problem.workload.rate_per_s * facts.items * one_us / 1e6 - 1e-9))
    return math.ceil(max(1, math.ceil(facts.items - 1e-9)) / instances) * one_us <= part_us


def parts_of(problem: Problem) -> list[float]:
    groups, masks = functions_of(problem)
    return [given.function.part_us for given in choose(groups, masks, fast_gshare.FAST_GSHARE)]


def given(problem: Problem) -> tuple[FunctionPlan, ...]:
    return fast_gshare.configure(problem).winner.plan.functions


def test_on_cores_every_function_has_the_share_that_serves_most_per_core() -> None:
    counts = {"in time": 0, "late": 0, "part of a core": 0}
    for seed in range(40):
        rng = Random(seed)
        problem = random_problem(rng, random_graph(rng, rng.randint(1, 4)), is_hard=False)
        spec = msgspec.structs.replace(problem.app, slo=Slo(rng.choice((10.0, 40.0, 150.0, 500.0)), 0.95))
        problem = msgspec.structs.replace(problem, app=spec, nodes=LARGE)
        parts = parts_of(problem)
        table = fast_gshare.configure(problem)
        for stage, function in enumerate(table.winner.plan.functions):
            per_core = {
                cores: 1e6 / request_us(problem, stage, cores, 0.0) / cores
                for cores in CORES
                if in_time(problem, stage, parts[stage], cores, 0.0)
            }
            assert function.max_batch == 1
            if per_core:
                assert per_core[function.cpu_cores] == pytest.approx(max(per_core.values()), rel=1e-8)
                # Of equals the smallest.
                assert all(
                    cores >= function.cpu_cores for cores, each in per_core.items() if each > max(per_core.values()) - 1e-9
                )
                rate = problem.workload.rate_per_s * group_facts(problem, 1 << stage).items
                one_us = request_us(problem, stage, function.cpu_cores, 0.0)
                assert function.instances == max(1, math.ceil(rate * one_us / 1e6 - 1e-9))
            else:
                assert f"s{stage}: nothing is within its part of" in table.because
            counts["in time" if per_core else "late"] += 1
            counts["part of a core"] += function.cpu_cores < 1
    assert min(counts.values()) >= 5


def test_on_a_device_every_function_has_the_share_that_serves_most_per_share_beside_the_fewest_cores() -> None:
    profile = gpu.profile_of(*gpu.CHAIN)
    shares: set[float] = set()
    cores_given: set[float] = set()
    for slo_ms, devices in ((900.0, gpu.sliced(12)), (1500.0, gpu.sliced(12)), (4000.0, gpu.sliced(12))):
        problem = gpu.problem_of(profile, slo_ms, devices, rate_per_s=1.0, cpu_cores=64.0)
        parts = parts_of(problem)
        for stage, function in enumerate(given(problem)):
            for cores in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0):
                per_share = {
                    share: 1e6 / request_us(problem, stage, cores, share) / share
                    for share in SLICES
                    if in_time(problem, stage, parts[stage], cores, share)
                }
                if per_share:
                    assert function.cpu_cores == cores
                    best = max(per_share, key=lambda share: per_share[share])
                    assert function.device_fraction == pytest.approx(best)
                    shares.add(function.device_fraction)
                    cores_given.add(cores)
                    break
    assert len(shares) > 1
    assert len(cores_given) > 1


def test_it_forms_no_batches_where_infless_does() -> None:
    problem = gpu.problem_of(gpu.profile_of(*gpu.CHAIN), 8000.0, gpu.sliced(12), rate_per_s=6.0, cpu_cores=64.0)
    assert [each.max_batch for each in given(problem)] == [1] * 5
    assert max(each.max_batch for each in infless.configure(problem).winner.plan.functions) > 1
    table = fast_gshare.configure(problem)
    assert table.because.startswith("after FaST-GShare (ICPP 2023), reconstructed: each function by itself the share")


def test_instances_follow_the_rate() -> None:
    profile = gpu.profile_of(gpu.SEGMENTATION)
    counts: list[int] = []
    for rate in (0.0, 1.0, 4.0, 16.0):
        problem = gpu.problem_of(profile, 3000.0, gpu.sliced(12), rate_per_s=rate, cpu_cores=64.0)
        (function,) = given(problem)
        one_us = request_us(problem, 0, function.cpu_cores, function.device_fraction)
        counts.append(function.instances)
        assert function.instances == max(1, math.ceil(rate * one_us / 1e6))
    assert counts == sorted(counts)
    assert counts[-1] > 4


def chain(slo_ms: float = 400.0) -> Problem:
    spec = spec_of(chain_graph(2), slo_ms=slo_ms)
    return problem_of(spec, (stage_model(20_000), stage_model(40_000)), rate_per_s=30.0)


def test_what_has_no_room_gives_way_and_every_plan_fits() -> None:
    room = 0
    for seed in range(40):
        rng = Random(seed)
        problem = random_problem(rng, random_graph(rng, rng.randint(1, 5)))
        try:
            table = fast_gshare.configure(problem)
        except InfeasibleError as error:
            assert "its least group needs" in str(error)
            continue
        assert explain_misfit(problem, table.winner.plan) is None
        room += "room" in table.because
    assert room >= 3
    small = msgspec.structs.replace(chain(), nodes=(Node("small", 1.0, 1e6),), capabilities=HARD)
    assert sum(each.cpu_cores * each.instances for each in given(small)) <= 1.0


def test_as_many_instances_as_ours_get_leave_the_shares_alone() -> None:
    own, ours = fast_gshare.configure(chain()).winner, fast_gshare.configure_as_ours(chain()).winner
    assert [each.cpu_cores for each in own.plan.functions] == [each.cpu_cores for each in ours.plan.functions]
    assert sum(each.instances for each in ours.plan.functions) > sum(each.instances for each in own.plan.functions)


def test_wrong_input_is_refused_and_a_forced_granularity_planned() -> None:
    fused = msgspec.structs.replace(chain(), grain=(("s0", "s1"),))
    assert fast_gshare.configure(fused).winner.plan.grain == fused.grain
    with pytest.raises(InfeasibleError, match="is no stage of made"):
        fast_gshare.configure(msgspec.structs.replace(chain(), grain=(("nothing",),)))
    with pytest.raises(ConfigurationError, match="the SLO of made is nan ms"):
        fast_gshare.configure(chain(math.nan))
    with pytest.raises(InfeasibleError, match="declares device='gpu' and no node has one"):
        fast_gshare.configure(gpu.problem_of(gpu.profile_of(gpu.DEBLUR), 1000.0, ()))


def test_the_same_problem_has_the_same_answer() -> None:
    profile = gpu.profile_of(*gpu.CHAIN)
    problem = gpu.problem_of(profile, 2000.0, gpu.shared(), is_hard=True)
    known = [msgspec.json.encode(fast_gshare.configure(problem)) for _ in range(2)]
    assert known[0] == known[1]
