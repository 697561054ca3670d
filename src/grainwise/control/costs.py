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
    graph: Graph,
    extent: Extent,
    cpu_cores: float,
    model: LatencyModel,
    workload: Workload,
    max_batches: Sequence[int],
    gpu_share_fraction: float = 0.0,
) -> GroupCost:
    """What a batch of ``extent`` is predicted to take on ``cpu_cores``; stages after the first by their mean sizes.

    With a share of a device the stages that were profiled on one run there.

    ``max_batches`` has the declared batch of every stage of the graph: a stage is called once for each chunk of that many, so
    the fixed part of a stage that takes one item at a time is a part of every item.
    """
    fixed = item = size = first_call = 0.0
    factor = 1.0
    first = extent.stages[0]
    unit = _items(graph, workload, extent)
    for stage in extent.stages:
        stage_model = model.stages[stage]
        of_batch, of_item, of_size, share = stage_model.coefficients(cpu_cores, gpu_share_fraction)
        per_item = workload.items[stage] / unit
        calls = per_item / max_batches[stage]
        fixed += of_batch * share * max(0.0, min(1.0, per_item) - calls)
        item += (of_batch * calls + of_item * per_item) * share
        if stage == first:
            size += of_size * share
        else:
            item += of_size * share * per_item * workload.item_size[stage]
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
