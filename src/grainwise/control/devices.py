"""What is given of the devices of a node, counted anew from its instances.

Starts are rare, and a sum that is not kept cannot be wrong after a node or a device has come, gone or changed.
"""

from collections.abc import Collection, Iterable

from grainwise.control.state import Instance, NodeState
from grainwise.domain.machine import Device
from grainwise.policies.slices import EPSILON, DeviceView


def device_views(
    node: NodeState, instances: Iterable[Instance], without: Collection[int] = frozenset()
) -> tuple[DeviceView, ...]:
    """The devices of a node with what its instances hold, as if those of ``without`` were gone."""
    here = [each for each in instances if each.device and each.node == node.node.name and each.number not in without]
    return tuple(_view(device, [each for each in here if each.device == device.name]) for device in node.node.devices)


def _view(device: Device, held: list[Instance]) -> DeviceView:
    slots = 0
    for instance in held:
        # A device that became one of slices while it was shared has nothing to give until those who share it have ended.
        slots |= instance.slots or (1 << device.slots) - 1
    return DeviceView(device, slots, sum(each.gpu_share_fraction for each in held), sum(each.device_mib for each in held))


def can_hold(view: DeviceView, instance: Instance, more_mib: float) -> bool:
    """Whether an instance can take ``more_mib`` on the device that it has: within its slice, or what no one else has."""
    device = view.device
    if view.memory_mib + more_mib > device.memory_mib + EPSILON:
        return False
    if not device.is_hard:
        return True
    profile = device.slice_of(instance.gpu_share_fraction)
    return profile is not None and instance.device_mib + more_mib <= profile.memory_fraction * device.memory_mib + EPSILON
