"""The sums of one run, per app, function and node, and what they come to."""

from grainwise.control.events import AppDeployed
from grainwise.domain.graph import Graph
from grainwise.domain.plan import Grain, render_grain
from grainwise.domain.time import SECOND, Instant, Micros, from_ms
from grainwise.predictors.latency import LatencyModel
from grainwise.telemetry.breakdown import Coverage
from grainwise.telemetry.quantiles import Quantiles
from grainwise.telemetry.result import (
    AppResult,
    ColdStarts,
    Cost,
    FunctionResult,
    Latency,
    NodeResult,
    Regranulation,
    Shares,
    TenantResult,
)
from grainwise.telemetry.timeline import Standing, render_timeline

CDF_POINTS = 200


class Held:
    """Cores and money held over time, settled whenever they change."""

    __slots__ = ("at", "core_us", "cores", "count", "instance_us", "most", "usd", "usd_per_us")

    def __init__(self, at: Instant) -> None:
        self.at = at
        self.count = 0
        self.cores = 0.0
        self.usd_per_us = 0.0
        self.most = 0
        self.begin(at)

    def begin(self, at: Instant) -> None:
        """Count from now on; what is held stays held."""
        self.at = at
        self.core_us = 0.0
        self.usd = 0.0
        self.instance_us = 0
        self.most = self.count

    def change(self, now: Instant, count: int, cores: float, usd_per_us: float) -> None:
        """So much more is held from ``now`` on."""
        passed = now - self.at
        self.at = now
        self.core_us += passed * self.cores
        self.usd += passed * self.usd_per_us
        self.instance_us += passed * self.count
        self.count += count
        # Nothing is held without instances: no rounding is left behind.
        self.cores = self.cores + cores if self.count else 0.0
        self.usd_per_us = self.usd_per_us + usd_per_us if self.count else 0.0
        if self.count > self.most:
            self.most = self.count

    def usd_until(self, now: Instant) -> float:
        """Money until ``now``."""
        return self.usd + (now - self.at) * self.usd_per_us

    def core_us_until(self, now: Instant) -> float:
        """Core-microseconds until ``now``."""
        return self.core_us + (now - self.at) * self.cores

    def instance_us_until(self, now: Instant) -> int:
        """Instance-microseconds until ``now``."""
        return self.instance_us + (now - self.at) * self.count


class FunctionSums:
    """One function: invocations of this extent, instances of this residency."""

    __slots__ = (
        "billed_usd",
        "busy_core_us",
        "busy_us",
        "cold_starts",
        "cold_us",
        "held",
        "hop_us",
        "invocations",
        "items",
        "mask",
        "name",
        "predecessors",
        "queue_us",
        "ready",
        "service_us",
        "visits",
    )

    def __init__(self, graph: Graph, mask: int, now: Instant) -> None:
        self.mask = mask
        self.name = "+".join(graph.names(mask))
        predecessors = 0
        for stage, reads in enumerate(graph.predecessors):
            if mask >> stage & 1:
                predecessors |= reads
        self.predecessors = predecessors & ~mask
        self.held = Held(now)
        self.ready = 0
        self.begin(now)

    def begin(self, now: Instant) -> None:
        """Count from now on."""
        self.held.begin(now)
        self.invocations = self.items = self.visits = self.cold_starts = 0
        self.busy_us = self.queue_us = self.service_us = self.hop_us = self.cold_us = 0
        self.busy_core_us = self.billed_usd = 0.0

    @property
    def is_used(self) -> bool:
        """Whether anything ran or was up since the count began."""
        return bool(self.invocations or self.held.count or self.held.instance_us)

    def result(self, end: Instant) -> FunctionResult:
        """What the sums come to."""
        core_us = self.held.core_us_until(end)
        return FunctionResult(
            name=self.name,
            invocations=self.invocations,
            items=self.items,
            visits=self.visits,
            mean_batch=self.items / self.invocations if self.invocations else 0.0,
            busy_s=self.busy_us / SECOND,
            shares=mean_shares(self.visits, self.queue_us, self.service_us, self.hop_us, self.cold_us),
            billed_usd=self.billed_usd,
            provisioned_usd=self.held.usd_until(end),
            utilisation=self.busy_core_us / core_us if core_us else 0.0,
            cold_starts=self.cold_starts,
            max_instances=self.held.most,
            instance_s=self.held.instance_us_until(end) / SECOND,
        )


class TenantSums:
    """One tenant of an app."""

    __slots__ = ("latency", "met", "offered")

    def __init__(self) -> None:
        self.offered = 0
        self.met = 0
        self.latency = Quantiles()

    def result(self, name: str) -> TenantResult:
        """What the sums come to."""
        attainment = self.met / self.offered if self.offered else 1.0
        return TenantResult(name, self.offered, self.latency.count, self.met, attainment, latency_of(self.latency))


class RunApp:
    """One app."""

    def __init__(self, deployed: AppDeployed, now: Instant) -> None:
        self.name = deployed.app.name
        self.graph = deployed.app.graph
        self.slo = deployed.app.slo
        self.slo_us = from_ms(deployed.app.slo.latency_ms)
        self.prices = deployed.prices
        self.fee_usd = deployed.prices.usd_per_million_requests / 1e6
        self.model: LatencyModel = deployed.model
        self.coverage = Coverage()
        self.functions: dict[int, FunctionSums] = {}
        self.grain = ""
        self.in_flight = 0
        self.take_grain(deployed.plan.grain)
        self.begin(now)

    def begin(self, now: Instant) -> None:
        """Count from now on; what is up and in flight stays."""
        self.offered = self.met = 0
        self.rejected: dict[str, int] = {}
        self.failures: dict[str, int] = {}
        self.latency = Quantiles()
        self.queue_us = self.service_us = self.hop_us = self.cold_us = 0
        self.hops = self.local_hops = 0
        self.cold_starts = 0
        self.cold_parts = [0, 0, 0, 0]
        self.loads = self.load_us = 0
        self.tenants: dict[str, TenantSums] = {}
        self.regranulations: list[Regranulation] = []
        for function in self.functions.values():
            function.begin(now)
        self.first = self.standing(now)
        self.standings: list[Standing] = []

    def take_grain(self, grain: Grain) -> None:
        """Requests are served in this granularity from now on."""
        self.grain = render_grain(grain)

    def function(self, mask: int, now: Instant) -> FunctionSums:
        """The sums of a function, made when it is first seen."""
        found = self.functions.get(mask)
        if found is None:
            found = self.functions[mask] = FunctionSums(self.graph, mask, now)
        return found

    def standing(self, at: Instant) -> Standing:
        """The sums as they stand at ``at``, which no event later than the last one seen precedes."""
        functions = self.functions.values()
        return Standing(
            at,
            self.offered,
            self.latency.count,
            self.met,
            self.in_flight,
            sum(each.billed_usd for each in functions),
            sum(each.held.usd_until(at) for each in functions),
            {each.name: each.ready for each in functions if each.ready},
            self.grain,
        )

    def result(self, offered_us: Micros, end: Instant, width_us: Micros, unfinished: int) -> AppResult:
        """What the sums come to at ``end``, where requests came for ``offered_us``."""
        seconds = max(offered_us, 1) / SECOND
        answered = self.latency.count
        functions = tuple(each.result(end) for each in self.functions.values() if each.is_used)
        billed = sum(each.billed_usd for each in functions)
        provisioned = sum(each.provisioned_usd for each in functions)
        process, imports, load, first_call = (part / max(self.cold_starts, 1) / 1000 for part in self.cold_parts)
        per = 1000 / answered if answered else 0.0
        return AppResult(
            name=self.name,
            slo_ms=self.slo.latency_ms,
            target=self.slo.target,
            offered=self.offered,
            answered=answered,
            met=self.met,
            unfinished=unfinished,
            rejected=dict(self.rejected),
            attainment=self.met / self.offered if self.offered else 1.0,
            offered_per_s=self.offered / seconds,
            goodput_per_s=self.met / seconds,
            latency=latency_of(self.latency),
            shares=mean_shares(answered, self.queue_us, self.service_us, self.hop_us, self.cold_us),
            cost=Cost(billed, provisioned, billed * per, provisioned * per),
            cold_starts=ColdStarts(
                self.cold_starts,
                process,
                imports,
                load,
                first_call,
                self.loads,
                self.load_us / max(self.loads, 1) / 1000,
            ),
            failures=dict(self.failures),
            functions=functions,
            tenants=tuple(self.tenants[name].result(name) for name in sorted(self.tenants)),
            grain=self.grain,
            regranulations=tuple(self.regranulations),
            cdf_ms=tuple((value / 1000, fraction) for value, fraction in self.latency.points(CDF_POINTS)),
            timeline=render_timeline(self.first, self.standings, self.standing(end), width_us),
            local_hops_fraction=self.local_hops / self.hops if self.hops else None,
        )


class RunNode:
    """One node."""

    __slots__ = ("busy_core_us", "capacity_at", "capacity_core_us", "held", "name", "usable_cores")

    def __init__(self, name: str, now: Instant) -> None:
        self.name = name
        self.usable_cores = 0.0
        self.held = Held(now)
        self.begin(now)

    def begin(self, now: Instant) -> None:
        """Count from now on."""
        self.busy_core_us = 0.0
        self.capacity_core_us = 0.0
        self.capacity_at = now
        self.held.begin(now)

    def give(self, usable_cores: float, now: Instant) -> None:
        """It can give so many cores from now on."""
        self.capacity_core_us += (now - self.capacity_at) * self.usable_cores
        self.capacity_at = now
        self.usable_cores = usable_cores

    def result(self, end: Instant) -> NodeResult:
        """What the sums come to."""
        held = self.held.core_us_until(end)
        capacity = self.capacity_core_us + (end - self.capacity_at) * self.usable_cores
        return NodeResult(
            name=self.name,
            usable_cores=self.usable_cores,
            busy_core_s=self.busy_core_us / SECOND,
            provisioned_core_s=held / SECOND,
            utilisation=self.busy_core_us / held if held else 0.0,
            allocated_fraction=held / capacity if capacity else 0.0,
        )


def latency_of(quantiles: Quantiles) -> Latency:
    """The figures of a latency distribution in microseconds."""
    p50, p95, p99 = (quantiles.quantile(fraction) / 1000 for fraction in (0.5, 0.95, 0.99))
    return Latency(quantiles.count, quantiles.mean / 1000, p50, p95, p99, quantiles.maximum / 1000)


def mean_shares(count: int, queue_us: int, service_us: int, hop_us: int, cold_us: int) -> Shares:
    """Means in milliseconds."""
    per = 1 / (1000 * count) if count else 0.0
    return Shares(queue_us * per, service_us * per, hop_us * per, cold_us * per)
