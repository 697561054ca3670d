"""Invariant 4 on devices, seen from outside: no part is given twice, and memory is never exceeded."""

from collections.abc import Iterable

from msgspec import Struct

from grainwise.control.actions import StartInstance
from grainwise.control.state import Instance
from grainwise.domain.machine import Device, Node

EPSILON = 1e-6


class Held(Struct):
    """What an instance was given of a device. ``slots`` is the mask of its slice as the device was cut then."""

    device: str
    share_fraction: float
    slots: int
    memory_mib: float
    loading_mib: float = 0.0


def held_by(action: StartInstance, node: Node | None) -> tuple[Held | None, str]:
    """What a start was given; the second is what is wrong with it, empty where nothing is."""
    if not action.device:
        wrong = "names no device and has a share of one" if action.gpu_share_fraction else ""
        return None, wrong
    device = _find(node, action.device)
    if device is None:
        return None, f"gets a part of {action.device}, and {action.node} has no such device"
    if not device.is_hard:
        wrong = "" if action.gpu_share_fraction > 0 and action.slice_start == -1 else "names no part of a shared device"
        return Held(device.name, action.gpu_share_fraction, 0, action.device_memory_mib), wrong
    profile = device.slice_of(action.gpu_share_fraction)
    if profile is None or action.slice_start not in profile.starts:
        return (
            None,
            f"gets {action.gpu_share_fraction:.3f} of {device.name} at slot {action.slice_start}: there is no such slice",
        )
    held = Held(device.name, action.gpu_share_fraction, profile.mask(action.slice_start), action.device_memory_mib)
    return held, ""


def check_device(node: Node, given: Held, held: Iterable[Held]) -> str:
    """What is wrong with a device now that ``given``, one of the parts that are ``held``, has grown; empty where nothing is."""
    name = given.device
    device = _find(node, name)
    if device is None:
        return f"an instance on {node.name} is given more of {name}, and there is no such device"
    parts = [each for each in held if each.device == name]
    wrong = overlap(part.slots for part in parts)
    if wrong:
        return f"{wrong} of {name} on {node.name} are given twice"
    if device.is_hard and len(parts) > 1 and any(not part.slots for part in parts):
        return f"{name} on {node.name} is cut into slices and shared at once"
    share = sum(part.share_fraction for part in parts)
    if share > 1 + EPSILON:
        return f"{share:.3f} of {name} on {node.name} is given"
    profile = device.slice_of(given.share_fraction)
    if profile is not None and given.memory_mib > profile.memory_fraction * device.memory_mib + EPSILON:
        return f"{given.memory_mib:.1f} MiB are held in a slice of {profile.slots} slots of {name} on {node.name}"
    memory = sum(part.memory_mib for part in parts)
    if memory > device.memory_mib + EPSILON:
        return f"{memory:.1f} MiB are held on {name} on {node.name}, which has {device.memory_mib:.1f}"
    return ""


def check_books(instances: Iterable[Instance]) -> str:
    """What is wrong with the controller's own records of devices; empty where nothing is."""
    given: dict[tuple[str, str], list[Instance]] = {}
    for instance in instances:
        if bool(instance.device) != (instance.gpu_share_fraction > 0) or bool(instance.slots) != (instance.slice_start >= 0):
            return f"instance {instance.number} does not know what it has of {instance.device or 'no device'}"
        if instance.device:
            given.setdefault((instance.node, instance.device), []).append(instance)
    for (node, name), here in given.items():
        wrong = overlap(each.slots for each in here)
        if wrong:
            return f"{wrong} of {name} on {node} are given twice"
        share = sum(each.gpu_share_fraction for each in here)
        if share > 1 + EPSILON:
            return f"{share:.3f} of {name} on {node} is given"
    return ""


def overlap(masks: Iterable[int]) -> str:
    """The slots that are in more than one mask, for people; empty for none."""
    seen = twice = 0
    for mask in masks:
        twice |= seen & mask
        seen |= mask
    return f"slots {[slot for slot in range(twice.bit_length()) if twice >> slot & 1]}" if twice else ""


def _find(node: Node | None, name: str) -> Device | None:
    return next((each for each in node.devices if each.name == name), None) if node is not None else None
