"""What the world believes to be inside a request is what the flow really runs, at every granularity."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest

from grainwise.control.actions import Action, Respond
from grainwise.control.events import Event, InvocationDone
from grainwise.control.invariants import Monitor, check_state
from grainwise.domain.app import AppSpec
from grainwise.domain.config import AppConfig
from grainwise.domain.extent import make_extent
from grainwise.domain.machine import Node
from grainwise.domain.plan import Grain
from grainwise.domain.time import SECOND
from grainwise.runtimes.execute import Resident
from grainwise.simulation.cluster import ClusterNode
from grainwise.simulation.contents import Kind
from grainwise.simulation.run import Scenario, Simulation
from grainwise.workloads.traffic import Arrival
from worlds.apps import SHAPES
from worlds.grains import legal_grains
from worlds.simulated import cluster, simulated

VALUES = (0, 1, 2, 7, 13, 24, 34)
MOST_GRAINS = 25
ROOMY = cluster(ClusterNode(Node("here", 64.0, 64_000.0)))


def arguments_of(spec: AppSpec, value: int) -> tuple[Any, ...]:
    """Arguments of a flow that fit its entry types."""
    made = {"integer": value, "list": [value + at for at in range(value % 5)]}
    return tuple(made[entry.kind] for entry in spec.inputs)


@cache
def kinds_of(shape: str) -> tuple[Kind, ...]:
    """Kinds of requests, from how often each stage runs in the product's own runtime."""
    app = SHAPES[shape]()
    spec = app.spec(b"")
    resident = Resident(app, spec, lambda: 0)
    resident.load(spec.graph.all_mask)
    whole = make_extent(spec.graph, spec.graph.all_mask)
    stages = len(spec.graph.stages)
    found = []
    for value in VALUES:
        counts: Counter[int] = Counter()
        for span in resident.run(whole, [arguments_of(spec, value)]).spans:
            counts[span.stage] += span.items
        found.append(Kind(tuple(counts[at] for at in range(stages)), (1.0,) * stages, (8,) * stages, (8,) * len(spec.inputs)))
    return tuple(found)


def executions(shape: str, grain: Grain, kinds: tuple[Kind, ...]) -> tuple[Counter[int], int]:
    """Executions of each stage when one request of each kind is simulated, and how many were answered."""
    config = AppConfig(replan_us=0, policies="fixed")
    calls = [100.0] * len(kinds[0].counts)
    app = simulated(SHAPES[shape](), grain, kinds=kinds, max_batch=4, service_us=calls, config=config)
    name = app.spec.name
    monitor, seen, answered = Monitor(), Counter[int](), 0

    def observe(event: Event, actions: Sequence[Action], now: int) -> None:
        nonlocal answered
        monitor.observe(event, list(actions), now)
        check_state(simulation.controller, monitor)
        answered += sum(isinstance(action, Respond) for action in actions)
        if isinstance(event, InvocationDone):
            for span in event.spans:
                seen[span.stage] += span.items

    arrivals = [Arrival(1000 * at, name) for at in range(len(kinds))]
    scenario = Scenario(ROOMY, (app,), SECOND)
    simulation = Simulation(scenario, iter(arrivals), kind_of=lambda number: number - 1)
    simulation.loop.observe(observe)
    simulation.run()
    assert simulation.store.live_bytes == 0
    return seen, answered


@pytest.mark.parametrize("shape", SHAPES)
def test_stages_run_as_often_as_the_flow_runs_them(shape: str) -> None:
    kinds = kinds_of(shape)
    graph = SHAPES[shape]().spec(b"").graph
    grains = legal_grains(graph)
    # Fused and split are the ends of the list; of a long one every so many in between.
    for grain in grains[:: -(-len(grains) // MOST_GRAINS)] + grains[-1:]:
        seen, answered = executions(shape, grain, kinds)
        assert answered == len(kinds)
        expected = {at: sum(kind.counts[at] for kind in kinds) for at in range(len(graph.stages))}
        # Who waits for an answer does not wait for what nobody reads: that may not have run by then.
        unread = {at for at in expected if shape == "unread" and graph.stages[at].name == "negate"}
        assert {at: seen[at] for at in expected if at not in unread} == {
            at: expected[at] for at in expected if at not in unread
        }
        assert all(seen[at] <= expected[at] for at in unread), grain
