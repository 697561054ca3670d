"""Random events in random order, over every shape of flow: the invariants hold at each step, and in the end every request
has ended exactly once, right or with a reason, and nothing is left.

A second controller that is restored from a snapshot somewhere on the way must go on with the same actions, and a fresh one that
replays the whole run must say the same from the beginning.
"""

from typing import Any

from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from grainwise.control.actions import Invoke, LoadStages, StartInstance
from grainwise.control.controller import Controller
from grainwise.control.events import (
    CapacityChanged,
    InstanceStopped,
    InvocationDone,
    InvocationFailed,
    InvocationProgressed,
    ItemResult,
    ModelReady,
)
from grainwise.control.log import encode_actions
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import Device, Node
from grainwise.domain.plan import Plan
from grainwise.domain.time import MILLISECOND, SECOND
from grainwise.domain.values import Payload, Ref
from grainwise.policies.sets import SETS
from worlds.apps import SHAPES
from worlds.control import HARD, SOFT, World, model_of
from worlds.grains import legal_grains, on_gpu, plan_for

NAMES = sorted(SHAPES)
LISTS = ("listed", "choice_on_element")

durations = st.sampled_from([0, 100, 3 * MILLISECOND, 12 * MILLISECOND, 150 * MILLISECOND, SECOND, 7 * SECOND, 70 * SECOND])
slots = st.sampled_from([0, 7])


def devices(count: int, slots: int, memory_mib: float = 2000.0) -> tuple[Device, ...]:
    return tuple(Device(f"gpu{index}", "A100", memory_mib, slots) for index in range(count))


fates = st.sampled_from(["done", "done", "done", "hang", "crash", "backpressure", "refused"])


class ControllerMachine(RuleBasedStateMachine):
    """One or two apps on one or two nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World
        self.twin: Controller | None = None
        self.fates: list[str] = []
        self.starts: list[str] = []
        self.loads: list[str] = []
        self.past: list[Invoke] = []

    @initialize(
        shapes=st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True),
        batch=st.sampled_from([1, 2, 8]),
        grain=st.integers(0, 1000),
        cpu_cores=st.sampled_from([0.5, 1.0, 2.0]),
        instances=st.integers(1, 3),
        memory_mib=st.sampled_from([700.0, 1500.0, 5000.0]),
        is_hard=st.booleans(),
        gpu=st.sampled_from([0.0, 0.0, 0.1, 0.4, 1.0]),
        slots=slots,
        config=st.builds(
            AppConfig,
            max_requests=st.sampled_from([3, 1000]),
            keep_alive_us=st.sampled_from([SECOND, 60 * SECOND]),
            scale_to_zero=st.booleans(),
            replan_us=st.sampled_from([0, 2 * SECOND]),
            patience_us=st.sampled_from([2 * SECOND, 30 * SECOND]),
            policies=st.sampled_from(list(SETS)),
        ),
    )
    def begin(
        self,
        shapes: list[str],
        batch: int,
        grain: int,
        cpu_cores: float,
        instances: int,
        memory_mib: float,
        is_hard: bool,
        gpu: float,
        slots: int,
        config: AppConfig,
    ) -> None:
        self.gpu = gpu
        apps = [SHAPES[name](batch) for name in shapes]
        self.shapes = shapes
        self.grains = {app.name: legal_grains(app.graph) for app in apps}
        plans = []
        for app in apps:
            found = self.grains[app.name]
            plans.append(
                self._plan(app.name, found[grain % len(found)], cpu_cores=cpu_cores, max_batch=batch, instances=instances)
            )
        self.memory_mib = memory_mib
        self.world = World(
            *apps,
            plans=plans,
            nodes=(Node("one", 3.0, memory_mib, devices=devices(2, slots)),),
            capabilities=HARD if is_hard else SOFT,
            config=config,
            warm=False,
            on_gpu=gpu > 0,
        )
        self.names = [app.name for app in apps]
        self.world.invoked = self._fate
        self.world.started = lambda action: self.starts.pop() if self.starts else "ok"
        self.world.loaded = lambda action: self.loads.pop() if self.loads else "ok"
        self.world.before = self._twin_step

    def _plan(self, name: str, grain: Any, **how: Any) -> Plan:
        plan = plan_for(name, grain, **how)
        return on_gpu(plan, self.gpu) if self.gpu else plan

    def _fate(self, action: Invoke) -> str:
        self.past.append(action)
        return self.fates.pop() if self.fates else "done"

    def _twin_step(self, event: Any, actions: Any) -> None:
        if self.twin is not None:
            assert encode_actions(self.twin.handle(event, self.world.now)) == encode_actions(actions)

    # Clients

    @rule(
        which=st.integers(0, 1),
        value=st.integers(0, 14),
        other=st.integers(0, 14),
        count=st.sampled_from([1, 1, 1, 6]),
        within=st.sampled_from([0, 0, 0, 30 * MILLISECOND, 20 * SECOND]),
        is_poison=st.booleans(),
    )
    def ask(self, which: int, value: int, other: int, count: int, within: int, is_poison: bool) -> None:
        at = which % len(self.shapes)
        arguments = self._arguments(self.shapes[at], value, other)
        for number in range(count):
            if is_poison and other == 3 and number == 0:
                self.world.fails.add(len(self.world.asked) + 1)
            self.world.ask(*arguments, app=self.names[at], within_us=within)

    @staticmethod
    def _arguments(name: str, value: int, other: int) -> tuple[Any, ...]:
        if name == "outer":
            return (value, other)
        return (list(range(value % 6)),) if name in LISTS else (value,)

    @rule(which=st.integers(0, 1000))
    def cancel(self, which: int) -> None:
        open_ = [number for number, asked in self.world.asked.items() if not asked.is_over]
        if open_:
            self.world.cancel(open_[which % len(open_)])

    @rule()
    def ask_for_nothing_known(self) -> None:
        self.world.ask(app="nobody")

    # Time

    @rule(duration=durations)
    def wait(self, duration: int) -> None:
        self.world.run_for(duration)

    @rule(steps=st.integers(1, 4))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            self.world.step()

    # Misfortune

    @rule(drawn=st.lists(fates, max_size=5))
    def invocations_will(self, drawn: list[str]) -> None:
        self.fates = drawn

    @rule(drawn=st.lists(st.sampled_from(["ok", "fail", "hang"]), max_size=4))
    def starts_will(self, drawn: list[str]) -> None:
        self.starts = drawn

    @rule(drawn=st.lists(st.sampled_from(["ok", "fail", "hang"]), max_size=3))
    def loads_will(self, drawn: list[str]) -> None:
        self.loads = drawn

    @rule(which=st.integers(0, 1000), cause=st.sampled_from(["lost", "hung"]))
    def crash(self, which: int, cause: str) -> None:
        alive = list(self.world.instances)
        if alive:
            number = alive[which % len(alive)]
            is_starting = number not in self.world.residency
            self.world.crash(number, "starting" if is_starting else cause)

    @rule(which=st.integers(0, 1000))
    def stop_unasked(self, which: int) -> None:
        alive = list(self.world.instances)
        if alive:
            number = alive[which % len(alive)]
            self.world._forget(number)
            self.world.post(InstanceStopped(number))

    @precondition(lambda self: bool(self.past))
    @rule(which=st.integers(0, 1000))
    def progress(self, which: int) -> None:
        """An invocation goes on, or is said to, when it is over."""
        action = self.past[which % len(self.past)]
        self.world.post(InvocationProgressed(action.invocation, action.instance))

    @precondition(lambda self: bool(self.past))
    @rule(which=st.integers(0, 1000), is_failure=st.booleans())
    def late_result(self, which: int, is_failure: bool) -> None:
        """An invocation that is over, for one reason or the other, is reported once more."""
        action = self.past[which % len(self.past)]
        if action.invocation in self.world.running or action.invocation in self.world.controller.state.invocations:
            return
        if is_failure:
            self.world.post(InvocationFailed(action.invocation, action.instance, "refused"))
            return
        results = []
        for _ in action.inputs:
            self.world._handles += 1
            self.world.values[self.world._handles] = "late"
            results.append(ItemResult((Payload((Ref(self.world._handles, 8),)),)))
        self.world.post(InvocationDone(action.invocation, action.instance, tuple(results), 1))

    @rule(
        cores=st.sampled_from([0.5, 1.0, 3.0, 8.0]),
        fraction=st.sampled_from([0.2, 1.0, 2.0]),
        is_double=st.booleans(),
        count=st.integers(0, 3),
        slots=slots,
        device_mib=st.sampled_from([300.0, 2000.0]),
    )
    def change_capacity(
        self, cores: float, fraction: float, is_double: bool, count: int, slots: int, device_mib: float
    ) -> None:
        nodes = (Node("one", cores, self.memory_mib * fraction, devices=devices(count, slots, device_mib)),)
        if is_double:
            nodes = (*nodes, Node("two", 2.0, self.memory_mib, devices=devices(1, 7 - slots)))
        self.world.post(CapacityChanged(nodes))

    @rule(is_other=st.booleans(), slots=slots)
    def replace_the_node(self, is_other: bool, slots: int) -> None:
        name = "two" if is_other else "one"
        self.world.post(CapacityChanged((Node(name, 3.0, self.memory_mib, devices=devices(2, slots)),)))

    # Plans

    @rule(
        which=st.integers(0, 1),
        grain=st.integers(0, 1000),
        cpu_cores=st.sampled_from([0.5, 1.0, 2.0]),
        batch=st.sampled_from([1, 4]),
        instances=st.integers(1, 3),
        gpu=st.sampled_from([0.1, 0.4, 1.0]),
    )
    def regranulate(self, which: int, grain: int, cpu_cores: float, batch: int, instances: int, gpu: float) -> None:
        name = self.names[which % len(self.names)]
        self.gpu = gpu if self.gpu else 0.0
        found = self.grains[name]
        plan = self._plan(name, found[grain % len(found)], cpu_cores=cpu_cores, max_batch=batch, instances=instances)
        self.world.regranulate(plan, name)

    @precondition(lambda self: bool(self.world.problems))
    @rule(grain=st.integers(0, 1000))
    def answer_the_policy(self, grain: int) -> None:
        problem = self.world.problems[-1]
        found = self.grains[problem.app.name]
        self.world.answer(self._plan(problem.app.name, found[grain % len(found)]), problem.app.name)

    @rule(which=st.integers(0, 1), memory_mib=st.sampled_from([50.0, 100.0, 200.0]), fixed_us=st.sampled_from([0.0, 20_000.0]))
    def learn(self, which: int, memory_mib: float, fixed_us: float) -> None:
        name = self.names[which % len(self.names)]
        self.world.post(ModelReady(name, model_of(self.world.apps[name].spec, memory_mib=memory_mib, fixed_us=fixed_us)))

    # Memory

    @rule()
    def snapshot(self) -> None:
        self.twin = Controller.restore(self.world.controller.snapshot())

    @rule()
    def restore(self) -> None:
        self.world.controller = Controller.restore(self.world.controller.snapshot())

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        self.fates, self.starts, self.loads = [], [], []
        note(f"drain from {world.outcomes()}")
        plenty = devices(60, 0, 10_000.0)
        world.post(CapacityChanged(tuple(Node(name, 99.0, 50_000.0, devices=plenty) for name in ("one", "two"))))
        world.drain()
        world.run_for(600 * SECOND)
        probes = [
            world.ask(*self._arguments(name, 3, 4), app=self.names[at], within_us=25 * SECOND)
            for at, name in enumerate(self.shapes)
        ]
        world.fails.difference_update(probes)
        world.drain()
        assert [world.asked[probe].code for probe in probes] == ["ok"] * len(probes), "the world is well and a request is not"
        fresh = Controller()
        for entry in world.log:
            assert encode_actions(fresh.handle(entry.event, entry.now)) == encode_actions(entry.actions)
        for name, app in world.controller.state.apps.items():
            assert list(app.plans) == [app.plan_id] or app.transition is not None, f"{name} keeps plans that no one follows"
            assert not app.requests_by_plan
        assert not [action for action in world.seen(StartInstance | LoadStages) if not action.because.render()]


ControllerMachine.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    report_multiple_bugs=False,
)
TestController = ControllerMachine.TestCase
