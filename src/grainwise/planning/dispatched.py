"""How a plan is served where each invocation's extent is decided at dispatch: fan-outs taken apart, idle shares borrowed.

An instance that holds a whole fan-out need not run it by itself: its elements are shared with the others that hold it. So a
plan is judged as if every body of a fan-out were a function of its own, on the same instances and for the same money; of a
chain nothing is cut, since that would gain nothing. Functions that stand on the same instances cannot all run at once, so no
more cores count than those of all instances together.

And where presence is paid for and a running instance can have another share, an invocation may have those of instances that
are idle. A dispatch finds for each request what is best for it; a plan is judged by the best of these ways for all requests.
"""

import math

import msgspec

from grainwise.domain.graph import Graph
from grainwise.domain.machine import Node
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.planning.granularity import check_granularity
from grainwise.predictors.effects import setting
from grainwise.predictors.groups import Scenario

MOST_DOUBLINGS = 3
"""Of a share, by borrowing."""


def served_ways(scenario: Scenario, plan: Plan) -> tuple[tuple[Scenario, Plan], ...]:
    """The ways in which a plan may be served beside the way it stands, each with the scenario that its instances see."""
    apart = as_dispatched(scenario, plan)
    return (*(() if apart is None else (apart,)), *_borrowing(scenario, plan))


def as_dispatched(scenario: Scenario, plan: Plan) -> tuple[Scenario, Plan] | None:
    """The plan as it is served, and the scenario with the cores that its instances can use; ``None`` where nothing is cut."""
    graph = scenario.app.graph
    functions: list[FunctionPlan] = []
    for function in plan.functions:
        parts = taken_apart(graph, graph.mask(function.stages))
        if len(parts) == 1:
            functions.append(function)
            continue
        for part in parts:
            items = max(scenario.workload.items[stage] for stage in range(len(graph.stages)) if part >> stage & 1)
            is_body = any(graph.stages[stage].scope for stage in range(len(graph.stages)) if part >> stage & 1)
            batch = max(1, math.ceil(items / function.instances - 1e-9)) if is_body else function.max_batch
            functions.append(msgspec.structs.replace(function, stages=graph.names(part), max_batch=batch))
    if len(functions) == len(plan.functions):
        return None
    served = msgspec.structs.replace(plan, functions=tuple(functions))
    cores = sum(function.instances * function.cpu_cores for function in plan.functions)
    return msgspec.structs.replace(setting(scenario), nodes=_limited(scenario.nodes, cores)), served


def _borrowing(scenario: Scenario, plan: Plan) -> list[tuple[Scenario, Plan]]:
    """With twice the share of every function, four times and so on, as far as some stage gains by it."""
    capabilities = scenario.capabilities
    if plan.objective != "provisioned" or capabilities.is_share_hard or capabilities.share_scope != "invocation":
        return []
    nodes = _limited(scenario.nodes, sum(function.instances * function.cpu_cores for function in plan.functions))
    most = max((node.usable_cores for node in nodes), default=0.0)
    stage_at = scenario.app.graph.index_by_name
    useful = [
        max(scenario.model.stages[stage_at[stage]].share_cores[-1] for stage in function.stages) for function in plan.functions
    ]
    found: list[tuple[Scenario, Plan]] = []
    before = plan.functions
    for doublings in range(1, MOST_DOUBLINGS + 1):
        functions = tuple(
            msgspec.structs.replace(each, cpu_cores=max(each.cpu_cores, min(each.cpu_cores * 2**doublings, most, enough)))
            for each, enough in zip(plan.functions, useful, strict=True)
        )
        if functions == before:
            break
        before = functions
        found.append(
            (msgspec.structs.replace(setting(scenario), nodes=nodes), msgspec.structs.replace(plan, functions=functions))
        )
    return found


def taken_apart(graph: Graph, mask: int) -> tuple[int, ...]:
    """The parts of a function with every fan-out that it holds whole by itself; the function where that is no granularity."""
    bodies = [
        body
        for each, body in enumerate(graph.body_masks)
        if not graph.eaches[each].scope and body and body & mask == body and body != mask
    ]
    if not bodies:
        return (mask,)
    level: dict[int, int] = {}
    parts: dict[tuple[int, int], int] = {}
    for stage in range(len(graph.stages)):
        if not mask >> stage & 1:
            continue
        inside = _body_of(bodies, stage)
        before = graph.predecessors[stage] & mask
        depth = max((level[other] for other in level if before >> other & 1), default=0)
        if any(before >> other & 1 and _body_of(bodies, other) not in (-1, inside) for other in level):
            depth += 1
        level[stage] = depth
        key = (depth, inside)
        parts[key] = parts.get(key, 0) | 1 << stage
    rest = graph.all_mask & ~mask
    singles = tuple(1 << stage for stage in range(len(graph.stages)) if rest >> stage & 1)
    found = tuple(parts.values())
    return found if check_granularity(graph, (*found, *singles)) is None else (mask,)


def _body_of(bodies: list[int], stage: int) -> int:
    return next((number for number, body in enumerate(bodies) if body >> stage & 1), -1)


def _limited(nodes: tuple[Node, ...], cores: float) -> tuple[Node, ...]:
    """The nodes with no more than ``cores`` to use in all, each with its part."""
    usable = sum(node.usable_cores for node in nodes)
    if usable <= cores or usable <= 0:
        return nodes
    kept = cores / usable
    return tuple(msgspec.structs.replace(node, reserve_cores=node.cpu_cores - kept * node.usable_cores) for node in nodes)
