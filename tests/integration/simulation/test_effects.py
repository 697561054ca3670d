"""The sign of each effect that decides how coarse functions should be: one is switched on in the simulator, all others are off.

Plans are fixed. Off means: hops, bytes, memory, cold starts and fees cost nothing, and nobody is disturbed by a neighbour.
"""

import msgspec
import pytest

from grainwise.domain.app import AppSpec
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import Device, HopModel, Node, Prices
from grainwise.domain.plan import FunctionPlan, Grain, Plan
from grainwise.domain.time import SECOND
from grainwise.predictors.latency import DeviceModel
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.cluster import Cluster, ClusterNode
from grainwise.simulation.run import Scenario
from grainwise.simulation.trial import Trial, run_trial
from grainwise.telemetry.result import AppResult
from grainwise.workloads.processes import Constant, Poisson
from grainwise.workloads.recorded import Recorded
from grainwise.workloads.traffic import Stream, Traffic
from worlds.apps import chain
from worlds.simulated import cluster, simulated

NAMES = ("plus_one", "double", "negate", "plus_one#2")
SPLIT: Grain = tuple((name,) for name in NAMES)
PAIRS: Grain = (NAMES[:2], NAMES[2:])
FUSED: Grain = (NAMES,)
GRAINS = (SPLIT, PAIRS, FUSED)
FIXED = AppConfig(policies="fixed", replan_us=0, max_requests=1 << 20, keep_alive_us=3600 * SECOND)
ONLY_CORES = Prices("a world in which only cores cost", 0.04, 0.0)
FREE = HopModel(0.0, 0.0, 0.0, 0.0, 0.0)
SERVICE_US = (8_000.0, 20_000.0, 4_000.0, 12_000.0)
NOISE = ((0.7, 0.9, 1.0, 1.1, 1.3),) * 4
"""Of each stage; the same call meets the same luck under every granularity."""

SPARE = Poisson(4.0)
"""Requests come one after the other, nearly always."""


def no_trace(name: str, column: str | None) -> Recorded:
    raise AssertionError(f"{name} is not asked for")


def app(grain: Grain, *, hop: HopModel = FREE, memory_mib: float = 0.0, instances: int = 1) -> SimulatedApp:
    """A chain of four stages. There are four instances of everything in all, times ``instances``."""
    made = simulated(chain(1), grain, service_us=SERVICE_US, residuals=NOISE, hop=hop, config=FIXED)
    stages = tuple(
        msgspec.structs.replace(each, memory_mib=memory_mib, load_us=0.0, first_call_us=0.0) for each in made.model.stages
    )
    model = msgspec.structs.replace(made.model, stages=stages, cold=type(made.model.cold)(0.0, 0.0))
    each = instances * len(NAMES) // len(grain)
    functions = tuple(FunctionPlan(group, 1.0, 1, each, each, each) for group in grain)
    return msgspec.structs.replace(made, model=model, plan=Plan(made.spec.name, functions))


def result(
    made: SimulatedApp, on: Cluster, arrivals: Poisson | Constant = SPARE, seconds: int = 100, seed: int = 1
) -> AppResult:
    traffic = Traffic("steady", (Stream(made.spec.name, arrivals),), float(seconds))
    on = msgspec.structs.replace(on, prices=ONLY_CORES)
    found = run_trial(
        Trial(Scenario(on, (made,), seconds * SECOND, seed), traffic, "fixed", "a world of one effect"), no_trace
    ).apps[0]
    assert found.answered == found.offered > 0
    return found


def one_machine() -> Cluster:
    return cluster(ClusterNode(Node("here", 64.0, 100_000.0)))


def test_without_any_effect_all_granularities_are_equal_in_latency_and_cost():
    # Far enough apart that nobody ever waits: a wait is an effect too.
    split, pairs, fused = (result(app(grain), one_machine(), Constant(4.0)) for grain in GRAINS)
    assert split.latency == pairs.latency == fused.latency
    assert split.cost.billed_usd == pytest.approx(fused.cost.billed_usd, rel=1e-9)
    assert pairs.cost.billed_usd == pytest.approx(fused.cost.billed_usd, rel=1e-9)
    assert split.cost.provisioned_usd == pytest.approx(fused.cost.provisioned_usd, rel=1e-9)
    assert split.latency.max_ms > split.latency.p50_ms, "the noise is on"


@pytest.mark.parametrize(
    "hop",
    [
        HopModel(2_000.0, 0.0, 0.0, 0.0, 0.0),
        HopModel(0.0, 500_000.0, 0.0, 0.0, 0.0),
    ],
    ids=["a hop takes time", "bytes take time"],
)
def test_a_hop_makes_what_is_coarser_strictly_faster(hop):
    split, pairs, fused = (result(app(grain, hop=hop), one_machine(), Constant(4.0)) for grain in GRAINS)
    assert fused.latency.mean_ms < pairs.latency.mean_ms < split.latency.mean_ms
    assert fused.latency.p99_ms < pairs.latency.p99_ms < split.latency.p99_ms
    assert fused.attainment >= pairs.attainment >= split.attainment
    # Every hop costs the same: of values alike, three more of them.
    one_ms = (split.latency.mean_ms - fused.latency.mean_ms) / 3
    assert pairs.latency.mean_ms - fused.latency.mean_ms == pytest.approx(one_ms, abs=0.01)


def test_bytes_between_machines_do_too():
    # No machine has memory for two functions: hops leave it, whatever the placer would like.
    small = [ClusterNode(Node(f"n{at}", 4.0, 450.0)) for at in range(4)]
    on = cluster(*small, latency_us=500, mib_per_s=1.0)
    split = result(app(SPLIT, memory_mib=400.0), on)
    fused = result(app(FUSED, memory_mib=100.0), on)
    assert split.local_hops_fraction == 0.0
    assert fused.local_hops_fraction is None
    assert fused.latency.mean_ms < split.latency.mean_ms


def test_memory_that_only_a_scarce_large_machine_has_makes_split_strictly_shorter_in_waiting():
    small = [ClusterNode(Node(f"small{at}", 4.0, 300.0)) for at in range(4)]
    on = cluster(ClusterNode(Node("large", 4.0, 1000.0)), *small)
    busy = Poisson(18.0)
    # Without a need for memory as many instances of either fit, and one queue before four servers is no worse than four.
    free = [result(app(grain), on, busy).shares.queue_ms for grain in (SPLIT, FUSED)]
    assert free[1] <= free[0]
    split, fused = (result(app(grain, memory_mib=230.0), on, busy) for grain in (SPLIT, FUSED))
    assert [function.max_instances for function in fused.functions] == [1]
    assert [function.max_instances for function in split.functions] == [1, 1, 1, 1]
    assert split.shares.queue_ms < fused.shares.queue_ms
    assert split.shares.service_ms == pytest.approx(fused.shares.service_ms, rel=0.01)


def on_device(made: SimulatedApp, memory_mib: float) -> SimulatedApp:
    """The same on a GPU, any part of which is as fast as the whole."""
    stages = tuple(
        msgspec.structs.replace(
            each,
            device=DeviceModel(
                0.0, 0.0, 0.0, each.intercept_us, 0.0, 0.0, (1 / 7, 1.0), (1.0, 1.0), (1.0, 1.0), memory_mib, 0.0
            ),
        )
        for each in made.model.stages
    )
    spec: AppSpec = msgspec.structs.replace(
        made.spec, stages=tuple(msgspec.structs.replace(each, device="gpu") for each in made.spec.stages)
    )
    functions = tuple(msgspec.structs.replace(each, device="gpu", gpu_share_fraction=1 / 7) for each in made.plan.functions)
    model = msgspec.structs.replace(made.model, stages=stages)
    return msgspec.structs.replace(made, model=model, spec=spec, plan=Plan(made.spec.name, functions))


def test_memory_that_only_a_scarce_large_slice_has_makes_split_strictly_shorter_in_waiting():
    # 40 GiB in eighths: there are seven slices of 5 GiB (1g), or two of 20 GiB (3g); two servers do not carry what four do.
    gpu = Device("gpu0", "a100", 40_960.0, 7)
    on = cluster(ClusterNode(Node("here", 64.0, 100_000.0, 0.0, (gpu,))))
    busy = Poisson(38.0)
    free = [result(on_device(app(grain), 0.0), on, busy).shares.queue_ms for grain in (SPLIT, FUSED)]
    assert free[1] <= free[0]
    split, fused = (result(on_device(app(grain), 5_000.0), on, busy) for grain in (SPLIT, FUSED))
    assert [function.max_instances for function in split.functions] == [1, 1, 1, 1]
    assert [function.max_instances for function in fused.functions] == [2]
    assert split.shares.queue_ms < fused.shares.queue_ms
