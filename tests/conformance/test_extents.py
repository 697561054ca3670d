"""Every runtime runs every legal extent of every shape of flow, and the answers are those of the eager flow."""

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest
from conformance_world import load_app, run, world

from grainwise.domain.config import AppConfig
from worlds.grains import legal_grains

APPS = Path(__file__).parent / "apps"
TESTS = Path(__file__).parents[1]
ARGUMENTS = {
    "outer": [(value, 3 * value + 1) for value in range(7)],
    "listed": [(list(range(count)),) for count in range(6)],
    "choice_on_element": [(list(range(count)),) for count in range(6)],
}
"""Requests of each shape; elsewhere the numbers 0 to 6, among which are empty lists and every branch."""

GRAINS = 12


def shape_file(folder: Path, shape: str) -> Path:
    path = folder / f"{shape}_app.py"
    path.write_text(
        f"import sys\n\nsys.path.insert(0, {str(TESTS)!r})\n\nfrom worlds.apps import SHAPES\n\napp = SHAPES[{shape!r}](3)\n"
    )
    return path


def chosen(graph):
    """All granularities, or an even choice of them that begins fused and ends split."""
    found = legal_grains(graph)
    if len(found) <= GRAINS:
        return found
    return [found[round(at * (len(found) - 1) / (GRAINS - 1))] for at in range(GRAINS)]


@pytest.mark.parametrize(
    "shape",
    [
        "chain",
        "diamond",
        "fan",
        "listed",
        "nested",
        "twice",
        "choice",
        "choice_within",
        "choice_of_lists",
        "choice_on_element",
        "outer",
        "several",
    ],
)
def test_every_extent_gives_what_the_eager_flow_gives(platform, folder, shape):
    path = shape_file(folder, shape)

    async def main():
        async with world(platform, path, folder) as served:
            flow = served.opened.app._flow
            requests = ARGUMENTS.get(shape) or [(value,) for value in range(7)]
            expected = [flow(*arguments) for arguments in requests]
            seen = set()
            for grain in chosen(served.graph):
                await served.change_to(grain)
                answers = await asyncio.gather(*(served.ask(*arguments) for arguments in requests))
                assert answers == expected, grain
                seen |= {served.graph.mask(group) for group in grain}
            assert served.extents() == seen

    run(main())


@pytest.mark.parametrize("is_split", [False, True])
def test_every_kind_of_value_crosses_every_edge(platform, folder, is_split):
    path = Path(shutil.copy(APPS / "values.py", folder / "values.py"))

    async def main():
        graph = load_app(path).graph
        split = tuple((name,) for name in graph.index_by_name)
        async with world(platform, path, folder, grain=split if is_split else None) as served:
            flow = served.opened.app._flow
            pictures = [np.arange(height * 700, dtype=np.uint8).reshape(height, 700) for height in (0, 1, 5, 7)]
            for grain in (split, *legal_grains(served.graph)[:4]):
                await served.change_to(grain)
                asked = [(picture, 0.5, "π ", b"\x00\xff" * 1000) for picture in pictures]
                answers = await asyncio.gather(*(served.ask(*arguments) for arguments in asked))
                for arguments, (rows, counts, crops) in zip(asked, answers, strict=True):
                    wanted_rows, wanted_counts, wanted_crops = flow(*arguments)
                    np.testing.assert_array_equal(rows, wanted_rows)
                    assert rows.dtype == np.int32
                    assert counts == wanted_counts
                    assert [crop["box"]["score"] for crop in crops] == [crop.box.score for crop in wanted_crops]
                    assert [list(crop["pixels"]) for crop in crops] == [list(crop.pixels) for crop in wanted_crops]

    run(main())


@pytest.mark.parametrize("shape", ["chain", "diamond", "fan", "nested", "choice_within", "several"])
def test_extents_decided_at_dispatch_give_what_the_eager_flow_gives(platform, folder, shape):
    path = shape_file(folder, shape)

    async def main():
        config = AppConfig(replan_us=0, policies="adaptive")
        async with world(platform, path, folder, config=config, instances=2) as served:
            flow = served.opened.app._flow
            requests = ARGUMENTS.get(shape) or [(value,) for value in range(7)]
            answers = await asyncio.gather(*(served.ask(*arguments) for arguments in requests))
            assert answers == [flow(*arguments) for arguments in requests]

    run(main())
