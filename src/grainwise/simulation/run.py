"""One simulated run: the product's controller, a world, traffic and failures, from the first start to the last answer."""

from collections.abc import Callable, Iterator

from msgspec import Struct

from grainwise.control.controller import Controller
from grainwise.control.events import AppDeployed, CapacityChanged, RequestArrived, RequestCancelled
from grainwise.domain.errors import CapacityError
from grainwise.domain.time import SECOND, Instant, Micros
from grainwise.planning.problem import PlanTable, Problem
from grainwise.planning.table import compute
from grainwise.simulation.app import SimulatedApp, checked
from grainwise.simulation.cluster import Cluster
from grainwise.simulation.failing import Failing
from grainwise.simulation.failure_plan import FailurePlan, expand
from grainwise.simulation.loop import ARRIVAL, Append, Observer, VirtualLoop
from grainwise.simulation.performers import CountingStore, DelayedPlanner, LedgerDoor
from grainwise.simulation.runtime import SimulatedRuntime
from grainwise.workloads.integers import SplitMix64, mixed
from grainwise.workloads.traffic import Arrival

WARM_UP_LIMIT: Micros = 3600 * SECOND
DRAIN_LIMIT: Micros = 3600 * SECOND
START: Instant = SECOND

_ARRIVALS, _SERVICES, _KINDS, _FAILURES = range(4)
"""Each has a stream of its own, so that one more failure or another policy moves no arrival."""


class Scenario(Struct, frozen=True):
    """What is simulated. ``is_warm``: requests come only when every function has an instance that serves."""

    cluster: Cluster
    apps: tuple[SimulatedApp, ...]
    duration_us: Micros
    seed: int = 1
    failures: FailurePlan = FailurePlan()
    is_warm: bool = True


class Simulation:
    """A run of a scenario.

    Args:
        scenario: what is simulated.
        arrivals: who asks when, from 0 on and in order; later ones than ``duration_us`` are not drawn.
        on_end: called with (request, instant from 0 on) when a request ends; what it returns arrives too. For closed loops.
        on_offer: called with (number, arrival) when a request is sent.
        kind_of: the kind of the request of a number, from 1 on; without it kinds are drawn, or follow the size of an arrival.
        append: where the log goes.
        observers: see every event.
        compute: answers planning problems.
        controller: one that remembers what went before; without it a fresh one.

    Raises:
        ConfigurationError: the apps or their kinds of requests do not fit.
    """

    def __init__(
        self,
        scenario: Scenario,
        arrivals: Iterator[Arrival],
        *,
        on_end: Callable[[Arrival, Instant], Arrival | None] | None = None,
        on_offer: Callable[[int, Arrival], None] | None = None,
        kind_of: Callable[[int], int] | None = None,
        append: Append | None = None,
        observers: tuple[Observer, ...] = (),
        compute: Callable[[Problem], PlanTable] = compute,
        controller: Controller | None = None,
    ) -> None:
        self.scenario = scenario
        self.apps = checked(scenario.apps)
        self.controller = controller if controller is not None else Controller()
        self.loop = VirtualLoop(self.controller, append=append, observers=observers)
        self.store = CountingStore()
        cluster = scenario.cluster
        self.runtime = SimulatedRuntime(self.loop, cluster, self.apps, self.store, stream_seed(scenario.seed, _SERVICES))
        self.failing = Failing(self.loop, self.runtime)
        planner = DelayedPlanner(self.loop, compute, cluster.planner.duration_us)
        self.loop.attach(runtime=self.runtime, store=self.store, door=LedgerDoor(self.store, self._ended), planner=planner)
        self.origin: Instant = 0
        """The instant from which traffic is reckoned, once it has begun."""
        self.offered = 0
        self.in_flight: dict[int, Arrival] = {}
        self._arrivals = arrivals
        self._kind_of = kind_of
        self._on_end = on_end
        self._on_offer = on_offer
        self._has_way_in = cluster.door.ingress_us > 0 or cluster.door.us_per_mib > 0
        self._kinds = {name: _Kinds(app, stream_seed(scenario.seed, _KINDS)) for name, app in self.apps.items()}

    def deploy(self) -> None:
        """Tell the controller of the machines and the apps, and wait until all is warm where the scenario says so.

        Raises:
            CapacityError: an app does not become ready.
        """
        loop, scenario = self.loop, self.scenario
        loop.now = START
        loop.post(CapacityChanged(self.runtime.nodes()))
        for app in self.apps.values():
            loop.post(
                AppDeployed(
                    app.spec,
                    app.model,
                    app.hop,
                    app.workload,
                    app.plan,
                    scenario.cluster.capabilities,
                    scenario.cluster.prices,
                    app.config,
                )
            )
        if scenario.is_warm:
            loop.run_until(loop.now + WARM_UP_LIMIT, self._is_warm)
            if not self._is_warm():
                cold = [name for name in self.apps if not self.controller.status(name).is_ready]
                raise CapacityError(
                    f"{', '.join(cold)} did not become ready within {WARM_UP_LIMIT // SECOND} s of virtual time on "
                    f"{scenario.cluster.name}: {self._why_cold(cold[0])}"
                )

    def _is_warm(self) -> bool:
        return all(self.controller.status(name).is_ready for name in self.apps)

    def _why_cold(self, app: str) -> str:
        state = self.controller.state.apps[app]
        return state.last_start_error or state.last_refusal or "its instances find no room; use larger nodes or a smaller plan"

    def run(self, on_progress: Callable[[float], None] | None = None) -> None:
        """Let the traffic come, then wait for the requests in flight.

        Args:
            on_progress: called now and then with the fraction of the traffic that is over.

        Raises:
            CapacityError: an app does not become ready.
        """
        loop, scenario = self.loop, self.scenario
        self.deploy()
        end = loop.now + scenario.duration_us
        failures = expand(scenario.failures, scenario.duration_us, SplitMix64(stream_seed(scenario.seed, _FAILURES)))
        self.failing.schedule(failures, loop.now)
        self.begin()
        parts = 200 if on_progress is not None else 1
        for part in range(1, parts + 1):
            loop.run_until(self.origin + scenario.duration_us * part // parts)
            if on_progress is not None:
                on_progress(part / parts)
        if self.in_flight:
            loop.run_until(end + DRAIN_LIMIT, lambda: not self.in_flight)

    def begin(self) -> None:
        """Let the traffic come from now on."""
        self.origin = self.loop.now
        self._pull(None)

    def offer(self, arrival: Arrival) -> None:
        """A request comes at ``origin + arrival.at``; for closed loops and tests."""
        self.loop.schedule(max(self.loop.now, self.origin + arrival.at), ARRIVAL, self._arrive, arrival)

    def cancel(self, request: int) -> bool:
        """The client of a request goes away; False where it has ended, or has not come in yet."""
        if request not in self.controller.state.requests or request not in self.in_flight:
            return False
        self.loop.post(RequestCancelled(request))
        self._ended(request)
        return True

    def _pull(self, _: object) -> None:
        """Draw the next arrival; only one of the open ones is ever scheduled, so memory does not grow with the traffic."""
        arrival = next(self._arrivals, None)
        if arrival is not None and arrival.at < self.scenario.duration_us:
            self.loop.schedule(self.origin + arrival.at, ARRIVAL, self._next, arrival)

    def _next(self, arrival: Arrival) -> None:
        self._arrive(arrival)
        self._pull(None)

    def _arrive(self, arrival: Arrival) -> None:
        self.offered = number = self.offered + 1
        if self._kind_of is not None:
            kind, scale = self._kind_of(number), 1.0
        else:
            kind, scale = self._kinds[arrival.app].draw(number, arrival.size)
        self.in_flight[number] = arrival
        if self._on_offer is not None:
            self._on_offer(number, arrival)
        if self._has_way_in:
            delay = self.scenario.cluster.door.way_in_us(self.runtime.entry_bytes(arrival.app, kind, scale))
            self.loop.schedule(self.loop.now + delay, ARRIVAL, self._enter, (number, arrival.app, kind, scale))
        else:
            self._enter((number, arrival.app, kind, scale))

    def _enter(self, request: tuple[int, str, int, float]) -> None:
        number, app, kind, scale = request
        self.loop.post(RequestArrived(number, app, self.runtime.admit(app, number, kind, scale)))

    def _ended(self, request: int) -> None:
        arrival = self.in_flight.pop(request)
        self.runtime.forget(request)
        if self._on_end is not None:
            # A client has its answer a little later than the controller has given it.
            way_out = self.scenario.cluster.door.way_out_us(0)
            following = self._on_end(arrival, self.loop.now - self.origin + way_out)
            if following is not None and following.at < self.scenario.duration_us:
                self.offer(following)


class _Kinds:
    """Of which kind a request is: drawn, or the one whose size is nearest to the size that its arrival has."""

    def __init__(self, app: SimulatedApp, seed: int) -> None:
        first = next((at for at, node in enumerate(app.spec.graph.stages) if not node.scope), 0)
        sizes = [kind.sizes[first] for kind in app.kinds]
        mean = sum(sizes) / len(sizes)
        self._relative = [size / mean if mean > 0 else 1.0 for size in sizes]
        self._seed = seed

    def draw(self, request: int, size: float) -> tuple[int, float]:
        """The kind of a request and by how much its sizes differ from that kind's."""
        count = len(self._relative)
        if size <= 0 and count == 1:
            return 0, 1.0
        luck = mixed(self._seed ^ request * 0x9E3779B97F4A7C15)
        if size <= 0:
            return luck % count, 1.0
        distances = [abs(relative - size) for relative in self._relative]
        least = min(distances)
        near = [at for at, distance in enumerate(distances) if distance == least]
        kind = near[luck % len(near)]
        relative = self._relative[kind]
        return kind, size / relative if relative > 0 else 1.0


def stream_seed(seed: int, stream: int) -> int:
    """The seed of one of the independent streams of a run."""
    return mixed(seed * 0x9E3779B97F4A7C15 + stream)
