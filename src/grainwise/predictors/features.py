"""What a learned predictor sees of a plan under a forecast: numbers without a unit, in closed form, by name.

They are relative to the SLO, the machines or the rate, so that they mean the same for every app. The closed-form predictions
are among them: a model that was trained on these learns where those err.
"""

from collections.abc import Sequence
from typing import NamedTuple

from grainwise.domain.plan import Plan, Prediction
from grainwise.predictors.cost import provisioned_usd_per_hour
from grainwise.predictors.evaluate import Breakdown, Evaluation
from grainwise.predictors.groups import GroupFacts, Scenario, group_facts
from grainwise.predictors.samples import factor_moments
from grainwise.predictors.station import Station, held_cores, make_station, usable_cores

FEATURES_VERSION = 1
"""Changes with the names or the meaning of any feature."""

FEATURES: tuple[str, ...] = (
    "functions",
    "stages",
    "largest_group_fraction",
    "fan_out_width",
    "nodes",
    "is_share_hard",
    "requests_per_slo",
    "arrival_scv",
    "service_per_slo",
    "hop_per_slo",
    "wait_per_slo",
    "longest_service_per_slo",
    "longest_batch_service_per_slo",
    "cold_start_per_slo",
    "service_noise",
    "request_scv",
    "utilisation",
    "busiest_function",
    "mean_function_utilisation",
    "demand_per_core",
    "provisioned_cores_per_core",
    "memory_per_node_memory",
    "wait_probability",
    "instances",
    "fewest_instances",
    "spare_instances_fraction",
    "mean_batch",
    "largest_batch_bound",
    "rounds",
    "least_share",
    "share_per_node",
    "memory_cost_fraction",
    "p50_per_slo",
    "p95_per_slo",
    "p99_per_slo",
    "attainment",
    "rate_per_capacity",
    "billed_per_provisioned",
    "error_fraction",
)


class _Function(NamedTuple):
    """One function of the plan under the forecast."""

    facts: GroupFacts
    station: Station
    cpu_cores: float
    max_batch: int
    instances: int
    max_instances: int


def features(scenario: Scenario, plan: Plan, predicted: Prediction | None = None) -> tuple[float, ...]:
    """The features of a plan, in the order of ``FEATURES``.

    Args:
        scenario: app, model, forecast, machines.
        plan: a legal plan of that app.
        predicted: its closed-form prediction in this scenario, where that is known already.
    """
    evaluation = Evaluation(scenario, plan)
    known = evaluation.predict() if predicted is None else predicted
    found = _of_plan(scenario, plan, evaluation.breakdown(), _functions(scenario, plan)) | _of_prediction(scenario, known)
    return tuple(float(found[name]) for name in FEATURES)


def _functions(scenario: Scenario, plan: Plan) -> list[_Function]:
    graph, rate = scenario.app.graph, scenario.workload.rate_per_s
    found = []
    for function in plan.functions:
        facts = group_facts(scenario, graph.mask(function.stages))
        share = held_cores(scenario, function.cpu_cores)
        station = make_station(
            scenario,
            facts,
            cpu_cores=share,
            max_batch=function.max_batch,
            instances=function.instances,
            rate_per_s=rate,
            gpu_share=function.device_fraction,
        )
        most = max(function.instances, function.max_instances)
        found.append(_Function(facts, station, share, function.max_batch, function.instances, most))
    return found


def _of_plan(scenario: Scenario, plan: Plan, parts: Breakdown, functions: Sequence[_Function]) -> dict[str, float]:
    app, workload, model = scenario.app, scenario.workload, scenario.model
    slo_us = app.slo.latency_ms * 1000
    stages = len(app.graph.stages)
    cores = max(usable_cores(scenario.nodes), 1e-9)
    memory = max(sum(node.memory_mib for node in scenario.nodes), 1e-9)
    largest_node = max((node.usable_cores for node in scenario.nodes), default=1.0)
    instances = sum(each.instances for each in functions)
    most = sum(each.max_instances for each in functions)
    work = [each.station.invocations * each.station.occupancy_us for each in functions]
    total = max(sum(work), 1e-9)
    full = [
        each.station.occupancy_us
        + sum(
            model.stages[stage].per_item_us * executions * (each.max_batch - each.station.batch)
            for stage, executions in zip(each.facts.extent.stages, each.facts.executions, strict=True)
        )
        for each in functions
    ]
    provisioned, of_cores = (
        sum(
            provisioned_usd_per_hour(
                scenario.prices,
                instances=each.instances,
                cpu_cores=each.cpu_cores,
                memory_mib=each.facts.memory_mib * with_memory,
            )
            for each in functions
        )
        for with_memory in (1.0, 0.0)
    )
    return {
        "functions": len(plan.functions),
        "stages": stages,
        "largest_group_fraction": max(len(each.facts.extent.stages) for each in functions) / stages,
        "fan_out_width": max(workload.items, default=1.0),
        "nodes": len(scenario.nodes),
        "is_share_hard": scenario.capabilities.is_share_hard,
        "requests_per_slo": workload.rate_per_s * slo_us / 1e6,
        "arrival_scv": workload.arrival_scv,
        "service_per_slo": parts.service_ms * 1000 / slo_us,
        "hop_per_slo": parts.hop_ms * 1000 / slo_us,
        "wait_per_slo": min(parts.wait_ms * 1000 / slo_us, _MOST_WAIT),
        "longest_service_per_slo": max(each.station.occupancy_us for each in functions) / slo_us,
        "longest_batch_service_per_slo": max(full) / slo_us,
        "cold_start_per_slo": max(model.cold_start_us(each.facts.mask) for each in functions) / slo_us,
        "service_noise": sum(part * _noise(scenario, each.facts) for part, each in zip(work, functions, strict=True)) / total,
        "request_scv": _request_scv(scenario, functions),
        "busiest_function": max(each.station.utilisation for each in functions),
        "mean_function_utilisation": sum(each.station.utilisation for each in functions) / len(functions),
        "demand_per_core": parts.demand_cores / cores,
        "provisioned_cores_per_core": parts.provisioned_cores / cores,
        "memory_per_node_memory": parts.provisioned_mib / memory,
        "wait_probability": max(each.station.wait.probability for each in functions),
        "instances": instances,
        "fewest_instances": min(each.instances for each in functions),
        "spare_instances_fraction": most / instances - 1,
        "mean_batch": sum(part * each.station.batch for part, each in zip(work, functions, strict=True)) / total,
        "largest_batch_bound": max(each.max_batch for each in functions),
        "rounds": max(each.station.rounds for each in functions),
        "least_share": min(each.cpu_cores for each in functions),
        "share_per_node": max(each.cpu_cores for each in functions) / max(largest_node, 1e-9),
        "memory_cost_fraction": 1 - of_cores / provisioned if provisioned > 0 else 0.0,
    }


_MOST_WAIT = 100.0
"""A queue that grows waits as long as the run lasts; beyond this it does not matter how long."""


def _of_prediction(scenario: Scenario, predicted: Prediction) -> dict[str, float]:
    slo_ms, rate = scenario.app.slo.latency_ms, scenario.workload.rate_per_s
    capacity, provisioned = predicted.capacity_per_s, predicted.provisioned_usd_per_hour
    return {
        "utilisation": predicted.utilisation,
        "p50_per_slo": min(predicted.p50_ms / slo_ms, _MOST_WAIT),
        "p95_per_slo": min(predicted.p95_ms / slo_ms, _MOST_WAIT),
        "p99_per_slo": min(predicted.p99_ms / slo_ms, _MOST_WAIT),
        "attainment": predicted.attainment,
        "rate_per_capacity": min(rate / capacity, _MOST_WAIT) if capacity > 0 else _MOST_WAIT,
        "billed_per_provisioned": predicted.billed_usd_per_hour / provisioned if provisioned > 0 else 0.0,
        "error_fraction": predicted.error_fraction,
    }


def _noise(scenario: Scenario, facts: GroupFacts) -> float:
    """The greatest squared coefficient of variation among the run times of a group's stages."""
    found = 0.0
    for stage in facts.extent.stages:
        mean, variance = factor_moments(scenario.model.stages[stage].residual_quantiles)
        found = max(found, variance / (mean * mean))
    return found


def _request_scv(scenario: Scenario, functions: Sequence[_Function]) -> float:
    """Squared coefficient of variation of the work of a request over its kinds."""
    variants = scenario.workload.variants
    if not variants:
        return 0.0
    weight = [0.0] * len(scenario.app.graph.stages)
    for each in functions:
        for stage, time in zip(each.facts.extent.stages, each.station.stage_us, strict=True):
            weight[stage] += each.station.invocations * time
    totals = [sum(part * share for part, share in zip(weight, variant, strict=True)) for variant in variants]
    mean = sum(totals) / len(totals)
    return sum((total - mean) ** 2 for total in totals) / len(totals) / (mean * mean) if mean > 0 else 0.0
