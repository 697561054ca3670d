"""This machine on Linux and as far as plans need it elsewhere."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import psutil
import pytest

from grainwise.cli.profiles import save_profile
from grainwise.control.controller import Controller
from grainwise.domain.errors import PlatformError
from grainwise.runtimes.loading import load_app
from grainwise.runtimes.local import machine
from grainwise.runtimes.local.runtime import LocalRuntime
from grainwise.runtimes.log_writer import LogWriter
from live.serving_harness import TEXT_APP, made_profile
from worlds.apps import SHAPES
from worlds.control import World


@pytest.fixture(params=["darwin", "win32"])
def elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another system: what only Linux has is not there, and its files may not be read."""
    monkeypatch.setattr(sys, "platform", request.param)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(psutil, "cpu_count", lambda: 3)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=5 << 30))

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} is read elsewhere than on Linux")

    monkeypatch.setattr(machine, "_read", refuse)


def test_this_machine_has_cores_and_memory() -> None:
    node = machine.this_node(reserve_cores=0.5)
    assert node.cpu_cores > 0
    assert node.memory_mib > 0
    assert machine.device_class().startswith("cpu:")
    machine.require_linux()


@pytest.mark.usefixtures("elsewhere")
def test_another_system_has_cores_and_memory_too() -> None:
    node = machine.this_node()
    assert (node.cpu_cores, node.memory_mib) == (3.0, 5120.0)
    assert machine.device_class().startswith("cpu:")


@pytest.mark.usefixtures("elsewhere")
def test_a_runtime_elsewhere_is_refused_in_one_sentence_before_anything_is_made(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(PlatformError, match=r"instances run on Linux only .*: serve and profile there"):
            await LocalRuntime.open(tmp_path / "no such file.py", post=lambda event: None)

    loop = asyncio.SelectorEventLoop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


ELSEWHERE = """
import os, signal, socket, sys
import asyncio, multiprocessing, subprocess, zoneinfo
import aiohttp, numpy, psutil, rich.console, rich.progress, starlette, typer, uvicorn

# What these packages choose by the platform is chosen; from here on everything that Windows lacks is missing.
for module, names in (
    (os, "sched_getaffinity memfd_create pidfd_open fork"),
    (signal, "SIGKILL SIGSTOP SIGCONT pidfd_send_signal"),
    (socket, "AF_UNIX send_fds recv_fds"),
):
    for name in names.split():
        delattr(module, name)
for name in ("fcntl", "resource", "termios", "uvloop"):
    sys.modules[name] = None  # an import of it is a ModuleNotFoundError
sys.platform = "win32"

from grainwise.cli.main import main

sys.argv = ["grainwise", *sys.argv[1:]]
main()
"""


def run_elsewhere(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_check_and_plan_need_nothing_that_only_linux_has(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    save_profile(made_profile(load_app(TEXT_APP).spec(TEXT_APP.read_bytes())), profile)
    assert "split" in run_elsewhere("check", TEXT_APP)
    planned = run_elsewhere("plan", TEXT_APP, "--rate", 5, "--cores", 2, "--profile", profile, "--json")
    assert msgspec.json.decode(planned)["table"]["options"]


def test_replay_needs_nothing_that_only_linux_has(tmp_path: Path) -> None:
    world = World(SHAPES["chain"](2))
    world.ask(1)
    world.drain()
    writer = LogWriter(tmp_path / "log", note="a test")
    for entry in world.log:
        writer.append(entry.seq, entry.now, entry.event, entry.actions, Controller())
    writer.close()
    run_elsewhere("replay", tmp_path / "log")
