"""Lets things fail as a failure plan says. It chooses what is struck, and decides nothing that a policy would."""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from grainwise.control.events import CapacityChanged, Event, InstanceFailed
from grainwise.domain.time import Instant
from grainwise.simulation.failure_plan import Failure, Target
from grainwise.simulation.loop import COMPLETION, VirtualLoop
from grainwise.simulation.machines import Machine, SimulatedInstance
from grainwise.simulation.runtime import SimulatedRuntime


class Failing:
    """Inflicts failures on a runtime.

    Args:
        loop: whose time it is, and who hears of what was lost.
        runtime: what is struck.
    """

    def __init__(self, loop: VirtualLoop, runtime: SimulatedRuntime) -> None:
        self._loop = loop
        self._runtime = runtime
        self.struck = 0
        self.missed = 0
        """Failures that found nothing to strike."""
        self._latest: dict[tuple[str, Machine | SimulatedInstance], Failure] = {}

    def schedule(self, failures: Sequence[Failure], origin: Instant) -> None:
        """Let these failures come, reckoned from ``origin``."""
        for failure in failures:
            self._loop.schedule(origin + failure.at_us, COMPLETION, self._strike, failure)

    def _strike(self, failure: Failure) -> None:
        was_struck = self._inflict(failure)
        self.struck += was_struck
        self.missed += not was_struck

    def _inflict(self, failure: Failure) -> bool:
        if failure.kind in ("crash", "hang") or (failure.kind == "slow" and failure.target.app):
            instances = self._instances(failure.target)
            return bool(instances) and self._strike_instance(failure, instances[failure.pick % len(instances)])
        machines = self._machines(failure.target, is_up=failure.kind != "return_node")
        return bool(machines) and self._strike_machine(failure, machines[failure.pick % len(machines)])

    def _instances(self, target: Target) -> list[SimulatedInstance]:
        """The instances that fit a target, by number."""
        return [
            instance
            for _, instance in sorted(self._runtime.instances.items())
            if target.app in ("", instance.app.name)
            and target.node in ("", instance.node.name)
            and (not target.stage or instance.app.holds(instance.stages, target.stage))
        ]

    def _machines(self, target: Target, *, is_up: bool) -> list[Machine]:
        machines = self._runtime.machines.values()
        return [machine for machine in machines if machine.is_up == is_up and target.node in ("", machine.name)]

    def _strike_instance(self, failure: Failure, instance: SimulatedInstance) -> bool:
        if failure.kind == "crash":
            self._crash(instance)
        elif failure.kind == "slow":
            instance.slowness = failure.factor
            self._later(failure, instance, lambda: setattr(instance, "slowness", 1.0))
        elif instance.will_hang:
            return False
        else:
            self._hang(instance)
            self._later(failure, instance, lambda: self._resume(instance))
        return True

    def _strike_machine(self, failure: Failure, machine: Machine) -> bool:
        if failure.kind == "slow":
            machine.slowness = failure.factor
            self._later(failure, machine, lambda: setattr(machine, "slowness", 1.0))
        elif failure.kind == "lose_node":
            self._lose(machine)
            self._later(failure, machine, lambda: self._return(machine))
        else:
            self._return(machine)
        return True

    def _later(self, failure: Failure, struck: Machine | SimulatedInstance, recover: Callable[[], object]) -> None:
        self._latest[failure.kind, struck] = failure
        if failure.duration_us:
            self._loop.schedule(self._loop.now + failure.duration_us, COMPLETION, self._recover, (failure, struck, recover))

    def _recover(self, argument: tuple[Failure, Machine | SimulatedInstance, Callable[[], object]]) -> None:
        """A failure is over, unless the same has happened again meanwhile: then that one says how long it lasts."""
        failure, struck, recover = argument
        if self._latest.get((failure.kind, struck)) is failure:
            del self._latest[failure.kind, struck]
            recover()

    # What each does

    def _crash(self, instance: SimulatedInstance) -> None:
        """The process ends now."""
        self._runtime.drop(instance.number)
        cause: Literal["starting", "lost"] = "starting" if instance.phase == "starting" else "lost"
        self._tell(instance, InstanceFailed(instance.number, cause, f"injected into instance {instance.number}"))

    def _hang(self, instance: SimulatedInstance) -> None:
        """What the instance does and is told from now on never ends, until it is killed or resumed."""
        instance.will_hang = True
        if instance.invocation is not None:
            instance.node.busy_cores -= instance.invocation.cpu_cores
            # Its completion is in the schedule already: a copy takes its place, so that it is not recognised.
            instance.invocation = msgspec.structs.replace(instance.invocation)

    def _resume(self, instance: SimulatedInstance) -> None:
        """What the instance was told last begins anew, unless it has ended."""
        if self._runtime.instances.get(instance.number) is not instance:
            return
        instance.will_hang = False
        waiting, instance.invocation = instance.invocation, None
        if waiting is not None:
            self._runtime.invoke(waiting)

    def _lose(self, machine: Machine) -> None:
        """A machine is gone with every instance on it."""
        machine.is_up = False
        lost = [instance for instance in self._runtime.instances.values() if instance.node is machine]
        for instance in lost:
            self._runtime.drop(instance.number)
        machine.busy_cores = 0.0
        self._loop.post(CapacityChanged(self._runtime.nodes()))
        for instance in lost:
            self._tell(instance, InstanceFailed(instance.number, "lost", f"node {machine.name} is gone"))

    def _return(self, machine: Machine) -> None:
        """A lost machine is back, empty and as fast as it was."""
        if not machine.is_up:
            machine.is_up = True
            machine.slowness = 1.0
            self._loop.post(CapacityChanged(self._runtime.nodes()))

    def _tell(self, instance: SimulatedInstance, event: Event) -> None:
        self._loop.schedule(self._loop.now + instance.node.signal_us, COMPLETION, self._loop.post, event)
