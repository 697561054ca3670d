"""An app whose last stage says that it runs and then waits until the test lets it go on."""

import asyncio
import os
from pathlib import Path
from types import TracebackType

SOURCE = """
from pathlib import Path

from grainwise import App, Batch, Slo

app = App("gated", slo=Slo(latency_ms=20_000, target=0.9))
HERE = Path(__file__).parent


@app.stage(max_batch=1, timeout_ms=50_000)
def clean(words: Batch[str]) -> Batch[str]:
    return [word.strip() for word in words]


@app.stage(max_batch=1, timeout_ms=50_000)
def hold(words: Batch[str]) -> Batch[str]:
    if words[0].startswith("wait"):
        with (HERE / "reached").open("wb", buffering=0) as reached:
            reached.write(b"x")
        with (HERE / "gate").open("rb", buffering=0) as gate:
            gate.read(1)
    return [word.upper() for word in words]


@app.flow
def flow(word: str) -> str:
    return hold(clean(word))
"""


class Gate:
    """Two pipes in the folder of the app; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._fds: dict[str, int] = {}
        for name in ("reached", "gate"):
            os.mkfifo(folder / name)
            # Open at both ends, so that neither side waits for the other to open it.
            self._fds[name] = os.open(folder / name, os.O_RDWR | os.O_NONBLOCK)

    def __enter__(self) -> "Gate":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for fd in self._fds.values():
            os.close(fd)

    async def reached(self, count: int = 1) -> None:
        """Wait until so many requests wait at the gate."""
        loop = asyncio.get_running_loop()
        for _ in range(count):
            is_readable = loop.create_future()
            loop.add_reader(self._fds["reached"], is_readable.set_result, None)
            try:
                await is_readable
            finally:
                loop.remove_reader(self._fds["reached"])
            os.read(self._fds["reached"], 1)

    def open(self, count: int = 1) -> None:
        """Let so many go on."""
        os.write(self._fds["gate"], b"x" * count)
