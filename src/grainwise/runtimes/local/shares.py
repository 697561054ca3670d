"""CPU shares of instances: which mechanism this machine has, and what the runtime can do with it.

Control groups version 2 where their cpu controller may be used, else version 1, else a supervisor process that stops and
continues. The share of a process can change with every invocation; nothing is written unless it does.
"""

from grainwise.domain.errors import PlatformError
from grainwise.domain.machine import Capabilities
from grainwise.runtimes.local.cgroups import CgroupShares
from grainwise.runtimes.local.mechanism import Mechanism, Shares
from grainwise.runtimes.local.signals import SignalShares


def make_shares(mechanism: Mechanism | None = None) -> Shares:
    """The best mechanism of this machine, or the one that is named.

    Raises:
        PlatformError: the named mechanism cannot be used here.
    """
    if mechanism in (None, "cgroup2"):
        shares = CgroupShares.try_version2()
        if shares is not None:
            return shares
    if mechanism in (None, "cgroup1"):
        shares = CgroupShares.try_version1()
        if shares is not None:
            return shares
    if mechanism in (None, "signals"):
        return SignalShares()
    if mechanism == "none":
        return NoShares()
    raise PlatformError(
        f"CPU shares by {mechanism} are not possible here: the cpu controller is absent or not writable; "
        "leave the mechanism open to use the best one that is"
    )


def capabilities(mechanism: Mechanism, payload_limit_bytes: int) -> Capabilities:
    """What the local runtime can do with ``mechanism``, as the planner reads it."""
    return Capabilities(
        name="local",
        share_mechanism=mechanism,
        share_scope="invocation",
        is_share_hard=False,
        min_cpu_cores={"cgroup2": 0.1, "cgroup1": 0.1, "signals": 0.05, "none": 0.01}[mechanism],
        payload_limit_bytes=payload_limit_bytes,
        reconfigure_us=20,
    )


class NoShares:
    """No limit at all, for measuring what a limit costs."""

    @property
    def mechanism(self) -> Mechanism:
        """How it is done."""
        return "none"

    def set(self, pid: int, cpu_cores: float) -> None:
        """Nothing is held."""

    def lift(self, pid: int) -> None:
        """Nothing is held."""

    def forget(self, pid: int) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""


__all__ = ["Mechanism", "NoShares", "Shares", "capabilities", "make_shares"]
