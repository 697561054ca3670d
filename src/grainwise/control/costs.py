"""What a batch of a function is predicted to take, reduced to three coefficients so that an event costs one multiplication."""

from collections.abc import Sequence

from msgspec import Struct

from grainwise.domain.extent import Extent
from grainwise.domain.graph import Graph
from grainwise.planning.problem import Workload
from grainwise.predictors.latency import LatencyModel


class GroupCost(Struct, frozen=True):
    """Run time of a batch of a group: ``fixed_us + n * item_us + size_sum * size_us``, with factors for p99."""

    fixed_us: float
    item_us: float
    size_us: float
    mean_size: float
    p99_factor: float
    first_call_us: float

    def predict_us(self, items: int, size_sum: float) -> float:
        """Mean run time in microseconds."""
        return self.fixed_us + items * self.item_us + size_sum * self.size_us

    @property
    def per_item_us(self) -> float:
        """Run time that a further item of mean size adds to a batch."""
        return self.item_us + self.size_us * self.mean_size


def group_cost(
    graph: Graph, extent: Extent, cpu_cores: float, model: LatencyModel, workload: Workload, max_batches: Sequence[int]
) -> GroupCost:
    """What a batch of ``extent`` is predicted to take on ``cpu_cores``; stages after the first by their mean sizes.

    ``max_batches`` has the declared batch of every stage of the graph: a stage is called once for each chunk of that many, so
    the fixed part of a stage that takes one item at a time is a part of every item.
    """
    fixed = item = size = first_call = 0.0
    factor = 1.0
    first = extent.stages[0]
    unit = _items(graph, workload, extent)
    for stage in extent.stages:
        stage_model = model.stages[stage]
        share = stage_model.share_factor(cpu_cores)
        per_item = workload.items[stage] / unit
        calls = per_item / max_batches[stage]
        fixed += stage_model.intercept_us * share * max(0.0, min(1.0, per_item) - calls)
        item += (stage_model.intercept_us * calls + stage_model.per_item_us * per_item) * share
        if stage == first:
            size += stage_model.per_size_us * share
        else:
            item += stage_model.per_size_us * share * per_item * workload.item_size[stage]
        factor = max(factor, stage_model.residual_quantiles[-1])
        first_call += stage_model.first_call_us
    mean_size = workload.item_size[first] * workload.items[first] / unit
    return GroupCost(fixed, item, size, mean_size, factor, first_call)


def _items(graph: Graph, workload: Workload, extent: Extent) -> float:
    """Items of the group per request: executions of its busiest stage outside the fan-outs that it contains."""
    scope = extent.scope
    own = [workload.items[stage] for stage in extent.stages if graph.stages[stage].scope == scope]
    if own:
        return max(*own, 1e-9)
    if not scope:
        return 1.0
    near = [items for items, node in zip(workload.items, graph.stages, strict=True) if node.scope == scope]
    inside = [items for items, node in zip(workload.items, graph.stages, strict=True) if node.scope[: len(scope)] == scope]
    return max(*(near or inside), 1e-9)
