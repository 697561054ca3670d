"""Real processes: they start, load, run extents, stop, crash, hang and are killed."""

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest
from local_world import TEST, open_world

from grainwise.control.actions import CancelInvocation, KillInstance, LoadStages, StopInstance
from grainwise.control.events import (
    InstanceFailed,
    InstanceStopped,
    InvocationDone,
    InvocationFailed,
    StagesLoaded,
)
from grainwise.domain.errors import DeclarationError
from grainwise.domain.values import SKIPPED, Payload
from grainwise.runtimes.local import fleet
from grainwise.runtimes.local.runtime import LocalRuntime

TEXT_APP = """
import ctypes, os, signal, time
from dataclasses import dataclass
from grainwise import App, Batch, Slo, Failed, each, choose, sizes

app = App("text", slo=Slo(latency_ms=100))

@dataclass
class Word:
    text: str
    length: int

@app.stage(max_batch=4, size=sizes.length)
def split(texts: Batch[str]) -> Batch[list[str]]:
    for text in texts:
        if text == "exit":
            os._exit(3)
        if text == "segfault":
            ctypes.string_at(0)
        if text == "hang":
            while True:
                time.sleep(60)
        if text == "raise":
            raise ValueError("no such text")
        if text == "leave":
            raise SystemExit(4)
    return [text.split() for text in texts]

@app.stage(max_batch=4, size=sizes.length)
def measure(words: Batch[str]) -> Batch[Word]:
    return [Failed("empty word") if word == "-" else Word(word, "three" if word == "bad" else len(word)) for word in words]

class Join:
    def __init__(self) -> None:
        if os.path.exists(__file__ + ".broken"):
            raise RuntimeError("no model file")
        self.calls = 0
    def __call__(self, lists: Batch[list[Word]]) -> Batch[str]:
        self.calls += 1
        return [" ".join(f"{word.text}:{word.length}" for word in words) for words in lists]

join = app.stage(Join, max_batch=4)

@app.flow
def flow(text: str) -> str:
    return join(each(measure, split(text)))
"""

ALL = ("split", "measure", "join")


def test_an_app_runs_fused_and_split_with_the_same_answer(tmp_path):
    async def story():
        async with open_world(tmp_path, TEXT_APP) as world:
            ready = await world.start(1, *ALL)
            assert ready.process_us > 0
            assert ready.memory_mib > 1
            text = world.put("deep grain wise")
            (result,) = await world.run(1, ALL, (text,))
            assert world.get(result.outputs[0]) == "deep:4 grain:5 wise:4"
            world.release(result.outputs[0])
            await world.start(2, "split")
            await world.start(3, "measure", "join")
            (words,) = await world.run(2, ("split",), (text,))
            assert words.outputs[0].shape == "many"
            assert [ref.sizes for ref in words.outputs[0].refs] == [(4.0,), (5.0,), (4.0,)]
            assert world.get(words.outputs[0]) == ["deep", "grain", "wise"]
            singles = [(Payload((ref,)),) for ref in words.outputs[0].refs]
            measured = await world.run(1, ("measure",), *singles)
            assert world.get(measured[1].outputs[0]) == {"text": "grain", "length": 5}
            gathered = Payload(tuple(item.outputs[0].refs[0] for item in measured), "many")
            (joined,) = await world.run(3, ("join",), (gathered,))
            assert world.get(joined.outputs[0]) == "deep:4 grain:5 wise:4"
            (joined_too,) = await world.run(3, ("measure", "join"), (words.outputs[0],))
            assert world.get(joined_too.outputs[0]) == "deep:4 grain:5 wise:4"
            world.release(text, words.outputs[0], gathered, joined.outputs[0], joined_too.outputs[0])
            world.assert_nothing_lives()
            world.runtime.stop(StopInstance(1, TEST))
            assert await world.expect(InstanceStopped) == InstanceStopped(1)

    asyncio.run(story())


def test_stages_are_loaded_into_a_running_instance_and_a_failed_load_keeps_the_old_ones(tmp_path):
    async def story():
        async with open_world(tmp_path, TEXT_APP) as world:
            await world.start(1, "split")
            broken = tmp_path / "app.py.broken"
            broken.touch()
            mask = world.graph.mask(["join"])
            world.runtime.load(LoadStages(1, mask, TEST))
            loaded = await world.expect(StagesLoaded)
            assert "no model file" in loaded.error
            text = world.put("a b")
            (words,) = await world.run(1, ("split",), (text,))
            world.invoke(1, ("join",), (words.outputs[0],))
            refused = await world.expect(InvocationFailed)
            assert refused.kind == "refused"
            assert "join" in refused.detail
            broken.unlink()
            world.runtime.load(LoadStages(1, world.graph.mask(["measure", "join"]), TEST))
            assert (await world.expect(StagesLoaded)).error == ""
            (result,) = await world.run(1, ALL, (text,))
            assert world.get(result.outputs[0]) == "a:1 b:1"
            world.release(text, words.outputs[0], result.outputs[0])
            world.assert_nothing_lives()

    asyncio.run(story())


def test_a_constructor_that_fails_ends_the_start_with_its_reason(tmp_path):
    (tmp_path / "app.py.broken").touch()

    async def story():
        async with open_world(tmp_path, TEXT_APP) as world:
            world.begin(1, *ALL)
            failed = await world.expect(InstanceFailed)
            assert failed.cause == "starting"
            assert failed.stage == "join"
            assert "no model file" in failed.detail

    asyncio.run(story())


def test_failures_of_items_leave_the_instance_and_their_neighbours_alone(tmp_path):
    async def story():
        async with open_world(tmp_path, TEXT_APP) as world:
            await world.start(1, *ALL)
            texts = [world.put(text) for text in ("a -", "fine")]
            declared, fine = await world.run(1, ALL, *[(text,) for text in texts])
            assert (declared.failure.stage, declared.failure.kind) == ("measure", "declared")
            assert world.get(fine.outputs[0]) == "fine:4"
            for poison in ("raise", "leave"):
                text = world.put(poison)
                (raised,) = await world.run(1, ALL, (text,))
                assert (raised.failure.stage, raised.failure.kind) == ("split", "raised")
                world.release(text)
            world.release(*texts, fine.outputs[0])
            world.assert_nothing_lives()

    asyncio.run(story())


def test_a_result_of_another_type_is_a_failure_that_names_the_stage(tmp_path):
    async def story():
        async with open_world(tmp_path, TEXT_APP) as world:
            await world.start(1, "split", "measure")
            text = world.put("bad")
            fine = world.put("fine")
            value, good = await world.run(1, ("split", "measure"), (text,), (fine,))
            assert (value.failure.stage, value.failure.kind) == ("measure", "value")
            assert world.get(good.outputs[0]) == [{"text": "fine", "length": 4}]
            world.release(text, fine, good.outputs[0])
            world.assert_nothing_lives()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("poison", "how"),
    [("exit", "exited with status 3"), ("segfault", "was killed by SIGSEGV"), ("hang", "was killed by SIGKILL")],
)
def test_a_process_that_ends_is_lost_and_its_stage_is_named(tmp_path, poison, how):
    async def story():
        async with open_world(tmp_path, TEXT_APP) as world:
            await world.start(1, *ALL)
            text = world.put(poison)
            world.invoke(1, ALL, (text,))
            if poison == "hang":
                process = psutil.Process(world.runtime.pid(1))
                while world.runtime.stage_of(1) != "split":
                    await asyncio.sleep(0)
                process.kill()
            lost = await world.expect(InstanceFailed)
            assert lost == InstanceFailed(1, "lost", how, "split")
            world.release(text)
            world.assert_nothing_lives()
            await world.start(2, *ALL)

    asyncio.run(story())


def test_a_hung_instance_is_killed_and_says_so_once(tmp_path):
    async def story():
        async with open_world(tmp_path, TEXT_APP) as world:
            await world.start(1, *ALL, cpu_cores=0.1)
            text = world.put("hang")
            world.invoke(1, ALL, (text,), cpu_cores=0.1)
            pid = world.runtime.pid(1)
            world.runtime.kill(KillInstance(1, TEST))
            assert await world.expect(InstanceStopped) == InstanceStopped(1)
            assert not psutil.pid_exists(pid)
            assert world.events.empty()
            world.release(text)
            world.assert_nothing_lives()

    asyncio.run(story())


def test_a_stopped_process_can_be_killed(tmp_path):
    async def story():
        async with open_world(tmp_path, TEXT_APP) as world:
            await world.start(1, *ALL)
            os.kill(world.runtime.pid(1), signal.SIGSTOP)
            world.runtime.kill(KillInstance(1, TEST))
            await world.expect(InstanceStopped)

    asyncio.run(story())


def test_an_idle_instance_that_does_not_answer_is_hung_and_one_that_does_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(fleet, "_LOOK_S", 0.05)
    monkeypatch.setattr(fleet, "_SILENT_S", 0.1)
    monkeypatch.setattr(fleet, "_ANSWER_S", 1.0)

    async def story():
        async with open_world(tmp_path, TEXT_APP) as world:
            await world.start(1, *ALL)
            await world.start(2, *ALL)
            os.kill(world.runtime.pid(1), signal.SIGSTOP)
            failed = await world.expect(InstanceFailed)
            assert (failed.instance, failed.cause) == (1, "hung")
            text = world.put("still here")
            (result,) = await world.run(2, ALL, (text,))
            world.release(text, result.outputs[0])
            world.assert_nothing_lives()

    asyncio.run(story())


def test_an_instance_that_is_never_ready_fails_and_names_its_stage(tmp_path):
    source = TEXT_APP.replace("self.calls = 0", "time.sleep(60)")

    async def story():
        async with open_world(tmp_path, source, start_limit_s=0.5) as world:
            world.begin(1, *ALL)
            failed = await world.expect(InstanceFailed)
            assert (failed.cause, failed.stage) == ("starting", "join")
            assert "not ready after 0.5 s" in failed.detail

    asyncio.run(story())


def test_an_instance_can_be_killed_before_it_is_ready(tmp_path):
    async def story():
        async with open_world(tmp_path, TEXT_APP) as world:
            world.begin(1, *ALL)
            world.runtime.kill(KillInstance(1, TEST))
            assert await world.expect(InstanceStopped) == InstanceStopped(1)

    asyncio.run(story())


def test_what_has_not_begun_is_cancelled(tmp_path):
    async def story():
        async with open_world(tmp_path, TEXT_APP) as world:
            await world.start(1, *ALL)
            text = world.put("a")
            # The process stands still while all this arrives, so that the order of its messages is the only order there is.
            os.kill(world.runtime.pid(1), signal.SIGSTOP)
            first = world.invoke(1, ALL, (text,))
            second = world.invoke(1, ALL, (text,))
            world.runtime.cancel(CancelInvocation(second, 1))
            os.kill(world.runtime.pid(1), signal.SIGCONT)
            answers = [await world.expect(InvocationDone | InvocationFailed) for _ in range(2)]
            done = next(answer for answer in answers if isinstance(answer, InvocationDone))
            cancelled = next(answer for answer in answers if isinstance(answer, InvocationFailed))
            assert done.invocation == first
            assert (cancelled.invocation, cancelled.kind) == (second, "cancelled")
            world.release(text, done.results[0].outputs[0])
            world.assert_nothing_lives()

    asyncio.run(story())


def test_an_instance_that_does_not_exist_refuses(tmp_path):
    async def story():
        async with open_world(tmp_path, TEXT_APP) as world:
            text = world.put("a")
            world.invoke(9, ALL, (text,))
            assert (await world.expect(InvocationFailed)).kind == "refused"
            world.runtime.kill(KillInstance(9, TEST))
            world.runtime.stop(StopInstance(9, TEST))
            world.release(text)
            world.assert_nothing_lives()

    asyncio.run(story())


def test_the_zygote_may_die_and_the_next_start_imports_again(tmp_path):
    async def story():
        async with open_world(tmp_path, TEXT_APP) as world:
            await world.start(1, *ALL)
            psutil.Process(world.runtime.zygote_pid).kill()
            lost = await world.expect(InstanceFailed)
            assert (lost.instance, lost.cause) == (1, "lost")
            await world.start(2, *ALL)

    asyncio.run(story())


def test_an_app_file_that_changed_is_not_started_again(tmp_path):
    async def story():
        async with open_world(tmp_path, TEXT_APP) as world:
            path = tmp_path / "app.py"
            path.write_text(path.read_text().replace("latency_ms=100", "latency_ms=200"))
            zygote = psutil.Process(world.runtime.zygote_pid)
            await world.start(1, *ALL)
            zygote.kill()
            await world.expect(InstanceFailed)
            world.begin(2, *ALL)
            failed = await world.expect(InstanceFailed)
            assert (failed.instance, failed.cause) == (2, "starting")
            assert "restart the server" in failed.detail

    asyncio.run(story())


def test_a_first_call_is_made_when_an_input_is_given(tmp_path):
    async def story():
        async with open_world(tmp_path, TEXT_APP) as world:
            text = world.put("warm up")
            world.runtime.warm_up(world.graph.all_mask, (text,))
            ready = await world.start(1, *ALL)
            assert ready.first_call_us > 0
            world.release(text)
            world.assert_nothing_lives()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def broken(:", "syntax error"),
        ("x = 1", "holds no app"),
        ("import threading; threading.Thread(target=threading.Event().wait, name='pump', daemon=True).start()", "pump"),
        ("import os; os._exit(5)", "exited with status 5"),
    ],
)
def test_an_app_file_that_cannot_be_served_is_refused(tmp_path, source, said):
    path = tmp_path / "app.py"
    path.write_text(source)
    before = psutil.Process().children()

    async def story():
        with pytest.raises(Exception, match=said) as caught:
            await LocalRuntime.open(path, post=lambda event: None)
        assert source.startswith("import os") or isinstance(caught.value, DeclarationError)

    asyncio.run(story())
    assert psutil.Process().children() == before


def test_close_leaves_no_process_and_no_file_open(tmp_path):
    before = set(Path("/proc/self/fd").iterdir())
    others = psutil.Process().children()

    async def story():
        async with open_world(tmp_path, TEXT_APP) as world:
            await world.start(1, *ALL)
            world.begin(2, *ALL)
            processes = [each for each in psutil.Process().children(recursive=True) if each not in others]
            assert len(processes) >= 2
        _, alive = psutil.wait_procs(processes, timeout=5)
        assert alive == []

    asyncio.run(story())
    assert len(set(Path("/proc/self/fd").iterdir())) <= len(before)


CHOOSE_APP = """
from grainwise import App, Batch, Slo, choose

app = App("pick", slo=Slo(latency_ms=100))

@app.stage(max_batch=4)
def kind(texts: Batch[str]) -> Batch[str]:
    return ["digits" if text.isdigit() else "words" for text in texts]

@app.stage(max_batch=4)
def double(texts: Batch[str]) -> Batch[str]:
    return [str(2 * int(text)) for text in texts]

@app.stage(max_batch=4)
def upper(texts: Batch[str]) -> Batch[str]:
    return [text.upper() for text in texts]

@app.flow
def flow(text: str) -> str:
    return choose(kind(text), {"digits": double, "words": upper}, text)
"""


def test_an_untaken_branch_is_skipped_and_the_key_travels(tmp_path):
    async def story():
        async with open_world(tmp_path, CHOOSE_APP) as world:
            await world.start(1, "kind", "double", "upper")
            text = world.put("21")
            (key,) = await world.run(1, ("kind",), (text,))
            assert key.outputs[0].key == "digits"
            (doubled,) = await world.run(1, ("double",), (text, key.outputs[0]))
            (skipped,) = await world.run(1, ("upper",), (text, key.outputs[0]))
            assert world.get(doubled.outputs[0]) == "42"
            assert skipped.outputs == (SKIPPED,)
            world.release(text, key.outputs[0], doubled.outputs[0])
            world.assert_nothing_lives()

    asyncio.run(story())
