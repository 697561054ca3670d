"""What the devices of the nodes offer: the shares worth planning, how many instances they hold, and a packing of a plan.

A share counts as it will be placed: softly any part of a device, on one with hard slices the smallest slice that is enough.
"""

import math
from collections.abc import Iterable

from grainwise.domain.machine import Device, Node
from grainwise.domain.parts import EPSILON, DeviceNeed, DeviceView, Grant, grant, waste
from grainwise.domain.plan import FunctionPlan
from grainwise.planning.problem import Problem
from grainwise.predictors.groups import GroupFacts, device_mask, device_memory_mib

SOFT_SHARES = (1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1.0)
"""Shares of a softly shared device that are tried: a device is full of equal ones, but for two thirds."""


def device_shares(nodes: Iterable[Node], device_mib: float) -> tuple[float, ...]:
    """Shares that some device can give to an instance which needs ``device_mib`` of its memory, the smallest first."""
    found: list[float] = []
    for device in devices_of(nodes):
        if device.is_hard:
            found.extend(
                profile.slots / device.slots
                for profile in device.slices
                if profile.memory_fraction * device.memory_mib >= device_mib - EPSILON
            )
        elif device.memory_mib >= device_mib - EPSILON:
            found.extend(SOFT_SHARES)
    ordered: list[float] = []
    for share in sorted(found):
        if not ordered or share > ordered[-1] + EPSILON:
            ordered.append(share)
    return tuple(ordered)


def gpu_shares(problem: Problem, facts: GroupFacts, batch: int) -> tuple[float, ...]:
    """Shares of a device worth trying for a group: what the nodes' devices offer with memory enough for a batch; 0 on CPUs.

    Where a stage was not profiled on a share nothing is known of a part, so whole devices are planned.
    """
    if facts.device != "gpu":
        return (0.0,)
    offered = device_shares(problem.nodes, device_memory_mib(problem, facts.mask, batch))
    on_device = device_mask(problem.app, facts.mask)
    if all(stage.device is not None for index, stage in enumerate(problem.model.stages) if on_device >> index & 1):
        return offered
    return tuple(share for share in offered if share > 1 - EPSILON)


def devices_of(nodes: Iterable[Node]) -> list[Device]:
    """The devices of all nodes."""
    return [device for node in nodes for device in node.devices]


def room_on_devices(nodes: Iterable[Node], need: DeviceNeed) -> int:
    """How many instances with this need the empty devices hold."""
    return sum(_room(device, need) for device in devices_of(nodes))


def instances_on_devices(problem: Problem, facts: GroupFacts, batch: int, gpu: float) -> int:
    """How many instances of a group the devices hold; without bound on CPUs."""
    if gpu <= 0:
        return 1 << 10
    return room_on_devices(problem.nodes, DeviceNeed(gpu, device_memory_mib(problem, facts.mask, batch)))


def _room(device: Device, need: DeviceNeed) -> int:
    if not device.is_hard:
        by_share = math.floor(1 / need.share_fraction + EPSILON) if need.share_fraction > 0 else 1 << 10
        by_memory = math.floor(device.memory_mib / need.memory_mib + EPSILON) if need.memory_mib > 0 else 1 << 10
        return min(by_share, by_memory)
    view, count = DeviceView(device), 0
    while (given := grant(view, need)) is not None:
        view = given_to(view, given, need)
        count += 1
    return count


def given_to(view: DeviceView, given: Grant, need: DeviceNeed) -> DeviceView:
    """A device once a part of it has been given."""
    return DeviceView(
        view.device,
        view.slots | given.slots,
        view.share_fraction + given.share_fraction,
        view.memory_mib + need.memory_mib,
    )


def device_need(problem: Problem, function: FunctionPlan) -> DeviceNeed | None:
    """What an instance of a function needs of a device; nothing on CPUs."""
    if function.device != "gpu":
        return None
    mask = problem.app.graph.mask(function.stages)
    return DeviceNeed(function.device_fraction, device_memory_mib(problem, mask, function.max_batch))


class NodeRoom:
    """What is free on one node while a plan is packed: memory, cores, and parts of its devices."""

    __slots__ = ("cores", "devices", "memory_mib")

    def __init__(self, node: Node) -> None:
        self.memory_mib = node.memory_mib
        self.cores = node.usable_cores
        self.devices = [DeviceView(device) for device in node.devices]

    def copy(self) -> "NodeRoom":
        """The same room, to be taken apart elsewhere."""
        other = object.__new__(NodeRoom)
        other.memory_mib, other.cores, other.devices = self.memory_mib, self.cores, list(self.devices)
        return other

    def part(self, need: DeviceNeed) -> tuple[int, Grant] | None:
        """The part of a device that wastes least, as the placer chooses it, and which device it is of."""
        best: tuple[tuple[float, float], int, Grant] | None = None
        for at, view in enumerate(self.devices):
            given = grant(view, need)
            if given is not None:
                cost = waste(view, given, need)
                if best is None or cost < best[0]:
                    best = cost, at, given
        return None if best is None else (best[1], best[2])

    def take(self, memory_mib: float, cores: float, need: DeviceNeed | None) -> bool:
        """Give an instance what it needs; false, and nothing given, where something is short."""
        if self.memory_mib < memory_mib - 1e-3 or self.cores < cores - 1e-9:
            return False
        if need is not None:
            part = self.part(need)
            if part is None:
                return False
            at, given = part
            self.devices[at] = given_to(self.devices[at], given, need)
        self.memory_mib -= memory_mib
        self.cores -= cores
        return True
