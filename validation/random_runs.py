"""Random clusters, plans, loads and failures around random apps: all that happens in a run of the campaign, from one seed."""

from random import Random

import msgspec
from msgspec import Struct

from grainwise.control.events import PlanRequested
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import HopModel, Node
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.domain.time import MILLISECOND, SECOND
from grainwise.planning.granularity import granularities
from grainwise.policies.sets import SETS
from grainwise.predictors.latency import ColdStartModel, LatencyModel
from grainwise.predictors.workload import Workload
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.cluster import Cluster, ClusterNode, DoorModel, Network, PlannerModel
from grainwise.simulation.failure_plan import FailurePlan, PlannedFailure, Target
from grainwise.simulation.run import Scenario
from grainwise.workloads.processes import Gamma, OnOff, Poisson, Users
from grainwise.workloads.traffic import Arrival, Stream, Traffic, open_arrivals
from grainwise.workloads.users import UserPool
from validation.random_apps import RandomApp
from validation.scenarios import NOISE
from validation.worlds import stage_model

KINDS = 3
MAX_GRAINS = 64


class Drawn(Struct):
    """A scenario with all that happens in it."""

    scenario: Scenario
    apps: list[RandomApp]
    arrivals: list[Arrival]
    pool: UserPool | None
    cancels: list[tuple[int, int]]
    commands: list[tuple[int, PlanRequested]]


def draw(seed: int) -> Drawn:
    """The scenario of a seed."""
    rng = Random(seed)
    cluster = _cluster(rng)
    apps = [RandomApp(name, rng) for name in ("one", "two")[: rng.choice((1, 1, 1, 2))]]
    length_s = rng.choice((2.0, 5.0, 10.0))
    is_planned = rng.random() < 0.25 and all(len(app.spec.graph.stages) <= 5 for app in apps)
    simulated = tuple(_simulated(app, rng, cluster, is_planned=is_planned) for app in apps)
    total = rng.randint(50, 200)
    streams = tuple(_stream(app.spec.name, rng, total / len(apps), length_s) for app in apps)
    traffic = Traffic("campaign", streams, length_s)
    pool = UserPool(traffic) if any(isinstance(stream.arrivals, Users) for stream in streams) else None
    arrivals = list(open_arrivals(traffic, seed))[: 3 * total]
    cancels = []
    if rng.random() < 0.4:
        cancels = [(number, rng.randrange(1, 400 * MILLISECOND)) for number in range(1, 3 * total) if rng.random() < 0.15]
    scenario = Scenario(cluster, simulated, round(length_s * SECOND), seed, _failures(rng, apps, cluster, length_s))
    return Drawn(scenario, apps, arrivals, pool, cancels, _commands(rng, apps, scenario.duration_us))


def _cluster(rng: Random) -> Cluster:
    nodes = tuple(
        ClusterNode(
            Node(f"n{at}", rng.choice((2.0, 4.0, 8.0)), rng.choice((1_500.0, 4_000.0, 8_000.0))),
            speed=rng.choice((0.5, 1.0, 2.0)),
            provision_us=rng.choice((0, 0, 700 * MILLISECOND)),
            interference_fraction=rng.choice((0.0, 0.3)),
            signal_us=rng.choice((0, 0, 200, 5_000)),
        )
        for at in range(rng.randint(1, 3))
    )
    cluster = Cluster(
        "random",
        nodes,
        Network("n0", 150, 1_000.0),
        door=rng.choice((DoorModel(), DoorModel(300.0, 200.0, 500.0))),
        planner=PlannerModel(rng.choice((0.0, 50_000.0)), 5.0),
    )
    if rng.random() < 0.25:
        hard = msgspec.structs.replace(cluster.capabilities, is_share_hard=True, share_scope="instance")
        cluster = msgspec.structs.replace(cluster, capabilities=hard)
    return cluster


def _grains(app: RandomApp) -> list[tuple[tuple[str, ...], ...]]:
    graph = app.spec.graph
    found = []
    for groups in granularities(graph):
        found.append(tuple(graph.names(mask) for mask in groups))
        if len(found) >= MAX_GRAINS:
            break
    return found


def _simulated(app: RandomApp, rng: Random, cluster: Cluster, *, is_planned: bool) -> SimulatedApp:
    spec = app.spec
    stages = range(len(spec.graph.stages))
    model = LatencyModel(
        tuple(
            stage_model(
                rng.choice((0.0, 500.0, 8_000.0)),
                rng.choice((200.0, 3_000.0, 20_000.0)),
                size_us=rng.choice((0.0, 100.0)),
                memory_mib=rng.choice((5.0, 40.0)),
                load_us=rng.choice((0.0, 50_000.0)),
            )
            for _ in stages
        ),
        ColdStartModel(rng.choice((1_000.0, 200_000.0)), 10_000.0),
        "random",
        "none",
    )
    kinds = app.kinds(KINDS)
    grain = rng.choice(_grains(app))
    least = rng.choice((0, 0, 1))
    plan = Plan(
        spec.name,
        tuple(
            FunctionPlan(
                group, rng.choice((0.5, 1.0)), rng.choice((1, 2, 4, 8)), rng.choice((1, 1, 2)), least, rng.choice((2, 4))
            )
            for group in grain
        ),
    )
    workload = Workload(
        rng.choice((5.0, 30.0)),
        tuple(max(0.01, sum(kind.counts[at] for kind in kinds) / KINDS) for at in stages),
        tuple(sum(kind.sizes[at] for kind in kinds) / KINDS for at in stages),
        tuple(sum(kind.output_bytes[at] for kind in kinds) / KINDS for at in stages),
        tuple(sum(kind.input_bytes[at] for kind in kinds) / KINDS for at in range(len(spec.graph.input_names))),
    )
    config = AppConfig(
        max_requests=rng.choice((5, 50, 1024)),
        keep_alive_us=rng.choice((1, 10)) * SECOND,
        scale_to_zero=rng.random() < 0.3,
        replan_us=2 * SECOND if is_planned else 0,
        replan_gain_fraction=0.01,
        patience_us=rng.choice((1, 5, 30)) * SECOND,
        policies=rng.choice(("adaptive", "adaptive", *SETS)),
    )
    return SimulatedApp(
        spec=spec,
        model=model,
        hop=HopModel(rng.choice((0.0, 300.0)), 500.0, 30.0, 200.0, 10.0),
        workload=workload,
        kinds=kinds,
        plan=plan,
        residuals=rng.choice(((), (NOISE,) * len(stages))),
        config=config,
        provenance="random",
    )


def _stream(app: str, rng: Random, requests: float, length_s: float) -> Stream:
    rate = requests / length_s
    draw = rng.random()
    if draw < 0.25:
        return Stream(app, Users(rng.randint(1, 12), rng.choice((0.0, 0.2))))
    if draw < 0.5:
        return Stream(app, Gamma(rate, 3.0))
    if draw < 0.7:
        return Stream(app, OnOff(4 * rate, 0.3, 0.9))
    return Stream(app, Poisson(rate))


def _failures(rng: Random, apps: list[RandomApp], cluster: Cluster, length_s: float) -> FailurePlan:
    if rng.random() < 0.15:
        return FailurePlan()
    entries: list[PlannedFailure] = []
    for _ in range(rng.randint(1, 4)):
        kind = rng.choice(("crash", "crash", "hang", "slow", "lose_node", "return_node"))
        target = Target()
        if kind in ("crash", "hang", "slow") and rng.random() < 0.5:
            app = rng.choice(apps)
            stage = rng.choice((*(node.name for node in app.spec.graph.stages), ""))
            target = Target(app.spec.name, stage)
        elif kind not in ("crash", "hang") and rng.random() < 0.5:
            target = Target(node=rng.choice(cluster.nodes).node.name)
        lasts = round(rng.choice((0.5, 3.0)) * SECOND)
        # Only what comes back may be lost: a cluster without machines serves nobody, which would be no failure of the product.
        lasts = lasts if kind == "lose_node" or (kind in ("hang", "slow") and rng.random() < 0.5) else 0
        is_random = rng.random() < 0.5
        entries.append(
            PlannedFailure(
                kind=kind,
                target=target,
                at_us=None if is_random else round(rng.random() * length_s * SECOND),
                mtbf_us=round(rng.choice((0.3, 1.0, 3.0)) * SECOND) if is_random else None,
                duration_us=lasts,
                factor=rng.choice((3.0, 30.0)) if kind == "slow" else 1.0,
                stream=len(entries),
            )
        )
    return FailurePlan(tuple(entries))


def _commands(rng: Random, apps: list[RandomApp], length_us: int) -> list[tuple[int, PlanRequested]]:
    found = []
    for app in apps:
        for _ in range(rng.choice((0, 0, 1, 3))):
            at = rng.randrange(length_us)
            found.append((at, PlanRequested(app.spec.name, "campaign", rng.choice(_grains(app)))))
    return found
