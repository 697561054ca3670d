"""What the server knows of one instance's process."""

import asyncio
import time
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from grainwise.runtimes.local.arena import Arena
from grainwise.runtimes.local.link import Link
from grainwise.runtimes.local.regions import Region

State = Literal["starting", "ready", "stopping", "hung"]


class Process:
    """One instance: its process, its socket, its arena, and what it is doing.

    ``running`` maps each invocation to the handles that it reads; ``mapped`` are the arenas that it has mapped; ``kept`` the
    blocks of inputs that its stages still refer to, by arena and offset. Times are of the monotonic clock, in seconds where
    not said otherwise; ``pinged_at`` is 0 when no answer is awaited.
    """

    def __init__(self, instance: int, serial: int, arena: Arena, stages: int, cpu_cores: float, started_at_us: int) -> None:
        self.instance = instance
        self.serial = serial
        self.arena = arena
        self.stages = stages
        self.cpu_cores = cpu_cores
        self.started_at_us = started_at_us
        self.state: State = "starting"
        self.is_loading = False
        self.link: Link
        self.pid = 0
        self.pidfd = -1
        self.running: dict[int, list[int]] = {}
        self.mapped: set[int] = {arena.number}
        self.kept: dict[tuple[int, int], list[Region]] = {}
        self.heard_at = time.monotonic()
        self.pinged_at = 0.0
        self.detail = ""
        self.stage = ""
        self._timer: asyncio.TimerHandle | None = None

    def send(self, message: Struct, fds: Sequence[int] = ()) -> None:
        """Send a message."""
        self.link.send(message, fds)

    def status(self) -> int:
        """The status word: the number of the stage that it is in plus one, 0 for none."""
        return int.from_bytes(self.arena.view[:8], "little")

    def set_timer(self, timer: asyncio.TimerHandle | None) -> None:
        """Replace the one timer of this process."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer
