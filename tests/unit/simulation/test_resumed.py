"""A world that goes on from a snapshot: nothing is lost, nothing is answered twice, and what was under way comes to its end."""

import copy
from collections.abc import Callable, Sequence

import msgspec
import pytest

from grainwise import App
from grainwise.control.actions import Action, Reject, Respond
from grainwise.control.events import Event, InstanceReady, InstanceStopped, InvocationDone, StagesLoaded
from grainwise.control.invariants import Monitor, check_state
from grainwise.control.replanning import Replanner
from grainwise.control.state import AppState, ControllerState
from grainwise.domain.config import AppConfig
from grainwise.domain.errors import ArtifactError, ConfigurationError
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.domain.time import SECOND, Instant
from grainwise.simulation.app import SimulatedApp
from grainwise.simulation.imagined_kinds import imagined_kinds
from grainwise.simulation.resumed import Present
from grainwise.simulation.run import Scenario, Simulation
from grainwise.workloads.processes import Poisson
from grainwise.workloads.traffic import Stream, Traffic, open_arrivals
from worlds import apps
from worlds.simulated import cluster, simulated

RATE = 15.0


def traffic(*names: str, seconds: float = 2.0, rate: float = RATE) -> Traffic:
    return Traffic("test", tuple(Stream(name, Poisson(rate)) for name in names), seconds)


def fused(app: SimulatedApp) -> Plan:
    return Plan(app.spec.name, (FunctionPlan(tuple(node.name for node in app.spec.graph.stages), 1.0, 4, 2, 1, 3),))


class Original:
    """A run that can be stopped at an instant, with all that was seen of it."""

    def __init__(self, *given: SimulatedApp, seed: int = 3) -> None:
        self.monitor = Monitor()
        names = [app.spec.name for app in given]
        scenario = Scenario(cluster(), given, 3 * SECOND, seed)
        self.simulation = Simulation(
            scenario, open_arrivals(traffic(*names, seconds=3.0), seed), observers=(lambda *seen: self.monitor.observe(*seen),)
        )
        self.simulation.deploy()
        self.simulation.begin()

    def until(self, seconds: float) -> None:
        self.simulation.loop.run_until(self.simulation.origin + round(seconds * SECOND))

    @property
    def state(self) -> ControllerState:
        return self.simulation.controller.state

    def change_to(self, plan: Plan) -> None:
        deployed = self.state.apps[plan.app].deployed
        self.simulation.loop.post(msgspec.structs.replace(deployed, plan=plan))


class Resumed:
    """A world that goes on, every step checked by the monitor that has seen what went before."""

    def __init__(self, original: Original, app: SimulatedApp, plan: Plan | None = None) -> None:
        self.entries: list[tuple[Event, Sequence[Action], Instant]] = []
        self.monitor = copy.deepcopy(original.monitor)
        now = original.simulation.loop.now
        present = Present(original.simulation.controller.snapshot(), now, app)
        self.simulation = present.resume(traffic(*present.apps), 2 * SECOND, 7, (self._see,))
        self.began = dict.fromkeys(original.monitor.open_requests)
        present.go_on(self.simulation, plan or present.plan)

    def _see(self, event: Event, actions: list[Action], now: Instant) -> None:
        self.entries.append((event, actions, now))
        self.monitor.observe(event, actions, now)
        check_state(self.simulation.controller, self.monitor)

    def run(self) -> "Resumed":
        loop = self.simulation.loop
        loop.run_until(loop.now + 2 * SECOND)
        loop.run_until(loop.now + 60 * SECOND, lambda: not self.simulation.in_flight)
        return self

    def answered(self) -> list[int]:
        return [action.request for _, actions, _ in self.entries for action in actions if isinstance(action, Respond | Reject)]

    def at(self, kind: type) -> list[tuple[int, Instant]]:
        return [(event.instance, now) for event, _, now in self.entries if isinstance(event, kind)]


def check_the_end(world: Resumed) -> None:
    state = world.simulation.controller.state
    assert not state.requests and not state.invocations and not world.simulation.in_flight
    assert world.simulation.store.live_bytes == 0
    answered = world.answered()
    assert len(answered) == len(set(answered)) and set(world.began) <= set(answered)
    assert len(answered) == world.simulation.offered - max(world.began, default=0) + len(world.began) or not world.began


def with_kinds(make: Callable[..., App]) -> SimulatedApp:
    """Every fan-out has 2.5 elements, every branch of a choice is as likely as another."""
    app = make(4)
    plain = simulated(app, max_batch=4, instances=2)
    items: list[float] = []
    for node in plain.spec.graph.stages:
        count = 2.5 ** len(node.scope)
        for guard in node.guards:
            count /= 2 + (guard.equals is None and len(guard.others) > 1)
        items.append(count)
    workload = msgspec.structs.replace(plain.workload, items=tuple(items), rate_per_s=RATE)
    return simulated(app, kinds=imagined_kinds(plain.spec, plain.model, workload), max_batch=4, instances=2)


@pytest.mark.parametrize(
    ("make", "seconds"),
    [
        (apps.chain, 0.7),
        (apps.diamond, 1.3),
        (apps.nested, 0.9),
        (apps.choice, 1.1),
        (apps.choice_within, 0.8),
        (apps.late_key, 0.7),
    ],
)
def test_what_is_in_flight_is_answered(make: Callable[..., App], seconds: float) -> None:
    app = with_kinds(make)
    original = Original(app)
    original.until(seconds)
    while not (original.state.requests and original.state.invocations):
        seconds += 0.01
        original.until(seconds)
    check_the_end(Resumed(original, app).run())


def test_a_change_under_way_and_one_that_begins_in_the_resumed_world_come_to_their_end() -> None:
    app = with_kinds(apps.chain)
    original = Original(app)
    original.until(1.0)
    original.change_to(fused(app))
    phases: list[str] = []
    for seconds in (1.001, 1.009, 1.04, 1.08):
        original.until(seconds)
        phases.extend(instance.phase for instance in original.state.instances.values())
        going = Resumed(original, app, fused(app)).run()
        check_the_end(going)
        assert going.simulation.controller.state.apps["chain"].plan_id == fused(app).id
        back = Resumed(original, app, app.plan).run()
        check_the_end(back)
        assert back.simulation.controller.state.apps["chain"].plan_id == app.plan.id
    assert set(phases) >= {"loading", "ready"}


def test_what_is_left_of_a_start_and_of_a_load_passes_and_no_more() -> None:
    app = with_kinds(apps.chain)
    original = Original(app)
    original.until(1.0)
    wide = Plan("chain", tuple(msgspec.structs.replace(each, cpu_cores=1.5) for each in fused(app).functions))
    original.change_to(wide)
    original.until(1.004)
    seen = {number: each.phase for number, each in original.state.instances.items() if each.phase in ("starting", "loading")}
    assert seen
    world = Resumed(original, app).run()
    fates = dict(world.at(InstanceReady) + world.at(StagesLoaded))
    began = original.simulation.loop.now
    ends: dict[int, Instant] = {}
    original.simulation.loop.observe(
        lambda event, _, now: ends.setdefault(event.instance, now) if isinstance(event, InstanceReady | StagesLoaded) else None
    )
    original.until(3.0)
    for number in seen:
        assert fates[number] - began == ends[number] - began


def test_what_is_left_of_an_invocation_passes_as_it_would_have() -> None:
    app = with_kinds(apps.chain)
    original = Original(app)
    original.until(1.0)
    while not original.state.invocations:
        original.until((original.simulation.loop.now - original.simulation.origin) / SECOND + 0.003)
    running = list(original.state.invocations)
    world = Resumed(original, app).run()
    ends: dict[int, Instant] = {}
    original.simulation.loop.observe(
        lambda event, _, now: ends.setdefault(event.invocation, now) if isinstance(event, InvocationDone) else None
    )
    original.until(3.0)
    found = {event.invocation: now for event, _, now in world.entries if isinstance(event, InvocationDone)}
    assert [found[number] for number in running] == [ends[number] for number in running]


def test_instances_that_are_ending_end() -> None:
    app = with_kinds(apps.chain)
    original = Original(app)
    original.until(1.0)
    for instance in list(original.state.instances.values())[:1]:
        while instance.invocation:
            original.until((original.simulation.loop.now - original.simulation.origin) / SECOND + 0.001)
        instance.phase = "ending"
    seen: list[Event] = []
    present = Present(original.simulation.controller.snapshot(), original.simulation.loop.now, app)
    simulation = present.resume(traffic("chain"), 2 * SECOND, 7, (lambda event, *_: seen.append(event),))
    present.go_on(simulation, present.plan)
    simulation.loop.run_until(simulation.loop.now + SECOND)
    assert any(isinstance(event, InstanceStopped) for event in seen)


def test_a_snapshot_of_the_middle_of_a_review_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The instances that a review has just asked for are not started yet, what it does next is not done yet."""
    app = simulated(apps.chain(4), max_batch=4, config=AppConfig(replan_us=0))
    plan = Plan("chain", tuple(msgspec.structs.replace(each, max_instances=4) for each in app.plan.functions))
    app = app.with_plan(plan)
    taken: list[tuple[bytes, Instant]] = []
    original = Original(app)
    review = Replanner.review

    def tapped(replanner: Replanner, of: AppState) -> None:
        state = original.state
        if any(each.started == original.simulation.loop.now for each in state.instances.values()):
            taken.append((original.simulation.controller.snapshot(), original.simulation.loop.now))
        review(replanner, of)

    monkeypatch.setattr(Replanner, "review", tapped)
    burst = open_arrivals(traffic("chain", seconds=1.0, rate=400.0), 5)
    for arrival in burst:
        original.simulation.offer(arrival)
    original.until(3.0)
    assert taken
    snapshot, now = taken[0]
    monkeypatch.undo()
    present = Present(snapshot, now, app)
    simulation = present.resume(traffic("chain"), 2 * SECOND, 7)
    present.go_on(simulation, present.plan)
    simulation.loop.run_until(now + 2 * SECOND)
    simulation.loop.run_until(now + 60 * SECOND, lambda: not simulation.in_flight)
    assert not simulation.controller.state.requests and simulation.store.live_bytes == 0


def test_two_apps_go_on_together() -> None:
    first, second = with_kinds(apps.chain), with_kinds(apps.diamond)
    original = Original(first, second)
    original.until(1.5)
    world = Resumed(original, first, fused(first)).run()
    check_the_end(world)
    assert {second.spec.name, "chain"} == set(world.simulation.apps)


def test_a_lost_node_takes_its_instances_with_it() -> None:
    app = with_kinds(apps.chain)
    original = Original(app)
    original.until(1.5)
    for node in original.state.nodes.values():
        node.is_present, node.usable_cores = False, 0.0
    present = Present(original.simulation.controller.snapshot(), original.simulation.loop.now, app)
    simulation = present.resume(traffic("chain"), 2 * SECOND, 7)
    present.go_on(simulation, present.plan)
    simulation.loop.run_until(simulation.loop.now + 40 * SECOND)
    assert not simulation.controller.state.instances and not simulation.in_flight


def test_snapshots_that_cannot_be_used_are_refused() -> None:
    app = with_kinds(apps.chain)
    with pytest.raises(ArtifactError, match="no memory of a controller"):
        Present(b"\x01nonsense", 0, app)
    empty = msgspec.msgpack.encode(ControllerState())
    with pytest.raises(ConfigurationError, match="knows no app 'chain'"):
        Present(empty, 0, app)
