"""What a group of stages means for a mean request: items, bytes that cross its border, run time of a batch.

An item of a group is one execution at the group's scope: a request outside any fan-out, an element inside one.
"""

import math
from typing import Protocol

from msgspec import Struct

from grainwise.domain.app import AppSpec, DeviceKind
from grainwise.domain.extent import Extent, leaves, make_extent
from grainwise.domain.graph import Element, Gathered, Graph, Input, Output, Source
from grainwise.domain.machine import Capabilities, HopModel, Node, Prices
from grainwise.predictors.latency import LatencyModel
from grainwise.predictors.samples import factor_moments
from grainwise.predictors.workload import Workload


class Scenario(Protocol):
    """What a prediction needs to know; a planning problem is one."""

    @property
    def app(self) -> AppSpec:
        """The app."""
        ...

    @property
    def model(self) -> LatencyModel:
        """Run times of its stages."""
        ...

    @property
    def hop(self) -> HopModel:
        """What handing on costs."""
        ...

    @property
    def workload(self) -> Workload:
        """The forecast."""
        ...

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The machines."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What the platform can do."""
        ...

    @property
    def prices(self) -> Prices:
        """Rates of the catalogue."""
        ...


class GroupFacts(Struct, frozen=True):
    """One group under one workload.

    ``items`` is the number of the group's items per request. For each of ``extent.stages``, ``executions`` has the executions
    per item of the group and ``max_batches`` what the stage takes at once. ``bytes_in`` and ``bytes_out`` are the lengths per
    item that cross the border, ``largest_bytes`` the longest single value among them. ``memory_mib`` is what one instance of
    the group holds.
    """

    extent: Extent
    items: float
    executions: tuple[float, ...]
    max_batches: tuple[int, ...]
    bytes_in: float
    bytes_out: float
    largest_bytes: float
    memory_mib: float
    device: DeviceKind

    @property
    def mask(self) -> int:
        """The stages, as a mask."""
        return self.extent.mask


def scope_items(graph: Graph, workload: Workload, scope: tuple[int, ...]) -> float:
    """Items per request at a path of fan-outs: 1 outside, the mean number of elements (all levels) inside."""
    if not scope:
        return 1.0
    inside = [workload.items[index] for index, node in enumerate(graph.stages) if node.scope[: len(scope)] == scope]
    exact = [workload.items[index] for index, node in enumerate(graph.stages) if node.scope == scope]
    return max(exact or inside or [0.0])


def source_bytes(graph: Graph, workload: Workload, source: Source) -> float:
    """Mean length of one value of ``source``: of an element for ``Element``, of the whole list for ``Gathered``."""
    if isinstance(source, Input):
        return workload.input_bytes[source.index]
    if isinstance(source, Output):
        return workload.output_bytes[source.stage]
    if isinstance(source, Element):
        each = graph.eaches[source.each]
        return source_bytes(graph, workload, each.over) / max(1.0, _elements(graph, workload, source.each))
    if isinstance(source, Gathered):
        each = graph.eaches[source.each]
        return source_bytes(graph, workload, each.result) * _elements(graph, workload, source.each)
    # One branch is taken: the mean of the branches, weighted by how often each runs.
    options = leaves(graph, source)
    weights = [sum(workload.items[stage] for stage in graph.producers(option)) or 1.0 for option in options]
    total = sum(weights)
    return sum(weight / total * source_bytes(graph, workload, option) for weight, option in zip(weights, options, strict=True))


def group_facts(scenario: Scenario, mask: int) -> GroupFacts:
    """Derive the facts of a legal group."""
    graph, workload = scenario.app.graph, scenario.workload
    extent = make_extent(graph, mask)
    at_scope = [workload.items[index] for index in extent.stages if graph.stages[index].scope == extent.scope]
    items = max(at_scope) if at_scope else scope_items(graph, workload, extent.scope)
    per_item = max(items, 1e-12)
    into = [source_bytes(graph, workload, source) for source in extent.inputs]
    out = [source_bytes(graph, workload, source) for source in extent.outputs]
    kinds = {scenario.app.spec(index).device for index in extent.stages}
    return GroupFacts(
        extent=extent,
        items=items,
        executions=tuple(workload.items[index] / per_item for index in extent.stages),
        max_batches=tuple(scenario.app.spec(index).max_batch for index in extent.stages),
        bytes_in=sum(into),
        bytes_out=sum(out),
        largest_bytes=max([*into, *out], default=0.0),
        memory_mib=scenario.model.memory_mib(mask, scenario.hop.process_mib),
        device="gpu" if "gpu" in kinds else "cpu",
    )


def stage_calls(executions: float, max_batch: int) -> float:
    """Calls of a stage for ``executions`` items in chunks of ``max_batch``; below one it is the probability of a call."""
    if executions <= 1:
        return executions
    return float(math.ceil(executions / max_batch - 1e-9))


def items_at_once(app: AppSpec, batch: int) -> tuple[int, ...]:
    """For every stage of the graph the most items that one call takes when an invocation has ``batch`` items.

    A stage inside a fan-out takes what its declaration permits, however few elements a mean request has.
    """
    found: list[int] = []
    for index, node in enumerate(app.graph.stages):
        most = app.spec(index).max_batch
        found.append(most if node.scope else min(most, batch))
    return tuple(found)


def device_mask(app: AppSpec, mask: int) -> int:
    """The stages of ``mask`` that are declared for a GPU."""
    return mask & sum(1 << index for index in range(len(app.graph.stages)) if app.spec(index).device == "gpu")


def device_memory_mib(scenario: Scenario, mask: int, batch: int) -> float:
    """Memory that an instance of a group needs on a device for invocations of up to ``batch`` items; 0 for one on CPUs."""
    return scenario.model.device_memory_mib(device_mask(scenario.app, mask), items_at_once(scenario.app, batch))


def stage_times_us(
    scenario: Scenario,
    facts: GroupFacts,
    batch: float,
    cpu_cores: float,
    gpu_share: float = 0.0,
    interference: float = 1.0,
) -> tuple[float, ...]:
    """Mean run time of each of the group's stages in one invocation of ``batch`` items, in microseconds.

    ``gpu_share`` is the part of a device that the instance has; the stages that were profiled on one run there, the others on
    the instance's cores. ``interference`` is the slowdown, at least 1, by neighbours on a softly shared device.
    """
    times: list[float] = []
    model, sizes = scenario.model, scenario.workload.item_size
    for index, executions, max_batch in zip(facts.extent.stages, facts.executions, facts.max_batches, strict=True):
        items = executions * batch
        if items <= 0:
            times.append(0.0)
            continue
        calls = stage_calls(items, max_batch)
        noise, _ = factor_moments(model.stages[index].residual_quantiles)
        mean = model.stage(index, items / calls, items * sizes[index] / calls, cpu_cores, gpu_share).mean_us
        times.append(calls * noise * mean)
        if interference != 1.0 and gpu_share > 0 and model.stages[index].device is not None:
            times[-1] *= interference
    return tuple(times)


def _elements(graph: Graph, workload: Workload, each: int) -> float:
    """Mean number of elements that fan-out number ``each`` takes apart, per item around it."""
    scope = graph.eaches[each].scope
    return scope_items(graph, workload, (*scope, each)) / max(scope_items(graph, workload, scope), 1e-12)
