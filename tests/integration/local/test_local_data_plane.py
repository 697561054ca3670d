"""Arrays go from the door through every instance without a copy, and no byte stays when no one needs it."""

import asyncio

import numpy as np
import pytest
from local_world import TEST, World, open_world

from grainwise.control.actions import KillInstance
from grainwise.control.events import InstanceStopped, InvocationDone, InvocationFailed
from grainwise.domain.values import Payload, Ref

ARRAY_APP = """
import numpy as np
import grainwise
from numpy.typing import NDArray
from grainwise import App, Batch, Slo, each

app = App("arrays", slo=Slo(latency_ms=100))
Image = NDArray[np.uint8]

@app.stage(max_batch=8)
def invert(images: Batch[Image]) -> Batch[Image]:
    results = []
    for image in images:
        result = grainwise.empty(image.shape, image.dtype)
        np.subtract(255, image, out=result)
        results.append(result)
    return results

@app.stage(max_batch=8)
def crop(images: Batch[Image]) -> Batch[Image]:
    return [image[10:] for image in images]

@app.stage(max_batch=8)
def heap(images: Batch[Image]) -> Batch[Image]:
    return [image + 1 for image in images]

class Remember:
    def __init__(self) -> None:
        self.last: Image | None = None
    def __call__(self, images: Batch[Image]) -> Batch[int]:
        totals = []
        for image in images:
            totals.append(int(self.last.sum()) if self.last is not None else -1)
            self.last = image
        return totals

remember = app.stage(Remember, max_batch=8)

@app.flow
def flow(image: Image) -> int:
    return remember(heap(crop(invert(image))))
"""

SHAPE = (448, 448, 3)
NBYTES = 448 * 448 * 3


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, SHAPE, dtype=np.uint8)


def deliver(world: World, array: np.ndarray) -> Payload:
    """What the door does: the bytes are read into place, and published there."""
    reservation = world.store.reserve(array.nbytes)
    reservation.view[:] = array.tobytes()
    stored = reservation.tensor(0, array.nbytes, array.dtype.name, array.shape)
    reservation.close()
    return Payload((Ref(stored.handle, stored.nbytes),))


def test_an_array_passes_between_instances_without_a_copy(tmp_path):
    async def story():
        async with open_world(tmp_path, ARRAY_APP) as world:
            await world.start(1, "invert")
            await world.start(2, "crop")
            for seed in range(20):
                array = image(seed)
                entry = deliver(world, array)
                (inverted,) = await world.run(1, ("invert",), (entry,))
                world.release(entry)
                (cropped,) = await world.run(2, ("crop",), (inverted.outputs[0],))
                world.release(inverted.outputs[0])
                assert (world.get(cropped.outputs[0]) == 255 - array[10:]).all()
                world.release(cropped.outputs[0])
            assert world.store.copied_bytes == 0
            world.assert_nothing_lives()
            assert world.store.resident_bytes < 4 * 2 * NBYTES

    asyncio.run(story())


def test_an_array_of_the_heap_costs_one_copy_and_it_is_counted(tmp_path):
    async def story():
        async with open_world(tmp_path, ARRAY_APP) as world:
            await world.start(1, "invert", "crop", "heap")
            entry = deliver(world, image(1))
            (result,) = await world.run(1, ("invert", "crop", "heap"), (entry,))
            assert (world.get(result.outputs[0]) == (255 - image(1))[10:] + 1).all()
            assert world.store.copied_bytes == NBYTES - 10 * 448 * 3
            world.release(entry, result.outputs[0])
            world.assert_nothing_lives()

    asyncio.run(story())


def test_results_of_an_ended_instance_stay_readable_until_they_are_released(tmp_path):
    async def story():
        async with open_world(tmp_path, ARRAY_APP) as world:
            await world.start(1, "invert")
            await world.start(2, "crop")
            entry = deliver(world, image(1))
            (inverted,) = await world.run(1, ("invert",), (entry,))
            world.runtime.kill(KillInstance(1, TEST))
            await world.expect(InstanceStopped)
            arenas = len(world.store.regions.arenas)
            (cropped,) = await world.run(2, ("crop",), (inverted.outputs[0],))
            world.release(entry, inverted.outputs[0])
            assert (world.get(cropped.outputs[0]) == (255 - image(1))[10:]).all()
            world.release(cropped.outputs[0])
            world.assert_nothing_lives()
            assert len(world.store.regions.arenas) == arenas - 1

    asyncio.run(story())


def test_inputs_that_are_released_early_stay_for_the_invocation_that_reads_them(tmp_path):
    async def story():
        async with open_world(tmp_path, ARRAY_APP) as world:
            await world.start(1, "invert")
            entry = deliver(world, image(1))
            world.invoke(1, ("invert",), (entry,))
            world.release(entry)
            others = [deliver(world, image(seed)) for seed in range(2, 5)]
            done = await world.expect(InvocationDone)
            assert (world.get(done.results[0].outputs[0]) == 255 - image(1)).all()
            world.release(*others, done.results[0].outputs[0])
            world.assert_nothing_lives()

    asyncio.run(story())


def test_an_input_that_a_stage_keeps_is_not_overwritten(tmp_path):
    async def story():
        async with open_world(tmp_path, ARRAY_APP) as world:
            await world.start(1, "remember")
            expected = -1
            for seed in range(6):
                entry = deliver(world, image(seed))
                (result,) = await world.run(1, ("remember",), (entry,))
                assert world.get(result.outputs[0]) == expected
                expected = int(image(seed).sum())
                world.release(entry, result.outputs[0])
                world.assert_nothing_lives()
                # Something else is written wherever there is room.
                other = deliver(world, np.zeros(SHAPE, np.uint8))
                world.release(other)
            assert len(world.store.regions.arenas[0].regions) == 1
            world.runtime.kill(KillInstance(1, TEST))
            await world.expect(InstanceStopped)
            assert world.store.regions.arenas[0].regions == {}

    asyncio.run(story())


def test_a_full_arena_of_an_instance_is_backpressure_and_passes(tmp_path):
    async def story():
        async with open_world(tmp_path, ARRAY_APP, arena_mib=4) as world:
            await world.start(1, "invert")
            entry = deliver(world, image(1))
            held = []
            failed = None
            while failed is None:
                world.invoke(1, ("invert",), (entry,))
                event = await world.expect(InvocationDone | InvocationFailed)
                if isinstance(event, InvocationFailed):
                    failed = event
                else:
                    held.append(event.results[0].outputs[0])
                assert len(held) < 10
            assert failed.kind == "backpressure"
            assert len(held) >= 5
            world.release(*held)
            (result,) = await world.run(1, ("invert",), (entry,))
            world.release(entry, result.outputs[0])
            world.assert_nothing_lives()

    asyncio.run(story())


def test_room_that_comes_while_a_result_waits_is_used(tmp_path):
    async def story():
        async with open_world(tmp_path, ARRAY_APP, arena_mib=4) as world:
            await world.start(1, "invert")
            entry = deliver(world, image(1))
            held = [(await world.run(1, ("invert",), (entry,)))[0].outputs[0] for _ in range(6)]
            world.invoke(1, ("invert",), (entry,))
            world.release(*held)
            done = await world.expect(InvocationDone)
            world.release(entry, done.results[0].outputs[0])
            world.assert_nothing_lives()

    asyncio.run(story())


@pytest.mark.parametrize("batch", [1, 8])
def test_many_small_invocations_leave_nothing(tmp_path, batch):
    async def story():
        async with open_world(tmp_path, ARRAY_APP) as world:
            await world.start(1, "invert", "crop")
            for _ in range(50):
                entries = [deliver(world, np.full((20, 4), seed, np.uint8)) for seed in range(batch)]
                results = await world.run(1, ("invert", "crop"), *[(entry,) for entry in entries])
                for seed, result in enumerate(results):
                    assert (world.get(result.outputs[0]) == 255 - seed).all()
                    world.release(result.outputs[0])
                world.release(*entries)
            world.assert_nothing_lives()

    asyncio.run(story())
