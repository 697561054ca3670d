"""Forced re-granulations under an open-loop load: nothing is lost, repeated or wrong, and splitting costs nothing."""

import asyncio

from grainwise.cli.load_command import outputs_equal
from grainwise.cli.load_generator import Call, run_load, summarise
from grainwise.control.actions import Invoke, LoadStages, Reject, Respond, StartInstance
from grainwise.control.events import RequestArrived
from grainwise.domain.config import AppConfig
from grainwise.domain.time import SECOND
from grainwise.workloads.arrivals import Phase, arrivals

from .serving_harness import TEXT_APP, run, serve

TEXT = b'{"text": "Deep  GRAIN, wise words"}'
WORDS = "deep:4 grain:5 wise:4 words:5"
FUSED = "split+clean+count+join"
GRAINS = (
    "split",
    "fused",
    "split+clean+count | join",
    "fused",
    "split",
    "split | clean+count+join",
    "split | clean+count | join",
    "split+clean+count | join",
    "fused",
    "split",
)
RATE_PER_S = 60.0
ANSWERS_PER_CHANGE = 40
FUNCTIONS = AppConfig(replan_us=0, policies="fixed")
"""Every invocation runs a whole function, so that what runs says which granularity is served."""


class Steps:
    """What the controller did, in order, as an observer of the driver."""

    def __init__(self, graph):
        self.graph = graph
        self.actions = []
        self.arrived = 0

    def __call__(self, event, actions, now):
        self.arrived += isinstance(event, RequestArrived)
        self.actions.extend(actions)

    def masks(self, grain):
        return {self.graph.mask(group.split("+")) for group in grain.split(" | ")}

    def since(self, mark, kind):
        return [action for action in self.actions[mark:] if isinstance(action, kind)]


def test_ten_changes_under_load_lose_repeat_and_spoil_nothing(tmp_path):
    async def main():
        async with serve(TEXT_APP, tmp_path, grain="fused", config=FUNCTIONS) as live:
            steps = Steps(live.serving.spec.graph)
            live.serving.driver.observe(steps)
            call = Call(live.url, TEXT, "application/json", lambda body: outputs_equal(body, WORDS))
            steady = list(arrivals((Phase(RATE_PER_S, 3 * SECOND),), "poisson", 7))
            before = summarise(await run_load([call], steady))
            assert before.right >= 0.99 * before.offered, before
            is_done = asyncio.Event()

            async def change():
                try:
                    present = FUSED
                    for grain in GRAINS:
                        present = await change_and_settle(live, steps, present, grain)
                finally:
                    is_done.set()

            changing = asyncio.create_task(change())
            endless = arrivals((Phase(RATE_PER_S, 600 * SECOND),), "poisson", 8)
            samples = await run_load([call], while_open(endless, is_done))
            await changing
            during = summarise(samples)
            accepted = [sample for sample in samples if sample.status != 429]
            assert during.offered >= ANSWERS_PER_CHANGE * len(GRAINS)
            assert all(sample.status == 200 and sample.is_right for sample in accepted), during
            assert during.offered - len(accepted) < 0.01 * during.offered, during
            assert live.serving.controller.status(live.app).regranulations == len(GRAINS)
            answers = [action.request for action in steps.since(0, Respond | Reject)]
            assert len(answers) == len(set(answers)) == steps.arrived

    run(main(), 180.0)


async def change_and_settle(live, steps, present, grain):
    """Change, check what the change cost, and wait until every function that is new has run and enough was answered."""
    mark = len(steps.actions)
    reached = await live.change_to(grain)
    if present == FUSED:
        moved = steps.since(mark, StartInstance | LoadStages)
        assert not moved, f"from fused to {grain} something was started or loaded: {moved}"
    entered = len(steps.actions)
    fresh = steps.masks(reached) - steps.masks(present)
    assert fresh, f"{present} to {reached} is no change"

    def has_settled():
        extents = {action.extent for action in steps.since(mark, Invoke)}
        return extents >= fresh and len(steps.since(entered, Respond)) >= ANSWERS_PER_CHANGE

    await live.until(has_settled)
    extents = {action.extent for action in steps.since(entered, Invoke)}
    # What still runs on the old functions is what was in flight at the change.
    assert extents <= steps.masks(reached) | steps.masks(present)
    return reached


def while_open(instants, is_done):
    """Arrivals until the changes are over."""
    for instant in instants:
        if is_done.is_set():
            return
        yield instant
