"""The two cost figures of a function. Both in USD per hour, from the catalogue's rates."""

from grainwise.domain.machine import Prices


def provisioned_usd_per_hour(prices: Prices, *, instances: int, cpu_cores: float, memory_mib: float, gpu: float = 0.0) -> float:
    """Everything that is up, idle or not: ``instances`` of ``cpu_cores``, ``memory_mib`` and a GPU share each."""
    return 3600 * instances * prices.usd_per_second(cpu_cores, memory_mib, gpu)


def billed_usd_per_hour(
    prices: Prices, *, invocations_per_s: float, busy_us: float, cpu_cores: float, memory_mib: float, gpu: float = 0.0
) -> float:
    """Busy time from invoke to result, transfers included, at the instance's rate, and the fee for every invocation."""
    busy_usd = busy_us / 1e6 * prices.usd_per_second(cpu_cores, memory_mib, gpu)
    return 3600 * invocations_per_s * (busy_usd + prices.usd_per_million_requests / 1e6)
