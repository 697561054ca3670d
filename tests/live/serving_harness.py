"""A live server in the test's own loop, with its invariants checked on every step and its log replayed at the end.

Profiles are made up: these tests are about what is served, not about how fast. ``serve`` checks on leaving that no payload
byte is live, that no process is left, and that the log replays identically in a new process with another hash seed.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil
import uvloop

from grainwise.cli.profiles import save_profile
from grainwise.cli.serving import ServeOptions, Serving
from grainwise.control.log import Entry
from grainwise.domain.app import AppSpec
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import HopModel
from grainwise.profiles.artifact import ColdParts, MachineFacts, Point, Profile, StageProfile
from grainwise.runtimes.loading import load_app
from grainwise.runtimes.local.machine import device_class
from grainwise.runtimes.log_writer import read_log

ROOT = Path(__file__).parents[2]
TEXT_APP = ROOT / "examples" / "text" / "app.py"
DEADLINE_S = 60.0


def run(main: Coroutine[Any, Any, None], timeout_s: float = DEADLINE_S) -> None:
    """Run a test's coroutine on the server's loop with a bound, so that a hang is a failure with a traceback."""

    async def bounded() -> None:
        await asyncio.wait_for(main, timeout_s)

    uvloop.run(bounded())


def made_profile(spec: AppSpec, stage_us: float = 1000.0) -> Profile:
    """A profile of this machine with made-up, equal figures for every stage."""

    def repeats(items: int, cores: float) -> tuple[int, ...]:
        return tuple(round(stage_us * items / cores * (1 + 0.01 * at)) for at in range(5))

    points = tuple(Point(items, float(items), 1.0, cores, repeats(items, cores)) for items in (1, 2) for cores in (0.5, 1.0))
    stages = tuple(
        StageProfile(node.name, node.declared, 1000.0, 500.0, 1.0, 1.0, 1.0, 1000.0, points) for node in spec.graph.stages
    )
    return Profile(
        schema=1,
        app=spec.name,
        app_digest=spec.digest,
        source_digest=spec.source_digest,
        device_class=device_class(),
        machine=MachineFacts("made up", 2.0, 1000.0, "linux", "3.11"),
        share_mechanism="cgroup1",
        libraries={},
        date="2026-01-01",
        budget_s=1.0,
        entry_bytes=tuple(1000.0 for _ in spec.inputs),
        process_mib=20.0,
        cold=ColdParts(10_000.0, 0.0),
        hop=HopModel(50.0, 10.0, 50.0, 10.0, 20.0),
        stages=stages,
    )


def write_app(folder: Path, source: str, name: str = "app.py", stage_us: float = 1000.0) -> Path:
    """An app file made of ``source``, with a made-up profile beside it."""
    path = folder / name
    path.write_text(source)
    spec = load_app(path).spec(path.read_bytes())
    save_profile(made_profile(spec, stage_us), folder / "profile.json")
    return path


class Live:
    """A server under test."""

    def __init__(self, serving: Serving, session: aiohttp.ClientSession) -> None:
        self.serving = serving
        self.session = session
        self.app = serving.spec.name
        self.url = f"{serving.addresses.url}/v1/apps/{self.app}"

    async def post(self, body: object, **headers: str) -> tuple[int, Any]:
        """POST JSON to the app; status and decoded answer."""
        async with self.session.post(self.url, data=msgspec.json.encode(body), headers=_json(headers)) as response:
            data = await response.read()
            return response.status, msgspec.json.decode(data) if data else None

    async def change_to(self, grain: str | None) -> str:
        """Ask the admin API for a granularity and wait until new requests run on it."""
        from grainwise.cli.admin_client import AdminClient, regranulate_and_follow

        async with AdminClient(self.serving.addresses.admin or "") as admin:
            return str((await regranulate_and_follow(admin, grain, None, DEADLINE_S))["grain"])

    def entries(self) -> list[Entry]:
        """The log so far."""
        self.serving.log.flush()
        return [record for record in read_log(self.serving.log.folder) if isinstance(record, Entry)]

    def actions(self, kind: type) -> list[Any]:
        """The actions of a kind so far."""
        return [action for entry in self.entries() for action in entry.actions if isinstance(action, kind)]

    async def until(self, claim: Callable[[], bool]) -> None:
        """Wait for a step of the controller after which a claim holds."""
        holds = asyncio.Event()

        def look(*_: object) -> None:
            if claim():
                holds.set()

        self.serving.driver.observe(look)
        look()
        try:
            await holds.wait()
        finally:
            self.serving.driver.unobserve(look)


def _json(headers: dict[str, str]) -> dict[str, str]:
    return {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}


@asynccontextmanager
async def serve(app: Path, folder: Path, **options: Any) -> AsyncIterator[Live]:
    """Serve ``app`` with the made-up profile in ``folder``; re-granulates on command only unless told otherwise."""
    profile = folder / "profile.json"
    if not profile.exists():
        spec = load_app(app).spec(app.read_bytes())
        save_profile(made_profile(spec), profile)
    options.setdefault("config", AppConfig(replan_us=0))
    options.setdefault("arena_mib", 64)
    log = folder / f"log-{len(list(folder.glob('log-*')))}"
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    serving = await Serving.open(ServeOptions(app, port=0, profile=profile, log=log, check_invariants=True, **options))
    try:
        await serving.ready()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield Live(serving, session)
        assert serving.door.in_flight == 0
        assert serving.runtime.store.live_bytes == 0, f"{serving.runtime.store.live_bytes} bytes are live"
    finally:
        await serving.close()
    left = _left(before)
    assert not left, f"processes {left} are left"
    replay_elsewhere(log)


def _left(before: set[int]) -> set[int]:
    """The processes that are new; what those from before have started belongs to another server, which may still run."""
    left = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if not before & {child.pid, *(parent.pid for parent in child.parents())}:
                left.add(child.pid)
    return left


def replay_elsewhere(log: Path) -> None:
    """Replay a log in a new process with another hash seed; its actions must be the same, byte for byte."""
    environment = os.environ | {"PYTHONHASHSEED": "4242"}
    result = subprocess.run(
        [sys.executable, "-m", "grainwise", "replay", str(log)], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert len(read_log(log)) > 1
