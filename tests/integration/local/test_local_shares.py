"""A share is a share: a stage that computes makes its part of a core's progress, by every mechanism of this machine."""

import asyncio
import os
import statistics
import time

import psutil
import pytest
from local_world import TEST, open_world

from grainwise.control.actions import KillInstance
from grainwise.control.events import InstanceStopped
from grainwise.domain.errors import PlatformError
from grainwise.runtimes.local.cgroups import CgroupShares
from grainwise.runtimes.local.shares import make_shares
from grainwise.runtimes.local.signals import SignalShares
from grainwise.runtimes.local.supervisor import cpu_time_ns

SPIN_APP = """
from grainwise import App, Batch, Slo

app = App("spin", slo=Slo(latency_ms=100))

@app.stage()
def spin(numbers: Batch[int]) -> Batch[int]:
    while True:
        pass

@app.flow
def flow(number: int) -> int:
    return spin(number)
"""


def mechanisms() -> list[str]:
    found = ["signals"]
    for name in ("cgroup2", "cgroup1"):
        try:
            make_shares(name).close()
        except PlatformError:
            continue
        found.append(name)
    return found


async def progress_fraction(pid: int, windows: int = 7) -> float:
    """Median over windows of 200 ms of the CPU time that a process took, as a fraction of a core."""
    fractions = []
    for _ in range(windows):
        began, used = time.monotonic_ns(), cpu_time_ns(pid)
        await asyncio.sleep(0.2)
        fractions.append((cpu_time_ns(pid) - used) / (time.monotonic_ns() - began))
    return statistics.median(fractions)


@pytest.mark.parametrize("mechanism", mechanisms())
def test_a_busy_stage_makes_its_share_of_progress(tmp_path, mechanism):
    async def story():
        async with open_world(tmp_path, SPIN_APP, share_mechanism=mechanism) as world:
            assert world.runtime.capabilities.share_mechanism == mechanism
            await world.start(1, "spin", cpu_cores=0.25)
            number = world.put(1)
            world.invoke(1, ("spin",), (number,), cpu_cores=0.25)
            while world.runtime.stage_of(1) != "spin":
                await asyncio.sleep(0)
            pid = world.runtime.pid(1)
            assert abs(await progress_fraction(pid) - 0.25) <= 0.05
            world.runtime.kill(KillInstance(1, TEST))
            await world.expect(InstanceStopped)
            world.release(number)
            world.assert_nothing_lives()

    asyncio.run(story())


@pytest.mark.parametrize("mechanism", mechanisms())
def test_the_share_may_change_with_every_invocation(tmp_path, mechanism):
    async def story():
        async with open_world(tmp_path, SPIN_APP, share_mechanism=mechanism) as world:
            await world.start(1, "spin", cpu_cores=0.1)
            number = world.put(1)
            world.invoke(1, ("spin",), (number,), cpu_cores=0.5)
            while world.runtime.stage_of(1) != "spin":
                await asyncio.sleep(0)
            assert abs(await progress_fraction(world.runtime.pid(1)) - 0.5) <= 0.1
            world.release(number)

    asyncio.run(story())


def test_the_supervisor_continues_what_it_stopped_when_its_server_goes():
    child = psutil.Popen(["python3", "-c", "while True: pass"])
    shares = SignalShares()
    shares.set(child.pid, 0.01)
    while child.status() != psutil.STATUS_STOPPED:
        os.sched_yield()
    shares.close()
    assert child.status() != psutil.STATUS_STOPPED
    child.kill()
    child.wait()


def test_another_supervisor_takes_over_from_one_that_was_killed():
    child = psutil.Popen(["python3", "-c", "while True: pass"])
    shares = SignalShares()
    shares.set(child.pid, 0.5)
    first = psutil.Process(shares.supervisor_pid)
    first.kill()
    while first.is_running() and first.status() != psutil.STATUS_ZOMBIE:
        os.sched_yield()
    shares.set(child.pid, 0.01)
    while child.status() != psutil.STATUS_STOPPED:
        os.sched_yield()
    assert shares.supervisor_pid != first.pid
    shares.close()
    child.kill()
    child.wait()


@pytest.mark.skipif("cgroup1" not in mechanisms(), reason="no writable cgroup v1 cpu controller")
def test_groups_go_with_their_processes_and_those_of_dead_servers_with_the_next_start():
    shares = CgroupShares.try_version1()
    assert shares is not None
    child = psutil.Popen(["python3", "-c", "import sys; sys.stdin.read()"], stdin=-1)
    shares.set(child.pid, 0.25)
    assert (shares.root / str(child.pid) / "cpu.cfs_quota_us").read_text().strip() == "2500"
    shares.set(child.pid, 64.0)
    assert (shares.root / str(child.pid) / "cpu.cfs_quota_us").read_text().strip() == "-1"
    shares.set(child.pid, 0.5)
    child.communicate()
    shares.forget(child.pid)
    assert [path for path in shares.root.iterdir() if path.is_dir()] == []
    stale = shares.root.parent / f"grainwise-{child.pid}"
    (stale / "1").mkdir(parents=True)
    shares.close()
    assert not shares.root.exists()
    again = CgroupShares.try_version1()
    assert again is not None
    assert not stale.exists()
    again.close()
