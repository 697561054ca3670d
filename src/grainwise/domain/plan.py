"""A plan: the granularity and, for each function, device, share, batch and instances. Immutable; its id is its content."""

import hashlib
from typing import Literal

import msgspec
from msgspec import Struct

from grainwise.domain.app import DeviceKind

Objective = Literal["provisioned", "billed"]
Grain = tuple[tuple[str, ...], ...]
"""A granularity: the groups of stages, each in topological order, groups ordered by their first stage."""


class FunctionPlan(Struct, frozen=True):
    """One function: its stages and how it is run. ``instances`` is what the forecast rate needs.

    ``gpu_share_fraction`` counts for a function on a GPU only; 0 gives each of its instances a device of its own.
    """

    stages: tuple[str, ...]
    cpu_cores: float
    max_batch: int = 1
    instances: int = 1
    min_instances: int = 0
    max_instances: int = 1
    device: DeviceKind = "cpu"
    gpu_share_fraction: float = 0.0
    memory_mib: float = 0.0

    @property
    def device_fraction(self) -> float:
        """The part of a device that each instance is given; 0 on CPUs."""
        return (self.gpu_share_fraction or 1.0) if self.device == "gpu" else 0.0


class Prediction(Struct, frozen=True):
    """What an evaluator expects of a plan, with the relative error of its latency figures."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    attainment: float
    capacity_per_s: float
    billed_usd_per_hour: float
    provisioned_usd_per_hour: float
    error_fraction: float
    utilisation: float = 0.0


class Plan(Struct, frozen=True):
    """Which stages share a function, and how each function runs."""

    app: str
    functions: tuple[FunctionPlan, ...]
    objective: Objective = "provisioned"

    @property
    def id(self) -> str:
        """A short digest of the plan's content."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:10]

    @property
    def grain(self) -> Grain:
        """The granularity alone."""
        return tuple(function.stages for function in self.functions)


def render_grain(grain: Grain) -> str:
    """A granularity as people read it: ``decode+detect | recognise``."""
    return " | ".join("+".join(group) for group in grain)
