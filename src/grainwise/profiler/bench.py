"""The profiler's hand on a runtime: starts instances and runs single invocations, one future for each thing awaited."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from grainwise.control.actions import Invoke, KillInstance, StartInstance
from grainwise.control.events import (
    Event,
    InstanceFailed,
    InstanceReady,
    InstanceStopped,
    InvocationDone,
    InvocationFailed,
    ItemRange,
    ItemResult,
)
from grainwise.domain.because import Because
from grainwise.domain.errors import GrainwiseError
from grainwise.domain.values import Payload
from grainwise.profiles.artifact import Outcome
from grainwise.runtimes.local.runtime import LocalRuntime
from grainwise.runtimes.local.shares import Mechanism

_BECAUSE = Because("profile")


class MeasurementError(GrainwiseError):
    """A measurement came to something else than a duration; that is its result."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


class Bench:
    """One app in a local runtime without a controller: whoever measures says what runs where.

    ``on_done``, when set, hears of every finished invocation before whoever awaits it.
    """

    def __init__(self) -> None:
        self.on_done: Callable[[InvocationDone], None] | None = None
        self.runtime: LocalRuntime
        self._starts: dict[int, asyncio.Future[InstanceReady]] = {}
        self._stops: dict[int, asyncio.Future[None]] = {}
        self._invocations: dict[int, tuple[int, asyncio.Future[InvocationDone]]] = {}
        self._alive: set[int] = set()
        self._next_instance = 1
        self._next_invocation = 1

    @classmethod
    async def open(cls, app_path: Path, share_mechanism: Mechanism | None = None) -> "Bench":
        """Import the app file in a zygote; CPU shares are held by ``share_mechanism``, None for the best one.

        Raises:
            DeclarationError: the app file cannot be served.
        """
        bench = cls()
        bench.runtime = await LocalRuntime.open(app_path, post=bench._post, share_mechanism=share_mechanism)
        return bench

    async def close(self) -> None:
        """End every instance and give up all values."""
        await self.runtime.close()

    def is_alive(self, instance: int) -> bool:
        """Whether an instance can be invoked."""
        return instance in self._alive

    async def start(self, stages: int, cpu_cores: float) -> InstanceReady:
        """Start an instance that holds ``stages`` and wait until it is ready.

        Raises:
            MeasurementError: it did not become ready.
        """
        instance = self._next_instance
        self._next_instance += 1
        ready: asyncio.Future[InstanceReady] = asyncio.get_running_loop().create_future()
        self._starts[instance] = ready
        self.runtime.start(StartInstance(instance, self.runtime.spec.name, stages, "local", cpu_cores, 0.0, _BECAUSE))
        return await ready

    async def stop(self, instance: int) -> None:
        """End an instance and wait until it is gone; what it has made stays."""
        if instance in self._alive:
            gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._stops[instance] = gone
            self.runtime.kill(KillInstance(instance, _BECAUSE))
            await gone

    def send(
        self, instance: int, extent: int, items: Sequence[tuple[Payload, ...]], cpu_cores: float
    ) -> "asyncio.Future[InvocationDone]":
        """Begin an invocation. The result may be a ``MeasurementError``."""
        done: asyncio.Future[InvocationDone] = asyncio.get_running_loop().create_future()
        if instance not in self._alive:
            done.set_exception(MeasurementError("failed", "its instance has ended"))
            return done
        invocation = self._next_invocation
        self._next_invocation += 1
        self._invocations[invocation] = (instance, done)
        ranges = tuple(ItemRange(index + 1, (), 0, 1) for index in range(len(items)))
        self.runtime.invoke(Invoke(invocation, instance, extent, ranges, tuple(items), cpu_cores, 0, _BECAUSE))
        return done

    async def invoke(
        self, instance: int, extent: int, items: Sequence[tuple[Payload, ...]], cpu_cores: float, limit_s: float
    ) -> InvocationDone:
        """Run ``extent`` once for ``items``. After ``limit_s`` the instance is ended.

        Raises:
            MeasurementError: it did not end as it should.
        """
        done = self.send(instance, extent, items, cpu_cores)
        try:
            return await asyncio.wait_for(asyncio.shield(done), limit_s)
        except TimeoutError:
            await self.stop(instance)
            done.cancel()
            raise MeasurementError("failed", f"one call took longer than {limit_s:g} s") from None

    def release(self, results: Sequence[ItemResult]) -> None:
        """Give up what an invocation has made."""
        for result in results:
            for payload in result.outputs:
                if payload.refs:
                    self.runtime.store.release(tuple(ref.handle for ref in payload.refs))

    def _post(self, event: Event) -> None:
        if isinstance(event, InvocationDone):
            if self.on_done is not None:
                self.on_done(event)
            self._finish(event.invocation, event)
        elif isinstance(event, InvocationFailed):
            outcome: Outcome = "does not fit" if event.kind == "backpressure" else "failed"
            self._finish(event.invocation, MeasurementError(outcome, event.detail))
        elif isinstance(event, InstanceReady):
            self._alive.add(event.instance)
            self._starts.pop(event.instance).set_result(event)
        elif isinstance(event, InstanceFailed):
            self._on_failed(event)
        elif isinstance(event, InstanceStopped):
            self._alive.discard(event.instance)
            self._lose(event.instance, MeasurementError("failed", "its instance was ended"))
            gone = self._stops.pop(event.instance, None)
            if gone is not None:
                gone.set_result(None)

    def _on_failed(self, event: InstanceFailed) -> None:
        self._alive.discard(event.instance)
        # Without a limit of ours, only the kernel kills: for memory.
        outcome: Outcome = "out of memory" if "SIGKILL" in event.detail else "failed"
        where = f"stage {event.stage!r}: " if event.stage else ""
        error = MeasurementError(outcome, f"{where}{event.detail}")
        start = self._starts.pop(event.instance, None)
        if start is not None:
            start.set_exception(error)
        self._lose(event.instance, error)
        gone = self._stops.pop(event.instance, None)
        if gone is not None:
            gone.set_result(None)

    def _lose(self, instance: int, error: MeasurementError) -> None:
        for invocation, (where, _) in tuple(self._invocations.items()):
            if where == instance:
                self._finish(invocation, error)

    def _finish(self, invocation: int, result: InvocationDone | MeasurementError) -> None:
        _, done = self._invocations.pop(invocation)
        if done.done():
            if isinstance(result, InvocationDone):
                self.release(result.results)
        elif isinstance(result, InvocationDone):
            done.set_result(result)
        else:
            done.set_exception(result)
            done.exception()  # nobody need await it
