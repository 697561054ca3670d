"""How CPU shares are held, as a protocol: a quota over a period of 10 ms, by whatever the machine offers."""

from typing import Literal, Protocol

Mechanism = Literal["cgroup2", "cgroup1", "signals", "none"]

PERIOD_US = 10_000
"""Length of a period. A process that has used up its share rests until the next."""


class Shares(Protocol):
    """Gives processes their CPU shares."""

    @property
    def mechanism(self) -> Mechanism:
        """How it is done."""
        ...

    def set(self, pid: int, cpu_cores: float) -> None:
        """Hold ``pid`` and its threads to ``cpu_cores`` from now on."""
        ...

    def lift(self, pid: int) -> None:
        """Let ``pid`` run without a limit, so that it can end quickly."""
        ...

    def forget(self, pid: int) -> None:
        """The process has ended."""
        ...

    def close(self) -> None:
        """Undo everything. Idempotent."""
        ...
