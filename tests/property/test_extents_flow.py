"""Random flows whose extents are decided at dispatch: crashes, clients that go away and changes of plan on the way.

The world checks the numbered invariants at every event and every answer against the flow itself; in the end nothing is live,
and a fresh controller that is told the same says the same.
"""

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from grainwise.control.controller import Controller
from grainwise.control.log import encode_actions
from grainwise.domain.config import AppConfig
from grainwise.domain.time import MILLISECOND, SECOND
from unit.runtimes.random_flows import flows, make_app
from worlds.control import World
from worlds.grains import legal_grains, plan_for

MOST_STAGES = 5
"""A larger graph has more granularities than a test can list."""

POSSIBLE = {"ok", "stage_failed", "stage_lost", "deadline", "too_late", "open", "no_capacity"}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(ops=flows, batches=st.lists(st.sampled_from([1, 2, 4]), min_size=5, max_size=5), data=st.data())
def test_random_flows_are_answered_right_whatever_happens(ops, batches, data):
    app, _ = make_app(ops, batches)
    graph = app.graph
    assume(len(graph.stages) <= MOST_STAGES)
    grains = legal_grains(graph)
    at = st.integers(0, len(grains) - 1)
    instances = data.draw(st.integers(1, 3))
    config = AppConfig(
        replan_us=0, patience_us=data.draw(st.sampled_from([2 * SECOND, 60 * SECOND])),
        late=data.draw(st.sampled_from(["cheapest", "fastest", "drop"])),
    )  # fmt: skip
    world = World(app, plans=[plan_for(app.name, grains[data.draw(at)], instances=instances)], config=config)
    twin = None
    fates: list[str] = []
    world.invoked = lambda action: fates.pop() if fates else "done"

    def beside(event, actions):
        if twin is not None:
            assert encode_actions(twin.handle(event, world.now)) == encode_actions(actions)

    world.before = beside
    deeds = st.sampled_from(["ask", "ask", "ask", "change", "crash", "fates", "cancel", "wait", "snapshot"])
    for deed in data.draw(st.lists(deeds, min_size=4, max_size=14)):
        if deed == "ask":
            number = data.draw(st.integers(0, 30))
            world.ask(number, data.draw(st.lists(st.integers(0, 9), max_size=4)))
        elif deed == "change":
            world.regranulate(grains[data.draw(at)], instances=instances)
        elif deed == "crash" and world.residency:
            alive = sorted(world.residency)
            world.crash(alive[data.draw(st.integers(0, 99)) % len(alive)])
        elif deed == "fates":
            fates[:] = data.draw(st.lists(st.sampled_from(["done", "crash", "refused", "backpressure"]), max_size=3))
        elif deed == "cancel" and world.asked:
            world.cancel(data.draw(st.integers(1, len(world.asked))))
        elif deed == "snapshot":
            twin = Controller.restore(world.controller.snapshot())
        for _ in range(data.draw(st.integers(0, 4))):
            world.step()
        if deed == "wait":
            world.run_for(25 * MILLISECOND)
    world.drain()
    assert set(world.outcomes()) <= POSSIBLE | {"backpressure"}
    fresh = Controller()
    for entry in world.log:
        assert encode_actions(fresh.handle(entry.event, entry.now)) == encode_actions(entry.actions)
