"""Plans in another process, so that a slow search never holds up a request.

The callable is injected by name: this layer knows how to run a planner beside the loop, not which planner. Problems and tables
cross as MessagePack; the process ends with its input, and where the kernel can see to it with the server, however that ends.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable

import msgspec

from grainwise.control.actions import ComputePlan
from grainwise.control.events import PlanFailed, PlanReady
from grainwise.control.performers import Post
from grainwise.domain.errors import GrainwiseError
from grainwise.planning.problem import PlanTable, Problem

Compute = Callable[[Problem], PlanTable]

_FRAME = 4
_LIMIT = 64 * 1024 * 1024
_GRACE_S = 5.0
"""A process that has closed its output is about to end, and how it ends is worth telling."""


class PlannerAnswer(msgspec.Struct, frozen=True):
    """What comes back: a table, or an error."""

    table: PlanTable | None
    error: str = ""


class ProcessPlanner:
    """Implements ``control.performers.Planner``: one problem at a time, in a process that is started with the first one.

    Args:
        compute: the planner, a module-level function; the process imports it by name.
        post: where ``PlanReady`` and ``PlanFailed`` go.
    """

    def __init__(self, compute: Compute, post: Post) -> None:
        self._target = f"{compute.__module__}:{compute.__qualname__}"
        self._post = post
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers = msgspec.msgpack.Decoder(PlannerAnswer)

    def compute(self, action: ComputePlan) -> None:
        """Begin; the answer is posted on the loop's thread."""
        task = asyncio.get_running_loop().create_task(self._run(action.problem))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def solve(self, problem: Problem) -> PlannerAnswer:
        """Compute one table in the planner's process."""
        async with self._lock:
            try:
                process = await self._running()
                return await self._exchange(process, msgspec.msgpack.encode(problem))
            except (OSError, asyncio.IncompleteReadError):
                code = await self._ended(_GRACE_S)
                return PlannerAnswer(None, f"the planner's process ended with {code}; the present plan stays")
            except msgspec.MsgspecError as error:
                await self._ended()
                return PlannerAnswer(None, f"the planner's process gave no answer that can be read: {error}")
            except asyncio.CancelledError:
                # Its answer would be taken for that of the next problem.
                await self._ended()
                raise

    async def _running(self) -> asyncio.subprocess.Process:
        process = self._process
        if process is None or process.returncode is not None:
            command = (sys.executable, "-m", "grainwise.runtimes.planner_process", self._target, str(os.getpid()))
            process = self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LIMIT
            )
        return process

    async def _exchange(self, process: asyncio.subprocess.Process, body: bytes) -> PlannerAnswer:
        sink, source = process.stdin, process.stdout
        assert sink is not None
        assert source is not None
        sink.write(len(body).to_bytes(_FRAME, "big") + body)
        await sink.drain()
        length = int.from_bytes(await source.readexactly(_FRAME), "big")
        return self._answers.decode(await source.readexactly(length))

    async def _ended(self, grace_s: float = 0.0) -> int | None:
        """Forget the process and end it, if it has not ended by itself within ``grace_s``; its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(process.wait(), grace_s)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return await process.wait()

    async def _run(self, problem: Problem) -> None:
        answer = await self.solve(problem)
        if answer.table is not None:
            self._post(PlanReady(problem.app.name, answer.table))
        else:
            self._post(PlanFailed(problem.app.name, problem.number, answer.error))

    async def close(self) -> None:
        """Abandon what is being computed and end the process."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._ended()


class InlinePlanner:
    """Plans on the loop's thread: for tests and for the in-memory runtime."""

    def __init__(self, compute: Compute, post: Post) -> None:
        self._compute = compute
        self._post = post

    def compute(self, action: ComputePlan) -> None:
        """Compute now and post the answer, or why there is none."""
        problem = action.problem
        try:
            table = self._compute(problem)
        except GrainwiseError as error:
            self._post(PlanFailed(problem.app.name, problem.number, str(error)))
            return
        self._post(PlanReady(problem.app.name, table))
