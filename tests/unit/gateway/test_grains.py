"""Granularities as people write them: words, groups, and why an illegal one is refused."""

import pytest

from grainwise.domain.graph import EachNode, Element, Gathered, Graph, Input, Output, StageNode
from grainwise.gateway.errors import FieldError
from grainwise.gateway.grains import parse_grain
from worlds.problems import chain_graph, graph_of, spec_of

CHAIN = spec_of(chain_graph(3))
TRIANGLE = spec_of(graph_of((), (0,), (0, 1)))
FOUR_EDGES = spec_of(graph_of((), (), (0, 1), (0, 1)))
FAN = spec_of(
    Graph(
        ("value",),
        (
            StageNode("spread", "spread", (Input(0),)),
            StageNode("inner", "inner", (Element(0),), (0,)),
            StageNode("outer", "outer", (Output(1),), (0,)),
            StageNode("total", "total", (Gathered(0),)),
        ),
        (EachNode(Output(0), Output(2)),),
        (Output(3),),
        ("result",),
    )
)
APART = spec_of(graph_of((), ()))


@pytest.mark.parametrize(
    ("text", "grain"),
    [
        ("fused", (("s0", "s1", "s2"),)),
        (" split ", (("s0",), ("s1",), ("s2",))),
        ("s2 | s1+s0", (("s0", "s1"), ("s2",))),
    ],
)
def test_groups_and_stages_come_in_the_order_of_the_graph(text: str, grain: tuple[tuple[str, ...], ...]) -> None:
    assert parse_grain(CHAIN, text) == grain


@pytest.mark.parametrize(
    ("spec", "text", "said"),
    [
        (CHAIN, "s0+s2 | s1", "s0, s2 are not connected"),
        (TRIANGLE, "s0+s2 | s1", "a path leaves the group and comes back through s1"),
        (FOUR_EDGES, "s0+s2 | s1+s3", r"s0\+s2 and s1\+s3 wait for one another"),
        (FAN, "spread+inner | outer | total", "must hold the whole body: outer missing"),
        (APART, "fused", "s0, s1 are not connected"),
        (CHAIN, "s0+s1", "missing: s2"),
        (CHAIN, "s0+s1 | s1+s2", "'s1' is named twice"),
        (CHAIN, "s0 | s1 | s9", "no stage 's9'; say fused, split, or group s0, s1, s2"),
        (CHAIN, "", "no stage ''"),
    ],
)
def test_a_grain_that_cannot_be_is_refused_with_the_reason(spec: object, text: str, said: str) -> None:
    with pytest.raises(FieldError, match=said):
        parse_grain(spec, text)  # type: ignore[arg-type]
