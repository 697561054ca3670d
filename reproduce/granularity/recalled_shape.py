"""Four pipelines of the shape that ESG's have, as it is recalled: NOT MEASURED, by nobody here and with no GPU.

Run times, cold starts and input sizes are recalled from what describes the applications of ESG (recalled, low confidence). How
a run time splits into CPU and device, what of it neither grows with a batch nor shrinks with slices, and all memory are
assumptions. A stage takes on ``c`` cores and ``g`` of a device's seven slices, for a batch of ``b``:
``t0 * host * b * (0.15 + 0.85/c) + t0 * (1 - host) * (fixed + (1 - fixed) * b/g)``.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from grainwise.domain.app import AppSpec, Slo, StageSpec
from grainwise.domain.graph import Graph, Input, Output, StageNode
from grainwise.domain.machine import MIG_SLOTS, HopModel
from grainwise.domain.values import ValueType
from grainwise.predictors.latency import RESIDUAL_LEVELS, ColdStartModel, DeviceModel, LatencyModel, StageModel
from grainwise.predictors.workload import Workload
from grainwise.simulation.contents import Kind
from grainwise.simulation.made_apps import Sample
from grainwise.workloads.quantiles import lognormal

LABEL = "recalled shape: not measured"
On = Literal["gpu", "cpu"]

NOISE_CV = 0.10
"""Of the run time of a stage, per request and stage, lognormal; an assumption."""
MAX_BATCH = 8
TARGET = 0.95

_RESIDUALS = 256
_CORES = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)
_SERIAL = 0.15
"""The part of the host's work that more cores do not shorten; an assumption."""
_BASE_MS = 3000.0
"""Of a recalled cold start: what an instance needs before it loads any stage; an assumption."""
_PROCESS_PART = 1 / 3
_CONTEXT_GIB = 0.8
_PROCESS_MIB = 300.0
_ANSWER_MB = 0.001
_MB = 1_000_000
_IMAGE = ValueType(kind="bytes", annotation="bytes")


class Shape(Struct, frozen=True):
    """One stage: recalled are ``t0_ms``, ``cold_ms`` and ``input_mb``; ``host``, ``fixed`` and memory are assumed."""

    t0_ms: float
    cold_ms: float
    input_mb: float
    host: float
    fixed: float
    weights_gib: float
    activation_gib: float

    def time_us(self, items: float, cores: float, slices: float) -> float:
        """Microseconds of a batch on so many cores and slices."""
        host = self.host * items * (_SERIAL + (1 - _SERIAL) / cores)
        device = (1 - self.host) * (self.fixed + (1 - self.fixed) * items / slices)
        return 1000 * self.t0_ms * (host + device)


SHAPES = {
    "super_resolution": Shape(86, 3503, 2.7, 0.25, 0.15, 0.1, 0.45),
    "segmentation": Shape(293, 16_510, 2.5, 0.15, 0.25, 0.3, 0.40),
    "deblur": Shape(319, 22_343, 1.1, 0.10, 0.15, 0.2, 0.35),
    "classification": Shape(147, 18_299, 0.147, 0.40, 0.55, 0.2, 0.05),
    "background_removal": Shape(1047, 3729, 2.5, 0.15, 0.20, 0.3, 0.40),
    "depth": Shape(828, 16_479, 0.648, 0.15, 0.30, 0.6, 0.45),
}

PIPELINES = {
    "image-classification": ("super_resolution", "segmentation", "classification"),
    "depth-recognition": ("deblur", "super_resolution", "depth"),
    "background-elimination": ("super_resolution", "deblur", "background_removal"),
    "expanded-classification": ("deblur", "super_resolution", "background_removal", "segmentation", "classification"),
}
"""The stages of each, recalled."""

_SMALL_ANSWERS = frozenset({"classification"})
"""Stages whose answer is a label; any other last stage answers with an image as large as its input. An assumption."""

NO_HOP = HopModel(0.0, 0.0, 0.0, 0.0, _PROCESS_MIB)
"""Stands where the study puts one of its hops."""


def samples(on: On = "gpu") -> tuple[Sample, ...]:
    """The four pipelines.

    Args:
        on: ``"gpu"``, all stages on shares of a device; or ``"cpu"``, where ``c`` cores stand for ``c`` cores *and* ``c``
            slices. Run times on cores are one function of the batch times one of the cores, so that these are the shape's for
            one item on any number of cores and for any batch on one core; for a batch on several cores they are above it.
    """
    return tuple(_sample(name, stages, on) for name, stages in PIPELINES.items())


def noise() -> tuple[float, ...]:
    """Equally likely factors on the run time of a stage, with mean 1."""
    table = lognormal(NOISE_CV)
    values = [table.at((at + 0.5) / _RESIDUALS) for at in range(_RESIDUALS)]
    total = 0.0
    for value in values:
        total += value
    return tuple(value * _RESIDUALS / total for value in values)


def _sample(name: str, stages: tuple[str, ...], on: On) -> Sample:
    shapes = [SHAPES[stage] for stage in stages]
    residuals = noise()
    models = tuple(_model(shape, on, residuals) for shape in shapes)
    cold = ColdStartModel(1000 * _BASE_MS * _PROCESS_PART, 1000 * _BASE_MS * (1 - _PROCESS_PART))
    model = LatencyModel(models, cold, LABEL, f"{LABEL}, {name} on {on}")
    if on == "gpu":
        model = msgspec.structs.replace(model, device_context_mib=1024 * _CONTEXT_GIB)
    nodes = tuple(StageNode(stage, stage, (Output(at - 1) if at else Input(0),)) for at, stage in enumerate(stages))
    graph = Graph(("picture",), nodes, (), (Output(len(stages) - 1),), ("result",))
    specs = tuple(StageSpec(stage, (_IMAGE,), _IMAGE, device=on, max_batch=MAX_BATCH) for stage in stages)
    base_ms = 0.0
    for shape in shapes:
        base_ms += shape.t0_ms
    spec = AppSpec(name, Slo(base_ms, TARGET), graph, specs, (_IMAGE,), (_IMAGE,), LABEL, f"{LABEL}, {name} on {on}")
    last_mb = _ANSWER_MB if stages[-1] in _SMALL_ANSWERS else shapes[-1].input_mb
    outputs = tuple(round(_MB * mb) for mb in (*(shape.input_mb for shape in shapes[1:]), last_mb))
    entry = (round(_MB * shapes[0].input_mb),)
    ones = (1.0,) * len(stages)
    return Sample(
        source=f"{name} ({LABEL})",
        spec=spec,
        model=model,
        hop=NO_HOP,
        workload=Workload(1.0, ones, ones, tuple(map(float, outputs)), tuple(map(float, entry))),
        kinds=(Kind((1,) * len(stages), ones, outputs, entry),),
        residuals=(residuals,) * len(stages),
    )


def _model(shape: Shape, on: On, residuals: tuple[float, ...]) -> StageModel:
    t0_us = 1000 * shape.t0_ms
    levels = tuple(residuals[min(_RESIDUALS - 1, int(level * _RESIDUALS))] for level in RESIDUAL_LEVELS)
    load_us = 1000 * (shape.cold_ms - _BASE_MS)
    if on == "cpu":
        factors = tuple(shape.time_us(1, cores, cores) / shape.time_us(1, 1, 1) for cores in _CORES)
        fixed = t0_us * (1 - shape.host) * shape.fixed
        return StageModel(
            fixed, t0_us - fixed, 0.0, _CORES, factors, levels, 0.0, 1024 * shape.weights_gib, load_us, 0.0
        )  # fmt: skip
    device_us = t0_us * (1 - shape.host)
    device = DeviceModel(
        host_intercept_us=0.0,
        host_per_item_us=t0_us * shape.host,
        host_per_size_us=0.0,
        fixed_us=device_us * shape.fixed,
        per_item_us=device_us * (1 - shape.fixed) / MIG_SLOTS,
        per_size_us=0.0,
        # An eighth is the smallest share that is planned; in between both factors are exact, being linear in 1 / share.
        shares=(1 / 8, 1.0),
        fixed_factors=(1.0, 1.0),
        item_factors=(8.0, 1.0),
        memory_mib=1024 * shape.weights_gib,
        activation_mib=1024 * shape.activation_gib,
    )
    factors = tuple(_SERIAL + (1 - _SERIAL) / cores for cores in _CORES)
    fixed = device.fixed_us
    return StageModel(
        fixed, t0_us - fixed, 0.0, _CORES, factors, levels, 0.0, 0.0, load_us, 0.0, device
    )  # fmt: skip
