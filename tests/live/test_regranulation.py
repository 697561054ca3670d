"""Ten forced re-granulations under an open-loop load: nothing is lost, repeated or wrong, and splitting costs nothing."""

import asyncio

from grainwise.cli.load_command import outputs_equal
from grainwise.cli.load_generator import Call, run_load, summarise
from grainwise.control.actions import Invoke, LoadStages, Reject, Respond, StartInstance
from grainwise.control.events import RequestArrived
from grainwise.control.log import Entry
from grainwise.domain.time import SECOND
from grainwise.workloads.arrivals import Phase, arrivals

from .serving_harness import TEXT_APP, run, serve

TEXT = b'{"text": "Deep  GRAIN, wise words"}'
WORDS = "deep:4 grain:5 wise:4 words:5"
GRAINS = (
    "split",
    "fused",
    "split+clean+count | join",
    "split",
    "split | clean+count+join",
    "fused",
    "split | clean+count | join",
    "split | clean | count | join",
    "split+clean+count+join",
    "split",
)
RATE_PER_S = 30.0


def extents(entries: list[Entry], since: int) -> set[int]:
    return {action.extent for entry in entries if entry.seq >= since for action in entry.actions if isinstance(action, Invoke)}


def test_ten_changes_under_load_lose_repeat_and_spoil_nothing(tmp_path):
    async def main():
        async with serve(TEXT_APP, tmp_path, grain="fused") as live:
            graph = live.serving.spec.graph
            call = Call(live.url, TEXT, "application/json", lambda body: outputs_equal(body, WORDS))
            steady = list(arrivals((Phase(RATE_PER_S, 3 * SECOND),), "poisson", 7))
            before = summarise(await run_load([call], steady))
            assert before.right >= 0.99 * before.offered, before
            seen: dict[str, set[int]] = {}
            is_done = asyncio.Event()

            async def change() -> None:
                try:
                    for grain in GRAINS:
                        was_fused = live.serving.controller.status(live.app).grain == "split+clean+count+join"
                        mark = len(live.entries())
                        reached = await live.change_to(grain)
                        since = live.entries()[mark:]
                        if was_fused and grain == "split":
                            moved = [a for e in since for a in e.actions if isinstance(a, StartInstance | LoadStages)]
                            assert not moved, f"splitting started or loaded: {moved}"
                        await until_invoked(live, reached)
                        seen[reached] = extents(live.entries(), since[-1].seq if since else 0)
                finally:
                    is_done.set()

            changing = asyncio.create_task(change())
            endless = arrivals((Phase(RATE_PER_S, 600 * SECOND),), "poisson", 8)
            samples = await run_load([call], while_open(endless, is_done))
            await changing
            during = summarise(samples)
            accepted = [sample for sample in samples if sample.status != 429]
            assert all(sample.status == 200 and sample.is_right for sample in accepted), during
            assert during.offered - len(accepted) < 0.01 * during.offered, during
            assert live.serving.controller.status(live.app).regranulations >= len(GRAINS) - 1
            for grain, masks in seen.items():
                groups = {graph.mask(group.split("+")) for group in grain.split(" | ")}
                assert masks & groups, f"no invocation ran an extent of {grain}: {masks}"
            answers: dict[int, int] = {}
            for entry in live.entries():
                for action in entry.actions:
                    if isinstance(action, Respond | Reject):
                        answers[action.request] = answers.get(action.request, 0) + 1
            arrived = {entry.event.request for entry in live.entries() if isinstance(entry.event, RequestArrived)}
            assert set(answers) == arrived
            assert set(answers.values()) == {1}

    run(main(), 180.0)


def while_open(instants, is_done):
    """Arrivals until the changes are over."""
    for instant in instants:
        if is_done.is_set():
            return
        yield instant


async def until_invoked(live, grain):
    """Wait until an invocation has run an extent of ``grain``."""
    graph = live.serving.spec.graph
    groups = {graph.mask(group.split("+")) for group in grain.split(" | ")}
    found = asyncio.Event()

    def look(event, actions, now):
        if any(isinstance(action, Invoke) and action.extent in groups for action in actions):
            found.set()

    live.serving.driver.observe(look)
    try:
        await asyncio.wait_for(found.wait(), 30)
    finally:
        live.serving.driver.unobserve(look)
