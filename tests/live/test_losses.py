"""A killed instance loses no accepted request; a killed server leaves no process and no shared memory."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import psutil

from grainwise.cli.load_command import outputs_equal
from grainwise.cli.load_generator import Call, run_load, summarise
from grainwise.cli.profiles import save_profile
from grainwise.control.actions import StartInstance
from grainwise.control.events import InstanceFailed
from grainwise.domain.time import SECOND
from grainwise.runtimes.loading import load_app
from grainwise.workloads.arrivals import Phase, arrivals

from .serving_harness import TEXT_APP, made_profile, run, serve

TEXT = b'{"text": "a bb ccc"}'
WORDS = "a:1 bb:2 ccc:3"


def test_a_killed_instance_loses_no_request(tmp_path):
    async def main():
        async with serve(TEXT_APP, tmp_path, grain="split") as live:
            call = Call(live.url, TEXT, "application/json", lambda body: outputs_equal(body, WORDS))

            async def kill() -> None:
                for _ in range(3):
                    busy = asyncio.Event()
                    victim = 0

                    def look(event, actions, now, busy=busy):
                        nonlocal victim
                        running = live.serving.controller.state.invocations.values()
                        fresh = [each.instance for each in running if all(item.attempt == 1 for item in each.items)]
                        if fresh and not busy.is_set():
                            victim = live.serving.runtime.pid(fresh[0])
                            os.kill(victim, signal.SIGKILL)
                            busy.set()

                    live.serving.driver.observe(look)
                    await busy.wait()
                    live.serving.driver.unobserve(look)
                    await asyncio.to_thread(psutil.wait_procs, [process(victim)] if psutil.pid_exists(victim) else [], 5)

            killing = asyncio.create_task(kill())
            samples = await run_load([call], arrivals((Phase(25, 8 * SECOND),), "poisson", 3))
            await killing
            report = summarise(samples)
            assert report.right == report.offered, report
            late = summarise([sample for sample in samples if sample.due > 6 * SECOND])
            assert late.p95_ms < 1000, late
            failures = [entry.event for entry in live.entries() if isinstance(entry.event, InstanceFailed)]
            assert [failure.cause for failure in failures] == ["lost"] * 3, "the log does not tell of the three losses"
            assert any(isinstance(action, StartInstance) for entry in live.entries() for action in entry.actions)

    run(main())


def process(pid):
    return psutil.Process(pid)


def test_a_killed_server_leaves_no_process_and_no_shared_memory(tmp_path):
    profile = tmp_path / "profile.json"
    save_profile(made_profile(load_app(TEXT_APP).spec(TEXT_APP.read_bytes())), profile)

    async def main():
        before = set(Path("/dev/shm").iterdir())
        command = [sys.executable, "-m", "grainwise", "serve", str(TEXT_APP), "--port", "0", "--admin-port", "0", "--json"]
        command += ["--profile", str(profile), "--log", str(tmp_path / "log"), "--grain", "split", "--replan-seconds", "0"]
        server = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        url = json.loads(await server.stdout.readline())["url"]
        call = Call(f"{url}/v1/apps/text", TEXT, "application/json")
        assert summarise(await run_load([call], range(0, SECOND, SECOND // 20))).right == 20
        family = psutil.Process(server.pid).children(recursive=True)
        assert len(family) >= 2
        loading = asyncio.create_task(run_load([call], range(0, SECOND, SECOND // 50)))
        await asyncio.sleep(0)
        server.kill()
        await server.communicate()
        await loading
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, 10)
        assert not alive, f"still there: {[each.cmdline() for each in alive]}"
        assert set(Path("/dev/shm").iterdir()) == before
        assert not [path for path in Path("/sys/fs/cgroup").glob(f"cpu/grainwise-{server.pid}*") if tasks(path)]

    run(main())


def tasks(folder):
    return (folder / "tasks").read_text().split() if (folder / "tasks").exists() else []
