"""The live loop: one event at a time, instants that never decrease, actions to their performers, wakes not too early."""

import asyncio
from typing import Any

import pytest

from grainwise.control.actions import (
    CancelInvocation,
    ComputePlan,
    Invoke,
    KillInstance,
    LoadStages,
    Reject,
    Release,
    Respond,
    StartInstance,
    StopInstance,
    WakeAt,
)
from grainwise.control.events import (
    InstanceFailed,
    InstanceStopped,
    InvocationFailed,
    PlanFailed,
    RequestCancelled,
    StagesLoaded,
    Wake,
)
from grainwise.domain.because import Because
from grainwise.domain.errors import PlatformError
from grainwise.runtimes.driver import Driver, monotonic_us
from worlds.problems import chain_graph, problem_of, spec_of, stage_model

WHY = Because("a test")
ACTIONS: dict[str, Any] = {
    "start": StartInstance(1, "app", 1, "node", 1.0, 1.0, WHY),
    "stop": StopInstance(1, WHY),
    "kill": KillInstance(1, WHY),
    "load": LoadStages(1, 2, WHY),
    "invoke": Invoke(1, 1, 1, (), (), 1.0, 1, WHY),
    "cancel": CancelInvocation(1, 1),
    "respond": Respond(1, ()),
    "reject": Reject(1, "deadline", WHY),
    "compute": ComputePlan(None, WHY),  # type: ignore[arg-type]
}


class Scripted:
    """Stands where the controller stands: answers each event with the next actions of a script."""

    def __init__(self, *script: list[Any]) -> None:
        self.script = list(script)
        self.seen: list[tuple[Any, int]] = []

    def handle(self, event: Any, now: int) -> list[Any]:
        self.seen.append((event, now))
        return self.script.pop(0) if self.script else []


class Everyone:
    """All four performers."""

    def __init__(self) -> None:
        self.done: list[tuple[str, Any]] = []
        self.on: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        def perform(action: Any) -> None:
            self.done.append((name, action))
            if name in self.on:
                self.on[name]()

        return perform


class Log:
    """Stands where the log's writer stands."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def append(self, seq: int, now: int, event: Any, actions: Any, controller: Any) -> None:
        self.events.append(event)


class Clock:
    def __init__(self, now: int = 1000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def driven(*script: list[Any], clock: Any = monotonic_us, **more: Any) -> tuple[Driver, Scripted, Everyone]:
    controller, everyone = Scripted(*script), Everyone()
    driver = Driver(controller, clock=clock, **more)  # type: ignore[arg-type]
    driver.attach(runtime=everyone, store=everyone, door=everyone, planner=everyone)
    return driver, controller, everyone


def test_each_action_goes_to_its_performer_in_order():
    driver, _, everyone = driven([*ACTIONS.values(), Release((7, 8))])
    driver.post(InstanceStopped(1))
    assert everyone.done == [*ACTIONS.items(), ("release", (7, 8))]


def test_what_a_performer_posts_comes_after_the_event_that_it_serves():
    driver, controller, everyone = driven([ACTIONS["start"], ACTIONS["stop"]], [ACTIONS["kill"]])
    everyone.on["start"] = lambda: driver.post(RequestCancelled(5))
    driver.post(InstanceStopped(1))
    assert [event for event, _ in controller.seen] == [InstanceStopped(1), RequestCancelled(5)]
    assert [name for name, _ in everyone.done] == ["start", "stop", "kill"]


def test_instants_never_decrease():
    clock = Clock(5000)
    driver, controller, _ = driven(clock=clock)
    for now in (5000, 4000, 6000, 1):
        clock.now = now
        driver.post(InstanceStopped(1))
    assert [now for _, now in controller.seen] == [5000, 5000, 6000, 6000]


def test_observers_see_event_actions_and_instant_until_they_are_removed():
    seen: list[Any] = []

    def look(event: Any, actions: Any, now: int) -> None:
        seen.append((event, actions, now))

    driver, _, _ = driven([ACTIONS["stop"]], clock=Clock(9))
    driver.observe(look)
    driver.post(InstanceStopped(1))
    driver.unobserve(look)
    driver.post(InstanceStopped(2))
    assert seen == [(InstanceStopped(1), [ACTIONS["stop"]], 9)]


def test_an_observer_may_leave_while_it_is_called():
    calls: list[str] = []
    driver, _, _ = driven()

    def once(*_: Any) -> None:
        calls.append("once")
        driver.unobserve(once)

    driver.observe(once)
    driver.observe(lambda *_: calls.append("always"))
    driver.post(Wake())
    driver.post(Wake())
    assert calls == ["once", "always", "always"]


def out_of_order() -> None:
    raise PlatformError("out of order")


FAILURES = {
    "start": InstanceFailed(1, "starting", "PlatformError: out of order"),
    "stop": InstanceFailed(1, "lost", "PlatformError: out of order"),
    "kill": InstanceFailed(1, "lost", "PlatformError: out of order"),
    "load": StagesLoaded(1, 2, 0, 0.0, "PlatformError: out of order"),
    "invoke": InvocationFailed(1, 1, "refused", "PlatformError: out of order"),
    "cancel": None,
    "respond": None,
    "reject": None,
    "release": None,
}


@pytest.mark.parametrize("name", FAILURES)
def test_who_waits_for_an_action_that_could_not_be_performed_is_told(name, caplog):
    """Every other action of the event is performed, observers and log see the event, and the error is logged once."""
    action = Release((7,)) if name == "release" else ACTIONS[name]
    log = Log()
    seen: list[Any] = []
    driver, controller, everyone = driven([action, ACTIONS["compute"], Release((8,))], log=log)

    def fail_once() -> None:
        del everyone.on[name]
        out_of_order()

    everyone.on[name] = fail_once
    driver.observe(lambda event, *_: seen.append(event))
    driver.post(InstanceStopped(1))
    driver.post(InstanceStopped(2))
    told = [] if FAILURES[name] is None else [FAILURES[name]]
    events = [InstanceStopped(1), *told, InstanceStopped(2)]
    assert [event for event, _ in controller.seen] == seen == log.events == events
    assert everyone.done[-2:] == [("compute", ACTIONS["compute"]), ("release", (8,))]
    (record,) = caplog.records
    assert repr(action) in record.getMessage()
    assert "out of order" in str(record.exc_info[1])


def test_a_plan_that_nobody_begins_to_compute_has_failed():
    problem = problem_of(spec_of(chain_graph(1)), (stage_model(),))
    driver, controller, everyone = driven([ComputePlan(problem, WHY)])
    everyone.on["compute"] = out_of_order
    driver.post(InstanceStopped(1))
    assert controller.seen[-1][0] == PlanFailed(problem.app.name, problem.number, "PlatformError: out of order")


def test_a_performer_that_fails_does_not_cost_the_wake_of_its_event():
    async def main() -> None:
        woken = asyncio.Event()
        driver, _, everyone = driven([ACTIONS["stop"], WakeAt(monotonic_us())])
        everyone.on["stop"] = out_of_order
        driver.observe(lambda event, *_: woken.set() if isinstance(event, Wake) else None)
        driver.post(InstanceStopped(1))
        await asyncio.wait_for(woken.wait(), 20)

    asyncio.run(main())


def test_a_wake_whose_handling_failed_is_followed_by_another():
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        driver, controller, _ = driven([WakeAt(monotonic_us())])
        failed = asyncio.Event()

        def fail(event: Any, now: int) -> list[Any]:
            failed.set()
            raise RuntimeError("a mistake in the controller")

        driver.post(InstanceStopped(1))
        controller.handle = fail  # type: ignore[method-assign]
        await asyncio.wait_for(failed.wait(), 20)
        assert driver._wake is not None
        driver.close()

    asyncio.run(main())


def test_a_wake_comes_when_it_was_asked_for_and_not_before():
    async def main() -> None:
        woken = asyncio.Event()
        at = monotonic_us() + 20_000
        driver, controller, _ = driven([WakeAt(at)])
        driver.observe(lambda event, *_: woken.set() if isinstance(event, Wake) else None)
        driver.post(InstanceStopped(1))
        await asyncio.wait_for(woken.wait(), 20)
        assert controller.seen[-1][1] >= at

    asyncio.run(main())


def test_a_timer_that_is_early_by_the_driver_s_clock_is_set_again_and_nothing_is_posted():
    """Read on posting, on setting the timer, when it is over (too early), on setting it again, when that one is over."""
    readings = iter([0, 0, 2999, 2999, 3000])

    async def main() -> None:
        woken = asyncio.Event()
        driver, controller, _ = driven([WakeAt(3000)], clock=lambda: next(readings, 3001))
        driver.observe(lambda event, *_: woken.set() if isinstance(event, Wake) else None)
        driver.post(InstanceStopped(1))
        await asyncio.wait_for(woken.wait(), 20)
        assert next(readings, None) is None
        assert [(type(event), now) for event, now in controller.seen] == [(InstanceStopped, 0), (Wake, 3001)]

    asyncio.run(main())


def test_the_latest_wake_replaces_the_ones_before():
    async def main() -> None:
        woken = asyncio.Event()
        now = monotonic_us()
        driver, controller, _ = driven([WakeAt(now + 3600_000_000)], [WakeAt(now)])
        driver.observe(lambda event, *_: woken.set() if isinstance(event, Wake) else None)
        driver.post(InstanceStopped(1))
        driver.post(InstanceStopped(2))
        await asyncio.wait_for(woken.wait(), 20)
        assert driver._wake is None
        assert [type(event) for event, _ in controller.seen] == [InstanceStopped, InstanceStopped, Wake]

    asyncio.run(main())


def test_a_closed_driver_does_not_wake():
    async def main() -> None:
        driver, controller, _ = driven([WakeAt(monotonic_us())])
        driver.post(InstanceStopped(1))
        driver.close()
        driver.close()
        turn = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, turn.set)
        await turn.wait()
        assert len(controller.seen) == 1

    asyncio.run(main())
