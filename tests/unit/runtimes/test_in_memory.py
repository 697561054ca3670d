"""The in-memory store, and random flows through a controller, a driver and the in-memory runtime."""

import asyncio
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from random_flows import ThirteenError, flows, make_app

from grainwise.control.controller import Controller
from grainwise.control.events import AppDeployed, CapacityChanged, PlanRequested
from grainwise.control.invariants import Monitor, check_state
from grainwise.control.log import Entry, encode_actions
from grainwise.domain.config import AppConfig
from grainwise.domain.errors import InputError
from grainwise.domain.machine import NOMINAL_PRICES, Node
from grainwise.domain.values import ValueType
from grainwise.gateway.door import HttpDoor
from grainwise.gateway.entry import Entry as Door
from grainwise.gateway.entry import Intake
from grainwise.gateway.errors import Failure
from grainwise.planning.granularity import granularities
from grainwise.planning.problem import Option, PlanTable, Problem
from grainwise.runtimes.driver import Driver
from grainwise.runtimes.in_memory import HOP, InMemoryRuntime, MemoryStore
from grainwise.runtimes.payloads import ArenaFullError
from grainwise.runtimes.planner import InlinePlanner
from worlds.control import PREDICTED, model_of, workload_of
from worlds.grains import plan_for

TEXT = ValueType("text", "str")
ARRAY = ValueType("tensor", "NDArray", "uint8")
WORDS = ValueType("list", "list[str]", element=TEXT)


def test_values_come_back_as_copies_and_arrays_cannot_be_written():
    store = MemoryStore()
    words, array = ["a", "b"], np.arange(6, dtype=np.uint8).reshape(2, 3)
    handles = [store.put(words, WORDS).handle, store.put(array, ARRAY).handle]
    words.append("c")
    array[:] = 0
    assert store.get(handles[0]) == ["a", "b"]
    found: Any = store.get(handles[1])
    np.testing.assert_array_equal(found, np.arange(6, dtype=np.uint8).reshape(2, 3))
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1
    store.release(tuple(handles))
    assert store.live_bytes == 0


def test_a_value_of_another_type_is_refused_and_takes_nothing():
    store = MemoryStore()
    with pytest.raises(InputError):
        store.put(3, TEXT)
    assert store.live_bytes == 0


def test_a_full_store_refuses_until_something_is_released():
    store = MemoryStore(limit_bytes=100)
    held = store.put("x" * 80, TEXT)
    assert store.live_bytes == held.nbytes
    with pytest.raises(ArenaFullError, match="retry later"):
        store.put("y" * 80, TEXT)
    with pytest.raises(ArenaFullError):
        store.reserve(80)
    store.release((held.handle,))
    assert store.get(store.put("y" * 80, TEXT).handle) == "y" * 80


def test_a_reservation_is_filled_and_published_in_parts():
    store = MemoryStore()
    reservation = store.reserve(10)
    reservation.view[:] = bytes(range(10))
    array = reservation.tensor(2, 6, "uint8", (2, 3))
    raw = reservation.raw(8, 2)
    reservation.close()
    np.testing.assert_array_equal(store.get(array.handle), [[2, 3, 4], [5, 6, 7]])  # type: ignore[arg-type]
    assert bytes(store.get(raw.handle)) == b"\x08\x09"  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no uint8 array"):
        reservation.tensor(0, 5, "uint8", (2, 3))
    with pytest.raises(InputError):
        reservation.tensor(8, 6, "uint8", (6,))


class Served:
    """A random app on the in-memory runtime, each step checked."""

    def __init__(self, app: Any, grain: Any) -> None:
        self.spec = app.spec(b"random")
        self.controller, self.monitor = Controller(), Monitor()
        self.entries: list[Entry] = []
        self.driver = Driver(self.controller, observers=(self.check,))
        self.store = MemoryStore()
        self.door = HttpDoor(self.store, self.driver.now)
        self.door.attach(self.driver.post)
        runtime = InMemoryRuntime(app, self.spec, self.store, self.driver.post)
        planner = InlinePlanner(self.plan, self.driver.post)
        self.driver.attach(runtime=runtime, store=self.store, door=self.door, planner=planner)
        self.driver.post(CapacityChanged((Node("here", 64.0, 1e6),)))
        self.driver.post(
            AppDeployed(
                self.spec, model_of(self.spec), HOP, workload_of(self.spec), plan_for("random", grain), runtime.capabilities,
                NOMINAL_PRICES, AppConfig(replan_us=0, wait_bound_fraction=0.0),
            )
        )  # fmt: skip

    def check(self, event: Any, actions: Any, now: int) -> None:
        self.entries.append(Entry(len(self.entries), now, event, actions))
        self.monitor.observe(event, actions, now)
        check_state(self.controller, self.monitor)

    def plan(self, problem: Problem) -> PlanTable:
        assert problem.grain is not None
        return PlanTable(problem.number, (Option(plan_for("random", problem.grain), PREDICTED, True),), "a test", True)

    async def ask(self, arguments: tuple[int, list[int]]) -> int | None:
        door = Door(self.spec)
        intake = Intake(door, self.store)
        for slot in door.slots:
            intake.put_value(slot, arguments[("number", "numbers").index(slot.name)])
        reply = await self.door.ask(self.spec, intake.take())
        if isinstance(reply, Failure):
            assert reply.body.code == "stage_failed", reply
            assert "ThirteenError" in reply.body.error
            return None
        value = reply.value(0)
        reply.close()
        assert isinstance(value, int)
        return value


def eagerly(flow: Any, request: tuple[int, list[int]]) -> int | None:
    try:
        return int(flow(*request))
    except ThirteenError:
        return None


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(
    flows,
    st.lists(st.integers(1, 4), min_size=5, max_size=5),
    st.lists(st.tuples(st.integers(-20, 20), st.lists(st.integers(-20, 20), max_size=4)), min_size=1, max_size=4),
    st.data(),
)
def test_a_random_flow_in_random_granularities_answers_as_the_eager_flow_does(
    ops: Any, batches: Any, requests: Any, data: st.DataObject
) -> None:
    app, flow = make_app(ops, batches)
    graph = app.graph
    assume(len(graph.stages) <= 12)
    grains = [
        tuple(graph.names(mask) for mask in masks)
        for masks in islice(granularities(graph), 0, 2000, 1 + len(graph.stages) ** 2 // 20)
    ]
    chosen = data.draw(st.lists(st.sampled_from(grains), min_size=1, max_size=3))
    expected = [eagerly(flow, request) for request in requests]

    async def main() -> None:
        served = Served(app, chosen[0])
        for grain in chosen:
            served.driver.post(PlanRequested("random", "a test", grain))
            assert await asyncio.gather(*map(served.ask, requests)) == expected
        served.driver.close()
        assert served.store.live_bytes == 0
        fresh = Controller()
        for entry in served.entries:
            assert encode_actions(fresh.handle(entry.event, entry.now)) == encode_actions(entry.actions)

    asyncio.run(main())
