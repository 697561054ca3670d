"""One run: a world under a way and a seed, and what it came to."""

from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from grainwise.control.actions import Action, StartInstance
from grainwise.control.events import Event, InstanceFailed, InstanceReady, InstanceStopped
from grainwise.domain.config import AppConfig
from grainwise.domain.errors import ConfigurationError
from grainwise.domain.machine import Node
from grainwise.domain.plan import Objective, Plan, render_grain
from grainwise.domain.time import SECOND, Instant, Micros
from grainwise.planning.problem import PlanTable, Problem
from grainwise.planning.table import compute
from grainwise.policies.sets import policy_set
from grainwise.predictors.evaluator import EvaluatorName
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.cluster import Cluster
from grainwise.simulation.made_apps import Sample
from grainwise.simulation.run import Scenario
from grainwise.simulation.trial import Trial, run_trial
from grainwise.telemetry.result import AppResult, RunResult
from grainwise.workloads.processes import Poisson, Steps
from grainwise.workloads.recorded import Recorded
from grainwise.workloads.traffic import Stream, Traffic
from reproduce.granularity.records import Window

WINDOWS = 20
"""Into so many stretches a run is cut, one for each burst where there are bursts."""

_MOST_IN_FLIGHT = 1 << 20
"""No request is turned away: a way that is late is late."""


class World(Struct, frozen=True):
    """What every way of a cell meets: apps with their SLO and forecast, machines, arrivals. ``duration_us`` is of one run."""

    samples: tuple[Sample, ...]
    cluster: Cluster
    arrivals: tuple[Poisson | Steps, ...]
    objective: Objective
    duration_us: Micros

    def problem(self, app: int, policies: str = "fixed", evaluator: EvaluatorName = "analytic") -> Problem:
        """What a planner of an app is asked; an app among several is planned for its part of the machines."""
        sample, cluster = self.samples[app], self.cluster
        return Problem(
            0,
            sample.spec,
            sample.model,
            sample.hop,
            sample.workload,
            _part(cluster.domain_nodes, len(self.samples)),
            cluster.capabilities,
            cluster.prices,
            self.objective,
            evaluator=evaluator,
            policies=policies,
            is_stagewise=policy_set(policies).extent is not None,
        )


def _part(nodes: tuple[Node, ...], apps: int) -> tuple[Node, ...]:
    """The part of the machines that one of several apps is planned for; a device cannot be parted."""
    if len(nodes) >= apps:
        return nodes[: len(nodes) // apps]
    first, parts = nodes[0], -(-apps // len(nodes))
    return (msgspec.structs.replace(first, cpu_cores=first.cpu_cores / parts, memory_mib=first.memory_mib / parts),)


class Outcome(Struct, frozen=True):
    """What a run came to, over all apps; see ``records.Run``."""

    offered: int
    answered: int
    met: int
    attainment: float
    billed_usd_per_1000: float
    provisioned_usd_per_1000: float
    switch_usd_per_1000: float
    p50_ms: float
    p95_ms: float
    local_fraction: float | None
    slice_s: float
    starts: int
    regranulations: int
    utilisation: float
    grains: tuple[str, ...]
    windows: tuple[Window, ...]


class _Held(Struct):
    started: Instant
    share: float
    usd_per_us: float
    is_switch: bool


class Counted:
    """An observer of the loop: the shares that instances had, and what starts for a change of granularity took."""

    def __init__(self, world: World) -> None:
        self.starts = 0
        self.switch_usd = 0.0
        self.slice_us = 0.0
        self._prices = world.cluster.prices
        self._up: dict[int, _Held] = {}
        self._end: Instant = 0

    def observe(self, event: Event, actions: list[Action], now: Instant) -> None:
        """Count what one event and the actions that followed it say."""
        if isinstance(event, InstanceReady):
            held = self._up.get(event.instance)
            if held is not None and held.is_switch:
                self.switch_usd += (now - held.started) * held.usd_per_us
        elif isinstance(event, InstanceStopped | InstanceFailed):
            self._gone(event.instance, now)
        for action in actions:
            if isinstance(action, StartInstance):
                self.starts += 1
                usd = self._prices.usd_per_second(action.function_cores, action.memory_mib, action.gpu_share_fraction)
                self._up[action.instance] = _Held(
                    now,
                    action.gpu_share_fraction or action.function_cores,
                    usd / SECOND,
                    action.because.rule.startswith("re-granulation"),
                )
        self._end = now

    def close(self) -> None:
        """The run is over."""
        for number in list(self._up):
            self._gone(number, self._end)

    def _gone(self, number: int, now: Instant) -> None:
        held = self._up.pop(number, None)
        if held is not None:
            self.slice_us += (now - held.started) * held.share


def run(
    world: World,
    plans: Sequence[Plan],
    policies: str,
    seed: int,
    evaluator: EvaluatorName = "analytic",
    answer: Callable[[Problem], PlanTable] = compute,
) -> Outcome:
    """Run a world under a set of policies from one plan per app on; ``answer`` is asked whenever it plans again.

    Raises:
        CapacityError: an app does not become ready on the machines.
    """
    config = AppConfig(policies=policies, evaluator=evaluator, max_requests=_MOST_IN_FLIGHT)
    apps = tuple(
        SimulatedApp(
            spec=sample.spec,
            model=sample.model,
            hop=sample.hop,
            workload=sample.workload,
            kinds=sample.kinds,
            plan=msgspec.structs.replace(plan, objective=world.objective),
            residuals=sample.residuals,
            config=config,
            provenance=sample.source,
            hop_residuals=sample.hop_residuals,
        )
        for sample, plan in zip(world.samples, plans, strict=True)
    )
    streams = tuple(Stream(sample.spec.name, arrivals) for sample, arrivals in zip(world.samples, world.arrivals, strict=True))
    trial = Trial(
        Scenario(world.cluster, apps, world.duration_us, seed),
        Traffic("granularity", streams, world.duration_us / SECOND),
        policies,
        "simulated",
    )
    counted = Counted(world)
    result = run_trial(trial, _no_trace, compute=answer, observers=(counted.observe,))
    counted.close()
    return _outcome(result, counted)


def attainment_of_fixed(world: World, plans: Sequence[Plan], seed: int) -> float:
    """Of a run under plans that stay.

    Raises:
        CapacityError: an app does not become ready on the machines.
    """
    return run(world, plans, "fixed", seed).attainment


def split_plan(problem: Problem) -> Plan:
    """The best plan with every stage in a function of its own.

    Raises:
        InfeasibleError: none fits the machines.
    """
    graph = problem.app.graph
    grain = tuple((node.name,) for node in graph.stages)
    return compute(msgspec.structs.replace(problem, grain=grain)).winner.plan


def _outcome(result: RunResult, counted: Counted) -> Outcome:
    apps = result.apps
    offered, answered, met = (sum(getattr(app, name) for app in apps) for name in ("offered", "answered", "met"))
    per_1000 = 1000 / max(1, offered)
    hops = [app.local_hops_fraction for app in apps if app.local_hops_fraction is not None]
    busy = sum(node.busy_core_s for node in result.nodes)
    up = sum(node.provisioned_core_s for node in result.nodes)
    return Outcome(
        offered=offered,
        answered=answered,
        met=met,
        attainment=met / max(1, offered),
        billed_usd_per_1000=sum(app.cost.billed_usd for app in apps) * per_1000,
        provisioned_usd_per_1000=sum(app.cost.provisioned_usd for app in apps) * per_1000,
        switch_usd_per_1000=counted.switch_usd * per_1000,
        p50_ms=_weighted(apps, "p50_ms"),
        p95_ms=_weighted(apps, "p95_ms"),
        local_fraction=sum(hops) / len(hops) if hops else None,
        slice_s=counted.slice_us / SECOND,
        starts=sum(app.cold_starts.count for app in apps),
        regranulations=sum(len(app.regranulations) for app in apps),
        utilisation=busy / up if up else 0.0,
        grains=tuple(app.grain for app in apps),
        windows=_windows(result),
    )


def _weighted(apps: Sequence[AppResult], quantile: str) -> float:
    """A quantile of each app, weighted by the requests that it answered."""
    answered = sum(app.answered for app in apps)
    total = 0.0
    for app in apps:
        total += float(getattr(app.latency, quantile)) * app.answered
    return total / max(1, answered)


def _windows(result: RunResult) -> tuple[Window, ...]:
    """Counts and costs of the stretches in which requests came."""
    found = [[0, 0, 0.0, 0.0] for _ in range(WINDOWS)]
    width = result.offered_s / WINDOWS
    for app in result.apps:
        line = app.timeline
        hours = line.width_s / 3600
        for at, end in enumerate(line.end_s):
            window = found[min(WINDOWS - 1, int((end - line.width_s / 2) / width))] if width > 0 else found[0]
            window[0] += line.offered[at]
            window[1] += line.met[at]
            window[2] += line.billed_usd_per_hour[at] * hours
            window[3] += line.provisioned_usd_per_hour[at] * hours
    return tuple(Window(int(each[0]), int(each[1]), round(each[2], 9), round(each[3], 9)) for each in found)


def _no_trace(name: str, expected: str | None) -> Recorded:
    raise ConfigurationError(f"the study draws its arrivals and has no trace {name}")


def grain_of(plan: Plan) -> str:
    """A granularity as ways are named by it."""
    return render_grain(plan.grain)
