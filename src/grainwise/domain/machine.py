"""Devices, nodes, what a runtime can do, and prices."""

from typing import Literal

from msgspec import Struct

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import Micros


class SliceProfile(Struct, frozen=True, forbid_unknown_fields=True):
    """A size of hard slice: ``slots`` of compute and a part of the memory, at one of ``starts``.

    ``blocked`` has, for each start, the slots beside its own that no other slice can have while it is there.
    """

    slots: int
    memory_fraction: float
    starts: tuple[int, ...]
    blocked: tuple[tuple[int, ...], ...] = ()

    def mask(self, start: int) -> int:
        """The slots that a slice at ``start`` takes, its own and those that it blocks, as bits."""
        taken = ((1 << self.slots) - 1) << start
        for slot in self.blocked[self.starts.index(start)] if self.blocked else ():
            taken |= 1 << slot
        return taken


MIG_SLOTS = 7
MIG_PROFILES = (
    SliceProfile(1, 1 / 8, (0, 1, 2, 3, 4, 5, 6)),
    SliceProfile(2, 2 / 8, (0, 2, 4)),
    SliceProfile(3, 4 / 8, (0, 4), ((3,), ())),
    SliceProfile(4, 4 / 8, (0,)),
    SliceProfile(7, 8 / 8, (0,)),
)
"""A100 and H100: seven slots of compute over eight of memory, so that 3g takes half of the memory and at 0 blocks slot 3.

From NVIDIA's Multi-Instance GPU User Guide, "Supported MIG Profiles": fractions of memory per profile and possible placements,
as ``nvidia-smi mig -lgipp`` lists them. Variants with media engines or more memory for one slot are left out.
"""


class Device(Struct, frozen=True, forbid_unknown_fields=True):
    """A GPU of a node. ``slots`` of 0: soft shares that add up to 1; above 0: hard slices, by ``profiles``.

    ``name`` is unique on its node. A device with seven slots has the profiles of an A100 unless it names others.
    """

    name: str
    kind: str
    memory_mib: float
    slots: int = 0
    profiles: tuple[SliceProfile, ...] = ()

    def __post_init__(self) -> None:
        """Refuse slots without a way to cut them.

        Raises:
            ConfigurationError: the device has slots and no profiles.
        """
        if self.slots and not self.slices:
            raise ConfigurationError(
                f"device {self.name} has {self.slots} slots and no profiles: name them, or use 0 (soft shares) or {MIG_SLOTS}"
            )

    @property
    def is_hard(self) -> bool:
        """Whether it is cut into hard slices."""
        return self.slots > 0

    @property
    def slices(self) -> tuple[SliceProfile, ...]:
        """The profiles of its hard slices, the smallest first; none for a device with soft shares."""
        if not self.slots:
            return ()
        return self.profiles or (MIG_PROFILES if self.slots == MIG_SLOTS else ())

    def slice_of(self, share_fraction: float) -> SliceProfile | None:
        """The profile of a slice that is ``share_fraction`` of the device, as starts name it."""
        return next((each for each in self.slices if abs(each.slots / self.slots - share_fraction) < 1e-6), None)


class Node(Struct, frozen=True, forbid_unknown_fields=True):
    """One machine. ``reserve_cores`` is kept for everything that is not an instance."""

    name: str
    cpu_cores: float
    memory_mib: float
    reserve_cores: float = 0.0
    devices: tuple[Device, ...] = ()

    @property
    def gpus(self) -> int:
        """How many devices it has."""
        return len(self.devices)

    @property
    def usable_cores(self) -> float:
        """Cores that instances may be given."""
        return self.cpu_cores - self.reserve_cores


class HopModel(Struct, frozen=True):
    """What handing a value to another instance costs on one runtime, fitted from measurements of that runtime."""

    fixed_us: float
    us_per_mib: float
    cpu_fixed_us: float
    cpu_us_per_mib: float
    process_mib: float

    def latency_us(self, nbytes: float) -> float:
        """Microseconds of latency for ``nbytes`` on one hop."""
        return self.fixed_us + self.us_per_mib * nbytes / 1_048_576

    def cpu_us(self, nbytes: float) -> float:
        """Microseconds of CPU for ``nbytes`` on one hop."""
        return self.cpu_fixed_us + self.cpu_us_per_mib * nbytes / 1_048_576


class Capabilities(Struct, frozen=True):
    """What a platform can do, as data: planners read it as constraints, nothing branches on a platform's name.

    ``share_scope`` says when the CPU share of an instance may change: with every invocation, or only with a restart.
    ``is_share_hard`` charges a share from start to stop; a soft share is charged while loading or invoking.
    """

    name: str
    share_mechanism: Literal["cgroup2", "cgroup1", "signals", "none"]
    share_scope: Literal["invocation", "instance"]
    is_share_hard: bool
    min_cpu_cores: float
    payload_limit_bytes: int
    reconfigure_us: Micros = 0


class Prices(Struct, frozen=True, forbid_unknown_fields=True):
    """Rates of a catalogue, with its source. Laptop prices are nominal and say so in ``source``."""

    source: str
    usd_per_core_hour: float
    usd_per_gib_hour: float
    usd_per_gpu_hour: float = 0.0
    usd_per_million_requests: float = 0.0

    def usd_per_second(self, cpu_cores: float, memory_mib: float, gpu_share_fraction: float = 0.0) -> float:
        """Cost of one instance-second."""
        return (
            cpu_cores * self.usd_per_core_hour
            + memory_mib / 1024 * self.usd_per_gib_hour
            + gpu_share_fraction * self.usd_per_gpu_hour
        ) / 3600


NOMINAL_PRICES = Prices(
    source="nominal laptop prices, of the order of on-demand cloud rates; not a bill",
    usd_per_core_hour=0.04,
    usd_per_gib_hour=0.005,
    usd_per_million_requests=0.2,
)
