"""Small worlds in virtual time: apps of ``worlds.apps`` with run times, shares and machines that a test can reckon with."""

from collections.abc import Iterable, Sequence

from grainwise import App
from grainwise.control.actions import Action
from grainwise.control.events import Event
from grainwise.control.invariants import Monitor, check_state
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import HopModel, Node
from grainwise.domain.plan import FunctionPlan, Grain, Plan
from grainwise.domain.time import SECOND, Instant
from grainwise.predictors.latency import ColdStartModel, LatencyModel, StageModel
from grainwise.predictors.workload import Workload
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.cluster import Cluster, ClusterNode, Network
from grainwise.simulation.contents import Kind
from grainwise.simulation.failure_plan import FailurePlan
from grainwise.simulation.run import Scenario, Simulation
from grainwise.workloads.traffic import Arrival

HOP = HopModel(100.0, 1000.0, 0.0, 0.0, 10.0)
NO_HOP = HopModel(0.0, 0.0, 0.0, 0.0, 10.0)
COLD = ColdStartModel(20_000.0, 30_000.0)


def simulated(
    app: App,
    grain: Grain | None = None,
    *,
    service_us: Sequence[float] = (),
    counts: Sequence[int] = (),
    kinds: Sequence[Kind] = (),
    residuals: Sequence[Sequence[float]] = (),
    hop: HopModel = HOP,
    max_batch: int = 1,
    instances: int = 1,
    cpu_cores: float = 1.0,
    config: AppConfig | None = None,
) -> SimulatedApp:
    """An app whose every stage takes 10 ms for a batch of any length unless ``service_us`` says otherwise."""
    spec = app.spec(b"")
    stages = len(spec.graph.stages)
    times = tuple(service_us) or (10_000.0,) * stages
    model = LatencyModel(
        tuple(StageModel(each, 0.0, 0.0, (1.0,), (1.0,), (1.0,) * 7, 0.1, 10.0, 5000.0, 1000.0) for each in times),
        COLD, "test", "test",
    )  # fmt: skip
    one = (1.0,) * stages
    kind = Kind(tuple(counts) or (1,) * stages, one, (1000,) * stages, (1000,) * len(spec.inputs))
    found = tuple(kinds) or (kind,)
    groups = grain or tuple((node.name,) for node in spec.graph.stages)
    functions = tuple(FunctionPlan(group, cpu_cores, max_batch, instances, instances, instances) for group in groups)
    items = tuple(sum(each.counts[at] for each in found) / len(found) for at in range(stages))
    return SimulatedApp(
        spec, model, hop, Workload(10.0, items, one, (1000.0,) * stages, (1000.0,) * len(spec.inputs)), found,
        Plan(spec.name, functions), tuple(tuple(each) for each in residuals), config or AppConfig(replan_us=0),
    )  # fmt: skip


def cluster(*nodes: ClusterNode, latency_us: int = 0, mib_per_s: float = 1e9) -> Cluster:
    """Machines; one of 8 cores where none is given."""
    given = nodes or (ClusterNode(Node("here", 8.0, 16_000.0)),)
    return Cluster("test", given, Network(given[0].node.name, latency_us, mib_per_s))


class Seen:
    """A simulation that keeps everything it did, every step checked."""

    def __init__(
        self,
        apps: Iterable[SimulatedApp],
        arrivals: Iterable[tuple[int, str]],
        *,
        on: Cluster | None = None,
        seed: int = 1,
        failures: FailurePlan | None = None,
        seconds: float = 60,
        is_warm: bool = True,
    ) -> None:
        self.entries: list[tuple[Event, list[Action], Instant]] = []
        self.monitor = Monitor()
        scenario = Scenario(
            on or cluster(), tuple(apps), int(seconds * SECOND), seed, failures or FailurePlan(), is_warm
        )  # fmt: skip
        self.simulation = Simulation(
            scenario, iter([Arrival(at, app) for at, app in arrivals]), observers=(self._see,)
        )  # fmt: skip

    def _see(self, event: Event, actions: list[Action], now: Instant) -> None:
        self.entries.append((event, actions, now))
        self.monitor.observe(event, actions, now)
        check_state(self.simulation.controller, self.monitor)

    def run(self) -> "Seen":
        """To the end."""
        self.simulation.run()
        return self

    def events(self, kind: type) -> list[tuple[Event, Instant]]:
        """The events of a kind, with the instants from the beginning of the traffic on."""
        origin = self.simulation.origin
        return [(event, now - origin) for event, _, now in self.entries if isinstance(event, kind)]

    def actions(self, kind: type) -> list[tuple[Action, Instant]]:
        """The actions of a kind, with the instants from the beginning of the traffic on."""
        origin = self.simulation.origin
        return [(action, now - origin) for _, actions, now in self.entries for action in actions if isinstance(action, kind)]
