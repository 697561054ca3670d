"""Settings for predictors to learn from and to be held against: app, machines, SLO, load, burstiness, hop cost, run times.

A setting is drawn from its seed and its number alone, so that any of them can be made again without those before it.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from grainwise.domain.app import AppSpec, Slo
from grainwise.domain.config import AppConfig
from grainwise.domain.errors import ConfigurationError
from grainwise.domain.machine import NOMINAL_PRICES, HopModel, Node, Prices
from grainwise.domain.plan import FunctionPlan, Objective, Plan
from grainwise.domain.rng import Rng
from grainwise.domain.time import SECOND, Micros
from grainwise.planning.problem import Problem
from grainwise.predictors.evaluate import Evaluation
from grainwise.predictors.latency import LatencyModel
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.cluster import SIMULATED, Cluster, ClusterNode, Network
from grainwise.simulation.made_apps import Sample, made, spread
from grainwise.workloads.integers import SplitMix64, derive_seed, uniform
from grainwise.workloads.processes import Gamma, OnOff, Poisson
from grainwise.workloads.traffic import Stream, Traffic

Purpose = Literal["training", "held out"]

SLO_FACTORS = (1.3, 1.6, 2.0, 2.5, 3.5, 5.0, 8.0)
"""The SLO over the mean time of a lone request with every stage in one function on one core."""

TARGETS = (0.9, 0.95, 0.99)
LEAST_S, MOST_S = 60.0, 900.0
"""Of a run in virtual time: the autoscaler needs time to act, and rare requests should not make a run last for ever."""

MOST_PER_S = 100.0
"""No setting has a higher rate: so many requests take long to simulate, and say nothing else than fewer on fewer machines."""
FIXED = AppConfig(policies="fixed", replan_us=0, max_requests=1 << 20)
"""Nothing is planned again while a candidate is judged, and no request is turned away."""

_BATCH = 4
_RARELY, _OFTEN = 1e-6, 1e6

_MEMORY_PRICES = Prices("made: memory is what costs", 0.02, 0.02, usd_per_million_requests=0.2)


class Setting(Struct, frozen=True):
    """One setting. ``load_fraction`` is the rate over the most that all stages in one function could carry on these machines.

    ``sample.workload`` has the rate and the burstiness; ``sample.spec`` the SLO.
    """

    number: int
    seed: int
    sample: Sample
    cluster: Cluster
    arrivals: Poisson | Gamma | OnOff
    load_fraction: float
    slo_factor: float
    objective: Objective

    @property
    def spec(self) -> AppSpec:
        """The app with its SLO."""
        return self.sample.spec

    @property
    def rate_per_s(self) -> float:
        """Requests per second."""
        return self.sample.workload.rate_per_s

    @property
    def problem(self) -> Problem:
        """What a planner or an evaluator is asked."""
        return Problem(
            number=self.number,
            app=self.spec,
            model=self.sample.model,
            hop=self.sample.hop,
            workload=self.sample.workload,
            nodes=self.cluster.domain_nodes,
            capabilities=self.cluster.capabilities,
            prices=self.cluster.prices,
            objective=self.objective,
            policies=FIXED.policies,
        )

    def app(self, plan: Plan) -> SimulatedApp:
        """The app as it is simulated under a plan, which stays."""
        sample = self.sample
        return SimulatedApp(
            spec=sample.spec,
            model=sample.model,
            hop=sample.hop,
            workload=sample.workload,
            kinds=sample.kinds,
            plan=plan,
            residuals=sample.residuals,
            config=FIXED,
            provenance=f"setting {self.number}: {sample.source}",
            hop_residuals=sample.hop_residuals,
        )

    def duration_us(self, requests: int) -> Micros:
        """How long about ``requests`` take to come, or up to four times as many within ``LEAST_S``, at most ``MOST_S``."""
        needed_s = requests / self.rate_per_s
        return round(min(MOST_S, max(needed_s, min(LEAST_S, 4 * needed_s))) * SECOND)

    def traffic(self, duration_us: Micros, rate_per_s: float | None = None) -> Traffic:
        """Its arrivals, at another mean rate where one is given; the burstiness stays."""
        scale = 1.0 if rate_per_s is None else rate_per_s / self.rate_per_s
        arrivals = msgspec.structs.replace(self.arrivals, rate_per_s=self.arrivals.rate_per_s * scale)
        return Traffic(f"setting {self.number}", (Stream(self.spec.name, arrivals),), duration_us / SECOND)


def draw_setting(
    number: int, seed: int, purpose: Purpose, profiled: Sequence[Sample] = (), made_fraction: float = 0.7
) -> Setting:
    """Setting ``number`` of a purpose: the two purposes never draw the same app.

    Args:
        number: from 0 on.
        seed: of all settings.
        purpose: what they are for.
        profiled: apps that were profiled; each setting perturbs the run times of one, or makes one up.
        made_fraction: how many of the settings are of made apps where there are profiled ones.

    Raises:
        ConfigurationError: nothing profiled and no made app is asked for.
    """
    if not profiled and made_fraction <= 0:
        raise ConfigurationError("there is no app to draw settings of; name one with a profile, or leave made apps in")
    rng = SplitMix64(derive_seed(seed, purpose, number))
    is_made = uniform(rng) < made_fraction
    sample = made(rng) if is_made or not profiled else _perturbed(profiled[rng.below(len(profiled))], rng)
    sample = msgspec.structs.replace(sample, hop=_scaled_hop(sample.hop, spread(rng, 0.25, 6)))
    cluster = _cluster(rng, sample)
    burstiness = _burstiness(rng)
    alone_ms, most_per_s = _alone(sample, cluster)
    slo_factor = SLO_FACTORS[rng.below(len(SLO_FACTORS))]
    slo = Slo(round(alone_ms * slo_factor, 3), TARGETS[rng.below(len(TARGETS))])
    rate = min(MOST_PER_S, (0.15 + 0.65 * uniform(rng)) * most_per_s)
    workload = msgspec.structs.replace(sample.workload, rate_per_s=rate, arrival_scv=burstiness.scv(rate))
    spec = msgspec.structs.replace(sample.spec, slo=slo)
    return Setting(
        number=number,
        seed=derive_seed(seed, purpose, number, "run"),
        sample=msgspec.structs.replace(sample, spec=spec, workload=workload),
        cluster=cluster,
        arrivals=burstiness.arrivals(rate),
        load_fraction=rate / most_per_s,
        slo_factor=slo_factor,
        objective=("provisioned", "billed")[rng.below(2)],
    )


def wrong(sample: Sample, fraction: float, seed: int) -> Sample:
    """What a profile would say that is wrong by ``fraction``: the run time of each stage is too long or too short by it."""
    rng = SplitMix64(derive_seed(seed, "wrong"))
    factors = [1 + fraction if rng.below(2) else 1 - fraction for _ in sample.model.stages]
    return _with_times(sample, factors)


def _perturbed(sample: Sample, rng: Rng) -> Sample:
    return _with_times(sample, [spread(rng, 0.5, 2) for _ in sample.model.stages])


def _with_times(sample: Sample, factors: Sequence[float]) -> Sample:
    model = sample.model
    stages = tuple(
        msgspec.structs.replace(
            stage,
            intercept_us=stage.intercept_us * factor,
            per_item_us=stage.per_item_us * factor,
            per_size_us=stage.per_size_us * factor,
        )
        for stage, factor in zip(model.stages, factors, strict=True)
    )
    scaled = LatencyModel(stages, model.cold, model.device_class, model.profile_digest)
    return msgspec.structs.replace(sample, model=scaled)


def _scaled_hop(hop: HopModel, factor: float) -> HopModel:
    return HopModel(
        hop.fixed_us * factor, hop.us_per_mib * factor, hop.cpu_fixed_us * factor, hop.cpu_us_per_mib * factor, hop.process_mib
    )


def _cluster(rng: Rng, sample: Sample) -> Cluster:
    """One to four machines that hold every stage at least twice; shares are hard on one cluster of four."""
    count = (1, 1, 2, 4)[rng.below(4)]
    cores = (2.0, 4.0, 8.0)[rng.below(3)]
    whole = sample.model.memory_mib(sample.spec.graph.all_mask, sample.hop.process_mib)
    memory = max(1024.0, round(whole * (1.5 + 2 * cores * uniform(rng))))
    nodes = tuple(ClusterNode(Node(f"n{at}", cores, memory)) for at in range(count))
    capabilities = msgspec.structs.replace(SIMULATED, is_share_hard=rng.below(4) == 0)
    network = Network("n0", round(spread(rng, 50.0, 4)) if count > 1 else 0)
    prices = (NOMINAL_PRICES, _MEMORY_PRICES)[rng.below(2)]
    return Cluster(f"{count} of {cores:g} cores", nodes, network, prices, capabilities=capabilities)


class _Burstiness(Struct, frozen=True):
    """Gaps with a coefficient of variation, or, with ``on_s``, Poisson arrivals that come only in bursts."""

    cv: float = 1.0
    on_s: float = 0.0
    off_s: float = 0.0

    def arrivals(self, rate_per_s: float) -> Poisson | Gamma | OnOff:
        """The process at a mean rate."""
        if self.on_s:
            return OnOff(rate_per_s * (self.on_s + self.off_s) / self.on_s, self.on_s, self.off_s)
        return Poisson(rate_per_s) if self.cv == 1 else Gamma(rate_per_s, self.cv)

    def scv(self, rate_per_s: float) -> float:
        """Squared coefficient of variation of the gaps; that of an interrupted Poisson process is Kuczura's (1973)."""
        if not self.on_s:
            return self.cv * self.cv
        ends, begins = 1 / self.on_s, 1 / self.off_s
        peak = rate_per_s * (self.on_s + self.off_s) / self.on_s
        return 1 + 2 * peak * ends / ((ends + begins) * (ends + begins))


def _burstiness(rng: Rng) -> _Burstiness:
    kind = rng.below(6)
    if kind < 2:
        return _Burstiness()
    if kind < 5:
        return _Burstiness((0.5, 1.5, 2.0, 3.0)[rng.below(4)])
    return _Burstiness(on_s=spread(rng, 0.5, 2), off_s=spread(rng, 0.25, 2))


def _alone(sample: Sample, cluster: Cluster) -> tuple[float, float]:
    """With all stages in one function: mean milliseconds of a lone request on one core, and the most requests per second."""
    graph = sample.spec.graph
    nodes = cluster.domain_nodes
    memory = sample.model.memory_mib(graph.all_mask, sample.hop.process_mib)
    room = sum(min(int(node.memory_mib / memory), int(node.usable_cores)) for node in nodes)
    function = FunctionPlan(graph.names(graph.all_mask), 1.0, _BATCH, max(1, room), 1, max(1, room))
    problem = Problem(
        0, sample.spec, sample.model, sample.hop, sample.workload, nodes, cluster.capabilities, cluster.prices
    )  # fmt: skip
    plan = Plan(sample.spec.name, (function,))
    slow = msgspec.structs.replace(problem, workload=msgspec.structs.replace(sample.workload, rate_per_s=_RARELY))
    fast = msgspec.structs.replace(problem, workload=msgspec.structs.replace(sample.workload, rate_per_s=_OFTEN))
    parts = Evaluation(slow, plan).breakdown()
    return parts.service_ms + parts.hop_ms, _OFTEN / Evaluation(fast, plan).overload()
