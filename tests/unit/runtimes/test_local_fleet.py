"""How an instance's process is begun: its threads are for the function's share, whatever it loads with."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from grainwise.runtimes.local.fleet import Fleet
from grainwise.runtimes.local.wire import Fork


class Zygote:
    """Stands where the zygote stands, and keeps what it is told."""

    def __init__(self) -> None:
        self.forks: list[Fork] = []

    def fork(self, message: Fork, socket: Any, arena_fd: int) -> None:
        self.forks.append(message)


@pytest.mark.parametrize(
    ("cpu_cores", "share", "threads"), [(0.5, 4.0, 4), (0.5, 0.5, 1), (2.0, 0.0, 2), (0.3, 0.0, 1), (1.0, 1.9, 1)]
)
def test_threads_are_for_the_share_of_the_function(cpu_cores, share, threads):
    async def main() -> None:
        fleet = Fleet(Path("app.py"), SimpleNamespace(), 10.0, SimpleNamespace())  # type: ignore[arg-type]
        zygote = Zygote()
        fleet._zygote = zygote  # type: ignore[assignment]
        fleet.begin(1, 3, cpu_cores, lambda: SimpleNamespace(number=5, size=4096, fd=-1), share)  # type: ignore[arg-type, return-value]
        (fork,) = zygote.forks
        assert fork.threads == threads
        process = fleet.get(1)
        assert process is not None
        assert process.cpu_cores == cpu_cores
        process.link.close()
        process.set_timer(None)
        fleet._look.cancel()

    asyncio.run(main())
