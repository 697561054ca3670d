"""Small scenarios for golden digests: together they reach every part of the simulator. Their figures are made up."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec

from grainwise import App, Batch, Slo, choose, each, sizes
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import HopModel, Node
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.domain.time import MILLISECOND, SECOND
from grainwise.predictors.latency import ColdStartModel, LatencyModel
from grainwise.predictors.workload import Workload
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.cluster import Cluster, ClusterNode, DoorModel, Network, PlannerModel
from grainwise.simulation.contents import Kind
from grainwise.simulation.failure_plan import parse_failures
from grainwise.simulation.run import Scenario
from grainwise.workloads.processes import Gamma, Poisson, StepPhase, Steps, Users
from grainwise.workloads.sizes import LognormalSize
from grainwise.workloads.traffic import Arrival, Stream, Traffic, open_arrivals
from grainwise.workloads.users import UserPool
from validation.worlds import stage_model

HOP = HopModel(250.0, 900.0, 40.0, 300.0, 12.0)
NOISE = (0.8, 0.85, 0.9, 0.92, 0.95, 0.97, 1.0, 1.0, 1.02, 1.05, 1.1, 1.2, 1.24, 1.9)


@dataclass
class Golden:
    """A scenario, its arrivals and, where users wait for their answers, what they ask next."""

    scenario: Scenario
    arrivals: Iterator[Arrival]
    on_end: Callable[[Arrival, int], Arrival | None] | None = None
    users: list[Arrival] = field(default_factory=list)


def number(values: Batch[int]) -> Batch[int]:
    return values


def items(values: Batch[int]) -> Batch[list[int]]:
    return [[value] for value in values]


def word(values: Batch[int]) -> Batch[str]:
    return [str(value) for value in values]


def total(lists: Batch[list[int]]) -> Batch[int]:
    return [sum(values) for values in lists]


def three_in_a_row(name: str = "row", slo_ms: float = 300.0) -> App:
    app = App(name, slo=Slo(latency_ms=slo_ms))
    read, think, write = (app.stage(number, name=stage, max_batch=8, size=sizes.one) for stage in ("read", "think", "write"))

    @app.flow
    def flow(value: int) -> int:
        return write(think(read(value)))

    return app


def fan_and_choice(name: str = "fan") -> App:
    app = App(name, slo=Slo(latency_ms=600))
    cut = app.stage(items, name="cut", max_batch=4)
    look = app.stage(word, name="look", max_batch=8)
    easy = app.stage(number, name="easy", max_batch=8)
    hard = app.stage(number, name="hard", max_batch=4)
    join = app.stage(total, name="join", max_batch=4, size=sizes.length)

    @app.flow
    def flow(value: int) -> int:
        return join(each(lambda item: choose(look(item), {"easy": easy, "hard": hard}, item), cut(value)))

    return app


def simulated(
    app: App, grain: tuple[tuple[str, ...], ...], kinds: tuple[Kind, ...], rate_per_s: float, config: AppConfig, **more: int
) -> SimulatedApp:
    """An app with made-up figures: stage ``n`` takes ``(4 + 3 n, 1 + n)`` ms per call and item, with noise."""
    spec = app.spec(app.name.encode())
    stages = range(len(spec.graph.stages))
    model = LatencyModel(
        tuple(
            stage_model(4000.0 + 3000.0 * at, 1000.0 + 1000.0 * at, size_us=100.0, memory_mib=50.0 + 40 * at, load_us=90_000.0)
            for at in stages
        ),
        ColdStartModel(60_000.0, 140_000.0),
        "made up",
        "none",
    )
    plan = Plan(
        spec.name,
        tuple(
            FunctionPlan(group, 1.0, 4, more.get("instances", 1), more.get("min_instances", 0), more.get("max_instances", 3))
            for group in grain
        ),
    )
    count = len(kinds)
    workload = Workload(
        rate_per_s,
        tuple(sum(kind.counts[at] for kind in kinds) / count for at in stages),
        tuple(sum(kind.sizes[at] for kind in kinds) / count for at in stages),
        tuple(sum(kind.output_bytes[at] for kind in kinds) / count for at in stages),
        tuple(sum(kind.input_bytes[at] for kind in kinds) / count for at in range(len(spec.graph.input_names))),
    )
    return SimulatedApp(
        spec=spec,
        model=model,
        hop=HOP,
        workload=workload,
        kinds=kinds,
        plan=plan,
        residuals=(NOISE,) * len(stages),
        config=config,
        provenance="made up",
    )


ROW_KINDS = (
    Kind((1, 1, 1), (1.0, 1.0, 1.0), (40_000, 9_000, 300), (60_000,)),
    Kind((1, 1, 1), (2.0, 2.5, 2.0), (90_000, 20_000, 700), (150_000,)),
)
FAN_KINDS = (
    Kind((1, 5, 3, 2, 1), (1.0, 1.0, 1.0, 1.0, 5.0), (50_000, 10, 2_000, 3_000, 400), (20_000,)),
    Kind((1, 2, 2, 0, 1), (1.0, 1.0, 1.0, 1.0, 2.0), (20_000, 10, 2_000, 3_000, 400), (20_000,)),
    Kind((1, 0, 0, 0, 1), (1.0, 1.0, 1.0, 1.0, 0.0), (20, 10, 2_000, 3_000, 400), (20_000,)),
)
ROW_SPLIT = (("read",), ("think",), ("write",))
ROW_FUSED = (("read", "think", "write"),)
FAN_SPLIT = (("cut",), ("look",), ("easy",), ("hard",), ("join",))
FIXED = AppConfig(replan_us=0)


def _one_node(cores: float = 8.0) -> Cluster:
    return Cluster(
        "one",
        (ClusterNode(Node("n0", cores, 8_192.0), interference_fraction=0.1),),
        Network("n0"),
        door=DoorModel(300.0, 200.0, 500.0),
    )


def _three_nodes() -> Cluster:
    return Cluster(
        "three",
        (
            ClusterNode(Node("slow", 2.0, 4_096.0), speed=0.7),
            ClusterNode(Node("plain", 4.0, 8_192.0), signal_us=200),
            ClusterNode(Node("fast", 4.0, 8_192.0), speed=1.6, provision_us=500 * MILLISECOND, signal_us=300),
        ),
        Network("plain", 150, 1_000.0),
        planner=PlannerModel(20_000.0, 5.0),
    )


def _open(app: SimulatedApp, arrivals: object, seconds: float, cluster: Cluster, seed: int, failures: str = "") -> Golden:
    traffic = Traffic("golden", (Stream(app.spec.name, arrivals, LognormalSize(cv=0.5)),), seconds)  # type: ignore[arg-type]
    scenario = Scenario(cluster, (app,), round(seconds * SECOND), seed)
    if failures:
        scenario = msgspec.structs.replace(scenario, failures=parse_failures(failures))
    return Golden(scenario, open_arrivals(traffic, seed))


def split_chain(seed: int) -> Golden:
    """Batches of a chain whose stages are functions of their own, under bursts."""
    app = simulated(three_in_a_row(), ROW_SPLIT, ROW_KINDS, 40.0, FIXED, instances=2)
    return _open(app, Gamma(40.0, 2.0), 12.0, _one_node(), seed)


def fan_out(seed: int) -> Golden:
    """Fan-outs with a choice inside, of which one kind of request has no element."""
    app = simulated(fan_and_choice(), FAN_SPLIT, FAN_KINDS, 8.0, FIXED)
    return _open(app, Poisson(8.0), 15.0, _one_node(), seed)


def failing(seed: int) -> Golden:
    """Everything that can fail does."""
    app = simulated(three_in_a_row(), (("read",), ("think", "write")), ROW_KINDS, 15.0, FIXED, instances=2)
    failures = (
        "crash:mtbf=2s,hang:at=4s:on=row/think,slow:at=6s:on=row:factor=5:for=3s,lose_node:at=8s:node=fast:for=4s,"
        "slow:at=10s:node=plain:factor=2:for=2s"
    )
    return _open(app, Poisson(15.0), 15.0, _three_nodes(), seed, failures)


def replanned(seed: int) -> Golden:
    """Two apps on machines that differ; steps of load make the planner re-granulate."""
    config = AppConfig(replan_us=2 * SECOND, replan_gain_fraction=0.01)
    row = simulated(three_in_a_row(), ROW_SPLIT, ROW_KINDS, 5.0, config)
    fan = simulated(fan_and_choice(), FAN_SPLIT, FAN_KINDS, 2.0, config)
    traffic = Traffic(
        "golden",
        (
            Stream("row", Steps((StepPhase(5.0, 6.0), StepPhase(60.0, 8.0), StepPhase(5.0, 6.0))), LognormalSize(cv=0.5)),
            Stream("fan", Poisson(2.0)),
        ),
        20.0,
    )
    return Golden(Scenario(_three_nodes(), (row, fan), 20 * SECOND, seed), open_arrivals(traffic, seed))


def closed_loop(seed: int) -> Golden:
    """Users who wait for their answers, from a cold start."""
    app = simulated(three_in_a_row(), ROW_FUSED, ROW_KINDS, 10.0, AppConfig(replan_us=0, scale_to_zero=True))
    traffic = Traffic("golden", (Stream("row", Users(count=12, think_s=0.8)),), 15.0)
    pool = UserPool(traffic)
    first = pool.first(seed)
    scenario = Scenario(_one_node(4.0), (app,), 15 * SECOND, seed, is_warm=False)
    return Golden(scenario, iter(first), lambda arrival, now: pool.next(arrival.user, now))


SCENARIOS: dict[str, Callable[[int], Golden]] = {
    "split-chain": split_chain,
    "fan-out": fan_out,
    "failing": failing,
    "replanned": replanned,
    "closed-loop": closed_loop,
}
