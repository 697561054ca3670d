"""Devices, nodes, what a runtime can do, and prices."""

from typing import Literal

from msgspec import Struct

from grainwise.domain.time import Micros


class Node(Struct, frozen=True, forbid_unknown_fields=True):
    """One machine. ``reserve_cores`` is kept for everything that is not an instance."""

    name: str
    cpu_cores: float
    memory_mib: float
    reserve_cores: float = 0.0
    gpus: int = 0

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
