"""After kill -9 of the server no process and no memory remains, whatever the instances were doing."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

APP = """
import time
from grainwise import App, Batch, Slo

app = App("spin", slo=Slo(latency_ms=100))

@app.stage()
def spin(numbers: Batch[int]) -> Batch[int]:
    while True:
        time.sleep(0.001) if numbers[0] else None

@app.flow
def flow(number: int) -> int:
    return spin(number)
"""

SERVER = """
import asyncio, sys
from pathlib import Path
from grainwise.control.actions import Invoke, StartInstance
from grainwise.control.events import InstanceReady, ItemRange
from grainwise.domain.because import Because
from grainwise.domain.values import Payload, Ref, ValueType
from grainwise.runtimes.local.runtime import LocalRuntime

async def main():
    events = asyncio.Queue()
    runtime = await LocalRuntime.open(Path(sys.argv[1]), post=events.put_nowait, share_mechanism=sys.argv[2])
    for instance in (1, 2, 3):
        runtime.start(StartInstance(instance, "spin", 1, "local", 0.25, 0, Because("test")))
    for _ in range(3):
        assert isinstance(await events.get(), InstanceReady)
    for instance in (1, 2):
        stored = runtime.store.put(instance - 1, ValueType("integer", "int"))
        item = (Payload((Ref(stored.handle, stored.nbytes),)),)
        runtime.invoke(Invoke(instance, instance, 1, (ItemRange(1, (), 0, 1),), (item,), 0.25, 10**9, Because("test")))
        while runtime.stage_of(instance) != "spin":
            await asyncio.sleep(0)
    reservation = runtime.store.reserve(32 << 20)
    reservation.view[:] = bytes(32 << 20)
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("mechanism", ["signals", None])
def test_no_process_and_no_memory_is_left(tmp_path: Path, mechanism: str | None) -> None:
    app, server = tmp_path / "app.py", tmp_path / "server.py"
    app.write_text(APP)
    server.write_text(SERVER.replace("sys.argv[2]", repr(mechanism)))
    shared_before = set(Path("/dev/shm").iterdir())
    process = subprocess.Popen([sys.executable, str(server), str(app)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    descendants = psutil.Process(process.pid).children(recursive=True)
    assert len(descendants) == 4 + (mechanism == "signals")
    arenas = [Path(f"/proc/{child.pid}/maps").read_text().count("/memfd:grainwise") for child in descendants]
    assert sum(arenas) >= 3
    process.kill()
    process.wait()
    process.stdout.close()
    _, alive = psutil.wait_procs(descendants, timeout=10)
    assert alive == []
    assert set(Path("/dev/shm").iterdir()) <= shared_before
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            text = maps.read_text()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        assert str(tmp_path) not in text
