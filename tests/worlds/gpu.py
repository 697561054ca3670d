"""A GPU app that nobody measured: stages of the shape that ESG's chains have, after ESG, reconstructed; in a synthetic profile.

A stage takes ``t0`` on one core and one slice of seven. A part ``host`` of it is the CPU's, 15 % whatever the CPU share; of the
rest a part ``fixed`` neither grows with the batch nor shrinks with the slices.
"""

import msgspec

from grainwise.domain.app import AppSpec, Slo, StageSpec
from grainwise.domain.graph import Graph
from grainwise.domain.machine import Device, HopModel, Node, Prices, SliceProfile
from grainwise.domain.values import ValueType
from grainwise.planning.problem import Problem
from grainwise.predictors.fit import latency_model, workload_of
from grainwise.predictors.latency import LatencyModel
from grainwise.profiles.artifact import SCHEMA, ColdParts, MachineFacts, Point, Profile, StageProfile, digest
from worlds.problems import HARD, SOFT, chain_graph

LABEL = "synthetic: not measured"
SLOTS = 7
SHARES = (1 / 7, 2 / 7, 3 / 7, 4 / 7, 1.0)
CORES = (1.0, 4.0)
BATCHES = (1, 2, 8)
IMAGE = ValueType(kind="bytes", annotation="bytes")
PRICES = Prices(LABEL, usd_per_core_hour=0.034, usd_per_gib_hour=0.0, usd_per_gpu_hour=7 * 0.67)
HOP = HopModel(10_300.0, 500.0, 100.0, 0.0, 300.0)
WHOLE_GIB = 40.0
_models: dict[str, LatencyModel] = {}


class Shape(msgspec.Struct, frozen=True):
    """One stage: milliseconds at one core and one slice, its parts, and its memory on a device in GiB."""

    t0_ms: float
    host: float
    fixed: float
    weights_gib: float
    activation_gib: float
    input_mb: float = 2.5
    cold_ms: float = 10_000.0

    def time_us(self, items: int, cores: float, share: float) -> float:
        """Microseconds of a batch."""
        host = self.host * items * (0.15 + 0.85 / cores)
        device = (1 - self.host) * (self.fixed + (1 - self.fixed) * items / (share * SLOTS))
        return 1000 * self.t0_ms * (host + device)


SUPER_RESOLUTION = Shape(86, 0.25, 0.15, 0.1, 0.45, 2.7, 3503)
SEGMENTATION = Shape(293, 0.15, 0.25, 0.3, 0.40, 2.5, 16_510)
DEBLUR = Shape(319, 0.10, 0.15, 0.2, 0.35, 1.1, 22_343)
CLASSIFICATION = Shape(147, 0.40, 0.55, 0.2, 0.05, 0.147, 18_299)
BACKGROUND = Shape(1047, 0.15, 0.20, 0.3, 0.40, 2.5, 3729)
CHAIN = (DEBLUR, SUPER_RESOLUTION, BACKGROUND, SEGMENTATION, CLASSIFICATION)
"""The five stages of expanded image classification."""


def profile_of(*shapes: Shape) -> Profile:
    """A profile of a chain of these stages, its points computed and its label saying so."""
    stages = tuple(
        StageProfile(
            f"s{index}", f"s{index}", shape.cold_ms * 1000, 1000.0, 200.0, 1.0, 1.0, 1e6 * shape.input_mb,
            tuple(
                Point(items, float(items), 1.0, cores, (round(shape.time_us(items, cores, share)),), gpu_share_fraction=share)
                for share in SHARES for cores in CORES for items in BATCHES
            ),
            device_memory_mib=1024 * shape.weights_gib, activation_mib=1024 * shape.activation_gib,
        )
        for index, shape in enumerate(shapes)
    )  # fmt: skip
    return Profile(
        schema=SCHEMA, app="made", app_digest="digest", source_digest="source", device_class=LABEL,
        machine=MachineFacts(LABEL, 16.0, 65_536.0, "none", "none"), share_mechanism="none", libraries={}, date=LABEL,
        budget_s=0.0, entry_bytes=(1e6 * shapes[0].input_mb,), process_mib=300.0, cold=ColdParts(1e6, 2e6), hop=HOP,
        stages=stages, device_context_mib=0.8 * 1024,
    )  # fmt: skip


def spec_of(graph: Graph, slo_ms: float, *, target: float = 0.95, max_batch: int = 8, on_cpu: tuple[int, ...] = ()) -> AppSpec:
    """The app, every stage declared for a GPU but those of ``on_cpu``."""
    stages = tuple(
        StageSpec(node.declared, (IMAGE,), IMAGE, "cpu" if index in on_cpu else "gpu", max_batch)
        for index, node in enumerate(graph.stages)
    )
    return AppSpec("made", Slo(slo_ms, target), graph, stages, (IMAGE,), (IMAGE,), "source", "digest")


def sliced(count: int = 4, profiles: tuple[SliceProfile, ...] = ()) -> tuple[Device, ...]:
    """Devices with hard slices of sevenths, or of these profiles."""
    return tuple(Device(f"gpu{index}", "a100", 1024 * WHOLE_GIB, SLOTS, profiles) for index in range(count))


def shared(count: int = 4) -> tuple[Device, ...]:
    """Devices with soft shares."""
    return tuple(Device(f"gpu{index}", "a100", 1024 * WHOLE_GIB) for index in range(count))


def problem_of(
    profile: Profile, slo_ms: float, devices: tuple[Device, ...], *, rate_per_s: float = 1.0, is_hard: bool = False,
    cpu_cores: float = 32.0, on_cpu: tuple[int, ...] = (), max_batch: int = 8,
) -> Problem:  # fmt: skip
    """A planning problem for the chain on one node with these devices."""
    if digest(profile) not in _models:
        _models[digest(profile)] = latency_model(profile)
    spec = spec_of(chain_graph(len(profile.stages)), slo_ms, on_cpu=on_cpu, max_batch=max_batch)
    return Problem(
        number=1, app=spec, model=_models[digest(profile)], hop=profile.hop,
        workload=workload_of(profile, rate_per_s), nodes=(Node("box", cpu_cores, 262_144.0, 0.0, devices),),
        capabilities=HARD if is_hard else SOFT, prices=PRICES, objective="billed",
    )  # fmt: skip
