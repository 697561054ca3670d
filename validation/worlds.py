"""Apps and machines of the validation: data made up for a purpose, nothing that was measured."""

from collections.abc import Callable, Iterator, Sequence

from grainwise import App, Slo
from grainwise.control.actions import Invoke, Reject, Respond
from grainwise.control.events import InvocationDone, RequestArrived
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import HopModel, Node
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.domain.time import SECOND, Micros
from grainwise.predictors.latency import ColdStartModel, LatencyModel, StageModel
from grainwise.predictors.workload import Workload
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.cluster import Cluster, ClusterNode, Network
from grainwise.simulation.contents import Kind
from grainwise.simulation.run import Scenario, Simulation
from grainwise.workloads.processes import Poisson
from grainwise.workloads.traffic import Arrival, Stream, Traffic, open_arrivals

NO_HOP = HopModel(0.0, 0.0, 0.0, 0.0, 10.0)
PATIENT = AppConfig(
    policies="fixed",
    max_requests=1_000_000,
    replan_us=0,
    wait_bound_fraction=0.0,
    patience_us=100_000 * SECOND,
    keep_alive_us=100_000 * SECOND,
)
"""Nobody is refused, nobody gives up, no batch waits for more, no plan changes."""
ROOMY = Cluster("roomy", (ClusterNode(Node("n0", 64.0, 65_536.0)),), Network("n0"))


def app_with(name: str, flow: Callable[[App], None], slo_ms: float = 1e8) -> App:
    """An app whose flow ``flow`` declares."""
    app = App(name, slo=Slo(latency_ms=slo_ms))
    flow(app)
    return app


def stage_model(fixed_us: float, item_us: float = 0.0, **more: float) -> StageModel:
    """A stage that takes ``fixed_us + item_us * n``, whatever its share."""
    return StageModel(
        fixed_us,
        item_us,
        more.get("size_us", 0.0),
        (0.25, 1.0, 4.0),
        (1.0, 1.0, 1.0),
        (1.0,) * 7,
        0.1,
        more.get("memory_mib", 10.0),
        more.get("load_us", 1000.0),
        more.get("first_call_us", 1000.0),
    )


def queueing_app(
    app: App,
    mean_us: Sequence[float],
    tables: Sequence[Sequence[float]],
    *,
    instances: Sequence[int],
    max_batch: int = 1,
    counts: Sequence[int] | None = None,
) -> SimulatedApp:
    """A network of queues: a function of its own for each stage, ``instances`` servers each, nothing lost on the way.

    ``tables`` have the service times relative to ``mean_us``, all equally likely; ``counts`` are executions per request.
    """
    spec = app.spec(app.name.encode())
    stages = len(spec.graph.stages)
    model = LatencyModel(tuple(stage_model(mean) for mean in mean_us), ColdStartModel(1000.0, 1000.0), "validation", "none")
    plan = Plan(
        spec.name,
        tuple(
            FunctionPlan((node.name,), 1.0, max_batch, servers, servers, servers)
            for node, servers in zip(spec.graph.stages, instances, strict=True)
        ),
    )
    ones = (1.0,) * stages
    executions = tuple(counts or (1,) * stages)
    workload = Workload(1.0, tuple(float(count) for count in executions), ones, ones, (1.0,) * len(spec.graph.input_names))
    kind = Kind(executions, ones, (1,) * stages, (1,) * len(spec.graph.input_names))
    return SimulatedApp(
        spec=spec,
        model=model,
        hop=NO_HOP,
        workload=workload,
        kinds=(kind,),
        plan=plan,
        residuals=tuple(tuple(table) for table in tables),
        config=PATIENT,
    )


def poisson(app: str, rate_per_s: float, requests: int, seed: int) -> Iterator[Arrival]:
    """A little more than ``requests`` arrivals of a Poisson process: as the product draws them."""
    seconds = requests / rate_per_s * 1.2 + 100
    return open_arrivals(Traffic("poisson", (Stream(app, Poisson(rate_per_s)),), seconds), seed)


class UnansweredError(AssertionError):
    """A request has no answer."""


class Ledger:
    """Reads a run from its events alone: when each request came and ended, and how long its calls took.

    Request ``n`` is entry ``n - 1``. ``services`` has per request the microseconds of its calls in order of their ends, as
    (stage, microseconds); ``ends`` the instants of those ends.
    """

    def __init__(self, *, keeps_ends: bool = False) -> None:
        self.arrived: list[Micros] = []
        self.ended: dict[int, Micros] = {}
        self.services: list[list[tuple[int, Micros]]] = []
        self.ends: list[list[Micros]] = []
        self.rejected = 0
        self._keeps_ends = keeps_ends
        self._of: dict[int, tuple[int, ...]] = {}

    def observe(self, event: object, actions: Sequence[object], now: Micros) -> None:
        """See one event and what the controller said to it."""
        if type(event) is RequestArrived:
            self.arrived.append(now)
            self.services.append([])
            if self._keeps_ends:
                self.ends.append([])
        elif type(event) is InvocationDone:
            for request in self._of.pop(event.invocation):
                self.services[request - 1].extend([(span.stage, span.duration_us) for span in event.spans])
                if self._keeps_ends:
                    self.ends[request - 1].append(now)
        for action in actions:
            if type(action) is Invoke:
                self._of[action.invocation] = tuple([item.request for item in action.items])
            elif type(action) is Respond:
                self.ended[action.request] = now
            elif type(action) is Reject:
                self.rejected += 1

    def sojourns(self) -> list[Micros]:
        """Microseconds from arrival to answer, by request.

        Raises:
            UnansweredError: some have none.
        """
        if len(self.ended) != len(self.arrived):
            missing = next(number for number in range(1, len(self.arrived) + 1) if number not in self.ended)
            some = f"{len(self.ended)} of {len(self.arrived)} requests have an answer"
            raise UnansweredError(f"{some}, {self.rejected} were refused; {missing} has none")
        return [self.ended[at + 1] - came for at, came in enumerate(self.arrived)]


class ArrivalError(AssertionError):
    """A request did not come when it should."""


def run_through(app: SimulatedApp, arrivals: Sequence[Arrival], seed: int, *, keeps_ends: bool = False) -> Ledger:
    """What a run with these arrivals shows.

    Everything else is reckoned from the arrivals that the ledger has seen, so they are held against those that were drawn.

    Raises:
        ArrivalError: one was lost, moved or made up.
    """
    ledger = Ledger(keeps_ends=keeps_ends)
    scenario = Scenario(ROOMY, (app,), arrivals[-1].at + 1, seed)
    simulation = Simulation(scenario, iter(arrivals), observers=(ledger.observe,))
    simulation.run()
    check_arrivals(ledger.arrived, [simulation.origin + arrival.at for arrival in arrivals])
    return ledger


def check_arrivals(came: Sequence[Micros], due: Sequence[Micros]) -> None:
    """Raises ArrivalError where requests did not come at exactly the instants at which they were due."""
    if list(came) != list(due):
        at = next((at for at, pair in enumerate(zip(came, due, strict=False)) if pair[0] != pair[1]), min(len(came), len(due)))
        raise ArrivalError(f"{len(came)} of {len(due)} requests came, and request {at + 1} not when it was due")
