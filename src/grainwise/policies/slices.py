"""What an instance is given of a device, as policies say it; the geometry itself is ``domain.parts``."""

from grainwise.domain.parts import EPSILON, DeviceNeed, DeviceView, Grant, best_start, free_starts, grant, waste

SHOWN = 4
"""So many devices are named where none has room."""


def lacking(views: tuple[DeviceView, ...], need: DeviceNeed) -> str:
    """Why no device has room, for people."""
    if not views:
        return "no node has a device"
    asked = f"{need.share_fraction:.2f} of a device with {need.memory_mib:.0f} MiB"
    states = []
    for view in views:
        device = view.device
        if device.is_hard:
            states.append(f"{device.name} has {device.slots - view.slots.bit_count()} of {device.slots} slots free")
        else:
            free = max(0.0, device.memory_mib - view.memory_mib)
            states.append(f"{device.name} has {max(0.0, 1 - view.share_fraction):.2f} and {free:.0f} MiB free")
    more = f" and {len(states) - SHOWN} more" if len(states) > SHOWN else ""
    return f"no device has room for {asked}: {', '.join(states[:SHOWN])}{more}"


__all__ = ["EPSILON", "DeviceNeed", "DeviceView", "Grant", "best_start", "free_starts", "grant", "lacking", "waste"]
