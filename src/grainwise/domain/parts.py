"""Which part of a device does an instance get? A soft share where it fits, or the hard slice that breaks up least.

Free slots do not say whether a slice fits: a 4g slice needs the first four. So a slice goes to the start that leaves the most
room for the largest profile, then for the next smaller one. Pure geometry: the planner packs by it as the placer places.
"""

from functools import lru_cache

from msgspec import Struct

from grainwise.domain.machine import Device, SliceProfile

EPSILON = 1e-6
"""Slack for sums that binary fractions cannot hold exactly."""


class DeviceView(Struct, frozen=True):
    """A device and what is given of it: a mask of ``slots``, or a sum of soft shares and of memory."""

    device: Device
    slots: int = 0
    share_fraction: float = 0.0
    memory_mib: float = 0.0


class DeviceNeed(Struct, frozen=True):
    """What an instance needs of a device: a part of its compute, and memory."""

    share_fraction: float
    memory_mib: float


class Grant(Struct, frozen=True):
    """A part of a device. ``start`` is -1 for a soft share; ``slots`` is the mask of slots that nobody else can have."""

    device: str
    share_fraction: float
    start: int = -1
    slots: int = 0


def grant(view: DeviceView, need: DeviceNeed) -> Grant | None:
    """The part of a device for an instance; nothing where it does not fit."""
    device = view.device
    free_share = 1 + EPSILON - view.share_fraction
    if view.memory_mib + need.memory_mib > device.memory_mib + EPSILON:
        return None
    if not device.is_hard:
        return Grant(device.name, need.share_fraction) if need.share_fraction <= free_share else None
    for profile in device.slices:
        # The sum of shares says more than free slots where slices are left from when the device was cut otherwise.
        if not _is_enough(device, profile, need) or profile.slots / device.slots > free_share:
            continue
        start = best_start(device, view.slots, profile)
        if start is not None:
            return Grant(device.name, profile.slots / device.slots, start, profile.mask(start))
    return None


def _is_enough(device: Device, profile: SliceProfile, need: DeviceNeed) -> bool:
    has_compute = profile.slots / device.slots >= need.share_fraction - EPSILON
    return has_compute and profile.memory_fraction * device.memory_mib >= need.memory_mib - EPSILON


def free_starts(profile: SliceProfile, taken: int) -> tuple[int, ...]:
    """The starts at which a slice fits beside the slots that are taken."""
    return tuple(start for start in profile.starts if not profile.mask(start) & taken)


def best_start(device: Device, taken: int, profile: SliceProfile) -> int | None:
    """The start that keeps the most starts of the largest profile free, then of the next smaller one; the highest of equals."""
    return _best_start(device.slices, taken, profile)


@lru_cache(maxsize=4096)
def _best_start(slices: tuple[SliceProfile, ...], taken: int, profile: SliceProfile) -> int | None:
    # A planner packs plans by the hundred, and devices know few states.
    found = free_starts(profile, taken)
    if not found:
        return None
    return max(found, key=lambda start: (_room(slices, taken | profile.mask(start)), start))


def _room(slices: tuple[SliceProfile, ...], taken: int) -> tuple[int, ...]:
    """Free starts of each profile, the largest first."""
    return tuple(len(free_starts(profile, taken)) for profile in reversed(slices))


def waste(view: DeviceView, given: Grant, need: DeviceNeed) -> tuple[float, float]:
    """What a part gives beyond the need, and what it leaves of the device. The least is best: whole devices stay free."""
    device = view.device
    left = (device.slots - (view.slots | given.slots).bit_count()) / device.slots if device.is_hard else 0.0
    if not device.is_hard:
        left = 1 - view.share_fraction - given.share_fraction
    return round(given.share_fraction - need.share_fraction, 9), round(left, 9)
