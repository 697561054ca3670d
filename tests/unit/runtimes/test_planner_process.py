"""Planning in another process: its answers, its errors, its death, and that it never outlives the server."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import made_planners
import psutil
import pytest

from grainwise.control.actions import ComputePlan
from grainwise.control.events import PlanFailed, PlanReady
from grainwise.domain.because import Because
from grainwise.domain.machine import NOMINAL_PRICES, Node
from grainwise.planning.problem import Problem
from grainwise.planning.table import compute
from grainwise.runtimes.planner import InlinePlanner, ProcessPlanner
from worlds.apps import SHAPES
from worlds.control import HOP, SOFT, model_of, workload_of

HERE = Path(__file__).parent
LIMIT_S = 30.0


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def problem(number=1):
    spec = SHAPES["chain"](4).spec(b"chain")
    nodes = (Node("here", 2.0, 4000.0),)
    return Problem(number, spec, model_of(spec), HOP, workload_of(spec), nodes, SOFT, NOMINAL_PRICES)


def run(main):
    async def bounded():
        await asyncio.wait_for(main, LIMIT_S)

    asyncio.run(bounded())


class Told:
    """What a planner posts, and the planner."""

    def __init__(self, function):
        self.events = asyncio.Queue()
        self.planner = ProcessPlanner(function, self.events.put_nowait)

    async def ask(self, number=1):
        self.planner.compute(ComputePlan(problem(number), Because("a test")))
        return await self.events.get()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        process = self.planner._process
        await self.planner.close()
        assert process is None or not psutil.pid_exists(process.pid)


def test_the_real_planner_gives_the_same_table_there_as_here():
    async def main():
        async with Told(compute) as told:
            answer = await told.ask()
            assert answer == PlanReady("chain", compute(problem()))

    run(main())


def test_several_problems_are_answered_in_their_order_by_one_process():
    async def main():
        async with Told(made_planners.answer) as told:
            for number in (3, 4, 5):
                told.planner.compute(ComputePlan(problem(number), Because("a test")))
            answers = [await told.events.get() for _ in range(3)]
            assert [answer.table.problem for answer in answers] == [3, 4, 5]
            (pid,) = {answer.table.because for answer in answers}
            assert int(pid) not in (os.getpid(), 0)

    run(main())


@pytest.mark.parametrize(
    ("function", "reason"),
    [(made_planners.refuse, "InfeasibleError: it does not fit"), (made_planners.stumble, "ZeroDivisionError: by nought")],
)
def test_an_error_is_an_answer_and_the_process_goes_on(function, reason):
    async def main():
        async with Told(function) as told:
            for number in (1, 2):
                assert await told.ask(number) == PlanFailed("chain", number, reason)

    run(main())


def test_what_a_planner_prints_does_not_spoil_its_answer(capfd):
    async def main():
        async with Told(made_planners.chatter) as told:
            assert isinstance(await told.ask(), PlanReady)

    run(main())
    assert "a planner that talks" in capfd.readouterr().err


def test_a_process_that_ends_is_a_failed_plan_and_the_next_one_works():
    async def main():
        async with Told(made_planners.die_on_odd) as told:
            failed = await told.ask(1)
            assert isinstance(failed, PlanFailed)
            assert "ended with 7" in failed.reason
            assert isinstance(await told.ask(2), PlanReady)

    run(main())


def test_a_killed_process_is_a_failed_plan_and_the_next_one_works(tmp_path, monkeypatch):
    pid_pipe, gate = tmp_path / "pid", tmp_path / "gate"
    for name, path in (("PLANNER_PID", pid_pipe), ("PLANNER_GATE", gate)):
        os.mkfifo(path)
        monkeypatch.setenv(name, str(path))

    async def main():
        async with Told(made_planners.stop_at_the_gate) as told:
            asked = asyncio.create_task(told.ask(1))
            pid = int(await asyncio.to_thread(pid_pipe.read_text))
            os.kill(pid, signal.SIGKILL)
            failed = await asked
            assert isinstance(failed, PlanFailed)
            assert f"ended with {-signal.SIGKILL}" in failed.reason
            asked = asyncio.create_task(told.ask(2))
            other = int(await asyncio.to_thread(pid_pipe.read_text))
            await asyncio.to_thread(gate.write_text, "")
            ready = await asked
            assert ready.table.problem == 2
            assert int(ready.table.because) == other != pid

    run(main())


def test_closing_abandons_what_is_being_computed(tmp_path, monkeypatch):
    pid_pipe, gate = tmp_path / "pid", tmp_path / "gate"
    for name, path in (("PLANNER_PID", pid_pipe), ("PLANNER_GATE", gate)):
        os.mkfifo(path)
        monkeypatch.setenv(name, str(path))

    async def main():
        async with Told(made_planners.stop_at_the_gate) as told:
            told.planner.compute(ComputePlan(problem(1), Because("a test")))
            told.planner.compute(ComputePlan(problem(2), Because("a test")))
            pid = int(await asyncio.to_thread(pid_pipe.read_text))
        assert not psutil.pid_exists(pid)
        assert told.events.empty()
        await told.planner.close()

    run(main())


PARENT = """
import asyncio
from made_planners import stop_at_the_gate
from test_planner_process import problem
from grainwise.runtimes.planner import ProcessPlanner
asyncio.run(ProcessPlanner(stop_at_the_gate, print).solve(problem()))
"""


def test_a_planner_at_work_ends_with_a_server_that_is_killed(tmp_path, monkeypatch):
    pid_pipe, gate = tmp_path / "pid", tmp_path / "gate"
    for name, path in (("PLANNER_PID", pid_pipe), ("PLANNER_GATE", gate)):
        os.mkfifo(path)
        monkeypatch.setenv(name, str(path))
    monkeypatch.setenv("PYTHONPATH", f"{HERE}:{HERE.parents[1]}")
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(PARENT)]) as parent:
        planner = psutil.Process(int(pid_pipe.read_text()))
        parent.kill()
    _, alive = psutil.wait_procs([planner], 20)
    assert not alive


def test_planning_inline_posts_the_table_or_the_reason():
    events = []
    InlinePlanner(made_planners.answer, events.append).compute(ComputePlan(problem(4), Because("a test")))
    InlinePlanner(made_planners.refuse, events.append).compute(ComputePlan(problem(5), Because("a test")))
    ready, failed = events
    assert ready.table.problem == 4
    assert failed == PlanFailed("chain", 5, "it does not fit")
