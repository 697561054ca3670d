"""The executor against plain eager Python on random flows, fused and cut in any legal way."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_flows import ThirteenError, flows, is_legal, make_app, run_chain

from grainwise.domain.extent import make_extent
from grainwise.domain.graph import Graph
from grainwise.runtimes.execute import Resident

unhurried = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=150)
requests = st.lists(st.tuples(st.integers(-20, 40), st.lists(st.integers(0, 30), max_size=4)), min_size=1, max_size=4)
batches = st.lists(st.integers(1, 5), min_size=5, max_size=5)


def resident_of(app: Any) -> Resident:
    ticks = iter(range(10**9))
    resident = Resident(app, app.spec(b""), lambda: next(ticks))
    resident.load(resident.graph.all_mask)
    return resident


def eagerly(flow: Any, request: tuple[int, list[int]]) -> int | None:
    try:
        return int(flow(*request))
    except ThirteenError:
        return None


@unhurried
@given(flows, batches, requests)
def test_a_fused_extent_gives_what_the_eager_flow_gives(ops: Any, sizes: Any, asked: Any) -> None:
    app, flow = make_app(ops, sizes)
    resident = resident_of(app)
    extent = make_extent(resident.graph, resident.graph.all_mask)
    results = resident.run(
        extent, [[dict(zip((0, 1), request, strict=True))[source.index] for source in extent.inputs] for request in asked]
    ).results  # type: ignore[union-attr]
    for request, result in zip(asked, results, strict=True):
        expected = eagerly(flow, request)
        if expected is None:
            assert not isinstance(result, tuple)
            assert result.kind == "raised"
            assert result.reason.startswith("ThirteenError: ")
        else:
            assert result == (expected,)


@unhurried
@given(flows, batches, requests, st.data())
def test_a_chain_of_extents_gives_what_the_eager_flow_gives(ops: Any, sizes: Any, asked: Any, data: st.DataObject) -> None:
    app, flow = make_app(ops, sizes)
    resident = resident_of(app)
    groups = draw_groups(resident.graph, data)
    for request in asked:
        expected = eagerly(flow, request)
        assert run_chain(resident, groups, request) == (None if expected is None else (expected,))


def draw_groups(graph: Graph, data: st.DataObject) -> list[int]:
    """Consecutive stages, grouped where the drawn cuts and the rules of fan-outs allow it."""
    groups: list[int] = []
    index = 0
    while index < len(graph.stages):
        longest = data.draw(st.integers(1, len(graph.stages) - index))
        for length in range(longest, 0, -1):
            mask = ((1 << length) - 1) << index
            if length == 1 or is_legal(graph, mask):
                groups.append(mask)
                index += length
                break
    return groups
