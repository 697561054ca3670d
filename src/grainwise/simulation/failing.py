"""Lets things fail as a failure plan says. It chooses what is struck, and decides nothing that a policy would."""

from collections.abc import Callable, Sequence

from grainwise.domain.time import Instant
from grainwise.simulation.failure_plan import Failure, Target
from grainwise.simulation.loop import COMPLETION, VirtualLoop
from grainwise.simulation.runtime import SimulatedRuntime


class Failing:
    """Schedules failures from ``origin`` on and inflicts them.

    Args:
        loop: whose time it is.
        runtime: what is struck.
    """

    def __init__(self, loop: VirtualLoop, runtime: SimulatedRuntime) -> None:
        self._loop = loop
        self._runtime = runtime
        self.struck = 0
        self.missed = 0
        """Failures that found nothing to strike."""

    def schedule(self, failures: Sequence[Failure], origin: Instant) -> None:
        """Let these failures come."""
        for failure in failures:
            self._loop.schedule(origin + failure.at_us, COMPLETION, self._strike, failure)

    def _strike(self, failure: Failure) -> None:
        was_struck = self._inflict(failure)
        self.struck += was_struck
        self.missed += not was_struck

    def _inflict(self, failure: Failure) -> bool:
        runtime = self._runtime
        if failure.kind in ("crash", "hang") or (failure.kind == "slow" and failure.target.app):
            instances = runtime.matching(failure.target)
            if not instances:
                return False
            number = instances[failure.pick % len(instances)]
            if failure.kind == "crash":
                return runtime.crash(number, f"injected into instance {number}")
            if failure.kind == "hang":
                return self._until(failure, runtime.hang(number), lambda: runtime.resume(number))
            return self._until(
                failure, runtime.slow_instance(number, failure.factor), lambda: runtime.slow_instance(number, 1.0)
            )
        nodes = self._nodes(failure.target, is_up=failure.kind != "return_node")
        if not nodes:
            return False
        name = nodes[failure.pick % len(nodes)]
        if failure.kind == "slow":
            return self._until(failure, runtime.slow_node(name, failure.factor), lambda: runtime.slow_node(name, 1.0))
        if failure.kind == "lose_node":
            return self._until(failure, runtime.lose_node(name), lambda: runtime.return_node(name))
        return runtime.return_node(name)

    def _until(self, failure: Failure, was_struck: bool, recover: Callable[[], bool]) -> bool:
        if was_struck and failure.duration_us:
            at = self._loop.now + failure.duration_us
            self._loop.schedule(at, COMPLETION, self._recover, recover)
        return was_struck

    @staticmethod
    def _recover(recover: Callable[[], bool]) -> None:
        recover()

    def _nodes(self, target: Target, *, is_up: bool) -> list[str]:
        return [name for name in self._runtime.node_names(is_up=is_up) if target.node in ("", name)]
